/* LD_PRELOAD: every MR_SHIM_SHORT-th pwrite() of a file's block or more writes a part only, as a
 * disk that is nearly full or a signal may make it. Each time one byte goes to MR_SHIM_LOG. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK 4096u

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);

static _Atomic unsigned long calls;

static size_t shorten(size_t size)
{
    const char *every = getenv("MR_SHIM_SHORT");
    unsigned long n = every == NULL ? 0 : strtoul(every, NULL, 10);
    if (n == 0 || size < 2 * BLOCK || (atomic_fetch_add(&calls, 1) + 1) % n != 0) {
        return size;
    }
    const char *path = getenv("MR_SHIM_LOG");
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t told = write(fd, "s", 1);
        (void)told; /* the test sees that it did not fire */
        close(fd);
    }
    return size / 2 / BLOCK * BLOCK;
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    static _Atomic(pwrite_fn) next;
    pwrite_fn fn = atomic_load(&next);
    if (fn == NULL) {
        fn = (pwrite_fn)dlsym(RTLD_NEXT, "pwrite");
        atomic_store(&next, fn);
    }
    return fn(fd, from, shorten(size), at);
}
