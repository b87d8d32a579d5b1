/* A secret: bytes that can be used but not printed. There is no accessor that yields text for a
 * format string, no serialisation and no copy into configuration output; freed memory is wiped. */
#ifndef MR_CORE_SECRET_H
#define MR_CORE_SECRET_H

#include "core/bytes.h"

struct mr_secret;

/** A copy of @p bytes; NULL when memory is short. Free with mr_secret_destroy(). */
MR_MUST_USE struct mr_secret *mr_secret_create(struct mr_bytes bytes);
/** Wipes and frees; NULL is a no-op. */
void mr_secret_destroy(struct mr_secret *secret);
/** The bytes, NUL-terminated, for the one call that needs them (a library's password argument, an
 * HMAC key). Borrowed: outlives nothing. Never pass it to a format. */
struct mr_bytes mr_secret_use(const struct mr_secret *secret);
/** Whether @p claimed equals the secret, in time that depends only on @p claimed's size. */
bool mr_secret_equal(const struct mr_secret *secret, struct mr_bytes claimed);

#endif
