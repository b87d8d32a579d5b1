/* Footers read: pages checked, and the lookups. */
#include "bus/footer.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/footer_form.h"
#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"

const uint8_t mr__footer_magic[8] = {'M', 'R', 'F', 'O', 'O', 'T', '0', '1'};

void mr_footer_name(uint64_t number, char name[MR_LOG_NAME_SIZE])
{
    (void)snprintf(name, MR_LOG_NAME_SIZE, "foot-%016" PRIx64, number); /* always fits */
}

uint64_t mr_footer_id_hash(struct mr_bytes id)
{
    return mr_hash(id.data, id.size);
}

/* --- pages ------------------------------------------------------------------------------------ */

bool mr_footer_page_check(const uint8_t *bytes, uint32_t number, uint64_t salt)
{
    return mr_get_u32(bytes + FOOTER_PAYLOAD) == footer_page_crc(bytes, number, salt) ||
           MR_PLANTED(FOOTER_BELIEVED);
}

/* How many entries a page of @p section holds; 0: they are of different sizes. */
static uint32_t per_page(enum mr_footer_section section)
{
    static const uint32_t counts[MR_FOOTER_SECTION_MAX] = {
        [MR_FOOTER_FENCES] = FOOTER_PAYLOAD / FOOTER_FENCE_SIZE,
        [MR_FOOTER_LISTS] = FOOTER_PAYLOAD / FOOTER_LIST_SIZE,
        [MR_FOOTER_BLOOM] = FOOTER_BLOOM_PER_PAGE,
        [MR_FOOTER_IDS] = FOOTER_PAYLOAD / FOOTER_ID_SIZE,
    };
    return counts[section];
}

/* The sorted sections have a fence for each page, one section's behind the other's. */
static const enum mr_footer_section fenced[] = {MR_FOOTER_LISTS, MR_FOOTER_IDS,
                                                MR_FOOTER_VALUES};

static bool head_makes_sense(const struct mr_footer_head *head)
{
    uint64_t fences = 0;
    for (size_t i = 0; i < MR_ARRAY_COUNT(fenced); i++) {
        fences += head->sections[fenced[i]].pages;
    }
    for (int i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        uint32_t each = per_page((enum mr_footer_section)i);
        uint64_t end = (uint64_t)head->sections[i].first + head->sections[i].pages;
        if (end > head->pages || (each != 0 && head->sections[i].count >
                                                   (uint64_t)each * head->sections[i].pages)) {
            return false;
        }
    }
    uint32_t blocks = head->sections[MR_FOOTER_BLOOM].count;
    return fences == head->sections[MR_FOOTER_FENCES].count && blocks != 0 &&
           (blocks & (blocks - 1)) == 0 && head->used <= MR_SEGMENT_SIZE_MAX &&
           head->first_offset <= head->next_offset;
}

enum mr_status mr_footer_head_decode(const uint8_t *page, uint64_t number, uint64_t salt,
                                     struct mr_footer_head *ret_head)
{
    if (memcmp(page, mr__footer_magic, sizeof(mr__footer_magic)) != 0 ||
        !mr_footer_page_check(page, 0, salt)) {
        return MR_E_CORRUPT;
    }
    if (mr_get_u32(page + 8) != MR_FOOTER_VERSION || mr_get_u32(page + 12) != 0) {
        return MR_E_UNSUPPORTED;
    }
    struct mr_footer_head head = {
        .number = mr_get_u64(page + 16),
        .salt = mr_get_u64(page + 24),
        .log_id = mr_get_u64(page + 32),
        .used = mr_get_u64(page + 40),
        .first_offset = mr_get_u64(page + 48),
        .next_offset = mr_get_u64(page + 56),
        .first_wall_ns = mr_get_u64(page + 64),
        .last_wall_ns = mr_get_u64(page + 72),
        .first_log_ns = mr_get_u64(page + 80),
        .last_log_ns = mr_get_u64(page + 88),
        .events = mr_get_u32(page + 96),
        .groups = mr_get_u32(page + 100),
        .rotten = mr_get_u32(page + 104),
        .pages = mr_get_u32(page + 108),
        .about_first = mr_get_u64(page + 112),
        .about_all = mr_get_u32(page + 120),
    };
    for (uint32_t i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        const uint8_t *at = page + FOOTER_HEAD_SECTIONS + (size_t)i * 12;
        head.sections[i].first = mr_get_u32(at);
        head.sections[i].pages = mr_get_u32(at + 4);
        head.sections[i].count = mr_get_u32(at + 8);
    }
    if (head.number != number || head.salt != salt || !head_makes_sense(&head)) {
        return MR_E_CORRUPT;
    }
    *ret_head = head;
    return MR_OK;
}

/* --- the file --------------------------------------------------------------------------------- */

struct footer_file {
    struct mr_footer footer; /* first: the caller has this */
    struct mr_io *io;
    int file;
    uint32_t number; /* of the page in memory */
    bool has_page;
    uint8_t page[MR_FOOTER_PAGE];
};

static enum mr_status read_page(struct footer_file *f, uint32_t number)
{
    size_t got = 0;
    f->has_page = false;
    enum mr_status r = f->io->ops->pread(f->io, f->file, f->page, MR_FOOTER_PAGE,
                                         (uint64_t)number * MR_FOOTER_PAGE, &got);
    return r != MR_OK ? r : got == MR_FOOTER_PAGE ? MR_OK : MR_E_CORRUPT;
}

static enum mr_status file_page(void *context, uint32_t number, const uint8_t **ret_page)
{
    struct footer_file *f = context;
    if (!f->has_page || f->number != number) {
        enum mr_status r = read_page(f, number);
        if (r != MR_OK) {
            return r;
        }
        if (!mr_footer_page_check(f->page, number, f->footer.head.salt)) {
            return MR_E_CORRUPT;
        }
        f->number = number;
        f->has_page = true;
    }
    *ret_page = f->page;
    return MR_OK;
}

enum mr_status mr_footer_open_again(struct mr_io *io, const struct mr_footer_head *head,
                                    struct mr_footer **ret_footer)
{
    char name[MR_LOG_NAME_SIZE];
    mr_footer_name(head->number, name);
    struct footer_file *f = mr_calloc(1, sizeof(*f));
    if (f == NULL) {
        return MR_E_NOMEM;
    }
    f->io = io;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &f->file);
    if (r != MR_OK) {
        mr_free(f);
        return r;
    }
    f->footer = (struct mr_footer){.head = *head, .page = file_page, .context = f};
    *ret_footer = &f->footer;
    return MR_OK;
}

enum mr_status mr_footer_open(struct mr_io *io, uint64_t number, uint64_t salt,
                              struct mr_footer **ret_footer)
{
    struct mr_footer_head head = {.number = number, .salt = salt};
    struct mr_footer *footer;
    enum mr_status r = mr_footer_open_again(io, &head, &footer);
    if (r != MR_OK) {
        return r;
    }
    struct footer_file *f = footer->context;
    r = read_page(f, 0);
    r = r == MR_OK ? mr_footer_head_decode(f->page, number, salt, &footer->head) : r;
    if (r != MR_OK) {
        mr_footer_close(footer);
        return r;
    }
    *ret_footer = footer;
    return MR_OK;
}

void mr_footer_close(struct mr_footer *footer)
{
    if (footer != NULL) {
        struct footer_file *f = footer->context;
        f->io->ops->close(f->io, f->file);
        mr_free(f);
    }
}

enum mr_status mr_footer_check(struct mr_io *io, uint64_t number, uint64_t salt,
                               struct mr_footer_head *ret_head)
{
    struct mr_footer *footer;
    enum mr_status r = mr_footer_open(io, number, salt, &footer);
    if (r != MR_OK) {
        return r;
    }
    const uint8_t *page;
    for (uint32_t i = 1; i < footer->head.pages && r == MR_OK; i++) {
        r = footer->page(footer->context, i, &page);
    }
    if (r == MR_OK && ret_head != NULL) {
        *ret_head = footer->head;
    }
    mr_footer_close(footer);
    return r;
}

/* --- sections --------------------------------------------------------------------------------- */

static enum mr_status section_page(const struct mr_footer *footer, enum mr_footer_section section,
                                   uint32_t index, const uint8_t **ret_page)
{
    MR_ASSERT(index < footer->head.sections[section].pages);
    return footer->page(footer->context, footer->head.sections[section].first + index, ret_page);
}

/* How many entries stand on page @p index of a section with entries of one size. */
static uint32_t page_count(const struct mr_footer *footer, enum mr_footer_section section,
                           uint32_t index)
{
    uint32_t each = per_page(section);
    uint64_t before = (uint64_t)index * each;
    uint64_t left = footer->head.sections[section].count - before;
    return before >= footer->head.sections[section].count ? 0 : left < each ? (uint32_t)left : each;
}

static enum mr_status fence_at(const struct mr_footer *footer, enum mr_footer_section section,
                               uint32_t index, uint32_t *ret_key)
{
    for (size_t i = 0; fenced[i] != section; i++) {
        index += footer->head.sections[fenced[i]].pages;
    }
    const uint8_t *page;
    uint32_t each = per_page(MR_FOOTER_FENCES);
    enum mr_status r = section_page(footer, MR_FOOTER_FENCES, index / each, &page);
    if (r == MR_OK) {
        *ret_key = mr_get_u32(page + (size_t)(index % each) * FOOTER_FENCE_SIZE);
    }
    return r;
}

/* The first page of @p section that may hold @p key: the last one that begins below it, 0 when none
 * does. */
static enum mr_status first_page(const struct mr_footer *footer, enum mr_footer_section section,
                                 uint32_t key, uint32_t *ret_index)
{
    uint32_t low = 0;
    uint32_t high = footer->head.sections[section].pages;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        uint32_t fence = 0;
        enum mr_status r = fence_at(footer, section, mid, &fence);
        if (r != MR_OK) {
            return r;
        }
        if (fence < key) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *ret_index = low == 0 ? 0 : low - 1;
    return MR_OK;
}

static bool take_varint(const uint8_t *page, uint32_t *at, uint32_t end, uint32_t *ret_value)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; *at < end && shift < 7 * FOOTER_VARINT_MAX; shift += 7) {
        uint8_t byte = page[(*at)++];
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *ret_value = (uint32_t)value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

/* --- ids -------------------------------------------------------------------------------------- */

enum mr_status mr_footer_may_have_id(const struct mr_footer *footer, uint64_t id_hash,
                                     bool *ret_may)
{
    uint32_t block = (uint32_t)id_hash & (footer->head.sections[MR_FOOTER_BLOOM].count - 1);
    const uint8_t *page;
    enum mr_status r =
        section_page(footer, MR_FOOTER_BLOOM, block / FOOTER_BLOOM_PER_PAGE, &page);
    if (r != MR_OK) {
        return r;
    }
    const uint8_t *bits = page + (size_t)(block % FOOTER_BLOOM_PER_PAGE) * FOOTER_BLOOM_SIZE;
    *ret_may = true;
    for (uint32_t i = 0; i < FOOTER_BLOOM_HASHES && *ret_may; i++) {
        uint32_t bit = footer_bloom_bit(id_hash, i);
        *ret_may = (bits[bit / 8] >> (bit % 8) & 1) != 0;
    }
    return MR_OK;
}

enum mr_status mr_footer_find_id(const struct mr_footer *footer, uint64_t id_hash,
                                 bool (*fn)(void *context, uint64_t place), void *context)
{
    bool may = false;
    uint32_t key = footer_id_key(id_hash);
    uint32_t index = 0;
    enum mr_status r = mr_footer_may_have_id(footer, id_hash, &may);
    r = r == MR_OK && may ? first_page(footer, MR_FOOTER_IDS, key, &index) : r;
    for (; r == MR_OK && may && index < footer->head.sections[MR_FOOTER_IDS].pages; index++) {
        const uint8_t *page;
        r = section_page(footer, MR_FOOTER_IDS, index, &page);
        uint32_t count = r == MR_OK ? page_count(footer, MR_FOOTER_IDS, index) : 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *entry = page + (size_t)i * FOOTER_ID_SIZE;
            uint32_t hash = mr_get_u32(entry);
            if (hash > key) {
                return MR_OK;
            }
            uint64_t place = (uint64_t)mr_get_u32(entry + 4) * 8;
            if (hash == key && place >= footer->head.used) {
                return MR_E_CORRUPT;
            }
            if (hash == key && !fn(context, place)) {
                return MR_OK;
            }
        }
    }
    return r;
}

void mr_footer_will_need(struct mr_io *io, const struct mr_footer_head *head, uint64_t hash,
                         bool is_about)
{
    char name[MR_LOG_NAME_SIZE];
    int file;
    mr_footer_name(head->number, name);
    if (io->ops->will_need == NULL ||
        io->ops->open(io, name, MR_IO_READ_ONLY, &file) != MR_OK) {
        return;
    }
    /* Hashes lie evenly: so far along them is about as far along the pages. */
    enum mr_footer_section section = is_about ? MR_FOOTER_VALUES : MR_FOOTER_IDS;
    uint64_t at = (hash >> 32) * head->sections[section].pages >> 32;
    uint32_t block = (uint32_t)hash & (head->sections[MR_FOOTER_BLOOM].count - 1);
    const struct {
        uint64_t page;
        uint64_t count;
    } spans[] = {
        {head->sections[MR_FOOTER_BLOOM].first + block / FOOTER_BLOOM_PER_PAGE, 1},
        {head->sections[MR_FOOTER_FENCES].first, head->sections[MR_FOOTER_FENCES].pages},
        {head->sections[section].first + (at > 0 ? at - 1 : 0), 3},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(spans); i++) {
        io->ops->will_need(io, file, spans[i].page * MR_FOOTER_PAGE,
                           spans[i].count * MR_FOOTER_PAGE);
    }
    io->ops->close(io, file);
}

/* --- values ----------------------------------------------------------------------------------- */

struct block_set { /* blocks of the segment at which groups begin */
    uint64_t limit; /* below it */
    uint8_t bits[FOOTER_BLOCKS_MAX / 8];
};

/* Adds what one entry of VALUES says. */
static bool add_blocks(const uint8_t *page, uint32_t at, uint32_t end, struct block_set *set)
{
    uint64_t block = 0;
    while (at < end) {
        uint32_t more;
        if (!take_varint(page, &at, end, &more)) {
            return false;
        }
        block += more;
        if (block >= set->limit) {
            return false;
        }
        set->bits[block / 8] |= (uint8_t)(1u << (block % 8));
    }
    return true;
}

static enum mr_status gather_blocks(const struct mr_footer *footer, uint32_t key,
                                    struct block_set *set)
{
    uint32_t index = 0;
    enum mr_status r = first_page(footer, MR_FOOTER_VALUES, key, &index);
    for (; r == MR_OK && index < footer->head.sections[MR_FOOTER_VALUES].pages; index++) {
        const uint8_t *page;
        r = section_page(footer, MR_FOOTER_VALUES, index, &page);
        uint32_t at = 0;
        while (r == MR_OK && at + FOOTER_VALUE_HEAD <= FOOTER_PAYLOAD && page[at + 4] != 0) {
            uint32_t hash = mr_get_u32(page + at);
            uint32_t begin = at + FOOTER_VALUE_HEAD;
            uint32_t end = begin + page[at + 4];
            if (hash > key) {
                return MR_OK;
            }
            if (end > FOOTER_PAYLOAD ||
                (hash == key && !add_blocks(page, begin, end, set))) {
                r = MR_E_CORRUPT;
            }
            at = end;
        }
    }
    return r;
}

static void tell_blocks(const struct block_set *set, bool (*fn)(void *context, uint64_t place),
                        void *context)
{
    bool more = true;
    for (uint64_t i = 0; i < set->limit && more; i++) {
        more = (set->bits[i / 8] >> (i % 8) & 1) == 0 || fn(context, i * MR_LOG_BLOCK);
    }
}

enum mr_status mr_footer_find_value(const struct mr_footer *footer, enum mr_footer_value which,
                                    struct mr_bytes value,
                                    bool (*fn)(void *context, uint64_t place), void *context)
{
    struct block_set set = {.limit = footer->head.used / MR_LOG_BLOCK};
    enum mr_status r = gather_blocks(footer, footer_value_key(which, value), &set);
    if (r == MR_OK) {
        tell_blocks(&set, fn, context);
    }
    return r;
}

/* --- what concerns an event ------------------------------------------------------------------- */

uint64_t mr_footer_about_hash(uint64_t offset)
{
    return footer_about_hash(footer_about(offset));
}

enum mr_status mr_footer_find_about(const struct mr_footer *footer, uint64_t offset,
                                    bool (*fn)(void *context, uint64_t place), void *context)
{
    struct block_set set = {.limit = footer->head.used / MR_LOG_BLOCK};
    uint64_t about = footer_about(offset);
    bool may = false;
    enum mr_status r = offset < footer->head.about_first
                           ? MR_OK
                           : mr_footer_may_have_id(footer, mr_footer_about_hash(offset), &may);
    r = r == MR_OK && may ? gather_blocks(footer, footer_about_key(about), &set) : r;
    if (r == MR_OK && footer->head.about_all > 0) {
        r = gather_blocks(footer, footer_about_key(FOOTER_ABOUT_ALL), &set);
    }
    if (r == MR_OK) {
        tell_blocks(&set, fn, context);
    }
    return r;
}

/* --- postings --------------------------------------------------------------------------------- */

struct list { /* postings of one subscription that lie on one page */
    uint32_t sub;
    uint64_t first; /* place */
    uint32_t page;
    uint32_t at;
    uint32_t size;
};

static void list_decode(const uint8_t *entry, struct list *list)
{
    *list = (struct list){
        .sub = mr_get_u32(entry),
        .first = (uint64_t)mr_get_u32(entry + 4) * 8,
        .page = mr_get_u32(entry + 8),
        .at = mr_get_u16(entry + 12),
        .size = mr_get_u16(entry + 14),
    };
}

/* Adds what of @p list lies at @p from or behind. */
static enum mr_status take_postings(const struct mr_footer *footer, const struct list *list,
                                    uint64_t from, struct mr_footer_range *items, uint32_t max,
                                    uint32_t *count)
{
    const uint8_t *page;
    uint32_t at = list->at;
    uint32_t end = list->at + list->size;
    if (end > FOOTER_PAYLOAD || list->page >= footer->head.sections[MR_FOOTER_POSTINGS].pages) {
        return MR_E_CORRUPT;
    }
    enum mr_status r = section_page(footer, MR_FOOTER_POSTINGS, list->page, &page);
    uint64_t place = 0;
    while (r == MR_OK && at < end && *count < max) {
        uint32_t gap;
        uint32_t size;
        if (!take_varint(page, &at, end, &gap) || !take_varint(page, &at, end, &size) ||
            size == 0) {
            return MR_E_CORRUPT;
        }
        place += (uint64_t)gap * 8;
        uint64_t next = place + (uint64_t)size * 8;
        const struct mr_footer_range *last = *count == 0 ? NULL : &items[*count - 1];
        if (next > footer->head.used ||
            (last != NULL && place >= from && place < last->place + last->size)) {
            return MR_E_CORRUPT;
        }
        if (place >= from) {
            items[(*count)++] =
                (struct mr_footer_range){.place = place, .size = (uint32_t)(next - place)};
        }
        place = next;
    }
    return r;
}

/* The entry of LISTS to begin with: the last of @p sub that begins at @p from or before, or its
 * first. *ret_entry is the count of all when it has none. */
static enum mr_status find_list(const struct mr_footer *footer, uint32_t sub, uint64_t from,
                                uint32_t *ret_entry)
{
    uint32_t index = 0;
    enum mr_status r = first_page(footer, MR_FOOTER_LISTS, sub, &index);
    *ret_entry = footer->head.sections[MR_FOOTER_LISTS].count;
    bool found = false;
    for (; r == MR_OK && index < footer->head.sections[MR_FOOTER_LISTS].pages; index++) {
        const uint8_t *page;
        r = section_page(footer, MR_FOOTER_LISTS, index, &page);
        uint32_t count = r == MR_OK ? page_count(footer, MR_FOOTER_LISTS, index) : 0;
        for (uint32_t i = 0; i < count; i++) {
            struct list list;
            list_decode(page + (size_t)i * FOOTER_LIST_SIZE, &list);
            if (list.sub > sub || (found && list.first > from)) {
                return MR_OK;
            }
            if (list.sub == sub) {
                *ret_entry = index * per_page(MR_FOOTER_LISTS) + i;
                found = true;
            }
        }
    }
    return r;
}

enum mr_status mr_footer_postings(const struct mr_footer *footer, uint32_t sub, uint64_t from,
                                  struct mr_footer_range *ret_items, uint32_t max,
                                  uint32_t *ret_count)
{
    uint32_t count = 0;
    uint32_t entry = 0;
    uint32_t each = per_page(MR_FOOTER_LISTS);
    enum mr_status r = find_list(footer, sub, from, &entry);
    for (; r == MR_OK && count < max && entry < footer->head.sections[MR_FOOTER_LISTS].count;
         entry++) {
        const uint8_t *page;
        struct list list = {0};
        r = section_page(footer, MR_FOOTER_LISTS, entry / each, &page);
        if (r == MR_OK) {
            list_decode(page + (size_t)(entry % each) * FOOTER_LIST_SIZE, &list);
            if (list.sub != sub) {
                break;
            }
            r = take_postings(footer, &list, from, ret_items, max, &count);
        }
    }
    if (r == MR_E_AGAIN && count > 0) {
        r = MR_OK; /* the rest with the next call */
    }
    if (r == MR_OK) {
        *ret_count = count;
    }
    return r;
}
