#include "schemas/adapt.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "schemas/json_format.h"
#include "schemas/text.h"

_Static_assert(sizeof(((struct mr__adapt *)0)->received) == MR_TIME_TEXT_SIZE, "a time fits");

void mr__adapt_fail(struct mr__adapt *run, enum mr_status status, const char *format, ...)
{
    MR_ASSERT(status != MR_OK);
    if (run->status != MR_OK) {
        return;
    }
    char reason[MR_ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    MR_ASSERT(size >= 0);
    run->status = run->list == NULL
                      ? mr_problem_set(run->problem, status, "%s", reason)
                      : mr_problem_set(run->problem, status, "%s[%u]: %s", run->list, run->index,
                                       reason);
}

void mr__adapt_fail_memory(struct mr__adapt *run, enum mr_status r, const char *what)
{
    if (r == MR_E_TOO_BIG) {
        mr__adapt_fail(run, r, "%s is too long for an attribute", what);
    } else {
        mr__adapt_fail(run, r, "out of memory");
    }
}

bool mr__adapt_parse(struct mr__adapt *run, struct mr_bytes text, struct mr_bytes *ret_value)
{
    if (run->status != MR_OK) {
        return false;
    }
    struct mr__scan s;
    struct mr_bytes value;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    if (mr__scan_value(&s, &value)) {
        mr__scan_space(&s);
        if (s.at == s.end) {
            *ret_value = value;
            return true;
        }
        (void)mr__scan_fail(&s, "there is something behind the value");
    }
    mr__adapt_fail(run, MR_E_INVALID, "not JSON: %s at byte %zu", s.fault,
                   (size_t)(s.at - s.start));
    return false;
}

void mr__adapt_walk(struct mr__scan *s, struct mr_bytes array)
{
    mr__scan_init(s, array);
    MR_ASSERT(mr__scan_peek(s) == '[' || mr__scan_peek(s) == '{');
    s->at++;
    mr__scan_space(s);
}

void mr__adapt_each(struct mr__adapt *run, const char *name, struct mr_bytes array,
                    void (*adapt)(struct mr__adapt *run, struct mr_bytes element))
{
    struct mr__scan s;
    struct mr_bytes element;
    mr__adapt_walk(&s, array);
    run->list = name;
    for (run->index = 0; run->status == MR_OK && mr__json_next(&s, NULL, &element);
         run->index++) {
        adapt(run, element);
    }
    run->list = NULL;
}

void mr__adapt_one_or_each(struct mr__adapt *run,
                           void (*adapt)(struct mr__adapt *run, struct mr_bytes element))
{
    struct mr_bytes json;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (json.data[0] == '[') {
        mr__adapt_each(run, "element", json, adapt);
    } else {
        adapt(run, json);
    }
}

static bool name_is(struct mr__adapt *run, struct mr__json_string name, struct mr_bytes wanted)
{
    if (!name.escaped || name.raw.size > 6 * wanted.size) {
        return mr_bytes_equal(name.raw, wanted);
    }
    struct mr_buf plain;
    mr_buf_init(&plain, name.raw.size);
    enum mr_status r = mr__json_unescape(name.raw, &plain);
    bool equal = r == MR_OK && mr_bytes_equal(mr_buf_bytes(&plain), wanted);
    if (r == MR_E_NOMEM) {
        mr__adapt_fail_memory(run, r, "a name");
    }
    mr_buf_release(&plain);
    return equal;
}

static bool find_member(struct mr__adapt *run, struct mr_bytes object, struct mr_bytes name,
                        struct mr_bytes *ret_value)
{
    struct mr__scan s;
    struct mr__json_string member;
    struct mr_bytes value;
    bool found = false;
    mr__adapt_walk(&s, object);
    while (mr__json_next(&s, &member, &value)) {
        if (!name_is(run, member, name)) {
            continue;
        }
        if (found) {
            mr__adapt_fail(run, MR_E_INVALID, "the member %.*s is there twice", (int)name.size,
                           (const char *)name.data);
            return false;
        }
        found = true;
        *ret_value = value;
    }
    return found && run->status == MR_OK;
}

static bool find_element(struct mr_bytes array, uint64_t index, struct mr_bytes *ret_value)
{
    struct mr__scan s;
    mr__adapt_walk(&s, array);
    for (uint64_t i = 0; mr__json_next(&s, NULL, ret_value); i++) {
        if (i == index) {
            return true;
        }
    }
    return false;
}

bool mr__adapt_get(struct mr__adapt *run, struct mr_bytes json, const char *path,
                   struct mr_bytes *ret_value)
{
    while (run->status == MR_OK && json.size > 0) {
        const char *dot = strchr(path, '.');
        struct mr_bytes name = dot == NULL ? mr_bytes_of(path)
                                           : mr_bytes(path, (size_t)(dot - path));
        uint64_t index;
        struct mr_bytes value;
        bool found = json.data[0] == '{'   ? find_member(run, json, name, &value)
                     : json.data[0] == '[' ? mr_parse_u64(name, &index) &&
                                                 find_element(json, index, &value)
                                           : false;
        if (!found || mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
            return false;
        }
        if (dot == NULL) {
            *ret_value = value;
            return true;
        }
        json = value;
        path = dot + 1;
    }
    return false;
}

bool mr__adapt_get_kind(struct mr__adapt *run, struct mr_bytes json, const char *path, char kind,
                        struct mr_bytes *ret_value)
{
    struct mr_bytes value;
    if (!mr__adapt_get(run, json, path, &value) || value.data[0] != (uint8_t)kind) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool mr__adapt_says_cloudevent(struct mr__adapt *run, struct mr_bytes json)
{
    struct mr_bytes version;
    return mr__adapt_get(run, json, json.data[0] == '[' ? "0.specversion" : "specversion",
                         &version);
}

bool mr__adapt_text(struct mr__adapt *run, struct mr_bytes value, struct mr_buf *out)
{
    if (run->status != MR_OK || value.size == 0 || strchr("{[n", value.data[0]) != NULL) {
        return false;
    }
    if (value.data[0] != '"') {
        return mr__adapt_put(run, out, value);
    }
    if (value.size == 2) {
        return true;
    }
    enum mr_status r = mr__json_unescape(mr_bytes(value.data + 1, value.size - 2), out);
    if (r == MR_E_INVALID) {
        mr__adapt_fail(run, r, "a string holds half of a surrogate pair");
    } else if (r != MR_OK) {
        mr__adapt_fail_memory(run, r, "a value");
    }
    return r == MR_OK;
}

bool mr__adapt_put(struct mr__adapt *run, struct mr_buf *out, struct mr_bytes bytes)
{
    if (run->status == MR_OK) {
        enum mr_status r = mr_buf_append_bytes(out, bytes);
        if (r != MR_OK) {
            mr__adapt_fail_memory(run, r, "a value");
        }
    }
    return run->status == MR_OK;
}

bool mr__adapt_is(struct mr__adapt *run, struct mr_bytes json, const char *path, const char *text)
{
    struct mr_bytes value;
    struct mr_bytes wanted = mr_bytes_of(text);
    if (!mr__adapt_get_kind(run, json, path, '"', &value)) {
        return false;
    }
    struct mr__json_string string = {mr_bytes(value.data + 1, value.size - 2), false};
    string.escaped = string.raw.size > 0 && memchr(string.raw.data, '\\', string.raw.size) != NULL;
    return name_is(run, string, wanted);
}

bool mr__adapt_header(const struct mr__adapt *run, const char *name, struct mr_bytes *ret_value)
{
    for (uint32_t i = 0; i < run->input->header_count; i++) {
        const struct mr_field *header = &run->input->headers[i];
        if (mr_bytes_equal_nocase(header->name, mr_bytes_of(name))) {
            struct mr_bytes value = mr_bytes_trim(header->value);
            if (value.size > 0) {
                *ret_value = value;
                return true;
            }
        }
    }
    return false;
}

void mr__adapt_add(struct mr__adapt *run, struct mr_event *event)
{
    struct mr_events *events = &run->adapted->events;
    size_t size = mr_event_record(event).size;
    if (events->count == MR_BATCH_EVENTS_MAX || size > MR_BATCH_SIZE_MAX - run->size) {
        mr__adapt_fail(run, MR_E_TOO_BIG, "one message gives more than %u events or %u MiB",
                       MR_BATCH_EVENTS_MAX, MR_BATCH_SIZE_MAX / MR_MIB);
    } else if (events->count == run->capacity) {
        uint32_t capacity = run->capacity == 0 ? 1 : run->capacity * 4;
        struct mr_event **more = mr_realloc(events->events, capacity * sizeof(struct mr_event *));
        if (more == NULL) {
            mr__adapt_fail_memory(run, MR_E_NOMEM, "");
        } else {
            events->events = more;
            run->capacity = capacity;
        }
    }
    if (run->status != MR_OK) {
        mr_event_unref(event);
        return;
    }
    events->events[events->count++] = event;
    run->size += size;
}

void mr__adapt_cloudevents(struct mr__adapt *run, struct mr_bytes text)
{
    if (run->status != MR_OK) {
        return;
    }
    struct mr__scan s;
    struct mr_event *one = NULL;
    struct mr_event **many = NULL;
    uint32_t count = 0;
    struct mr_problem inner = {0};
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    bool batch = mr__scan_peek(&s) == '[';
    enum mr_status r = batch
                           ? mr_json_decode_batch(text, run->input->size_max, MR_BATCH_EVENTS_MAX,
                                                  &many, &count, &inner)
                           : mr_json_decode_event(text, run->input->size_max, &one, &inner);
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "%s", inner.text);
        return;
    }
    if (!batch) {
        mr__adapt_add(run, one);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        mr__adapt_add(run, many[i]);
    }
    mr_free(many);
}
