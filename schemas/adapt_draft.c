/* Events in the making: what an adapter gathered becomes the attributes of an event, mended where a
 * CloudEvent cannot hold it. */
#include <openssl/evp.h>
#include <stdio.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/text.h"

#define PART_SIZE_MAX MR_EVENT_ATTRS_SIZE_MAX /* of one; the builder looks at all together */
#define EPOCH_END_S 253402300800ull           /* the year 10000 */
#define EPOCH_MS_BEGIN 100000000000ull        /* from here on milliseconds: 1973, not 5138 */

void mr__draft_begin(struct mr__draft *draft, struct mr__adapt *run, struct mr_bytes data)
{
    *draft = (struct mr__draft){
        .run = run, .content_type = MR_BYTES_LITERAL("application/json"), .data = data};
    for (size_t i = 0; i < MR_ARRAY_COUNT(draft->parts); i++) {
        mr_buf_init(&draft->parts[i], PART_SIZE_MAX);
    }
}

static const char *part_name(enum mr__part part)
{
    static const char *const names[] = {"id",      "source", "type",
                                        "subject", "time",   "partitionkey"};
    _Static_assert(MR_ARRAY_COUNT(names) == MR__PART_MAX, "a name for each part");
    return names[part];
}

void mr__draft_bytes(struct mr__draft *draft, enum mr__part part, struct mr_bytes bytes)
{
    if (draft->run->status == MR_OK) {
        enum mr_status r = mr_buf_append_bytes(&draft->parts[part], bytes);
        if (r != MR_OK) {
            mr__adapt_fail_memory(draft->run, r, part_name(part));
        }
    }
}

void mr__draft_text(struct mr__draft *draft, enum mr__part part, const char *text)
{
    mr__draft_bytes(draft, part, mr_bytes_of(text));
}

bool mr__draft_value(struct mr__draft *draft, enum mr__part part, struct mr_bytes value)
{
    size_t before = draft->parts[part].size;
    return mr__adapt_text(draft->run, value, &draft->parts[part]) &&
           draft->parts[part].size > before;
}

bool mr__draft_get(struct mr__draft *draft, enum mr__part part, struct mr_bytes json,
                   const char *path)
{
    struct mr_bytes value;
    return mr__adapt_get(draft->run, json, path, &value) && mr__draft_value(draft, part, value);
}

void mr__draft_need(struct mr__draft *draft, enum mr__part part, struct mr_bytes json,
                    const char *path)
{
    if (!mr__draft_get(draft, part, json, path)) {
        mr__adapt_fail(draft->run, MR_E_INVALID,
                       "the member %s is missing, empty or no text, so there is no %s", path,
                       part_name(part));
    }
}

void mr__draft_cut(struct mr__draft *draft, enum mr__part part, size_t at, const char *prefix)
{
    struct mr_buf *text = &draft->parts[part];
    size_t size = strlen(prefix);
    if (at < text->size &&
        mr_bytes_starts(mr_bytes(text->data + at, text->size - at), mr_bytes_of(prefix))) {
        memmove(text->data + at, text->data + at + size, text->size - at - size);
        text->size -= size;
    }
}

void mr__draft_digest(struct mr__draft *draft, enum mr__part part, struct mr_bytes bytes)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (EVP_Digest(bytes.data, bytes.size, digest, &size, EVP_sha256(), NULL) != 1 || size < 16) {
        mr__adapt_fail_memory(draft->run, MR_E_NOMEM, "");
        return;
    }
    char text[33] = {0};
    for (size_t i = 0; i < 16; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    mr__draft_text(draft, part, text);
}

void mr__draft_source_name(struct mr__draft *draft, const char *before)
{
    mr__draft_text(draft, MR__SOURCE, before);
    if (draft->run->status == MR_OK) {
        enum mr_status r =
            mr__text_append_path(&draft->parts[MR__SOURCE], draft->run->input->source_name);
        if (r != MR_OK) {
            mr__adapt_fail_memory(draft->run, r, "the name of the source");
        }
    }
}

bool mr__draft_time_text(struct mr__draft *draft, struct mr_bytes text)
{
    char mended[64];
    text = mr_bytes_trim(text);
    if (draft->parts[MR__TIME].size > 0 || text.size < 20 || text.size >= sizeof(mended)) {
        return draft->parts[MR__TIME].size > 0;
    }
    memcpy(mended, text.data, text.size);
    if (mended[10] == ' ' || mended[10] == 't') {
        mended[10] = 'T';
    }
    if (mended[text.size - 1] == 'z') {
        mended[text.size - 1] = 'Z';
    }
    struct mr_bytes time = mr_bytes(mended, text.size);
    if (!mr_time_parse(time, NULL)) {
        return false;
    }
    mr__draft_bytes(draft, MR__TIME, time);
    return true;
}

bool mr__draft_time(struct mr__draft *draft, struct mr_bytes json, const char *path)
{
    struct mr_bytes value;
    if (draft->parts[MR__TIME].size > 0 ||
        !mr__adapt_get_kind(draft->run, json, path, '"', &value)) {
        return draft->parts[MR__TIME].size > 0;
    }
    struct mr_buf text;
    mr_buf_init(&text, PART_SIZE_MAX);
    bool set = value.size < 400 && mr__adapt_text(draft->run, value, &text) &&
               mr__draft_time_text(draft, mr_buf_bytes(&text));
    mr_buf_release(&text);
    return set;
}

/* Seconds since 1970, perhaps with a fraction; numbers too large for that are milliseconds.
 * @return false: neither, or beyond the year 9999 */
static bool read_epoch(struct mr_bytes text, uint64_t *ret_seconds, struct mr_bytes *ret_fraction)
{
    const uint8_t *dot = text.size == 0 ? NULL : memchr(text.data, '.', text.size);
    size_t whole = dot == NULL ? text.size : (size_t)(dot - text.data);
    uint64_t number;
    uint64_t digits;
    *ret_fraction = mr_bytes(text.data + whole, text.size - whole);
    if (!mr_parse_u64(mr_bytes(text.data, whole), &number) ||
        (dot != NULL && (ret_fraction->size > 10 ||
                         !mr_parse_u64(mr_bytes(dot + 1, ret_fraction->size - 1), &digits)))) {
        return false;
    }
    if (number >= EPOCH_MS_BEGIN && dot == NULL && text.size > 3) {
        number /= 1000;
        *ret_fraction = mr_bytes(text.data + text.size - 3, 3);
    }
    *ret_seconds = number;
    return number < EPOCH_END_S;
}

bool mr__draft_time_epoch(struct mr__draft *draft, struct mr_bytes json, const char *path)
{
    struct mr_bytes value;
    struct mr_bytes fraction;
    uint64_t seconds;
    if (draft->parts[MR__TIME].size > 0 || !mr__adapt_get(draft->run, json, path, &value)) {
        return draft->parts[MR__TIME].size > 0;
    }
    if (value.data[0] == '"') {
        value = mr_bytes(value.data + 1, value.size - 2);
    }
    if (!read_epoch(value, &seconds, &fraction)) {
        return false;
    }
    /* mr_time_format() counts nanoseconds, which end in the year 2554. */
    int64_t year;
    unsigned month;
    unsigned day;
    unsigned rest = (unsigned)(seconds % 86400);
    mr_civil_from_days((int64_t)(seconds / 86400), &year, &month, &day);
    char text[MR_TIME_TEXT_SIZE];
    int size = snprintf(text, sizeof(text), "%04u-%02u-%02uT%02u:%02u:%02u%s", (unsigned)year,
                        month, day, rest / 3600, rest / 60 % 60, rest % 60,
                        fraction.size == 3 && fraction.data[0] != '.' ? "." : "");
    MR_ASSERT(size == 19 || size == 20);
    mr__draft_text(draft, MR__TIME, text);
    mr__draft_bytes(draft, MR__TIME, fraction);
    mr__draft_text(draft, MR__TIME, "Z");
    return true;
}

static void append_percent(struct mr_buf *out, uint8_t c)
{
    static const char digits[] = "0123456789ABCDEF";
    out->data[out->size++] = '%';
    out->data[out->size++] = (uint8_t)digits[c >> 4];
    out->data[out->size++] = (uint8_t)digits[c & 15];
}

/* A CloudEvents String holds no control characters and noncharacters; an object's key may. They
 * are percent-encoded, as S3 writes them, instead of losing the event. */
static void mend_string(struct mr__adapt *run, struct mr_buf *part, const char *name)
{
    if (run->status != MR_OK || mr__text_is_string(mr_buf_bytes(part))) {
        return;
    }
    struct mr_buf mended;
    mr_buf_init(&mended, 3 * PART_SIZE_MAX);
    enum mr_status r = mr_buf_reserve(&mended, 3 * part->size);
    if (r != MR_OK) {
        mr__adapt_fail_memory(run, r, name);
        return;
    }
    for (size_t i = 0; i < part->size;) {
        uint32_t code;
        size_t size = mr__text_character(mr_bytes(part->data + i, part->size - i), &code);
        size = size == 0 ? 1 : size;
        if (mr__text_is_string(mr_bytes(part->data + i, size))) {
            memcpy(mended.data + mended.size, part->data + i, size);
            mended.size += size;
        } else {
            for (size_t k = 0; k < size; k++) {
                append_percent(&mended, part->data[i + k]);
            }
        }
        i += size;
    }
    mr_buf_release(part);
    *part = mended;
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* A URI-reference (digest 16.6): what one cannot hold is percent-encoded, nothing else changes. */
static void mend_source(struct mr__adapt *run, struct mr_buf *part)
{
    if (run->status != MR_OK) {
        return;
    }
    struct mr_buf mended;
    mr_buf_init(&mended, 3 * PART_SIZE_MAX);
    enum mr_status r = mr_buf_reserve(&mended, 3 * part->size);
    if (r != MR_OK) {
        mr__adapt_fail_memory(run, r, "source");
        return;
    }
    bool fragment = false;
    bool colons = mr__text_is_uri(mr_buf_bytes(part), false);
    bool begun = false;
    for (size_t i = 0; i < part->size; i++) {
        uint8_t c = part->data[i];
        bool stays = c > ' ' && c < 0x7F && strchr("\"<>\\^`|%#:", c) == NULL;
        if (c == '%') {
            stays = part->size - i > 2 && is_hex(part->data[i + 1]) && is_hex(part->data[i + 2]);
        } else if (c == '#') {
            stays = !fragment;
            fragment = true;
        } else if (c == ':') {
            /* Before the first slash the first one has to be that of a scheme. */
            colons = colons || (!begun && mr__text_is_uri(mr_bytes(part->data, i + 1), true));
            begun = true;
            stays = colons;
        } else if (c == '/') {
            colons = true;
        }
        if (stays) {
            mended.data[mended.size++] = c;
        } else {
            append_percent(&mended, c);
        }
    }
    mr_buf_release(part);
    *part = mended;
}

static enum mr_status build(struct mr__draft *draft, struct mr_event **ret_event,
                            struct mr_problem *problem)
{
    struct mr__adapt *run = draft->run;
    bool timed = draft->parts[MR__TIME].size > 0;
    bool typed = draft->data.size > 0;
    struct mr_bytes received = mr_bytes_of(run->received);
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value; /* empty: absent, but for the first three */
    } attrs[] = {
        {"id", MR_ATTR_STRING, mr_buf_bytes(&draft->parts[MR__ID])},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&draft->parts[MR__SOURCE])},
        {"type", MR_ATTR_STRING, mr_buf_bytes(&draft->parts[MR__TYPE])},
        {"subject", MR_ATTR_STRING, mr_buf_bytes(&draft->parts[MR__SUBJECT])},
        {"time", MR_ATTR_TIMESTAMP, timed ? mr_buf_bytes(&draft->parts[MR__TIME]) : received},
        {"datacontenttype", MR_ATTR_STRING, typed ? draft->content_type : (struct mr_bytes){0}},
        {"recordedtime", MR_ATTR_TIMESTAMP, received},
        {"partitionkey", MR_ATTR_STRING, mr_buf_bytes(&draft->parts[MR__KEY])},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, run->input->size_max);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        if (i < 3 || attrs[i].value.size > 0) {
            r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                      attrs[i].value, problem);
        }
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return r;
    }
    if (typed) {
        mr_event_builder_data(&builder, draft->data, false);
    }
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}

void mr__draft_end(struct mr__draft *draft)
{
    struct mr__adapt *run = draft->run;
    for (enum mr__part part = MR__ID; part < MR__PART_MAX; part++) {
        if (part != MR__SOURCE && part != MR__TIME) {
            mend_string(run, &draft->parts[part], part_name(part));
        }
    }
    mend_source(run, &draft->parts[MR__SOURCE]);
    if (run->status == MR_OK) {
        struct mr_problem inner = {0};
        struct mr_event *event = NULL;
        enum mr_status r = build(draft, &event, &inner);
        if (r == MR_OK) {
            mr__adapt_add(run, event);
        } else {
            mr__adapt_fail(run, r, "%s", inner.text);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(draft->parts); i++) {
        mr_buf_release(&draft->parts[i]);
    }
}
