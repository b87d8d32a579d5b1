/* What the fuzz targets of the bindings share: messages written as lines, and comparing an event
 * with what came back of it. */
#ifndef MR_TESTS_FUZZ_MESSAGE_H
#define MR_TESTS_FUZZ_MESSAGE_H

#include "core/assert.h"
#include "schemas/binding.h"

#define FIELDS_MAX 40

/* Cuts the first line off. @return false: it is empty, or there is no more */
static inline bool take_line(struct mr_bytes *text, struct mr_bytes *ret_line)
{
    const uint8_t *end = text->size == 0 ? NULL : memchr(text->data, '\n', text->size);
    size_t size = end == NULL ? text->size : (size_t)(end - text->data);
    size_t used = size + (end != NULL);
    *ret_line = mr_bytes(text->data, size);
    *text = mr_bytes(text->data + used, text->size - used);
    return size > 0;
}

/* Lines `name=value` up to an empty one; a line without the separator is a null value. */
static inline uint32_t take_separated(struct mr_bytes *text, char separator,
                                      struct mr_field *fields, uint32_t max)
{
    uint32_t count = 0;
    struct mr_bytes line;
    while (take_line(text, &line) && count < max) {
        const uint8_t *at = memchr(line.data, separator, line.size);
        size_t name_size = at == NULL ? line.size : (size_t)(at - line.data);
        fields[count].name = mr_bytes(line.data, name_size);
        fields[count].value = at == NULL ? (struct mr_bytes){0}
                                         : mr_bytes(at + 1, line.size - name_size - 1);
        count++;
    }
    return count;
}

static inline uint32_t take_fields(struct mr_bytes *text, struct mr_field fields[FIELDS_MAX])
{
    return take_separated(text, '=', fields, FIELDS_MAX);
}

/* Lines `name:value` up to an empty one; none is null. */
static inline uint32_t take_http_headers(struct mr_bytes *text, struct mr_field *headers,
                                         uint32_t max)
{
    uint32_t count = take_separated(text, ':', headers, max);
    for (uint32_t i = 0; i < count; i++) {
        if (headers[i].value.data == NULL) {
            headers[i].value = MR_BYTES_LITERAL("");
        }
    }
    return count;
}

/* JSON data without the white space around it, which the JSON format does not keep. */
static inline struct mr_bytes data_of(struct mr_bytes record)
{
    struct mr_bytes data = mr_event_data(record);
    while (mr_event_data_is_json(record) && data.data[0] <= ' ') {
        data = mr_bytes(data.data + 1, data.size - 1);
    }
    while (mr_event_data_is_json(record) && data.data[data.size - 1] <= ' ') {
        data.size--;
    }
    return data;
}

/* Every attribute of @p record is in @p other, with the same data. */
static inline void check_same_event(struct mr_bytes record, struct mr_bytes other)
{
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(record, &position, &attr)) {
        struct mr_attr copy = {0};
        bool found = mr_event_attr(other, attr.name, &copy);
        MR_ASSERT(found);
        MR_ASSERT(mr_bytes_equal(attr.value, copy.value));
    }
    MR_ASSERT(mr_bytes_equal(data_of(record), data_of(other)));
}

#endif
