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
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
#define KEPT_SIZE (64u * MR_KIB) /* of requests read, and of replies written, at once */

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

/* Bytes that grow; owned by the process until it ends. */
struct bytes {
    char *data;
    size_t size;
    size_t capacity;
};

static struct bytes input;   /* requests, from input_at on */
static size_t input_at;
static struct bytes reply;   /* the one being made, without its header */
static struct bytes replies; /* made and not sent: many go at once */

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

static void grow(struct bytes *bytes, size_t size)
{
    if (size > bytes->capacity) {
        char *data = mr_realloc(bytes->data, size);
        if (data == NULL) {
            end_without_memory(NULL);
        }
        bytes->data = data;
        bytes->capacity = size;
    }
}

/* --- replies ---------------------------------------------------------------------------------- */

static void set_reply(const char *text, size_t size)
{
    grow(&reply, size + 1);
    memcpy(reply.data, text, size);
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

static void send_replies(void)
{
    if (replies.size > 0 && !mr_fd_write_full(STDIN_FILENO, replies.data, replies.size)) {
        _exit(0); /* the bus is gone */
    }
    replies.size = 0;
}

static void keep_reply(enum mr__jq_reply_kind kind)
{
    struct mr__jq_reply header = {.kind = (uint32_t)kind, .size = (uint32_t)reply.size};
    grow(&replies, replies.size + sizeof(header) + reply.size);
    memcpy(replies.data + replies.size, &header, sizeof(header));
    memcpy(replies.data + replies.size + sizeof(header), reply.data, reply.size);
    replies.size += sizeof(header) + reply.size;
    if (replies.size > KEPT_SIZE) {
        send_replies();
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

static enum mr__jq_reply_kind compile(uint32_t slot, const char *program_text, size_t size)
{
    bool said = false;
    char text[MR_JQ_PROGRAM_SIZE_MAX + 1];
    if (size >= sizeof(text)) {
        return say_text("it is too long");
    }
    memcpy(text, program_text, size);
    text[size] = '\0';
    if (programs[slot] != NULL) {
        lib.jq_teardown(&programs[slot]);
    }
    jq_state *program = lib.jq_init();
    if (program == NULL) {
        end_without_memory(NULL);
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

/* Reads until a whole request is there. Before it waits, what was done is told. */
static struct mr__jq_request next_request(void)
{
    struct mr__jq_request request = {.kind = 0};
    for (;;) {
        size_t have = input.size - input_at;
        size_t want = sizeof(request);
        if (have >= sizeof(request)) {
            memcpy(&request, input.data + input_at, sizeof(request));
            if (request.slot >= MR__JQ_SLOTS || request.size > MR__JQ_INPUT_MAX) {
                _exit(1);
            }
            want += request.size;
        }
        if (have >= want) {
            input_at += sizeof(request);
            return request;
        }
        send_replies();
        if (input_at > 0) {
            memmove(input.data, input.data + input_at, have);
            input.size = have;
            input_at = 0;
        }
        grow(&input, want > KEPT_SIZE ? want : KEPT_SIZE);
        ssize_t n = recv(STDIN_FILENO, input.data + input.size, input.capacity - input.size, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            _exit(0); /* the bus is gone, or has no patience left */
        }
        input.size += n > 0 ? (size_t)n : 0;
    }
}

/* @param fault NULL: all is well */
static _Noreturn void serve(const char *fault)
{
    for (;;) {
        struct mr__jq_request request = next_request();
        const char *body = input.data + input_at;
        enum mr__jq_reply_kind kind = MR__JQ_UNAVAILABLE;
        set_reply("", 0);
        set_timer(request.limit_ms);
        if (fault != NULL) {
            (void)say_text(fault);
        } else if (request.kind == MR__JQ_COMPILE) {
            kind = compile(request.slot, body, request.size);
        } else {
            kind = run(request.slot, body, request.size);
        }
        set_timer(0);
        keep_reply(kind);
        input_at += request.size;
        if (request.kind == MR__JQ_COMPILE) {
            send_replies(); /* what comes now has another limit */
        }
    }
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
