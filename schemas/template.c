#include "schemas/template.h"

#include "core/limits.h"
#include "schemas/event.h"
#include "schemas/json_scan.h"

#define PATH_SIZE_MAX 256u

static bool is_name(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
            return false;
        }
    }
    return text.size > 0 && text.size <= MR_ATTR_NAME_SIZE_MAX;
}

/* data, or data.a.b: no segment is empty. */
static bool is_path(struct mr_bytes text)
{
    if (!mr_bytes_starts(text, MR_BYTES_LITERAL("data")) || text.size > PATH_SIZE_MAX) {
        return false;
    }
    for (size_t i = 4; i < text.size; i++) {
        bool dot = text.data[i] == '.';
        bool ends = i + 1 == text.size || text.data[i + 1] == '.';
        if ((i == 4 && !dot) || (dot && ends) || text.data[i] <= ' ' || text.data[i] == '{' ||
            text.data[i] == '"' || text.data[i] == '\\') {
            return false;
        }
    }
    return true;
}

/* The next slot of @p at: *ret_name is what it holds. NULL when there is none, and with
 * *ret_bad set when braces do not match. */
static const char *find_slot(const char *at, struct mr_bytes *ret_name,
                             const char **ret_end, bool *ret_bad)
{
    const char *open = strstr(at, "{{");
    const char *close = strstr(at, "}}");
    *ret_bad = open == NULL ? close != NULL : close == NULL || close < open;
    if (open == NULL || *ret_bad) {
        return NULL;
    }
    const char *start = open + 2 + strspn(open + 2, " ");
    const char *end = close;
    while (end > start && end[-1] == ' ') {
        end--;
    }
    *ret_name = mr_bytes(start, (size_t)(end - start));
    *ret_end = close + 2;
    *ret_bad = !is_name(*ret_name) && !is_path(*ret_name);
    return *ret_bad ? NULL : open;
}

bool mr_template_is_valid(const char *text)
{
    bool bad = false;
    struct mr_bytes name;
    for (const char *at = text; find_slot(at, &name, &at, &bad) != NULL;) {
    }
    return !bad;
}

/* The value of any attribute; specversion, which no record holds, included. */
static struct mr_bytes attribute_value(struct mr_bytes record, struct mr_bytes name)
{
    struct mr_attr attr;
    if (mr_event_attr(record, name, &attr)) {
        return attr.value;
    }
    if (mr_bytes_equal(name, MR_BYTES_LITERAL("specversion"))) {
        return MR_BYTES_LITERAL("1.0");
    }
    return mr_bytes(NULL, 0);
}

/* The element numbered @p segment of an array, or the member of that name of an object. */
static bool step_into(struct mr_bytes *value, struct mr_bytes segment)
{
    struct mr__scan s;
    uint64_t number;
    if (mr_parse_u64(segment, &number) && mr__json_open(&s, *value, '[')) {
        struct mr_bytes element;
        for (uint64_t i = 0; mr__json_next(&s, NULL, &element); i++) {
            if (i == number) {
                *value = element;
                return true;
            }
        }
        return false;
    }
    char name[PATH_SIZE_MAX + 1];
    memcpy(name, segment.data, segment.size);
    name[segment.size] = '\0';
    return mr__json_find(*value, name, value);
}

static enum mr_status append_value(struct mr_buf *out, struct mr_bytes value)
{
    if (value.size >= 2 && value.data[0] == '"') {
        return mr__json_unescape(mr_bytes(value.data + 1, value.size - 2), out);
    }
    if (mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
        return MR_OK;
    }
    return mr_buf_append_bytes(out, value);
}

bool mr_template_json(struct mr_bytes name, struct mr_bytes record, struct mr_bytes *ret_value)
{
    struct mr_bytes value = mr_event_data(record);
    if (!is_path(name) || !mr_event_data_is_json(record)) {
        return false;
    }
    for (size_t at = 5; at < name.size;) {
        const uint8_t *dot = memchr(name.data + at, '.', name.size - at);
        size_t end = dot == NULL ? name.size : (size_t)(dot - name.data);
        if (!step_into(&value, mr_bytes(name.data + at, end - at))) {
            return false;
        }
        at = end + 1;
    }
    *ret_value = value;
    return true;
}

enum mr_status mr_template_append(struct mr_bytes name, struct mr_bytes record,
                                  struct mr_buf *out)
{
    struct mr_bytes value;
    if (!is_path(name)) {
        return mr_buf_append_bytes(out, attribute_value(record, name));
    }
    if (name.size == 4) {
        return mr_buf_append_bytes(out, mr_event_data(record));
    }
    enum mr_status r = mr_template_json(name, record, &value) ? append_value(out, value) : MR_OK;
    return r == MR_E_INVALID ? MR_OK : r; /* a lone surrogate stands for no text */
}

const char *mr_template_next(const char *text, struct mr_bytes *ret_name, const char **ret_end)
{
    bool bad = false;
    return find_slot(text, ret_name, ret_end, &bad);
}

enum mr_status mr_template_fill(const char *text, struct mr_bytes record, struct mr_buf *out)
{
    struct mr_bytes name;
    const char *at = text;
    const char *end = NULL;
    const char *open;
    enum mr_status r = MR_OK;
    while (r == MR_OK && (open = mr_template_next(at, &name, &end)) != NULL) {
        r = mr_buf_append(out, at, (size_t)(open - at));
        r = r == MR_OK ? mr_template_append(name, record, out) : r;
        at = end;
    }
    return r == MR_OK ? mr_buf_append_text(out, at) : r;
}
