#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"

/* One event while it is being read. */
struct envelope {
    struct mr_event_builder builder;
    struct mr_buf nulls;   /* names of members that were null, each with its length before it */
    struct mr_buf name;    /* unescaped member name, or base64 text, when it had escapes */
    struct mr_buf scratch; /* unescaped attribute value, then the unescaped or decoded data */
    unsigned null_count;
    bool data_seen;
    bool base64_seen;
    bool base64_null;
    struct mr_bytes data; /* the text of the value of "data" */
    struct mr__json_string base64;
};

static void envelope_init(struct envelope *e, size_t size_max, size_t text_size)
{
    *e = (struct envelope){0};
    mr_event_builder_init(&e->builder, size_max);
    mr_buf_init(&e->nulls, MR_EVENT_ATTRS_MAX * (MR_ATTR_NAME_SIZE_MAX + 1));
    mr_buf_init(&e->name, text_size + 4);
    mr_buf_init(&e->scratch, text_size + 4);
}

static void envelope_release(struct envelope *e)
{
    mr_event_builder_release(&e->builder);
    mr_buf_release(&e->nulls);
    mr_buf_release(&e->name);
    mr_buf_release(&e->scratch);
}

/* A fault of what was read at @p at, with its position. */
static enum mr_status fail_at(const struct mr__scan *s, const uint8_t *at, enum mr_status status,
                              const char *what, struct mr_problem *problem)
{
    return mr_problem_set(problem, status, "%s (at byte %zu)", what, (size_t)(at - s->start));
}

static enum mr_status fail_scan(const struct mr__scan *s, struct mr_problem *problem)
{
    MR_ASSERT(s->fault != NULL);
    const char *what = s->at >= s->end ? "the JSON text ends too early" : s->fault;
    return fail_at(s, s->at, MR_E_INVALID, what, problem);
}

static bool is_null_name(const struct envelope *e, struct mr_bytes name)
{
    for (size_t at = 0; at < e->nulls.size; at += 1u + e->nulls.data[at]) {
        if (mr_bytes_equal(mr_bytes(e->nulls.data + at + 1, e->nulls.data[at]), name)) {
            return true;
        }
    }
    return false;
}

/* A null member is absent, but its name must be legal and may not come again. */
static enum mr_status add_null(struct envelope *e, struct mr_bytes name,
                               struct mr_problem *problem)
{
    enum mr_status r = mr__builder_check_name(name, problem);
    if (r != MR_OK) {
        return r;
    }
    if (mr__builder_has(&e->builder, name)) {
        return mr__builder_repeated(name, problem);
    }
    if (e->null_count++ == MR_EVENT_ATTRS_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "more than %u members are null",
                              MR_EVENT_ATTRS_MAX);
    }
    r = mr_buf_append_byte(&e->nulls, (uint8_t)name.size);
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&e->nulls, name);
    }
    return r == MR_OK ? r : mr_problem_set(problem, r, "out of memory");
}

/* The characters of @p string: itself, or unescaped into @p to (emptied first). */
static enum mr_status string_text(struct mr__json_string string, struct mr_buf *to,
                                  struct mr_bytes *ret_text, struct mr_problem *problem)
{
    if (!string.escaped) {
        *ret_text = string.raw;
        return MR_OK;
    }
    mr_buf_clear(to);
    enum mr_status r = mr__json_unescape(string.raw, to);
    if (r != MR_OK) {
        return mr_problem_set(problem, r,
                              r == MR_E_INVALID   ? "a string holds half of a surrogate pair"
                              : r == MR_E_TOO_BIG ? "a string is too long"
                                                  : "out of memory");
    }
    *ret_text = mr_buf_bytes(to);
    return MR_OK;
}

/* The value of the attribute @p name, which begins under the cursor. */
static enum mr_status read_attr(struct mr__scan *s, struct envelope *e, struct mr_bytes name,
                                struct mr_problem *problem)
{
    uint8_t c = mr__scan_peek(s);
    struct mr_bytes value;
    enum mr_attr_type type = MR_ATTR_STRING;
    if (c == '"') {
        struct mr__json_string string;
        if (!mr__scan_string(s, &string)) {
            return fail_scan(s, problem);
        }
        enum mr_status r = string_text(string, &e->scratch, &value, problem);
        if (r != MR_OK) {
            return r;
        }
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        if (!mr__scan_number(s, &value)) {
            return fail_scan(s, problem);
        }
        bool minus_zero = mr_bytes_equal(value, MR_BYTES_LITERAL("-0"));
        value = minus_zero ? MR_BYTES_LITERAL("0") : value;
        type = MR_ATTR_INTEGER;
    } else if (c == '{' || c == '[') {
        return mr_problem_set(problem, MR_E_INVALID,
                              "an attribute must be a string, an integer or a boolean");
    } else {
        if (!mr__scan_literal(s, &value)) {
            return fail_scan(s, problem);
        }
        if (c == 'n') {
            return add_null(e, name, problem);
        }
        type = MR_ATTR_BOOLEAN;
    }
    return mr_event_builder_attr(&e->builder, name, type, value, problem);
}

static enum mr_status read_data(struct mr__scan *s, struct envelope *e,
                                struct mr_problem *problem)
{
    if (e->data_seen) {
        return mr_problem_set(problem, MR_E_INVALID, "data is there twice");
    }
    e->data_seen = true;
    return mr__scan_value(s, &e->data) ? MR_OK : fail_scan(s, problem);
}

static enum mr_status read_base64(struct mr__scan *s, struct envelope *e,
                                  struct mr_problem *problem)
{
    if (e->base64_seen) {
        return mr_problem_set(problem, MR_E_INVALID, "data_base64 is there twice");
    }
    e->base64_seen = true;
    uint8_t c = mr__scan_peek(s);
    struct mr_bytes text;
    if (c == '"') {
        return mr__scan_string(s, &e->base64) ? MR_OK : fail_scan(s, problem);
    }
    e->base64_null = c == 'n';
    if (c != 'n') {
        return mr_problem_set(problem, MR_E_INVALID, "data_base64 must be a string");
    }
    return mr__scan_literal(s, &text) ? MR_OK : fail_scan(s, problem);
}

static enum mr_status read_member(struct mr__scan *s, struct envelope *e,
                                  struct mr_problem *problem)
{
    const uint8_t *at = s->at;
    struct mr__json_string raw;
    if (!mr__scan_name(s, &raw)) {
        return fail_scan(s, problem);
    }
    struct mr_bytes name;
    struct mr_problem inner; /* set by whoever fails; half a KiB, not cleared for each member */
    enum mr_status r = string_text(raw, &e->name, &name, &inner);
    if (r == MR_OK) {
        if (name.size == 4 && memcmp(name.data, "data", 4) == 0) {
            r = read_data(s, e, &inner);
        } else if (name.size == 11 && memcmp(name.data, "data_base64", 11) == 0) {
            r = read_base64(s, e, &inner);
        } else if (e->null_count > 0 && is_null_name(e, name)) {
            r = mr__builder_repeated(name, &inner);
        } else {
            r = read_attr(s, e, name, &inner);
        }
    }
    if (r != MR_OK && s->fault != NULL) {
        return fail_scan(s, problem); /* its position is the better one */
    }
    return r == MR_OK ? r : fail_at(s, at, r, inner.text, problem);
}

/* Hands the data to the builder (digest 2.3, the reader's list). */
static enum mr_status settle_data(struct envelope *e, struct mr_problem *problem)
{
    bool is_null = e->data_seen && e->data.size == 4 && memcmp(e->data.data, "null", 4) == 0;
    if (e->base64_seen && !e->base64_null) {
        if (e->data_seen && !is_null) {
            return mr_problem_set(problem, MR_E_INVALID, "both data and data_base64 are there");
        }
        struct mr_bytes text;
        enum mr_status r = string_text(e->base64, &e->name, &text, problem);
        if (r != MR_OK) {
            return r;
        }
        mr_buf_clear(&e->scratch);
        r = mr_buf_append_unbase64(&e->scratch, text);
        if (r != MR_OK) {
            return mr_problem_set(problem, r,
                                  r == MR_E_INVALID ? "data_base64 is not base64"
                                                    : "out of memory");
        }
        mr_event_builder_data(&e->builder, mr_buf_bytes(&e->scratch), true);
        return MR_OK;
    }
    if (!e->data_seen) {
        return MR_OK;
    }
    struct mr_bytes type;
    if (!mr__builder_value(&e->builder, MR_BYTES_LITERAL("datacontenttype"), &type) ||
        mr_media_type_is_json(type)) {
        mr_event_builder_data(&e->builder, e->data, false);
        e->builder.flags |= MR_EVENT_DATA_JSON; /* the scan has seen that it is one value */
        return MR_OK;
    }
    if (e->data.data[0] != '"') {
        return mr_problem_set(problem, MR_E_INVALID,
                              "data must be a string, as datacontenttype is not JSON");
    }
    struct mr__json_string string = {.raw = mr_bytes(e->data.data + 1, e->data.size - 2)};
    string.escaped = memchr(string.raw.data, '\\', string.raw.size) != NULL;
    struct mr_bytes text;
    enum mr_status r = string_text(string, &e->scratch, &text, problem);
    if (r == MR_OK) {
        mr_event_builder_data(&e->builder, text, false);
    }
    return r;
}

/* The members between the braces; the cursor stands on the opening one. */
static enum mr_status read_members(struct mr__scan *s, struct envelope *e,
                                   struct mr_problem *problem)
{
    s->at++;
    mr__scan_space(s);
    if (mr__scan_peek(s) == '}') {
        s->at++;
        return MR_OK;
    }
    for (;;) {
        enum mr_status r = read_member(s, e, problem);
        if (r != MR_OK) {
            return r;
        }
        mr__scan_space(s);
        uint8_t c = mr__scan_peek(s);
        if (c != ',' && c != '}') {
            (void)mr__scan_fail(s, "a comma or } is expected"); /* only to set it */
            return fail_scan(s, problem);
        }
        s->at++;
        if (c == '}') {
            return MR_OK;
        }
        mr__scan_space(s);
    }
}

static enum mr_status decode_object(struct mr__scan *s, size_t size_max,
                                    struct mr_event **ret_event, struct mr_problem *problem)
{
    if (mr__scan_peek(s) != '{') {
        return fail_at(s, s->at, MR_E_INVALID, "an event must be a JSON object", problem);
    }
    struct envelope e;
    envelope_init(&e, size_max, (size_t)(s->end - s->at));
    enum mr_status r = read_members(s, &e, problem);
    if (r == MR_OK) {
        r = settle_data(&e, problem);
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(&e.builder, false, ret_event, problem);
    }
    envelope_release(&e);
    return r;
}

enum mr_status mr_json_decode_event(struct mr_bytes text, size_t size_max,
                                    struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr__scan s;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    struct mr_event *event = NULL;
    enum mr_status r = decode_object(&s, size_max, &event, problem);
    if (r != MR_OK) {
        return r;
    }
    mr__scan_space(&s);
    if (s.at != s.end) {
        mr_event_unref(event);
        return fail_at(&s, s.at, MR_E_INVALID, "there is more behind the event", problem);
    }
    *ret_event = event;
    return MR_OK;
}

/* The events of a batch while it is being read. */
struct batch {
    struct mr_event **events; /* owned, one reference each */
    uint32_t count;
    uint32_t capacity;
    uint32_t count_max;
};

static void batch_release(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        mr_event_unref(batch->events[i]);
    }
    mr_free(batch->events);
}

static enum mr_status batch_reserve(struct batch *batch, struct mr_problem *problem)
{
    if (batch->count == batch->count_max) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "the batch holds more than %u events",
                              batch->count_max);
    }
    if (batch->count < batch->capacity) {
        return MR_OK;
    }
    uint32_t capacity = batch->capacity == 0 ? 16 : batch->capacity * 2;
    void *events = mr_realloc(batch->events, capacity * sizeof(struct mr_event *));
    if (events == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    batch->events = events;
    batch->capacity = capacity;
    return MR_OK;
}

static enum mr_status read_batch(struct mr__scan *s, size_t size_max, struct batch *batch,
                                 struct mr_problem *problem)
{
    s->at++;
    mr__scan_space(s);
    if (mr__scan_peek(s) == ']') {
        s->at++;
        return MR_OK;
    }
    for (;;) {
        enum mr_status r = batch_reserve(batch, problem);
        if (r != MR_OK) {
            return r;
        }
        struct mr_problem inner; /* set when it fails */
        r = decode_object(s, size_max, &batch->events[batch->count], &inner);
        if (r != MR_OK) {
            return mr_problem_set(problem, r, "event %u of the batch: %s", batch->count,
                                  inner.text);
        }
        batch->count++;
        mr__scan_space(s);
        uint8_t c = mr__scan_peek(s);
        if (c != ',' && c != ']') {
            return fail_at(s, s->at, MR_E_INVALID, "a comma or ] is expected", problem);
        }
        s->at++;
        if (c == ']') {
            return MR_OK;
        }
        mr__scan_space(s);
    }
}

enum mr_status mr_json_decode_batch(struct mr_bytes text, size_t size_max, uint32_t count_max,
                                    struct mr_event ***ret_events, uint32_t *ret_count,
                                    struct mr_problem *problem)
{
    struct mr__scan s;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    if (mr__scan_peek(&s) != '[') {
        return fail_at(&s, s.at, MR_E_INVALID, "a batch must be a JSON array", problem);
    }
    struct batch batch = {.count_max = count_max};
    enum mr_status r = read_batch(&s, size_max, &batch, problem);
    if (r == MR_OK) {
        mr__scan_space(&s);
        if (s.at != s.end) {
            r = fail_at(&s, s.at, MR_E_INVALID, "there is more behind the batch", problem);
        }
    }
    if (r != MR_OK) {
        batch_release(&batch);
        return r;
    }
    if (batch.count == 0) {
        mr_free(MR_TAKE(batch.events));
    }
    *ret_events = batch.events;
    *ret_count = batch.count;
    return MR_OK;
}

bool mr_json_is_value(struct mr_bytes text)
{
    struct mr__scan s;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    struct mr_bytes value;
    if (!mr__scan_value(&s, &value)) {
        return false;
    }
    mr__scan_space(&s);
    return s.at == s.end;
}

bool mr__json_open(struct mr__scan *s, struct mr_bytes text, uint8_t bracket)
{
    mr__scan_init(s, text);
    mr__scan_space(s);
    if (mr__scan_peek(s) != bracket || !mr_json_is_value(text)) {
        return false;
    }
    s->at++;
    mr__scan_space(s);
    return true;
}

bool mr__json_next(struct mr__scan *s, struct mr__json_string *ret_name,
                   struct mr_bytes *ret_value)
{
    if (mr__scan_peek(s) == (ret_name == NULL ? ']' : '}') ||
        (ret_name != NULL && !mr__scan_name(s, ret_name)) || !mr__scan_value(s, ret_value)) {
        return false;
    }
    mr__scan_space(s);
    if (mr__scan_peek(s) == ',') {
        s->at++;
        mr__scan_space(s);
    }
    return true;
}

bool mr__json_find(struct mr_bytes text, const char *name, struct mr_bytes *ret_value)
{
    struct mr__scan s;
    struct mr__json_string member;
    struct mr_bytes value;
    if (!mr__json_open(&s, text, '{')) {
        return false;
    }
    while (mr__json_next(&s, &member, &value)) {
        if (mr_bytes_equal(member.raw, mr_bytes_of(name))) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}
