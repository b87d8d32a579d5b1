/* What the disk alone gives of many small pieces that lie far apart, read as the log reads the
 * events of a subscription that is behind: four threads, 64 pieces of one file announced, then
 * read.
 *
 *     bench_scattered FOLDER SIZE STRIDE
 *
 * Reads SIZE bytes at each multiple of STRIDE of the segments in FOLDER; prints pieces a second. */
#include "bench/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "bench_scattered"
#define THREADS 4u
#define TOGETHER 64u
#define FILES_MAX 65536u
#define SIZE_MAX_READ 65536u

static char *files[FILES_MAX];
static uint32_t file_count;
static uint64_t size;
static uint64_t stride;
static _Atomic uint32_t next_file;
static _Atomic uint64_t pieces;

static void read_file(int file, uint64_t end)
{
    char bytes[SIZE_MAX_READ];
    for (uint64_t at = stride; at + size <= end;) {
        uint64_t last = at;
        uint32_t count = 0;
        for (; count < TOGETHER && last + size <= end; last += stride, count++) {
            (void)posix_fadvise(file, (off_t)last, (off_t)size, POSIX_FADV_WILLNEED); /* a hint */
        }
        for (; at < last; at += stride) {
            if (pread(file, bytes, size, (off_t)at) != (ssize_t)size) {
                bench_die(NAME, "cannot read");
            }
        }
        atomic_fetch_add(&pieces, count);
    }
}

static void *run(void *unused)
{
    (void)unused;
    for (uint32_t i = atomic_fetch_add(&next_file, 1); i < file_count;
         i = atomic_fetch_add(&next_file, 1)) {
        struct stat st;
        int file = open(files[i], O_RDONLY | O_CLOEXEC);
        if (file < 0 || fstat(file, &st) != 0) {
            bench_die(NAME, "cannot open a segment");
        }
        read_file(file, (uint64_t)st.st_size);
        (void)close(file);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 4 && chdir(argv[1]) == 0 ? opendir(".") : NULL;
    size = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    stride = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    if (dir == NULL || size == 0 || size > SIZE_MAX_READ || stride < size) {
        bench_die(NAME, "FOLDER SIZE STRIDE");
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && file_count < FILES_MAX;
         entry = readdir(dir)) {
        if (strncmp(entry->d_name, "seg-", 4) == 0) {
            files[file_count] = strdup(entry->d_name);
            file_count += files[file_count] != NULL;
        }
    }
    (void)closedir(dir);
    pthread_t threads[THREADS];
    uint64_t from = bench_now_ns();
    for (uint32_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, run, NULL) != 0) {
            bench_die(NAME, "no thread");
        }
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    double seconds = (double)(bench_now_ns() - from) / 1e9;
    printf("%.0f\n", (double)atomic_load(&pieces) / seconds);
    return 0;
}
