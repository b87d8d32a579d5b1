/* What the tests of schemas/ share: reading files and vectors, and short ways to build things. */
#ifndef MR_TESTS_UNIT_SCHEMAS_SUPPORT_H
#define MR_TESTS_UNIT_SCHEMAS_SUPPORT_H

#include "tests/support/test.h"

#include <cjson/cJSON.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/limits.h"
#include "schemas/json_format.h"

#define VECTORS MR_SHARED_DIR "/conformance/"

/* The file, NUL-terminated, for free(); NULL when it is not there. */
static inline char *read_text_file(const char *path, size_t *ret_size)
{
    *ret_size = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    size_t size = 0;
    char *text = malloc(1 << 20);
    assert_non_null(text);
    size = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    text[size] = '\0';
    *ret_size = size;
    return text;
}

/* The JSON file of a folder, for cJSON_Delete(); skips the test when it is not there. */
static inline cJSON *read_json_file(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s%s", folder, name);
    size_t size;
    char *text = read_text_file(path, &size);
    if (text == NULL) {
        print_message("[  SKIP    ] %s is not there\n", path);
        skip();
        return NULL;
    }
    cJSON *json = cJSON_Parse(text);
    free(text);
    assert_non_null(json);
    return json;
}

static inline cJSON *read_vectors(const char *name)
{
    return read_json_file(VECTORS, name);
}

static inline const char *string_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static inline struct mr_event *decode_ok(const char *text)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {0};
    enum mr_status r =
        mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &event, &problem);
    if (r != MR_OK) {
        fail_msg("%s: %s: %s", text, mr_status_name(r), problem.text);
    }
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static inline void assert_bytes(struct mr_bytes actual, const char *expected)
{
    if (actual.size != strlen(expected) ||
        (actual.size > 0 && memcmp(actual.data, expected, actual.size) != 0)) {
        fail_msg("\"%.*s\" is not \"%s\"", (int)actual.size, (const char *)actual.data, expected);
    }
}

static inline void assert_value(const struct mr_event *event, const char *name,
                                const char *expected)
{
    assert_bytes(mr_event_value(mr_event_record(event), name), expected);
}

static inline bool has_attr(const struct mr_event *event, const char *name)
{
    struct mr_attr attr;
    return mr_event_attr(mr_event_record(event), mr_bytes_of(name), &attr);
}

/* The text of a scalar JSON value as a canonical attribute string, in @p to. */
static inline const char *canonical(const cJSON *value, char to[64])
{
    if (cJSON_IsString(value)) {
        return value->valuestring;
    }
    if (cJSON_IsBool(value)) {
        return cJSON_IsTrue(value) ? "true" : "false";
    }
    snprintf(to, 64, "%.0f", value->valuedouble);
    return to;
}

/* Every attribute of the JSON event is in the record, and no other; times compare as instants. */
static inline void assert_attributes(const struct mr_event *event, const cJSON *expected)
{
    struct mr_bytes record = mr_event_record(event);
    int count = 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, expected)
    {
        if (strcmp(member->string, "specversion") == 0 || strcmp(member->string, "data") == 0 ||
            strcmp(member->string, "data_base64") == 0 || cJSON_IsNull(member)) {
            continue;
        }
        count++;
        struct mr_attr attr;
        if (!mr_event_attr(record, mr_bytes_of(member->string), &attr)) {
            fail_msg("the attribute %s is missing", member->string);
        }
        char text[64];
        const char *want = canonical(member, text);
        if (strcmp(member->string, "time") == 0) {
            int64_t a;
            int64_t b;
            assert_true(mr_time_parse(mr_bytes_of(want), &a) && mr_time_parse(attr.value, &b));
            assert_true(a == b);
        } else {
            assert_bytes(attr.value, want);
        }
    }
    assert_int_equal(mr_get_u16(record.data + 4), count);
}

/* The event in JSON, for mr_free(). */
static inline char *encode_text(const struct mr_event *event)
{
    struct mr_buf out;
    mr_buf_init(&out, 8 * MR_MIB);
    assert_int_equal(mr_json_encode_exact(mr_event_record(event), &out), MR_OK);
    char *text = mr_buf_take_text(&out);
    assert_non_null(text);
    return text;
}

#endif
