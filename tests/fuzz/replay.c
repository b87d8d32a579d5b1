/* Runs a fuzz target over every file of a corpus folder: what each build's tests do. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
    if (dir == NULL) {
        fprintf(stderr, "no corpus folder\n");
        return 1;
    }
    unsigned count = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[4096];
        char *text;
        size_t size;
        int n = snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (entry->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof(path) ||
            mr_file_read(path, 16 * 1024 * 1024, &text, &size) != MR_OK) {
            continue;
        }
        (void)LLVMFuzzerTestOneInput((const uint8_t *)text, size); /* it aborts on a finding */
        mr_free(text);
        count++;
    }
    closedir(dir);
    printf("%u inputs replayed\n", count);
    return count == 0;
}
