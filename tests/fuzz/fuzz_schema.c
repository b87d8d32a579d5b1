/* Schemas and data from anywhere: the first line is a schema, the rest the data, and both once more
 * as an expression and its text. Refused with a reason, or checked within the bounds. */
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"
#include "schemas/regex.h"
#include "schemas/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_schema(struct mr_bytes text, struct mr_bytes data)
{
    struct mr_schema *schema = NULL;
    struct mr_problem problem = {""};
    if (mr_schema_create("/fuzz/s.json", text, NULL, &schema, &problem) != MR_OK) {
        MR_ASSERT(schema == NULL);
        MR_ASSERT(problem.text[0] != '\0');
        return;
    }
    enum mr_status first = mr_schema_check(schema, data, &problem);
    MR_ASSERT(first == MR_OK || first == MR_E_INVALID || first == MR_E_TOO_BIG);
    MR_ASSERT(first == MR_OK || problem.text[0] != '\0');
    MR_ASSERT(first != MR_OK || mr_json_is_value(data));
    MR_ASSERT(mr_schema_check(schema, data, NULL) == first);
    mr_schema_destroy(schema);
}

static void check_regex(struct mr_bytes pattern, struct mr_bytes text)
{
    struct mr_regex *regex = NULL;
    struct mr_problem problem = {""};
    if (mr_regex_create(pattern, &regex, &problem) != MR_OK) {
        MR_ASSERT(problem.text[0] != '\0');
        return;
    }
    uint32_t *scratch = mr_alloc(mr_regex_scratch(regex) * sizeof(*scratch));
    MR_ASSERT(scratch != NULL);
    uint64_t steps = 1000000;
    (void)mr_regex_search(regex, text, scratch, &steps); /* any answer */
    mr_free(scratch);
    mr_regex_destroy(regex);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size == 0 ? NULL : memchr(data, '\n', size);
    size_t first = line == NULL ? size : (size_t)(line - data);
    struct mr_bytes rest =
        line == NULL ? mr_bytes(data, 0) : mr_bytes(line + 1, size - first - 1);
    check_schema(mr_bytes(data, first), rest);
    check_regex(mr_bytes(data, first), rest);
    return 0;
}
