/* One object put: in one request, or in parts above the part size. One call at a time; the parts
 * follow one another. All on the thread of the client. */
#ifndef MR_CONNECTORS_OBJECTSTORE_UPLOAD_H
#define MR_CONNECTORS_OBJECTSTORE_UPLOAD_H

#include "connectors/objectstore/objectstore.h"

#define MR_UPLOAD_PART_SIZE_MIN (5u * MR_MIB) /* of S3, for all parts but the last */
#define MR_UPLOAD_PARTS_MAX 10000u

enum mr_upload_step {
    MR_UPLOAD_IDLE = 0,
    MR_UPLOAD_PUT,      /* whole, in one request */
    MR_UPLOAD_CREATE,   /* a multipart upload is begun */
    MR_UPLOAD_PART,
    MR_UPLOAD_COMPLETE,
    MR_UPLOAD_ABORT,    /* after a failure, so that the store keeps no parts */
};

struct mr_upload {
    /* In; borrowed memory lives until done. */
    struct mr_service *service;
    struct mr_bytes path; /* percent-encoded, of bucket and key */
    struct mr_bytes data;
    const char *content_type;
    uint64_t part_size;   /* at least MR_UPLOAD_PART_SIZE_MIN */
    uint64_t deadline_ns; /* monotonic, of the whole */
    void (*done)(void *context, struct mr_upload *upload);
    void *context;
    /* Out. */
    enum mr_call_end end;
    uint64_t retry_after_ns;
    char error[400]; /* "" when it went well */
    /* Its own. */
    enum mr_upload_step step;
    struct mr_call call;
    uint32_t part; /* from 1 */
    struct mr_buf id;
    struct mr_buf parts; /* the list of CompleteMultipartUpload, as far as it goes */
};

void mr__upload_init(struct mr_upload *upload);
void mr__upload_release(struct mr_upload *upload);
/** Starts; `done` is called once, from mr__client_run().
 * @return MR_E_FULL, MR_E_NOMEM, MR_E_TOO_BIG (the path): `done` is not called then */
MR_MUST_USE enum mr_status mr__upload_start(struct mr_upload *upload);
/** Ends it without `done`. Parts that the store has stay there. */
void mr__upload_stop(struct mr_upload *upload);

#endif
