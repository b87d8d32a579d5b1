#include "connectors/objectstore/upload.h"

#include <stdio.h>

#include "connectors/objectstore/xml.h"
#include "core/assert.h"
#include "core/clock.h"

#define ANSWER_SIZE_MAX (64u * MR_KIB)
#define PARTS_SIZE_MAX (MR_UPLOAD_PARTS_MAX * 400u)
#define ABORT_TIMEOUT_NS (10 * MR_SECOND)

static void call_done(void *context, struct mr_call *call);

void mr__upload_init(struct mr_upload *upload)
{
    *upload = (struct mr_upload){.step = MR_UPLOAD_IDLE};
    mr__call_init(&upload->call, ANSWER_SIZE_MAX);
    mr_buf_init(&upload->id, 2048);
    mr_buf_init(&upload->parts, PARTS_SIZE_MAX);
    upload->call.done = call_done;
    upload->call.context = upload;
}

void mr__upload_release(struct mr_upload *upload)
{
    mr__call_release(&upload->call);
    mr_buf_release(&upload->id);
    mr_buf_release(&upload->parts);
}

static uint64_t part_size(const struct mr_upload *upload)
{
    uint64_t least = upload->data.size / MR_UPLOAD_PARTS_MAX + 1;
    return upload->part_size > least ? upload->part_size : least;
}

static struct mr_bytes part_data(const struct mr_upload *upload)
{
    uint64_t size = part_size(upload);
    uint64_t from = (upload->part - 1) * size;
    uint64_t left = upload->data.size - from;
    return mr_bytes(upload->data.data + from, left < size ? left : size);
}

/* The query of a step; the names of each are in order. */
static enum mr_status append_query(const struct mr_upload *upload, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    switch (upload->step) {
    case MR_UPLOAD_IDLE:
    case MR_UPLOAD_PUT:
        return MR_OK;
    case MR_UPLOAD_CREATE:
        return mr_buf_append_text(out, "uploads=");
    case MR_UPLOAD_PART:
        r = mr_buf_printf(out, "partNumber=%u&", upload->part);
        break;
    case MR_UPLOAD_COMPLETE:
    case MR_UPLOAD_ABORT:
        break;
    }
    r = r == MR_OK ? mr_buf_append_text(out, "uploadId=") : r;
    return r == MR_OK ? mr__uri_encode(out, mr_buf_bytes(&upload->id), false) : r;
}

static const char *method_of(enum mr_upload_step step)
{
    return step == MR_UPLOAD_PUT || step == MR_UPLOAD_PART ? "PUT"
           : step == MR_UPLOAD_ABORT                       ? "DELETE"
                                                           : "POST";
}

static enum mr_status start_step(struct mr_upload *upload, enum mr_upload_step step)
{
    struct mr_call *call = &upload->call;
    uint64_t now_ns = mr_clock_mono_ns();
    uint64_t left_ns = upload->deadline_ns > now_ns ? upload->deadline_ns - now_ns : MR_MS;
    mr__call_clear(call);
    upload->step = step;
    call->method = method_of(step);
    call->content_type = step == MR_UPLOAD_PUT || step == MR_UPLOAD_CREATE ? upload->content_type
                         : step == MR_UPLOAD_COMPLETE                      ? "application/xml"
                                                                           : NULL;
    call->timeout_ns = step == MR_UPLOAD_ABORT ? ABORT_TIMEOUT_NS : left_ns;
    call->body = step == MR_UPLOAD_PUT        ? upload->data
                 : step == MR_UPLOAD_PART     ? part_data(upload)
                 : step == MR_UPLOAD_COMPLETE ? mr_buf_bytes(&upload->parts)
                                              : mr_bytes(NULL, 0);
    enum mr_status r = mr_buf_append_bytes(&call->path, upload->path);
    r = r == MR_OK ? append_query(upload, &call->query) : r;
    return r == MR_OK ? mr__client_start(upload->service->client, call) : r;
}

enum mr_status mr__upload_start(struct mr_upload *upload)
{
    MR_ASSERT(upload->step == MR_UPLOAD_IDLE);
    MR_ASSERT(upload->part_size >= MR_UPLOAD_PART_SIZE_MIN);
    upload->end = MR_CALL_OK;
    upload->error[0] = '\0';
    upload->retry_after_ns = 0;
    upload->part = 1;
    mr_buf_clear(&upload->id);
    mr_buf_clear(&upload->parts);
    enum mr_status r = start_step(upload, upload->data.size > upload->part_size
                                              ? MR_UPLOAD_CREATE
                                              : MR_UPLOAD_PUT);
    if (r != MR_OK) {
        upload->step = MR_UPLOAD_IDLE;
    }
    return r;
}

void mr__upload_stop(struct mr_upload *upload)
{
    if (upload->step != MR_UPLOAD_IDLE) {
        mr__client_abort(upload->service->client, &upload->call);
        upload->step = MR_UPLOAD_IDLE;
    }
}

static void finish(struct mr_upload *upload)
{
    upload->step = MR_UPLOAD_IDLE;
    upload->done(upload->context, upload);
}

/* What failed ends the upload; parts that were sent are asked to be forgotten first. */
static void fail(struct mr_upload *upload, enum mr_call_end end, const char *error)
{
    static const char *const words[] = {"", "", "begin: ", "part: ", "complete: ", ""};
    upload->end = end;
    upload->retry_after_ns = upload->call.retry_after_ns;
    (void)snprintf(upload->error, sizeof(upload->error), "%s%.390s", words[upload->step], error);
    if (upload->id.size == 0 || start_step(upload, MR_UPLOAD_ABORT) != MR_OK) {
        finish(upload);
    }
}

/* The content of element @p name below the root @p root of the answer. */
static bool find_element(struct mr_bytes answer, const char *root, const char *name,
                         struct mr_buf *out)
{
    struct mr_xml xml;
    mr__xml_init(&xml, answer);
    for (enum mr_xml_token t; (t = mr__xml_next(&xml)) != MR_XML_END && t != MR_XML_FAULT;) {
        if (t == MR_XML_OPEN && xml.depth == 1 && !mr__xml_is(&xml, root)) {
            return false;
        }
        if (t == MR_XML_OPEN && xml.depth == 1 && name == NULL) {
            return true;
        }
        if (t == MR_XML_OPEN && xml.depth == 2 && mr__xml_is(&xml, name)) {
            return mr__xml_content(&xml, out) == MR_OK && out->size > 0;
        }
    }
    return false;
}

static enum mr_status note_part(struct mr_upload *upload)
{
    struct mr_buf *parts = &upload->parts;
    enum mr_status r = parts->size == 0 ? mr_buf_append_text(parts, "<CompleteMultipartUpload>")
                                        : MR_OK;
    r = r == MR_OK ? mr_buf_printf(parts, "<Part><PartNumber>%u</PartNumber><ETag>", upload->part)
                   : r;
    r = r == MR_OK ? mr_buf_append_bytes(parts, mr_buf_bytes(&upload->call.etag)) : r;
    return r == MR_OK ? mr_buf_append_text(parts, "</ETag></Part>") : r;
}

static enum mr_status next_part(struct mr_upload *upload)
{
    enum mr_status r = note_part(upload);
    if (r != MR_OK) {
        return r;
    }
    if (upload->part * part_size(upload) < upload->data.size) {
        upload->part++;
        return start_step(upload, MR_UPLOAD_PART);
    }
    r = mr_buf_append_text(&upload->parts, "</CompleteMultipartUpload>");
    return r == MR_OK ? start_step(upload, MR_UPLOAD_COMPLETE) : r;
}

static void go_on(struct mr_upload *upload)
{
    struct mr_bytes answer = mr_buf_bytes(&upload->call.answer);
    enum mr_status r = MR_OK;
    switch (upload->step) {
    case MR_UPLOAD_IDLE:
    case MR_UPLOAD_PUT:
    case MR_UPLOAD_ABORT:
        finish(upload);
        return;
    case MR_UPLOAD_CREATE:
        if (!find_element(answer, "InitiateMultipartUploadResult", "UploadId", &upload->id)) {
            fail(upload, MR_CALL_RETRY, "the store names no UploadId");
            return;
        }
        r = start_step(upload, MR_UPLOAD_PART);
        break;
    case MR_UPLOAD_PART:
        if (upload->call.etag.size == 0) {
            fail(upload, MR_CALL_RETRY, "the store answers without an ETag");
            return;
        }
        r = next_part(upload);
        break;
    case MR_UPLOAD_COMPLETE: /* a 200 may still hold an error */
        if (!find_element(answer, "CompleteMultipartUploadResult", NULL, NULL)) {
            char text[300];
            char code[MR_CALL_CODE_SIZE];
            mr__service_explain(upload->service, &upload->call, text, sizeof(text), code);
            fail(upload, MR_CALL_RETRY, text);
            return;
        }
        finish(upload);
        return;
    }
    if (r != MR_OK) {
        fail(upload, MR_CALL_RETRY, mr_status_text(r));
    }
}

static void call_done(void *context, struct mr_call *call)
{
    struct mr_upload *upload = context;
    char text[380];
    char code[MR_CALL_CODE_SIZE];
    if (upload->step == MR_UPLOAD_ABORT) { /* whatever came of it */
        finish(upload);
        return;
    }
    if (call->status >= 200 && call->status < 300) {
        go_on(upload);
        return;
    }
    mr__service_explain(upload->service, call, text, sizeof(text), code);
    fail(upload, mr__call_end(call, code), text);
}
