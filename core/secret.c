#include "core/secret.h"

#include "core/alloc.h"

struct mr_secret {
    size_t size;
    uint8_t data[];
};

struct mr_secret *mr_secret_create(struct mr_bytes bytes)
{
    struct mr_secret *secret = mr_alloc(sizeof(*secret) + bytes.size + 1);
    if (secret != NULL) {
        secret->size = bytes.size;
        if (bytes.size > 0) {
            memcpy(secret->data, bytes.data, bytes.size);
        }
        secret->data[bytes.size] = 0;
    }
    return secret;
}

void mr_secret_destroy(struct mr_secret *secret)
{
    if (secret != NULL) {
        explicit_bzero(secret->data, secret->size);
        mr_free(secret);
    }
}

struct mr_bytes mr_secret_use(const struct mr_secret *secret)
{
    return mr_bytes(secret->data, secret->size);
}

bool mr_secret_equal(const struct mr_secret *secret, struct mr_bytes claimed)
{
    volatile uint8_t different = secret->size != claimed.size;
    for (size_t i = 0; i < claimed.size; i++) {
        uint8_t mine = secret->size > 0 ? secret->data[i % secret->size] : 0;
        different = (uint8_t)(different | (mine ^ claimed.data[i]));
    }
    return different == 0;
}
