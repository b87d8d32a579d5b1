#include "bus/logformat.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/planted.h"
#include "core/assert.h"
#include "core/hash.h"

#define GROUP_MAGIC 0x5047524du             /* "MRGP" */

/* Flag 1: beside it may stand checkpoints of version 5, which a release before would take for none,
 * and go on without what they say: it refuses such a segment by name instead. */
#define INCOMPATIBLE 1u

static const uint8_t segment_magic[8] = {'M', 'R', 'S', 'E', 'G', '0', '0', '1'};
static const uint8_t survivors_magic[8] = {'M', 'R', 'K', 'E', 'E', 'P', '0', '1'};

const char *mr_record_kind_text(uint8_t kind)
{
    static const char *const names[MR_RECORD_MAX] = {
        "unknown",  "event",  "match",  "attempt",  "settle", "retry", "dead",
        "redrive",  "purge",  "cursor", "config",   "operator", "name", "start",
        "pause",    "mark",   "clock",  "late",     "lost",   "removed",
        "key",      "result", "fanout", "joined",   "weight", "edit",  "moved",
    };
    return kind < MR_RECORD_MAX ? names[kind] : names[0];
}

const char *mr_state_text(enum mr_state state)
{
    static const char *const names[MR_STATE_MAX] = {
        "none", "waiting", "in flight", "held", "done", "dead", "dropped", "expired", "lost",
    };
    return (unsigned)state < MR_STATE_MAX ? names[state] : names[0];
}

void mr_segment_header_encode(const struct mr_segment_header *header, uint8_t block[MR_LOG_BLOCK])
{
    MR_ASSERT(header->size <= MR_SEGMENT_SIZE_MAX);
    memset(block, 0, MR_LOG_BLOCK);
    memcpy(block, header->file == MR_LOG_OF_SURVIVORS ? survivors_magic : segment_magic, 8);
    mr_put_u32(block + 8, MR_LOG_VERSION);
    mr_put_u32(block + 16, INCOMPATIBLE);
    mr_put_u64(block + 24, header->number);
    mr_put_u64(block + 32, header->size);
    mr_put_u64(block + 40, header->salt);
    mr_put_u64(block + 48, header->log_id);
    mr_put_u64(block + 56, header->wall_ns);
    mr_put_u32(block + 64, mr_crc32c(0, block, 64));
}

static bool sum_fits(const uint8_t *at, size_t size)
{
    return mr_get_u32(at + size - 4) == mr_crc32c(0, at, size - 4);
}

/* A header that one wrong bit has spoilt is put right: a group whose header is gone is gone with
 * all it holds, a record's header with all behind it. The checksum tells any two headers of these
 * sizes apart that differ in up to four bits, so that there is no other header it may have been;
 * what is torn or of another time differs in many.
 * @param known the first bytes are these, one bit apart at most; NULL: nothing is known */
static bool mend(uint8_t *at, size_t size, const uint8_t *known, size_t known_size)
{
    int apart = 0;
    for (size_t i = 0; i < known_size; i++) {
        unsigned other = (unsigned)(at[i] ^ known[i]);
        apart += (other != 0) + ((other & (other - 1)) != 0);
    }
    if (apart > 1 || MR_PLANTED(UNMENDED)) {
        return false;
    }
    for (size_t bit = 0; bit < size * 8; bit++) {
        uint8_t mask = (uint8_t)(1u << bit % 8);
        at[bit / 8] ^= mask;
        if (sum_fits(at, size)) {
            return true;
        }
        at[bit / 8] ^= mask;
    }
    return false;
}

enum mr_status mr_segment_header_decode(const uint8_t *block, struct mr_segment_header *ret_header)
{
    uint8_t copy[MR_SEGMENT_HEADER_SIZE];
    bool mended = !sum_fits(block, sizeof(copy));
    if (mended) {
        memcpy(copy, block, sizeof(copy));
        if (!mend(copy, sizeof(copy), segment_magic, sizeof(segment_magic)) &&
            !mend(copy, sizeof(copy), survivors_magic, sizeof(survivors_magic))) {
            return MR_E_CORRUPT;
        }
        block = copy;
    }
    bool survivors = memcmp(block, survivors_magic, sizeof(survivors_magic)) == 0;
    if (!survivors && memcmp(block, segment_magic, sizeof(segment_magic)) != 0) {
        return MR_E_CORRUPT;
    }
    if (mr_get_u32(block + 8) != MR_LOG_VERSION || (mr_get_u32(block + 16) & ~INCOMPATIBLE) != 0) {
        return MR_E_UNSUPPORTED;
    }
    *ret_header = (struct mr_segment_header){
        .file = survivors ? MR_LOG_OF_SURVIVORS : MR_LOG_OF_SEGMENT,
        .number = mr_get_u64(block + 24),
        .size = mr_get_u64(block + 32),
        .salt = mr_get_u64(block + 40),
        .log_id = mr_get_u64(block + 48),
        .wall_ns = mr_get_u64(block + 56),
        .mended = mended,
    };
    return MR_OK;
}

void mr_group_header_encode(struct mr_group_header *header, uint8_t at[MR_GROUP_HEADER_SIZE])
{
    MR_ASSERT(header->size >= MR_GROUP_HEADER_SIZE);
    MR_ASSERT(header->padded % MR_LOG_BLOCK == 0 && header->padded >= header->size);
    memset(at, 0, MR_GROUP_HEADER_SIZE);
    mr_put_u32(at, GROUP_MAGIC);
    mr_put_u16(at + 4, MR_LOG_VERSION);
    mr_put_u16(at + 6, MR_GROUP_HEADER_SIZE);
    mr_put_u64(at + 8, header->salt);
    mr_put_u64(at + 16, header->sequence);
    mr_put_u64(at + 24, header->durable);
    mr_put_u64(at + 32, header->first_offset);
    mr_put_u64(at + 40, header->next_offset);
    mr_put_u64(at + 48, header->wall_ns);
    mr_put_u64(at + 56, header->mono_ns);
    mr_put_u64(at + 64, header->boot_id);
    mr_put_u64(at + 72, header->log_ns);
    mr_put_u32(at + 80, header->size);
    mr_put_u32(at + 84, header->padded);
    mr_put_u32(at + 88, header->records);
    mr_put_u32(at + 92, header->previous_crc);
    mr_put_u32(at + 96, header->records_crc);
    mr_put_u32(at + 100, header->flags);
    mr_put_u64(at + 104, header->checkpoint);
    header->crc = mr_crc32c(0, at, 124);
    mr_put_u32(at + 124, header->crc);
}

/* Every group of a segment begins with the same 16 bytes. */
static bool mend_group(const uint8_t *at, uint64_t salt, uint8_t copy[MR_GROUP_HEADER_SIZE])
{
    uint8_t known[16];
    mr_put_u32(known, GROUP_MAGIC);
    mr_put_u16(known + 4, MR_LOG_VERSION);
    mr_put_u16(known + 6, MR_GROUP_HEADER_SIZE);
    mr_put_u64(known + 8, salt);
    memcpy(copy, at, MR_GROUP_HEADER_SIZE);
    return mend(copy, MR_GROUP_HEADER_SIZE, known, sizeof(known));
}

enum mr_status mr_group_header_decode(const uint8_t *at, uint64_t salt,
                                      struct mr_group_header *ret_header)
{
    uint8_t copy[MR_GROUP_HEADER_SIZE];
    bool sum = sum_fits(at, sizeof(copy));
    bool mended = !sum && mend_group(at, salt, copy);
    at = mended ? copy : at;
    bool magic = mr_get_u32(at) == GROUP_MAGIC;
    bool ours = mr_get_u64(at + 8) == salt || MR_PLANTED(NO_SALT);
    if (!sum && !mended) {
        /* A header whose salt is ours, or that begins like one and is torn, is damage of ours;
         * zeros and what a recycled file still holds are not. */
        return ours || (magic && mr_get_u64(at + 8) == 0) ? MR_E_CORRUPT : MR_E_NOT_FOUND;
    }
    if (!magic || !ours) {
        return MR_E_NOT_FOUND;
    }
    struct mr_group_header h = {
        .salt = salt,
        .sequence = mr_get_u64(at + 16),
        .durable = mr_get_u64(at + 24),
        .first_offset = mr_get_u64(at + 32),
        .next_offset = mr_get_u64(at + 40),
        .wall_ns = mr_get_u64(at + 48),
        .mono_ns = mr_get_u64(at + 56),
        .boot_id = mr_get_u64(at + 64),
        .log_ns = mr_get_u64(at + 72),
        .size = mr_get_u32(at + 80),
        .padded = mr_get_u32(at + 84),
        .records = mr_get_u32(at + 88),
        .previous_crc = mr_get_u32(at + 92),
        .records_crc = mr_get_u32(at + 96),
        .flags = mr_get_u32(at + 100),
        .checkpoint = mr_get_u64(at + 104),
        .crc = mr_get_u32(at + 124),
        .mended = mended,
    };
    if (mr_get_u16(at + 4) != MR_LOG_VERSION || mr_get_u16(at + 6) != MR_GROUP_HEADER_SIZE ||
        h.size < MR_GROUP_HEADER_SIZE || h.padded < h.size || h.padded % MR_LOG_BLOCK != 0 ||
        h.padded > MR_SEGMENT_SIZE_MAX || h.next_offset < h.first_offset) {
        return MR_E_CORRUPT;
    }
    *ret_header = h;
    return MR_OK;
}

uint32_t mr_record_encode(const struct mr_record *record, uint8_t *at)
{
    size_t size = record->body.size;
    MR_ASSERT(size <= MR_SEGMENT_SIZE_MAX);
    if (size > 0 && record->body.data != at + MR_RECORD_HEADER_SIZE) {
        memcpy(at + MR_RECORD_HEADER_SIZE, record->body.data, size);
    }
    size_t padded = mr_record_size(size);
    memset(at + MR_RECORD_HEADER_SIZE + size, 0, padded - MR_RECORD_HEADER_SIZE - size);
    mr_put_u32(at, (uint32_t)size);
    at[4] = record->kind;
    at[5] = record->flags;
    mr_put_u16(at + 6, record->extra);
    mr_put_u64(at + 8, record->offset);
    mr_put_u32(at + 16, record->a);
    mr_put_u32(at + 20, record->b);
    mr_put_u64(at + 24, record->c);
    mr_put_u64(at + 32, record->d);
    uint32_t body_crc = record->body_crc != 0
                            ? record->body_crc
                            : mr_crc32c(0, at + MR_RECORD_HEADER_SIZE, size);
    mr_put_u32(at + 40, body_crc);
    uint32_t head_crc = mr_crc32c(0, at, 44);
    mr_put_u32(at + 44, head_crc);
    return head_crc;
}

void mr_record_view(const uint8_t *at, struct mr_record *ret_record)
{
    *ret_record = (struct mr_record){
        .kind = at[4],
        .flags = at[5],
        .extra = mr_get_u16(at + 6),
        .offset = mr_get_u64(at + 8),
        .a = mr_get_u32(at + 16),
        .b = mr_get_u32(at + 20),
        .c = mr_get_u64(at + 24),
        .d = mr_get_u64(at + 32),
        .body_crc = mr_get_u32(at + 40),
        .body = mr_bytes(at + MR_RECORD_HEADER_SIZE, mr_get_u32(at)),
    };
}

/* The header at @p at, put right in @p copy if one bit is wrong; NULL: more are. */
static const uint8_t *record_head(const uint8_t *at, uint8_t copy[MR_RECORD_HEADER_SIZE])
{
    if (sum_fits(at, MR_RECORD_HEADER_SIZE)) {
        return at;
    }
    memcpy(copy, at, MR_RECORD_HEADER_SIZE);
    return mend(copy, MR_RECORD_HEADER_SIZE, NULL, 0) ? copy : NULL;
}

size_t mr_record_size_at(const uint8_t at[MR_RECORD_HEADER_SIZE])
{
    uint8_t copy[MR_RECORD_HEADER_SIZE];
    const uint8_t *head = record_head(at, copy);
    bool sense = head != NULL && mr_get_u32(head) <= MR_SEGMENT_SIZE_MAX;
    return sense ? mr_record_size(mr_get_u32(head)) : 0;
}

enum mr_status mr_record_decode(const uint8_t *at, size_t left, struct mr_record *ret_record,
                                uint32_t *ret_head_crc)
{
    uint8_t copy[MR_RECORD_HEADER_SIZE];
    const uint8_t *body = at + MR_RECORD_HEADER_SIZE;
    const uint8_t *head = left < MR_RECORD_HEADER_SIZE ? NULL : record_head(at, copy);
    if (head == NULL) {
        return MR_E_CORRUPT;
    }
    bool mended = head != at;
    at = head;
    uint32_t size = mr_get_u32(at);
    if (mr_record_size(size) > left) {
        return MR_E_CORRUPT;
    }
    mr_record_view(at, ret_record);
    ret_record->body = mr_bytes(body, size);
    ret_record->mended = mended;
    if (ret_head_crc != NULL) {
        *ret_head_crc = mr_get_u32(at + 44);
    }
    if (ret_record->body_crc != mr_crc32c(0, ret_record->body.data, size) &&
        !MR_PLANTED(NO_BODY_CHECKSUM)) {
        return MR_E_IO;
    }
    return MR_OK;
}

/* Result: u8 verdict, u8 flags (1 alone), u16 0, u32 attempts, refusals, interruptions, children,
 * i32 exit code, signal, u64 rss, due, policy, then five texts of u16 size and bytes. */
#define RESULT_FIXED_SIZE 52u

static enum mr_status put_text(struct mr_buf *out, struct mr_bytes text)
{
    size_t size = text.size > UINT16_MAX ? UINT16_MAX : text.size;
    uint8_t head[2];
    mr_put_u16(head, (uint16_t)size);
    enum mr_status r = mr_buf_append(out, head, sizeof(head));
    return r == MR_OK ? mr_buf_append(out, text.data, size) : r;
}

enum mr_status mr_result_encode(const struct mr_result *result, struct mr_buf *out)
{
    uint8_t f[RESULT_FIXED_SIZE] = {0};
    f[0] = result->verdict;
    f[1] = result->alone ? 1 : 0;
    mr_put_u32(f + 4, result->attempts);
    mr_put_u32(f + 8, result->refusals);
    mr_put_u32(f + 12, result->interruptions);
    mr_put_u32(f + 16, result->children);
    mr_put_u32(f + 20, (uint32_t)result->exit_code);
    mr_put_u32(f + 24, (uint32_t)result->exit_signal);
    mr_put_u64(f + 28, result->rss_peak);
    mr_put_u64(f + 36, result->due_ns);
    mr_put_u64(f + 44, result->policy);
    enum mr_status r = mr_buf_append(out, f, sizeof(f));
    const struct mr_bytes texts[] = {result->instance, result->version, result->error,
                                     result->stderr_tail, result->reason};
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts) && r == MR_OK; i++) {
        r = put_text(out, texts[i]);
    }
    return r;
}

enum mr_status mr_result_decode(struct mr_bytes body, struct mr_result *ret_result,
                                size_t *ret_size)
{
    if (body.size < RESULT_FIXED_SIZE) {
        return MR_E_CORRUPT;
    }
    const uint8_t *f = body.data;
    struct mr_result result = {
        .verdict = f[0],
        .alone = (f[1] & 1) != 0,
        .attempts = mr_get_u32(f + 4),
        .refusals = mr_get_u32(f + 8),
        .interruptions = mr_get_u32(f + 12),
        .children = mr_get_u32(f + 16),
        .exit_code = (int32_t)mr_get_u32(f + 20),
        .exit_signal = (int32_t)mr_get_u32(f + 24),
        .rss_peak = mr_get_u64(f + 28),
        .due_ns = mr_get_u64(f + 36),
        .policy = mr_get_u64(f + 44),
    };
    struct mr_bytes *const texts[] = {&result.instance, &result.version, &result.error,
                                      &result.stderr_tail, &result.reason};
    size_t at = RESULT_FIXED_SIZE;
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        if (body.size - at < 2 || body.size - at - 2 < mr_get_u16(f + at)) {
            return MR_E_CORRUPT;
        }
        *texts[i] = mr_bytes(f + at + 2, mr_get_u16(f + at));
        at += 2 + texts[i]->size;
    }
    *ret_result = result;
    if (ret_size != NULL) {
        *ret_size = at;
    }
    return MR_OK;
}

void mr_segment_name(uint64_t number, char name[MR_LOG_NAME_SIZE])
{
    (void)snprintf(name, MR_LOG_NAME_SIZE, "seg-%016" PRIx64, number); /* always fits */
}

void mr_log_file_name(enum mr_log_file file, uint64_t number, char name[MR_LOG_NAME_SIZE])
{
    static const char *const prefixes[] = {
        [MR_LOG_OF_SEGMENT] = "seg",
        [MR_LOG_OF_FOOTER] = "foot",
        [MR_LOG_OF_SURVIVORS] = "keep",
    };
    (void)snprintf(name, MR_LOG_NAME_SIZE, "%s-%016" PRIx64, prefixes[file], number); /* fits */
}

void mr_free_name(uint64_t number, char name[MR_LOG_NAME_SIZE])
{
    (void)snprintf(name, MR_LOG_NAME_SIZE, "free-%016" PRIx64, number); /* always fits */
}

bool mr_log_name_parse(const char *name, const char *prefix, uint64_t *ret_number)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || strlen(name) != n + 16) {
        return false;
    }
    uint64_t number = 0;
    for (const char *p = name + n; *p != '\0'; p++) {
        int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;
        if (digit < 0) {
            return false;
        }
        number = number << 4 | (uint64_t)digit;
    }
    *ret_number = number;
    return true;
}
