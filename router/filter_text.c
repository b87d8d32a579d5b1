/* The text of a filter, as far as cJSON is too lax about it. */
#include "router/filter.h"

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* The end of the string that begins at @p at, or 0. cJSON lets control bytes pass and takes a bad
 * \u escape for NUL, which would cut the value silently. */
static size_t check_string(struct mr_bytes json, size_t at)
{
    for (size_t i = at + 1; i < json.size; i++) {
        uint8_t c = json.data[i];
        if (c == '"') {
            return i + 1;
        }
        if (c < 0x20) {
            return 0;
        }
        if (c != '\\') {
            continue;
        }
        i++;
        if (i < json.size && json.data[i] == 'u') {
            if (json.size - i < 5 || memcmp(json.data + i + 1, "0000", 4) == 0) {
                return 0;
            }
            for (size_t k = 1; k <= 4; k++) {
                if (!is_hex(json.data[i + k])) {
                    return 0;
                }
            }
        }
    }
    return 0;
}

static enum mr_status check_text(struct mr_bytes json, struct mr_problem *problem)
{
    if (json.size > MR_CONFIG_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "filter is larger than %u bytes",
                              MR_CONFIG_SIZE_MAX);
    }
    if (!mr_bytes_is_utf8(json)) {
        return mr_problem_set(problem, MR_E_INVALID, "filter is not UTF-8");
    }
    uint32_t depth = 0;
    size_t i = 0;
    while (i < json.size) {
        uint8_t c = json.data[i];
        size_t next = i + 1;
        if (c == '"') {
            next = check_string(json, i);
        } else if (c >= 0x7F || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
            next = 0;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
        if (next == 0) {
            return mr_problem_set(problem, MR_E_INVALID, "filter is not JSON (at byte %zu)", i);
        }
        /* Two brackets a level at most: deeper text is refused before cJSON recurses on it. */
        if (depth > 2 * MR_FILTER_DEPTH_MAX + 4) {
            return mr_problem_set(problem, MR_E_INVALID, "filter is nested more than %u deep",
                                  MR_FILTER_DEPTH_MAX);
        }
        i = next;
    }
    return MR_OK;
}

static cJSON *parse_text(struct mr_bytes json)
{
    const char *text = (const char *)json.data;
    const char *end = NULL;
    cJSON *root = json.size == 0 ? NULL : cJSON_ParseWithLengthOpts(text, json.size, &end, 0);
    while (root != NULL && end < text + json.size) {
        if (*end != ' ' && *end != '\t' && *end != '\n' && *end != '\r') {
            cJSON_Delete(root);
            return NULL;
        }
        end++;
    }
    return root;
}

enum mr_status mr__filter_parse(struct mr_bytes json, cJSON **ret_root, struct mr_problem *problem)
{
    enum mr_status r = check_text(json, problem);
    if (r == MR_OK) {
        *ret_root = parse_text(json);
        if (*ret_root == NULL) {
            r = mr_problem_set(problem, MR_E_INVALID, "filter is not JSON");
        }
    }
    return r;
}
