/* The helper process itself: what runs when our program is started as "millrace-jq" with a socket
 * on descriptor 0. See helper.h.
 *
 * A program in jq can be written to hurt, and the library has no defence of its own. So before the
 * first one is looked at: no environment, no file can be opened any more, memory is limited, and
 * each run has a timer of processor time whose signal ends the process. Modules are looked for
 * nowhere. The bus is the only thing this process can talk to. */
#include <dlfcn.h>
#include <errno.h>
#include <jq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/bytes.h"
#include "core/io.h"
#include "core/limits.h"
#include "workers/jq/internal.h"

#define LIBRARY "libjq.so.1"

/* The library is loaded here and nowhere else: linked, it would cost every start of Millrace and
 * its resident memory. */
#define FUNCTIONS(X)                                                                               \
    X(jq_init) X(jq_teardown) X(jq_compile) X(jq_start) X(jq_next) X(jq_halted)                    \
    X(jq_get_error_message) X(jq_set_error_cb) X(jq_set_input_cb) X(jq_set_debug_cb)               \
    X(jq_set_attr) X(jq_set_nomem_handler) X(jq_util_input_init) X(jq_util_input_next_input_cb)    \
    X(jq_format_error) X(jv_parse_sized) X(jv_dump_string) X(jv_free) X(jv_copy) X(jv_get_kind)    \
    X(jv_kind_name) X(jv_invalid_has_msg) X(jv_invalid_get_msg) X(jv_string) X(jv_array)           \
    X(jv_string_value) X(jv_string_length_bytes)

#define MEMBER(name) __typeof__(&(name)) name;
static struct {
    FUNCTIONS(MEMBER)
} lib;
#undef MEMBER

/* The reply being made: room for its header, and `size` bytes. */
static struct {
    char *bytes; /* owned by the process until it ends */
    size_t size;
} reply;

static jq_state *programs[MR__JQ_SLOTS];

/* --- the cage --------------------------------------------------------------------------------- */

/* @return what is missing, or NULL */
static const char *load_library(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return dlerror();
    }
    /* POSIX wants a data pointer to become a function's; C has no cast for it. */
#define LOAD(name)                                                                                 \
    {                                                                                              \
        void *symbol = dlsym(library, #name);                                                      \
        if (symbol == NULL) {                                                                      \
            return dlerror();                                                                      \
        }                                                                                          \
        memcpy(&lib.name, &symbol, sizeof(symbol));                                                \
    }
    FUNCTIONS(LOAD)
#undef LOAD
    return NULL;
}

/* Private writable memory this process has now, in bytes: the limit comes on top of it. */
static uint64_t data_size(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL &&
           sscanf(line, "VmData: %llu kB", &kib) != 1) {
    }
    if (status != NULL) {
        (void)fclose(status); /* it was only read */
    }
    return (uint64_t)kib * MR_KIB;
}

static void set_limit(__rlimit_resource_t what, uint64_t value)
{
    struct rlimit limit = {value, value};
    if (setrlimit(what, &limit) != 0) {
        _exit(1); /* nothing runs without it */
    }
}

static void enter_cage(void)
{
    tzset(); /* while its file can be opened */
    /* LD_LIBRARY_PATH goes. Not by clearenv(): without any list the library reads wild pointers. */
    static char *no_environment[] = {NULL};
    environ = no_environment;
    set_limit(RLIMIT_DATA, data_size() + MR_JQ_MEMORY_MAX);
    set_limit(RLIMIT_FSIZE, 0);
    set_limit(RLIMIT_NOFILE, 0); /* what is open stays */
}

/* The kernel ends the process when the time is up: no code of ours has to run for it. */
static void set_timer(uint32_t limit_ms)
{
    struct itimerval timer = {
        .it_value = {.tv_sec = limit_ms / 1000, .tv_usec = (suseconds_t)(limit_ms % 1000) * 1000},
    };
    if (setitimer(ITIMER_PROF, &timer, NULL) != 0) {
        _exit(1);
    }
}

static void end_without_memory(void *context)
{
    (void)context;
    _exit(MR__JQ_EXIT_MEMORY);
}

/* --- replies ---------------------------------------------------------------------------------- */

static void set_reply(const char *text, size_t size)
{
    char *bytes = mr_realloc(reply.bytes, sizeof(struct mr__jq_reply) + size);
    if (bytes == NULL) {
        _exit(MR__JQ_EXIT_MEMORY);
    }
    memcpy(bytes + sizeof(struct mr__jq_reply), text, size);
    reply.bytes = bytes;
    reply.size = size;
}

static enum mr__jq_reply_kind say(const char *text, size_t size)
{
    set_reply(text, size < MR__JQ_ERROR_MAX ? size : MR__JQ_ERROR_MAX);
    return MR__JQ_ERROR;
}

static enum mr__jq_reply_kind say_text(const char *text)
{
    return say(text, strlen(text));
}

/* A text as it is, anything else as JSON. */
static enum mr__jq_reply_kind say_value(jv value)
{
    jv text = lib.jv_get_kind(value) == JV_KIND_STRING ? value : lib.jv_dump_string(value, 0);
    enum mr__jq_reply_kind kind =
        say(lib.jv_string_value(text), (size_t)lib.jv_string_length_bytes(lib.jv_copy(text)));
    lib.jv_free(text);
    return kind;
}

/* In one piece: the other side wakes up once. */
static void send_reply(enum mr__jq_reply_kind kind)
{
    struct mr__jq_reply header = {.kind = (uint32_t)kind, .size = (uint32_t)reply.size};
    memcpy(reply.bytes, &header, sizeof(header));
    if (!mr_fd_write_full(STDIN_FILENO, reply.bytes, sizeof(header) + reply.size)) {
        _exit(0); /* the bus is gone */
    }
}

/* --- compiling -------------------------------------------------------------------------------- */

/* The first error of a compilation; the others follow from it, or count them. */
static void on_error(void *context, jv message)
{
    bool *said = context;
    jv text = lib.jq_format_error(message);
    if (!*said && lib.jv_get_kind(text) == JV_KIND_STRING) {
        *said = true;
        (void)say(lib.jv_string_value(text),
                  (size_t)lib.jv_string_length_bytes(lib.jv_copy(text)));
    }
    lib.jv_free(text);
}

static void ignore_debug(void *context, jv message)
{
    (void)context;
    lib.jv_free(message);
}

static void ignore_text(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static enum mr__jq_reply_kind compile(uint32_t slot, const char *text)
{
    bool said = false;
    if (programs[slot] != NULL) {
        lib.jq_teardown(&programs[slot]);
    }
    jq_state *program = lib.jq_init();
    if (program == NULL) {
        _exit(MR__JQ_EXIT_MEMORY);
    }
    lib.jq_set_nomem_handler(program, end_without_memory, NULL);
    lib.jq_set_error_cb(program, on_error, &said);
    /* Without these the library falls over `debug`, `import` and `input_filename`. */
    lib.jq_set_debug_cb(program, ignore_debug, NULL);
    lib.jq_set_attr(program, lib.jv_string("JQ_LIBRARY_PATH"), lib.jv_array());
    lib.jq_set_input_cb(program, lib.jq_util_input_next_input_cb,
                        lib.jq_util_input_init(ignore_text, NULL));
    if (lib.jq_compile(program, text) == 0) {
        lib.jq_teardown(&program);
        return said ? MR__JQ_ERROR : say_text("it cannot be compiled");
    }
    lib.jq_set_error_cb(program, NULL, NULL);
    programs[slot] = program;
    return MR__JQ_OUTPUT;
}

/* --- running ---------------------------------------------------------------------------------- */

/* What the end of a program is: an error, or nothing more. @p end is consumed. */
static bool is_failure(jq_state *program, jv end)
{
    if (lib.jq_halted(program)) {
        lib.jv_free(end);
        jv message = lib.jq_get_error_message(program);
        if (lib.jv_get_kind(message) == JV_KIND_STRING) {
            (void)say_value(message);
        } else {
            lib.jv_free(message);
            (void)say_text("the program halted");
        }
        return true;
    }
    if (!lib.jv_invalid_has_msg(lib.jv_copy(end))) {
        lib.jv_free(end);
        return false;
    }
    (void)say_value(lib.jv_invalid_get_msg(end));
    return true;
}

static enum mr__jq_reply_kind keep_output(jv value)
{
    jv_kind kind = lib.jv_get_kind(value);
    if (kind != JV_KIND_OBJECT) {
        char text[80];
        (void)snprintf(text, sizeof(text), "the output is no object but: %s",
                       lib.jv_kind_name(kind)); /* fits */
        lib.jv_free(value);
        return say_text(text);
    }
    jv json = lib.jv_dump_string(value, 0);
    size_t size = (size_t)lib.jv_string_length_bytes(lib.jv_copy(json));
    enum mr__jq_reply_kind answer = MR__JQ_OUTPUT;
    if (size > MR__JQ_OUTPUT_MAX) {
        answer = say_text("the output is larger than an event may be");
    } else {
        set_reply(lib.jv_string_value(json), size);
    }
    lib.jv_free(json);
    return answer;
}

static enum mr__jq_reply_kind run(uint32_t slot, const char *text, size_t size)
{
    jq_state *program = programs[slot];
    if (program == NULL) {
        return say_text("there is no program in the slot");
    }
    jv event = lib.jv_parse_sized(text, (int)size);
    if (lib.jv_get_kind(event) == JV_KIND_INVALID) {
        return lib.jv_invalid_has_msg(lib.jv_copy(event))
                   ? say_value(lib.jv_invalid_get_msg(event))
                   : say_text("the event is no JSON");
    }
    lib.jq_start(program, event, 0);
    jv first = lib.jq_next(program);
    if (lib.jv_get_kind(first) == JV_KIND_INVALID) {
        return is_failure(program, first) ? MR__JQ_ERROR : MR__JQ_NOTHING;
    }
    jv second = lib.jq_next(program);
    if (lib.jv_get_kind(second) != JV_KIND_INVALID) {
        lib.jv_free(first);
        lib.jv_free(second);
        return say_text("there is more than one output");
    }
    if (is_failure(program, second)) {
        lib.jv_free(first);
        return MR__JQ_ERROR;
    }
    return keep_output(first);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Never returns: the end of the bus, or of its patience, is the end. @p fault NULL: all is well */
static _Noreturn void serve(const char *fault)
{
    struct mr__jq_request request;
    char *body = NULL;
    while (mr_fd_read_full(STDIN_FILENO, &request, sizeof(request)) == sizeof(request)) {
        if (request.slot >= MR__JQ_SLOTS || request.size > MR__JQ_INPUT_MAX) {
            _exit(1);
        }
        char *room = mr_realloc(body, (size_t)request.size + 1);
        if (room == NULL) {
            _exit(MR__JQ_EXIT_MEMORY);
        }
        body = room;
        if (mr_fd_read_full(STDIN_FILENO, body, request.size) != (int64_t)request.size) {
            break;
        }
        body[request.size] = '\0';
        set_reply("", 0);
        enum mr__jq_reply_kind kind = MR__JQ_ERROR;
        set_timer(request.limit_ms);
        if (fault != NULL) {
            (void)say_text(fault);
            kind = MR__JQ_UNAVAILABLE;
        } else if (request.kind == MR__JQ_COMPILE) {
            kind = compile(request.slot, body);
        } else {
            kind = run(request.slot, body, request.size);
        }
        set_timer(0);
        send_reply(kind);
    }
    _exit(0);
}

/* glibc hands main's arguments to constructors. Runs before main() of whatever program this is, so
 * that the bus and every test program can be their own helper. */
__attribute__((constructor)) static void become_helper(int argc, char **argv)
{
    struct stat st;
    if (argc != 1 || strcmp(argv[0], MR__JQ_NAME) != 0 || fstat(STDIN_FILENO, &st) != 0 ||
        !S_ISSOCK(st.st_mode)) {
        return;
    }
    const char *fault = load_library();
    enter_cage();
    serve(fault);
}

const char mr__jq_name[] = MR__JQ_NAME;
