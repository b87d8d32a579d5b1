#include "connectors/objectstore/sqs_wire.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/logger.h"

/* The text between the quotes of member @p name. @return false: it is no string */
static bool find_text(struct mr_bytes object, const char *name, struct mr_bytes *ret_text)
{
    struct mr_bytes value;
    if (!mr__json_find(object, name, &value) || value.size < 2 || value.data[0] != '"') {
        return false;
    }
    *ret_text = mr_bytes(value.data + 1, value.size - 2);
    return true;
}

enum mr_status mr__sqs_open(struct mr__scan *scan, struct mr_bytes answer, bool *ret_any,
                            struct mr_problem *problem)
{
    struct mr__scan whole;
    struct mr_bytes text;
    struct mr_bytes messages;
    mr__scan_init(&whole, answer);
    mr__scan_space(&whole);
    if (mr__scan_peek(&whole) != '{' || !mr__scan_value(&whole, &text)) {
        return mr_problem_set(problem, MR_E_INVALID, "the queue's answer is no JSON object");
    }
    *ret_any = mr__json_find(text, "Messages", &messages) && messages.data[0] != 'n';
    if (*ret_any && !mr__json_open(scan, messages, '[')) {
        return mr_problem_set(problem, MR_E_INVALID, "the queue's answer has no list of Messages");
    }
    return MR_OK;
}

enum mr_status mr__sqs_next(struct mr__scan *scan, struct mr_sqs_message *ret_message,
                            struct mr_problem *problem)
{
    struct mr_bytes value;
    struct mr_sqs_message m;
    if (!mr__json_next(scan, NULL, &value)) {
        return MR_E_NOT_FOUND;
    }
    if (!find_text(value, "MessageId", &m.id) || !find_text(value, "ReceiptHandle", &m.handle) ||
        !find_text(value, "Body", &m.body)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "a message of the queue lacks MessageId, ReceiptHandle or Body");
    }
    *ret_message = m;
    return MR_OK;
}

static bool read_failure(struct mr_bytes entry, struct mr_sqs_failure *ret)
{
    struct mr_bytes id;
    struct mr_bytes code;
    struct mr_bytes fault;
    uint64_t index;
    if (!find_text(entry, "Id", &id) || !mr_parse_u64(id, &index) || index >= MR_SQS_BATCH_MAX) {
        return false;
    }
    ret->index = (uint32_t)index;
    ret->is_final = mr__json_find(entry, "SenderFault", &fault) && fault.data[0] == 't';
    mr_text_clean(ret->code, sizeof(ret->code),
                  find_text(entry, "Code", &code) ? code : MR_BYTES_LITERAL("unknown"));
    return true;
}

uint32_t mr__sqs_failures(struct mr_bytes answer, struct mr_sqs_failure *failures)
{
    struct mr__scan scan;
    struct mr_bytes failed;
    struct mr_bytes entry;
    uint32_t count = 0;
    if (!mr__json_open(&scan, answer, '{')) {
        return UINT32_MAX;
    }
    if (!mr__json_find(answer, "Failed", &failed) || failed.data[0] == 'n') {
        return 0;
    }
    if (!mr__json_open(&scan, failed, '[')) {
        return UINT32_MAX;
    }
    while (count < MR_SQS_BATCH_MAX && mr__json_next(&scan, NULL, &entry)) {
        if (!read_failure(entry, &failures[count])) {
            return UINT32_MAX;
        }
        count++;
    }
    return count;
}

static enum mr_status begin(struct mr_buf *out, const char *queue)
{
    enum mr_status r = mr_buf_append_text(out, "{\"QueueUrl\":");
    return r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(queue)) : r;
}

enum mr_status mr__sqs_receive(struct mr_buf *out, const char *queue, uint32_t count,
                               uint64_t wait_s, uint64_t visibility_s)
{
    enum mr_status r = begin(out, queue);
    return r == MR_OK ? mr_buf_printf(out,
                                      ",\"MaxNumberOfMessages\":%u,\"WaitTimeSeconds\":%" PRIu64
                                      ",\"VisibilityTimeout\":%" PRIu64 "}",
                                      count, wait_s, visibility_s)
                      : r;
}

enum mr_status mr__sqs_batch(struct mr_buf *out, const char *queue, const char *const *handles,
                             uint32_t count, uint64_t visibility_s)
{
    enum mr_status r = begin(out, queue);
    r = r == MR_OK ? mr_buf_append_text(out, ",\"Entries\":[") : r;
    for (uint32_t i = 0; r == MR_OK && i < count; i++) {
        r = mr_buf_printf(out, "%s{\"Id\":\"%u\",\"ReceiptHandle\":", i == 0 ? "" : ",", i);
        r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(handles[i])) : r;
        if (r == MR_OK && visibility_s != UINT64_MAX) {
            r = mr_buf_printf(out, ",\"VisibilityTimeout\":%" PRIu64, visibility_s);
        }
        r = r == MR_OK ? mr_buf_append_byte(out, '}') : r;
    }
    return r == MR_OK ? mr_buf_append_text(out, "]}") : r;
}

uint64_t mr__sqs_waiting(struct mr_bytes answer)
{
    struct mr_bytes attributes;
    struct mr_bytes text;
    uint64_t count = 0;
    if (mr__json_find(answer, "Attributes", &attributes) &&
        find_text(attributes, "ApproximateNumberOfMessages", &text) &&
        !mr_parse_u64(text, &count)) {
        count = 0;
    }
    return count;
}
