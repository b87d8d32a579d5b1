/* The plugin that tests/integration/test_native.py asks: it acts on the event's type as
 * ../conformance.py asks of any worker. */
#include "millrace_native.h"

#include <stdio.h>
#include <string.h>

struct state {
    char settings[256];
};

static struct state the_state;

static int open_plugin(const char *settings, void **ret_state, char *error, size_t error_size)
{
    if (strstr(settings, "refuse") != NULL) {
        snprintf(error, error_size, "the settings say refuse");
        return 1;
    }
    snprintf(the_state.settings, sizeof(the_state.settings), "%s", settings);
    *ret_state = &the_state;
    return 0;
}

static int say(struct millrace_native_call *call, enum millrace_native_verdict verdict,
               const char *error)
{
    call->set_error(call, error);
    return verdict;
}

static int emit_two(struct millrace_native_call *call)
{
    static const char child[] = "{\"specversion\":\"1.0\",\"id\":\"child-%d\",\"source\":\"/w\","
                                "\"type\":\"conformance.child\"}";
    for (int i = 1; i <= 2; i++) {
        char event[128];
        int size = snprintf(event, sizeof(event), child, i);
        if (call->emit(call, event, (size_t)size) != 0) {
            return MILLRACE_NATIVE_RETRY;
        }
    }
    return call->emit(call, "{}", 2) == -1 ? MILLRACE_NATIVE_OK : MILLRACE_NATIVE_DEAD;
}

static int result(struct millrace_native_call *call, const char *json, size_t size)
{
    return call->set_result(call, json, size) == 0 ? MILLRACE_NATIVE_OK
                                                   : say(call, MILLRACE_NATIVE_DEAD, "no JSON");
}

static int handle(void *state, struct millrace_native_call *call)
{
    const char *kind = strrchr(call->type, '.');
    char text[64];
    size_t size = 0;
    kind = kind == NULL ? "" : kind + 1;
    if (strcmp(kind, "retry") == 0) {
        return call->set_after(call, 0.01) != 0 || call->set_after(call, -1) == 0
                   ? say(call, MILLRACE_NATIVE_DEAD, "set_after")
                   : say(call, MILLRACE_NATIVE_RETRY, "busy");
    }
    if (strcmp(kind, "drop") == 0) {
        return say(call, MILLRACE_NATIVE_DROP, "not for us");
    }
    if (strcmp(kind, "dead") == 0) {
        return say(call, MILLRACE_NATIVE_DEAD, "never");
    }
    if (strcmp(kind, "nonsense") == 0) {
        return 77;
    }
    if (strcmp(kind, "emit") == 0) {
        return emit_two(call);
    }
    if (strcmp(kind, "echo") == 0) {
        return result(call, call->data, call->data_size);
    }
    if (strcmp(kind, "size") == 0) {
        snprintf(text, sizeof(text), "%zu", call->data_size);
        return result(call, text, strlen(text));
    }
    if (strcmp(kind, "settings") == 0) {
        const struct state *s = state;
        return result(call, s->settings, strlen(s->settings));
    }
    if (strcmp(kind, "event") == 0) { /* the whole of it, with an attribute of its own */
        const char *json = call->json(call, &size);
        const char *colour = call->attribute(call, "colour");
        return json != NULL && json[size] == '\0' && colour != NULL && strcmp(colour, "red") == 0 &&
                       call->attribute(call, "nothing") == NULL
                   ? result(call, json, size)
                   : say(call, MILLRACE_NATIVE_DEAD, "attributes");
    }
    if (strcmp(kind, "wait") == 0) {
        while (!call->cancelled(call)) {
            call->heartbeat(call, NULL);
        }
        return say(call, MILLRACE_NATIVE_RETRY, "cancelled");
    }
    if (strcmp(kind, "stuck") == 0) {
        call->heartbeat(call, "{\"done\":0.5}");
        for (;;) {
        }
    }
    return call->heartbeat(call, "{broken") == -1 ? MILLRACE_NATIVE_OK : MILLRACE_NATIVE_DEAD;
}

static const struct millrace_native_plugin plugin = {MILLRACE_NATIVE_ABI, sizeof(plugin), "9.1",
                                                     open_plugin, handle, NULL};

const struct millrace_native_plugin *millrace_native_plugin(void)
{
    return &plugin;
}
