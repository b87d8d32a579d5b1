/* A plugin: readings within the limits are dropped, others become an event of their own.
 *
 *     cc -O2 -shared -fPIC -I /usr/local/share/millrace/sdk/native -o threshold.so threshold.c
 */
#include <millrace_native.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct limits {
    double high;
};

static double number_of(const char *json, size_t size, const char *name)
{
    char text[512];
    snprintf(text, sizeof(text), "%.*s", (int)size, json);
    const char *at = strstr(text, name);
    at = at == NULL ? NULL : strchr(at, ':');
    return at == NULL ? 0 : strtod(at + 1, NULL);
}

static int open_plugin(const char *settings, void **ret_state, char *error, size_t error_size)
{
    static struct limits limits; /* read by all threads, written here alone */
    if (strstr(settings, "\"high\"") == NULL) {
        snprintf(error, error_size, "settings need `high`");
        return 1;
    }
    limits.high = number_of(settings, strlen(settings), "\"high\"");
    *ret_state = &limits;
    return 0;
}

static int handle(void *state, struct millrace_native_call *call)
{
    const struct limits *limits = state;
    double celsius = call->data == NULL ? 0 : number_of(call->data, call->data_size, "\"celsius\"");
    if (celsius <= limits->high) {
        return MILLRACE_NATIVE_DROP;
    }
    char event[1024];
    int size = snprintf(event, sizeof(event),
                        "{\"specversion\":\"1.0\",\"id\":\"hot-%s\",\"source\":\"/threshold\","
                        "\"type\":\"com.example.hot\",\"subject\":\"%s\","
                        "\"data\":{\"celsius\":%g}}",
                        call->id, call->subject, celsius);
    return call->emit(call, event, (size_t)size) == 0 ? MILLRACE_NATIVE_OK : MILLRACE_NATIVE_DEAD;
}

static const struct millrace_native_plugin plugin = {MILLRACE_NATIVE_ABI, sizeof(plugin), "1.0",
                                                     open_plugin, handle, NULL};

const struct millrace_native_plugin *millrace_native_plugin(void)
{
    return &plugin;
}
