/* Fuzz target: what object stores and queues answer. The input is read as a listing, as the answer
 * of ReceiveMessage and of a batch call, and as an error to explain. */
#include "connectors/objectstore/client.h"
#include "connectors/objectstore/listing.h"
#include "connectors/objectstore/sqs_wire.h"
#include "core/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_listing(struct mr_bytes text)
{
    struct mr_listing listing;
    struct mr_object object;
    struct mr_problem problem = {.text = ""};
    mr__listing_init(&listing);
    mr__object_init(&object);
    enum mr_status r = mr__listing_open(&listing, text, &problem);
    while (r == MR_OK) {
        r = mr__listing_next(&listing, &object, &problem);
        MR_ASSERT(r != MR_OK || object.key.size > 0);
        MR_ASSERT(object.key.size <= MR_OBJECT_KEY_SIZE_MAX);
    }
    MR_ASSERT(r == MR_E_NOT_FOUND || problem.text[0] != '\0');
    mr__listing_release(&listing);
    mr__object_release(&object);
}

static void read_messages(struct mr_bytes text)
{
    struct mr__scan scan;
    struct mr_sqs_message message;
    struct mr_sqs_failure failures[MR_SQS_BATCH_MAX];
    struct mr_problem problem = {.text = ""};
    struct mr_buf decoded;
    bool any = false;
    mr_buf_init(&decoded, 1 << 20);
    enum mr_status r = mr__sqs_open(&scan, text, &any, &problem);
    while (r == MR_OK && any) {
        r = mr__sqs_next(&scan, &message, &problem);
        if (r == MR_OK) {
            mr_buf_clear(&decoded);
            (void)!mr__json_unescape(message.body, &decoded); /* a lone surrogate is refused */
        }
    }
    mr_buf_release(&decoded);
    uint32_t count = mr__sqs_failures(text, failures);
    MR_ASSERT(count == UINT32_MAX || count <= MR_SQS_BATCH_MAX);
    (void)mr__sqs_waiting(text);
}

static void explain(struct mr_bytes text)
{
    struct mr_credentials credentials = {0};
    struct mr_client_options options = {
        .credentials = &credentials, .region = "r", .service = "s3"};
    struct mr_call call;
    char words[300];
    char code[MR_CALL_CODE_SIZE];
    mr__call_init(&call, 1 << 20);
    call.status = 400;
    if (mr_buf_append_bytes(&call.answer, text) == MR_OK) {
        mr__call_explain(&call, &options, words, sizeof(words), code);
        MR_ASSERT(mr__call_end(&call, code) != MR_CALL_OK);
    }
    mr__call_release(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes text = mr_bytes(data, size);
    read_listing(text);
    read_messages(text);
    explain(text);
    return 0;
}
