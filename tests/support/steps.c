/* LD_PRELOAD: kill -9 at a step of taking a message in.
 *
 *   MR_STEP=append   right before a group is written to the log
 *   MR_STEP=durable  right after it is durable, before anything is acknowledged for it
 *   MR_STEP=ack      right before an acknowledgement leaves
 *   MR_STEP=acked    right after it left
 *   MR_STEP_AT=N     the Nth such moment since the file MR_STEP_ARM appeared
 *   MR_STEP_ACK=OFFSET:HEX  what an acknowledgement looks like: bytes at an offset of what is sent
 *                           (MQTT PUBACK 0:40, AMQP basic.ack 7:003c0050, Kafka offsets 4:0008)
 *
 * A group is told from the zeroes of a new file by its first byte. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);
typedef ssize_t (*send_fn)(int, const void *, size_t, int);
typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*sendmsg_fn)(int, const struct msghdr *, int);

static _Atomic unsigned long seen;

/* The program's own function of this name, looked up once for each. */
#define NEXT(name, type)                                                                           \
    static _Atomic(type) next;                                                                     \
    type fn = atomic_load(&next);                                                                  \
    if (fn == NULL) {                                                                              \
        fn = (type)dlsym(RTLD_NEXT, name);                                                         \
        atomic_store(&next, fn);                                                                   \
    }

static void pass(const char *step)
{
    const char *wanted = getenv("MR_STEP");
    const char *arm = getenv("MR_STEP_ARM");
    const char *at = getenv("MR_STEP_AT");
    if (wanted == NULL || arm == NULL || at == NULL || strcmp(wanted, step) != 0 ||
        access(arm, F_OK) != 0) {
        return;
    }
    if (atomic_fetch_add(&seen, 1) + 1 == strtoul(at, NULL, 10)) {
        (void)kill(getpid(), SIGKILL);
    }
}

static bool is_ack(const void *data, size_t size)
{
    const char *form = getenv("MR_STEP_ACK");
    if (form == NULL) {
        return false;
    }
    char *hex = NULL;
    size_t offset = strtoul(form, &hex, 10);
    hex += *hex == ':';
    size_t length = strlen(hex) / 2;
    if (size < offset + length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        if (((const unsigned char *)data)[offset + i] != strtoul(digits, NULL, 16)) {
            return false;
        }
    }
    return length > 0;
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    NEXT("pwrite", pwrite_fn)
    bool group = size > 0 && *(const char *)from != 0;
    if (group) {
        pass("append");
    }
    ssize_t n = fn(fd, from, size, at);
    if (group) {
        pass("durable");
    }
    return n;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    NEXT("send", send_fn)
    bool ack = is_ack(data, size);
    if (ack) {
        pass("ack");
    }
    ssize_t n = fn(fd, data, size, flags);
    if (ack) {
        pass("acked");
    }
    return n;
}

ssize_t write(int fd, const void *data, size_t size)
{
    NEXT("write", write_fn)
    bool ack = is_ack(data, size);
    if (ack) {
        pass("ack");
    }
    ssize_t n = fn(fd, data, size);
    if (ack) {
        pass("acked");
    }
    return n;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT("sendmsg", sendmsg_fn)
    bool ack = message->msg_iovlen > 0 &&
               is_ack(message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    if (ack) {
        pass("ack");
    }
    ssize_t n = fn(fd, message, flags);
    if (ack) {
        pass("acked");
    }
    return n;
}
