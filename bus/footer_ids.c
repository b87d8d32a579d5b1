#include "bus/footer_ids.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/footer_form.h"
#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"

#define WORDS_SIZE (FOOTER_BLOOM_BITS * 8u) /* of a page, one for each bit of a block */
#define BLOCKS_MAX (1u << 20)
#define HEAD_SALTS 64u /* byte in the head */
#define FLIGHT 64u /* files that are read at a time */

/* The head, page 0: magic, u32 version, u32 0, u64 group, u64 log id, u64 covered, u32 blocks, and
 * the salts of the segments. The other pages are checked with all of that: one of a file that was
 * made before, for fewer segments, is not believed. */
static const uint8_t magic[8] = {'M', 'R', 'I', 'D', 'S', '0', '0', '1'};

struct ids_file {
    struct mr_io *io;
    int file; /* -1: none */
    struct mr_footer_ids_head head;
    uint8_t page[MR_FOOTER_PAGE];
};

void mr_footer_ids_name(uint64_t group, char name[MR_LOG_NAME_SIZE])
{
    (void)snprintf(name, MR_LOG_NAME_SIZE, "ids-%016" PRIx64, group); /* always fits */
}

/* --- reading ---------------------------------------------------------------------------------- */

static uint64_t seed_of(const struct mr_footer_ids_head *head)
{
    uint64_t seed = mr_hash_u64(mr_hash_u64(head->log_id + head->covered) + head->blocks);
    for (size_t i = 0; i < MR_FOOTER_GROUP; i++) {
        seed = mr_hash_u64(seed + head->salts[i]);
    }
    return seed;
}

static enum mr_status read_page(struct ids_file *f, uint32_t number, uint64_t seed)
{
    size_t got = 0;
    enum mr_status r = f->io->ops->pread(f->io, f->file, f->page, MR_FOOTER_PAGE,
                                         (uint64_t)number * MR_FOOTER_PAGE, &got);
    if (r != MR_OK) {
        return r;
    }
    return got == MR_FOOTER_PAGE && mr_footer_page_check(f->page, number, seed) ? MR_OK
                                                                                   : MR_E_CORRUPT;
}

static enum mr_status decode_head(const uint8_t *page, uint64_t group, uint64_t log_id,
                                  struct mr_footer_ids_head *head)
{
    *head = (struct mr_footer_ids_head){.group = mr_get_u64(page + 16),
                                        .log_id = mr_get_u64(page + 24),
                                        .covered = mr_get_u64(page + 32),
                                        .blocks = mr_get_u32(page + 40)};
    for (size_t i = 0; i < MR_FOOTER_GROUP; i++) {
        head->salts[i] = mr_get_u64(page + HEAD_SALTS + i * 8);
    }
    if (memcmp(page, magic, sizeof(magic)) != 0 || head->group != group ||
        head->log_id != log_id || head->blocks == 0 || head->blocks > BLOCKS_MAX ||
        (head->blocks & (head->blocks - 1)) != 0) {
        return MR_E_CORRUPT;
    }
    return mr_get_u32(page + 8) == MR_FOOTER_VERSION && mr_get_u32(page + 12) == 0
               ? MR_OK
               : MR_E_UNSUPPORTED;
}

static void close_ids(struct ids_file *f)
{
    if (f->file >= 0) {
        f->io->ops->close(f->io, f->file);
        f->file = -1;
    }
}

static enum mr_status open_ids(struct mr_io *io, uint64_t group, struct ids_file *f)
{
    char name[MR_LOG_NAME_SIZE];
    mr_footer_ids_name(group, name);
    *f = (struct ids_file){.io = io, .file = -1};
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &f->file);
    f->file = r == MR_OK ? f->file : -1;
    return r;
}

static enum mr_status read_head(struct ids_file *f, uint64_t group, uint64_t log_id)
{
    enum mr_status r = read_page(f, 0, log_id);
    return r == MR_OK ? decode_head(f->page, group, log_id, &f->head) : r;
}

enum mr_status mr_footer_ids_open(struct mr_io *io, uint64_t group, uint64_t log_id,
                                  struct mr_footer_ids_head *ret_head)
{
    struct ids_file f;
    enum mr_status r = open_ids(io, group, &f);
    r = r == MR_OK ? read_head(&f, group, log_id) : r;
    close_ids(&f);
    if (r == MR_OK) {
        *ret_head = f.head;
    }
    return r;
}

static enum mr_status check(struct mr_io *io, uint64_t group, uint64_t log_id,
                            struct mr_footer_ids_head *ret_head)
{
    struct ids_file f;
    enum mr_status r = open_ids(io, group, &f);
    r = r == MR_OK ? read_head(&f, group, log_id) : r;
    for (uint32_t i = 0; r == MR_OK && i < f.head.blocks; i++) {
        r = read_page(&f, i + 1, seed_of(&f.head));
    }
    close_ids(&f);
    if (r == MR_OK) {
        *ret_head = f.head;
    }
    return r;
}

enum mr_status mr_footer_ids_check(struct mr_io *io, uint64_t group, uint64_t log_id,
                                   uint64_t *ret_covered)
{
    struct mr_footer_ids_head head;
    enum mr_status r = check(io, group, log_id, &head);
    if (r == MR_OK) {
        *ret_covered = head.covered;
    }
    return r;
}

/* --- making ----------------------------------------------------------------------------------- */

struct filters {
    uint8_t *bits[MR_FOOTER_GROUP]; /* owned; blocks of FOOTER_BLOOM_SIZE */
    uint32_t blocks[MR_FOOTER_GROUP];
};

/* The filter of one footer. One that is not there, or no good, is left out. */
static enum mr_status load_filter(struct mr_io *io, uint64_t number, uint64_t salt,
                                  uint8_t **ret_bits, uint32_t *ret_blocks)
{
    struct mr_footer *footer;
    enum mr_status r = mr_footer_open(io, number, salt, &footer);
    if (r != MR_OK) {
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    uint32_t blocks = footer->head.sections[MR_FOOTER_BLOOM].count;
    uint8_t *bits =
        blocks > BLOCKS_MAX ? NULL : mr_alloc((size_t)blocks * FOOTER_BLOOM_SIZE);
    r = bits == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t at = 0; at < blocks && r == MR_OK; at += FOOTER_BLOOM_PER_PAGE) {
        const uint8_t *page;
        uint32_t left = blocks - at;
        uint32_t n = left < FOOTER_BLOOM_PER_PAGE ? left : FOOTER_BLOOM_PER_PAGE;
        r = footer->page(footer->context,
                         footer->head.sections[MR_FOOTER_BLOOM].first + at / FOOTER_BLOOM_PER_PAGE,
                         &page);
        if (r == MR_OK) {
            memcpy(bits + (size_t)at * FOOTER_BLOOM_SIZE, page, (size_t)n * FOOTER_BLOOM_SIZE);
        }
    }
    mr_footer_close(footer);
    if (r != MR_OK) {
        mr_free(bits);
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    *ret_bits = bits;
    *ret_blocks = blocks;
    return MR_OK;
}

static void lay_page(const struct filters *filters, uint32_t block, uint8_t page[MR_FOOTER_PAGE])
{
    uint64_t words[FOOTER_BLOOM_BITS] = {0};
    for (uint32_t i = 0; i < MR_FOOTER_GROUP; i++) {
        if (filters->bits[i] == NULL ||
            (MR_PLANTED(IDS_SHORT) && i % 8 == 7)) {
            continue;
        }
        uint32_t own = block & (filters->blocks[i] - 1);
        const uint8_t *bits = filters->bits[i] + (size_t)own * FOOTER_BLOOM_SIZE;
        for (uint32_t n = 0; n < FOOTER_BLOOM_BITS; n++) {
            words[n] |= (uint64_t)(bits[n / 8] >> (n % 8) & 1) << i;
        }
    }
    memset(page, 0, MR_FOOTER_PAGE);
    for (uint32_t n = 0; n < FOOTER_BLOOM_BITS; n++) {
        mr_put_u64(page + (size_t)n * 8, words[n]);
    }
}

static enum mr_status write_page(struct mr_io *io, int file, uint8_t page[MR_FOOTER_PAGE],
                                 uint32_t number, uint64_t seed)
{
    mr_put_u32(page + FOOTER_PAYLOAD, footer_page_crc(page, number, seed));
    return io->ops->pwrite(io, file, page, MR_FOOTER_PAGE, (uint64_t)number * MR_FOOTER_PAGE);
}

static enum mr_status write_ids(struct mr_io *io, const struct mr_footer_ids_head *head,
                                const struct filters *filters)
{
    char name[MR_LOG_NAME_SIZE];
    uint8_t page[MR_FOOTER_PAGE] = {0};
    int file;
    mr_footer_ids_name(head->group, name);
    enum mr_status r = io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE, &file);
    if (r != MR_OK) {
        return r;
    }
    memcpy(page, magic, sizeof(magic));
    mr_put_u32(page + 8, MR_FOOTER_VERSION);
    mr_put_u64(page + 16, head->group);
    mr_put_u64(page + 24, head->log_id);
    mr_put_u64(page + 32, head->covered);
    mr_put_u32(page + 40, head->blocks);
    for (size_t i = 0; i < MR_FOOTER_GROUP; i++) {
        mr_put_u64(page + HEAD_SALTS + i * 8, head->salts[i]);
    }
    r = write_page(io, file, page, 0, head->log_id);
    for (uint32_t i = 0; i < head->blocks && r == MR_OK; i++) {
        lay_page(filters, i, page);
        r = write_page(io, file, page, i + 1, seed_of(head));
    }
    r = r == MR_OK ? io->ops->truncate(io, file, (head->blocks + 1ull) * MR_FOOTER_PAGE) : r;
    r = r == MR_OK ? io->ops->sync(io, file) : r;
    io->ops->close(io, file);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

static bool speaks_of(const struct mr_footer_ids_head *head, uint64_t wanted,
                      const uint64_t salts[MR_FOOTER_GROUP])
{
    bool all = (wanted & ~head->covered) == 0;
    for (uint32_t i = 0; i < MR_FOOTER_GROUP && all; i++) {
        all = (wanted >> i & 1) == 0 || head->salts[i] == salts[i];
    }
    return all;
}

enum mr_status mr_footer_ids_build(struct mr_io *io, uint64_t group, uint64_t log_id,
                                   uint64_t wanted, const uint64_t salts[MR_FOOTER_GROUP])
{
    struct mr_footer_ids_head head;
    enum mr_status r = check(io, group, log_id, &head);
    if (r == MR_OK && speaks_of(&head, wanted, salts)) {
        return MR_OK;
    }
    head = (struct mr_footer_ids_head){.group = group, .log_id = log_id, .blocks = 1};
    struct filters filters = {{0}, {0}};
    r = MR_OK;
    for (uint32_t i = 0; i < MR_FOOTER_GROUP && r == MR_OK; i++) {
        if ((wanted >> i & 1) == 0) {
            continue;
        }
        r = load_filter(io, group * MR_FOOTER_GROUP + i, salts[i], &filters.bits[i],
                        &filters.blocks[i]);
        if (filters.bits[i] != NULL) {
            head.covered |= 1ull << i;
            head.salts[i] = salts[i];
            head.blocks = filters.blocks[i] > head.blocks ? filters.blocks[i] : head.blocks;
        }
    }
    r = r == MR_OK ? write_ids(io, &head, &filters) : r;
    for (uint32_t i = 0; i < MR_FOOTER_GROUP; i++) {
        mr_free(filters.bits[i]);
    }
    return r;
}

/* What the page of @p hash says; the head is read again when the file is a newer one. */
static enum mr_status ask(struct ids_file *f, uint64_t hash, struct mr_footer_ids_answer *answer)
{
    enum mr_status r = MR_E_CORRUPT;
    for (int tries = 0; r == MR_E_CORRUPT && tries < 2; tries++) {
        if (tries > 0 && (r = read_head(f, f->head.group, f->head.log_id)) != MR_OK) {
            return r;
        }
        r = read_page(f, ((uint32_t)hash & (f->head.blocks - 1)) + 1, seed_of(&f->head));
    }
    if (r == MR_OK) {
        answer->covered = f->head.covered;
        answer->may = answer->covered;
        for (uint32_t i = 0; i < FOOTER_BLOOM_HASHES; i++) {
            answer->may &= mr_get_u64(f->page + (size_t)footer_bloom_bit(hash, i) * 8);
        }
        memcpy(answer->salts, f->head.salts, sizeof(answer->salts));
    }
    return r;
}

static void ask_some(struct mr_io *io, const struct mr_footer_ids_head *heads, size_t count,
                     uint64_t hash, struct mr_footer_ids_answer *answers)
{
    struct ids_file f;
    int files[FLIGHT];
    for (size_t i = 0; i < count; i++) {
        uint64_t page = ((uint32_t)hash & (heads[i].blocks - 1)) + 1ull;
        bool there = open_ids(io, heads[i].group, &f) == MR_OK;
        if (there && io->ops->will_need != NULL) {
            io->ops->will_need(io, f.file, page * MR_FOOTER_PAGE, MR_FOOTER_PAGE);
        }
        files[i] = f.file;
    }
    for (size_t i = 0; i < count; i++) {
        f.file = files[i];
        f.head = heads[i];
        answers[i] = (struct mr_footer_ids_answer){.covered = 0};
        if (f.file >= 0) {
            (void)ask(&f, hash, &answers[i]); /* else it speaks of none */
        }
        close_ids(&f);
    }
}

void mr_footer_ids_ask(struct mr_io *io, const struct mr_footer_ids_head *heads, size_t count,
                       uint64_t hash, struct mr_footer_ids_answer *ret_answers)
{
    for (size_t at = 0; at < count; at += FLIGHT) {
        size_t n = count - at < FLIGHT ? count - at : FLIGHT;
        ask_some(io, heads + at, n, hash, ret_answers + at);
    }
}
