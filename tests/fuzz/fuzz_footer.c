/* The footer of a segment, and the file of ids of its group, from anywhere: every lookup ends and
 * says what it found or that it is no good; of one whose checksums hold it names no place outside
 * the segment.
 *
 * Input: u8 flags (1: page checksums are mended, so that what stands behind them is reached), u64
 * salt, u64 log id, u32 bytes of the footer of segment 1, these, then the file of ids 0. */
#include "bus/footer_ids.h"
#include "core/hash.h"
#include "disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"foot-0000000000000001", "ids-0000000000000000"};

#define HEAD_SIZE 21u
#define FILE_SIZE_MAX (512u * MR_KIB)

static void mend_pages(struct file *file, uint32_t first, uint32_t end, uint64_t salt)
{
    for (uint32_t i = first; i < end && (i + 1ull) * MR_FOOTER_PAGE <= file->size; i++) {
        uint8_t *page = file->data + (size_t)i * MR_FOOTER_PAGE;
        uint8_t head[12];
        mr_put_u64(head, salt);
        mr_put_u32(head + 8, i);
        uint32_t crc = mr_crc32c(0, head, sizeof(head));
        mr_put_u32(page + MR_FOOTER_PAGE - 4, mr_crc32c(crc, page, MR_FOOTER_PAGE - 4));
    }
}

/* The pages of a file of ids are checked with what its head says. */
static void mend_ids(struct disk *disk, uint64_t log_id)
{
    struct mr_footer_ids_head head;
    mend_pages(&disk->files[1], 0, 1, log_id);
    if (mr_footer_ids_open(&disk->io, 0, log_id, &head) != MR_OK) {
        return;
    }
    uint64_t seed = mr_hash_u64(mr_hash_u64(log_id + head.covered) + head.blocks);
    for (size_t i = 0; i < MR_FOOTER_GROUP; i++) {
        seed = mr_hash_u64(seed + head.salts[i]);
    }
    mend_pages(&disk->files[1], 1, UINT32_MAX, seed);
}

struct seen {
    uint64_t used; /* of the segment */
    uint64_t count;
};

static bool see_place(void *context, uint64_t place)
{
    struct seen *seen = context;
    MR_ASSERT(place < seen->used);
    return ++seen->count < 100000;
}

static void check_status(enum mr_status r)
{
    MR_ASSERT(r == MR_OK || r == MR_E_CORRUPT || r == MR_E_NOT_FOUND);
}

static void read_postings(const struct mr_footer *footer, uint32_t sub, uint64_t used)
{
    struct mr_footer_range items[16];
    uint32_t count = 1;
    uint64_t from = 0;
    enum mr_status r = MR_OK;
    while (r == MR_OK && count > 0) {
        r = mr_footer_postings(footer, sub, from, items, 16, &count);
        check_status(r);
        for (uint32_t i = 0; r == MR_OK && i < count; i++) {
            MR_ASSERT(items[i].place >= from); /* ascending: whoever reads on gets on */
            MR_ASSERT(items[i].place < used && items[i].size <= used - items[i].place);
            from = items[i].place + 1;
        }
    }
}

/* Keys that are there: what the first entries of each sorted page name. */
static void look_up(const struct mr_footer *footer, uint64_t key)
{
    struct seen seen = {.used = footer->head.used};
    bool may;
    uint64_t offset = footer->head.first_offset + key % 300;
    check_status(mr_footer_may_have_id(footer, key, &may));
    check_status(mr_footer_find_id(footer, key, see_place, &seen));
    check_status(mr_footer_find_about(footer, offset, see_place, &seen));
    read_postings(footer, (uint32_t)key % 8, footer->head.used);
}

static void look_everywhere(struct disk *disk, uint64_t salt)
{
    struct mr_footer *footer;
    enum mr_status r = mr_footer_open(&disk->io, 1, salt, &footer);
    if (r != MR_OK) {
        return;
    }
    struct seen seen = {.used = footer->head.used};
    const struct file *file = &disk->files[0];
    for (uint64_t key = 0; key < 8; key++) {
        look_up(footer, key);
    }
    for (size_t at = MR_FOOTER_PAGE; at + 8 <= file->size; at += MR_FOOTER_PAGE / 2) {
        look_up(footer, (uint64_t)mr_get_u32(file->data + at) << 32 | 7);
    }
    for (int which = 0; which < MR_FOOTER_VALUE_MAX; which++) {
        check_status(mr_footer_find_value(footer, (enum mr_footer_value)which, mr_bytes_of("t"),
                                          see_place, &seen));
    }
    mr_footer_close(footer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk disk = {
        .io = {.ops = &disk_ops}, .names = names, .count = MR_ARRAY_COUNT(names)};
    if (size < HEAD_SIZE) {
        return 0;
    }
    uint64_t salt = mr_get_u64(data + 1);
    uint64_t log_id = mr_get_u64(data + 9);
    size_t n = mr_get_u32(data + 17);
    size_t left = size - HEAD_SIZE < 2 * FILE_SIZE_MAX ? size - HEAD_SIZE : 2 * FILE_SIZE_MAX;
    n = n < left ? n : left;
    disk_set(&disk, 0, data + HEAD_SIZE, n);
    disk_set(&disk, 1, data + HEAD_SIZE + n, left - n);
    if ((data[0] & 1) != 0) {
        mend_pages(&disk.files[0], 0, UINT32_MAX, salt);
        mend_ids(&disk, log_id);
    }
    struct mr_footer_head head;
    uint64_t covered;
    bool is_good = mr_footer_check(&disk.io, 1, salt, &head) == MR_OK;
    MR_ASSERT(!is_good || head.number == 1);
    is_good = mr_footer_ids_check(&disk.io, 0, log_id, &covered) == MR_OK;
    struct mr_footer_ids_answer answer = {0};
    struct mr_footer_ids_head ids;
    if (mr_footer_ids_open(&disk.io, 0, log_id, &ids) == MR_OK) {
        mr_footer_ids_ask(&disk.io, &ids, 1, 7, &answer);
    }
    MR_ASSERT((answer.may & ~answer.covered) == 0);
    MR_ASSERT(!is_good || answer.covered == covered);
    look_everywhere(&disk, salt);
    disk_release(&disk);
    return 0;
}
