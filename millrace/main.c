#include <malloc.h>

#include "millrace/cli.h"

/* Buffers from this size on go back to the system when they are freed. Left to itself glibc raises
 * the size to that of the biggest buffer freed so far: under load the 2 MiB that librdkafka takes
 * for each fetch then leave 150 MiB of holes in the heap, against 25 MiB in use. */
#define OWN_MAPPING_BYTES (1024 * 1024)
#define HEAP_TOP_BYTES (2 * 1024 * 1024) /* kept for the next allocations */

int main(int argc, char **argv)
{
    (void)mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_TOP_BYTES);
    return mr_cli_main(argc, argv, stdin, stdout, stderr);
}
