/* What was gathered for a footer, sorted, laid out in pages and written. */
#include "bus/footer_build.h"

#include "core/alloc.h"

/* Ascending, byte by byte from the lowest; bytes that are the same in all take no turn. */
static enum mr_status sort(struct mr__numbers *numbers)
{
    uint64_t *from = numbers->items;
    uint64_t *to = mr_alloc(numbers->count * sizeof(*to));
    if (to == NULL) {
        return MR_E_NOMEM;
    }
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t starts[257] = {0};
        for (size_t i = 0; i < numbers->count; i++) {
            starts[(from[i] >> shift & 255) + 1]++;
        }
        if (numbers->count == 0 || starts[(from[0] >> shift & 255) + 1] == numbers->count) {
            continue;
        }
        for (size_t i = 0; i < 256; i++) {
            starts[i + 1] += starts[i];
        }
        for (size_t i = 0; i < numbers->count; i++) {
            to[starts[from[i] >> shift & 255]++] = from[i];
        }
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    numbers->items = from;
    numbers->capacity = from == to ? numbers->capacity : numbers->count;
    mr_free(to);
    return MR_OK;
}

/* --- laying it out ---------------------------------------------------------------------------- */

/* Room for @p size bytes on one page of the section. @param key what the page begins with if it is
 * a new one @return NULL: memory is short */
static uint8_t *room(struct mr__section *section, size_t size, uint32_t key)
{
    if (section->bytes.size == 0 || section->fill + size > FOOTER_PAYLOAD) {
        if (mr_buf_reserve(&section->bytes, MR_FOOTER_PAGE) != MR_OK ||
            mr__numbers_add(&section->fences, key) != MR_OK) {
            return NULL;
        }
        memset(section->bytes.data + section->bytes.size, 0, MR_FOOTER_PAGE);
        section->bytes.size += MR_FOOTER_PAGE;
        section->fill = 0;
    }
    return section->bytes.data + section->bytes.size - MR_FOOTER_PAGE + section->fill;
}

static uint32_t last_page(const struct mr__section *section)
{
    return (uint32_t)(section->bytes.size / MR_FOOTER_PAGE) - 1;
}

static uint32_t put_varint(uint8_t *at, uint64_t value)
{
    uint32_t n = 0;
    for (; value >= 128; value >>= 7) {
        at[n++] = (uint8_t)(value | 128);
    }
    at[n++] = (uint8_t)value;
    return n;
}

static enum mr_status lay_ids(struct mr__footer_builder *b)
{
    enum mr_status r = sort(&b->ids);
    struct mr__section *section = &b->sections[MR_FOOTER_IDS];
    for (size_t i = 0; i < b->ids.count && r == MR_OK; i++) {
        uint32_t key = (uint32_t)(b->ids.items[i] >> 32);
        uint8_t *at = room(section, FOOTER_ID_SIZE, key);
        if (at == NULL) {
            return MR_E_NOMEM;
        }
        mr_put_u32(at, key);
        mr_put_u32(at + 4, (uint32_t)b->ids.items[i]);
        section->fill += FOOTER_ID_SIZE;
        section->count++;
    }
    return r;
}

/* What concerns events goes among the values and into the filter. */
static enum mr_status lay_abouts(struct mr__footer_builder *b)
{
    enum mr_status r = sort(&b->abouts);
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < b->abouts.count && r == MR_OK; i++) {
        uint64_t about = b->abouts.items[i] >> 16;
        uint64_t block = b->abouts.items[i] & UINT16_MAX;
        r = mr__numbers_add(&b->values, (uint64_t)footer_about_key(about) << 32 | block);
        if (r == MR_OK && about != before && about != FOOTER_ABOUT_ALL) {
            r = mr__numbers_add(&b->hashes, footer_about_hash(about));
        }
        before = about;
    }
    return r;
}

static enum mr_status lay_bloom(struct mr__footer_builder *b)
{
    struct mr__section *section = &b->sections[MR_FOOTER_BLOOM];
    const struct mr__numbers *hashes = &b->hashes;
    uint32_t blocks = 1;
    while ((uint64_t)blocks * FOOTER_BLOOM_BITS < (uint64_t)hashes->count * FOOTER_BITS_PER_ID) {
        blocks *= 2;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < blocks && r == MR_OK; i++) {
        r = room(section, FOOTER_BLOOM_SIZE, 0) == NULL ? MR_E_NOMEM : MR_OK;
        section->fill += FOOTER_BLOOM_SIZE;
        bool full = section->fill == FOOTER_BLOOM_SIZE * FOOTER_BLOOM_PER_PAGE;
        section->fill = full ? FOOTER_PAYLOAD : section->fill;
    }
    for (size_t i = 0; i < hashes->count && r == MR_OK; i++) {
        uint32_t block = (uint32_t)hashes->items[i] & (blocks - 1);
        uint8_t *bits = section->bytes.data +
                        (size_t)(block / FOOTER_BLOOM_PER_PAGE) * MR_FOOTER_PAGE +
                        (size_t)(block % FOOTER_BLOOM_PER_PAGE) * FOOTER_BLOOM_SIZE;
        for (uint32_t k = 0; k < FOOTER_BLOOM_HASHES; k++) {
            uint32_t bit = footer_bloom_bit(hashes->items[i], k);
            bits[bit / 8] |= (uint8_t)(1u << (bit % 8));
        }
    }
    section->count = blocks;
    return r;
}

/* Each value: its hash, and the groups it is in, as differences; several times when that is more
 * than 255 bytes, or when the page ends. */
static enum mr_status lay_values(struct mr__footer_builder *b)
{
    enum mr_status r = sort(&b->values);
    struct mr__section *section = &b->sections[MR_FOOTER_VALUES];
    const struct mr__numbers *values = &b->values;
    uint8_t *entry = NULL;
    uint64_t before = 0;
    for (size_t i = 0; i < values->count && r == MR_OK; i++) {
        if (i > 0 && values->items[i] == values->items[i - 1]) {
            continue;
        }
        uint32_t key = (uint32_t)(values->items[i] >> 32);
        uint64_t block = values->items[i] & UINT32_MAX;
        bool goes_on = entry != NULL && mr_get_u32(entry) == key &&
                       entry[4] <= UINT8_MAX - FOOTER_VARINT_MAX &&
                       section->fill + FOOTER_VARINT_MAX <= FOOTER_PAYLOAD;
        if (!goes_on) {
            entry = room(section, FOOTER_VALUE_HEAD + FOOTER_VARINT_MAX, key);
            if (entry == NULL) {
                return MR_E_NOMEM;
            }
            mr_put_u32(entry, key);
            section->fill += FOOTER_VALUE_HEAD;
            section->count++;
            before = 0;
        }
        uint32_t n = put_varint(entry + FOOTER_VALUE_HEAD + entry[4], block - before);
        entry[4] = (uint8_t)(entry[4] + n);
        section->fill += n;
        before = block;
    }
    return r;
}

/* The list of subscription @p sub from place @p first on, at the end of the last page. */
static uint8_t *begin_list(struct mr__footer_builder *b, uint32_t sub, uint64_t first)
{
    struct mr__section *lists = &b->sections[MR_FOOTER_LISTS];
    struct mr__section *postings = &b->sections[MR_FOOTER_POSTINGS];
    uint8_t *entry = room(postings, FOOTER_POSTING_MAX, sub) == NULL
                         ? NULL
                         : room(lists, FOOTER_LIST_SIZE, sub);
    if (entry != NULL) {
        mr_put_u32(entry, sub);
        mr_put_u32(entry + 4, (uint32_t)first);
        mr_put_u32(entry + 8, last_page(postings));
        mr_put_u16(entry + 12, (uint16_t)postings->fill);
        lists->fill += FOOTER_LIST_SIZE;
        lists->count++;
    }
    return entry;
}

static enum mr_status lay_postings(struct mr__footer_builder *b)
{
    enum mr_status r = sort(&b->matches);
    struct mr__section *postings = &b->sections[MR_FOOTER_POSTINGS];
    const struct mr__numbers *matches = &b->matches;
    uint8_t *entry = NULL;
    uint64_t before = 0; /* end of the posting before, / 8 */
    for (size_t i = 0; i < matches->count && r == MR_OK; i++) {
        if (i > 0 && matches->items[i] == matches->items[i - 1]) {
            continue;
        }
        uint32_t sub = (uint32_t)(matches->items[i] >> 32);
        uint64_t event = b->events.items[matches->items[i] & UINT32_MAX];
        uint64_t place = event >> 32;
        if (entry == NULL || mr_get_u32(entry) != sub ||
            postings->fill + FOOTER_POSTING_MAX > FOOTER_PAYLOAD) {
            entry = begin_list(b, sub, place);
            if (entry == NULL) {
                return MR_E_NOMEM;
            }
            before = 0;
        }
        uint8_t *at = room(postings, FOOTER_POSTING_MAX, sub);
        uint32_t n = put_varint(at, place - before);
        n += put_varint(at + n, event & UINT32_MAX);
        postings->fill += n;
        postings->count++;
        before = place + (event & UINT32_MAX);
        mr_put_u16(entry + 14, (uint16_t)(mr_get_u16(entry + 14) + n));
        mr_put_u32(entry + 16, mr_get_u32(entry + 16) + 1);
    }
    return r;
}

static enum mr_status lay_fences(struct mr__footer_builder *b)
{
    static const enum mr_footer_section order[] = {MR_FOOTER_LISTS, MR_FOOTER_IDS,
                                                   MR_FOOTER_VALUES};
    struct mr__section *section = &b->sections[MR_FOOTER_FENCES];
    for (size_t i = 0; i < MR_ARRAY_COUNT(order); i++) {
        const struct mr__numbers *fences = &b->sections[order[i]].fences;
        for (size_t k = 0; k < fences->count; k++) {
            uint8_t *at = room(section, FOOTER_FENCE_SIZE, 0);
            if (at == NULL) {
                return MR_E_NOMEM;
            }
            mr_put_u32(at, (uint32_t)fences->items[k]);
            section->fill += FOOTER_FENCE_SIZE;
            section->count++;
        }
    }
    return MR_OK;
}

static void encode_head(const struct mr_footer_head *head, uint8_t page[MR_FOOTER_PAGE])
{
    memset(page, 0, MR_FOOTER_PAGE);
    memcpy(page, mr__footer_magic, sizeof(mr__footer_magic));
    mr_put_u32(page + 8, MR_FOOTER_VERSION);
    mr_put_u64(page + 16, head->number);
    mr_put_u64(page + 24, head->salt);
    mr_put_u64(page + 32, head->log_id);
    mr_put_u64(page + 40, head->used);
    mr_put_u64(page + 48, head->first_offset);
    mr_put_u64(page + 56, head->next_offset);
    mr_put_u64(page + 64, head->first_wall_ns);
    mr_put_u64(page + 72, head->last_wall_ns);
    mr_put_u64(page + 80, head->first_log_ns);
    mr_put_u64(page + 88, head->last_log_ns);
    mr_put_u32(page + 96, head->events);
    mr_put_u32(page + 100, head->groups);
    mr_put_u32(page + 104, head->rotten);
    mr_put_u32(page + 108, head->pages);
    mr_put_u64(page + 112, head->about_first);
    mr_put_u32(page + 120, head->about_all);
    for (uint32_t i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        uint8_t *at = page + FOOTER_HEAD_SECTIONS + (size_t)i * 12;
        mr_put_u32(at, head->sections[i].first);
        mr_put_u32(at + 4, head->sections[i].pages);
        mr_put_u32(at + 8, head->sections[i].count);
    }
}

/* --- writing it ------------------------------------------------------------------------------- */

static enum mr_status write_pages(struct mr__footer_builder *b, uint8_t *bytes, uint32_t first,
                                  uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *page = bytes + (size_t)i * MR_FOOTER_PAGE;
        mr_put_u32(page + FOOTER_PAYLOAD, footer_page_crc(page, first + i, b->head.salt));
    }
    return count == 0 ? MR_OK
                      : b->io->ops->pwrite(b->io, b->file, bytes, (size_t)count * MR_FOOTER_PAGE,
                                           (uint64_t)first * MR_FOOTER_PAGE);
}

static enum mr_status write_file(struct mr__footer_builder *b)
{
    char name[MR_LOG_NAME_SIZE];
    uint8_t head[MR_FOOTER_PAGE];
    uint32_t pages = 1;
    for (int i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        b->head.sections[i].first = pages;
        b->head.sections[i].pages = (uint32_t)(b->sections[i].bytes.size / MR_FOOTER_PAGE);
        b->head.sections[i].count = b->sections[i].count;
        pages += b->head.sections[i].pages;
    }
    b->head.pages = pages;
    encode_head(&b->head, head);
    mr_footer_name(b->head.number, name);
    const struct mr_io_ops *ops = b->io->ops;
    enum mr_status r = ops->open(b->io, name, MR_IO_WRITE | MR_IO_CREATE, &b->file);
    if (r != MR_OK) {
        b->file = -1;
        return r;
    }
    r = write_pages(b, head, 0, 1);
    for (int i = 0; i < MR_FOOTER_SECTION_MAX && r == MR_OK; i++) {
        r = write_pages(b, b->sections[i].bytes.data, b->head.sections[i].first,
                        b->head.sections[i].pages);
    }
    r = r == MR_OK ? ops->truncate(b->io, b->file, (uint64_t)pages * MR_FOOTER_PAGE) : r;
    r = r == MR_OK ? ops->sync(b->io, b->file) : r;
    return r == MR_OK ? ops->sync_dir(b->io) : r;
}

enum mr_status mr__footer_lay(struct mr__footer_builder *b)
{
    enum mr_status r = MR_OK;
    enum mr_status (*const steps[])(struct mr__footer_builder *) = {
        lay_ids, lay_abouts, lay_bloom, lay_values, lay_postings, lay_fences, write_file};
    for (size_t i = 0; i < MR_ARRAY_COUNT(steps) && r == MR_OK; i++) {
        r = steps[i](b);
    }
    return r;
}
