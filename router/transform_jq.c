/* The form of a transform that is a program in jq: what the configuration says of it, and what its
 * output has to be. It is run by workers/jq. */
#include <inttypes.h>
#include <string.h>

#include "config/option.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "router/internal.h"
#include "router/transform.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"

#define NS_PER_MS 1000000ull

/* The text of the JSON string @p value. @return NULL: no string, too long, or with a NUL inside */
static char *take_text(struct mr_bytes value, size_t size_max)
{
    struct mr_buf buf;
    mr_buf_init(&buf, size_max);
    char *text = NULL;
    if (value.size > 2 && value.data[0] == '"' &&
        mr__json_unescape(mr_bytes(value.data + 1, value.size - 2), &buf) == MR_OK &&
        memchr(buf.data, '\0', buf.size) == NULL) {
        text = mr_buf_take_text(&buf);
    }
    mr_buf_release(&buf);
    return text;
}

enum mr_status mr__transform_compile_jq(struct mr_bytes json, struct mr_bytes jq,
                                        char **ret_program, uint64_t *ret_timeout_ns,
                                        struct mr_problem *problem)
{
    struct mr_bytes value;
    uint64_t timeout_ns = MR_JQ_TIMEOUT_DEFAULT_MS * NS_PER_MS;
    if (mr__json_find(json, "set", &value) || mr__json_find(json, "rename", &value) ||
        mr__json_find(json, "drop", &value)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "jq stands alone: what set, rename and drop do, the program can do");
    }
    if (mr__json_find(json, "timeout", &value)) {
        char *text = take_text(value, 64);
        bool good = text != NULL && mr_parse_duration(text, &timeout_ns) &&
                    timeout_ns >= MR_JQ_TIMEOUT_MIN_MS * NS_PER_MS &&
                    timeout_ns <= MR_JQ_TIMEOUT_MAX_MS * NS_PER_MS;
        mr_free(text);
        if (!good) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "timeout wants a duration from 10ms to 10s");
        }
    }
    char *program = take_text(jq, MR_JQ_PROGRAM_SIZE_MAX);
    if (program == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "jq wants the text of a program, at most 64 KiB");
    }
    *ret_program = program;
    *ret_timeout_ns = timeout_ns;
    return MR_OK;
}

/* Puts `specversion` and `id` into the object @p text where it has none. */
static enum mr_status complete(struct mr_bytes record, struct mr_bytes text, struct mr_buf *out)
{
    struct mr_bytes value;
    struct mr__scan s;
    struct mr__json_string name;
    bool has_version = mr__json_find(text, "specversion", &value);
    bool has_id = mr__json_find(text, "id", &value);
    bool is_empty = !mr__json_open(&s, text, '{') || !mr__json_next(&s, &name, &value);
    enum mr_status r = mr_buf_append_byte(out, '{');
    if (r == MR_OK && !has_version) {
        r = mr_buf_append_text(out, "\"specversion\":\"1.0\"");
        r = r == MR_OK && (!has_id || !is_empty) ? mr_buf_append_byte(out, ',') : r;
    }
    if (r == MR_OK && !has_id) {
        r = mr_buf_append_text(out, "\"id\":");
        r = r == MR_OK ? mr_buf_append_json(out, mr_event_id(record)) : r;
        r = r == MR_OK && !is_empty ? mr_buf_append_byte(out, ',') : r;
    }
    return r == MR_OK ? mr_buf_append(out, text.data + 1, text.size - 1) : r;
}

static bool is_counted_by(struct mr_bytes name)
{
    return name.size >= 2 && name.data[0] == 'm' && name.data[1] == 'r';
}

/* What Millrace knows the event by is as it was. */
static enum mr_status check_identity(struct mr_bytes record, struct mr_bytes changed,
                                     struct mr_problem *problem)
{
    if (!mr_bytes_equal(mr_event_id(record), mr_event_id(changed))) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the output has another id: it is how the event is known");
    }
    uint32_t position = 0;
    struct mr_attr attr;
    struct mr_attr before;
    while (mr_event_next_attr(changed, &position, &attr)) {
        if (is_counted_by(attr.name) && (!mr_event_attr(record, attr.name, &before) ||
                                         !mr_bytes_equal(before.value, attr.value))) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "the output changes %.*s: what begins with mr is Millrace's own",
                                  (int)attr.name.size, (const char *)attr.name.data);
        }
    }
    return MR_OK;
}

/* Gives *@p event the attributes of Millrace that the output left out. */
static enum mr_status keep_own(struct mr_bytes record, struct mr_event **event,
                               struct mr_problem *problem)
{
    uint32_t position = 0;
    struct mr_attr attr;
    struct mr_attr there;
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        struct mr_event *whole = NULL;
        if (is_counted_by(attr.name) &&
            !mr_event_attr(mr_event_record(*event), attr.name, &there)) {
            r = mr_event_with_attr(mr_event_record(*event), attr.name, attr.value, &whole, problem);
        }
        if (whole != NULL) {
            mr_event_unref(*event);
            *event = whole;
        }
    }
    return r;
}

enum mr_status mr_transform_accept(struct mr_bytes record, struct mr_bytes text, size_t size_max,
                                   struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_problem why = {.text = ""};
    if (text.size < 2 || text.data[0] != '{') {
        return mr_problem_set(problem, MR_E_INVALID, "the output is no JSON object");
    }
    if (!mr_json_is_value(text)) {
        return mr_problem_set(problem, MR_E_INVALID, "the output is no JSON, or nested too deeply");
    }
    struct mr_event *event = NULL;
    struct mr_buf whole;
    mr_buf_init(&whole, text.size + 2u * MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = complete(record, text, &whole);
    if (r != MR_OK) {
        (void)mr_problem_set(&why, r, "%s", mr_status_text(r));
    }
    r = r == MR_OK ? mr_json_decode_event(mr_buf_bytes(&whole), size_max, &event, &why) : r;
    mr_buf_release(&whole);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "the output is no event: %s", why.text);
    }
    r = check_identity(record, mr_event_record(event), problem);
    r = r == MR_OK ? keep_own(record, &event, problem) : r;
    if (r != MR_OK) {
        mr_event_unref(event);
        return r;
    }
    *ret_event = event;
    return MR_OK;
}
