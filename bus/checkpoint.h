/* What the writer and the readers of checkpoints share. Internal to bus/.
 *
 * A slot is a file: a head, from byte 4096 on chunks, each beginning on a multiple of 4096, and in
 * them items. docs/log-format.md lists the bytes. What belongs together is a section: the base, one
 * subscription, the keys of one source, the fan-outs that are open. A section is true at a position
 * of its own, at or behind that of the head: recovery takes it, and applies to it only the records
 * that come behind it. One that is damaged is taken from the other slot, and from further back. */
#ifndef MR_BUS_CHECKPOINT_H
#define MR_BUS_CHECKPOINT_H

#include "bus/structs.h"

#define MR__CHECKPOINT_HEAD_SIZE 64u
/* Up to 4 all of it was one body, true at one position (checkpoint_old.c): read still. */
#define MR__CHECKPOINT_VERSION 5u
#define MR__CHECKPOINT_VERSION_OLD 4u
#define MR__CHECKPOINT_MAGIC "MRCKPT01"
#define MR__CHUNK_MAGIC 0x4343524du /* "MRCC" */
#define MR__CHUNK_HEAD_SIZE 64u

/* Where a delivery stands in a checkpoint. */
enum mr__saved {
    MR__SAVED_READY = 0,
    MR__SAVED_WAITING,
    MR__SAVED_BEGUN,
    MR__SAVED_HELD,
};

/* An item begins with a u64: its kind << 56 | a number below 2^56. */
#define MR__ITEM_SHIFT 56
#define MR__ITEM_NUMBER ((1ull << MR__ITEM_SHIFT) - 1)
enum mr__item {
    MR__ITEM_BASE = 1, /* bytes that follow */
    MR__ITEM_SUB,      /* a subscription's id: begins its section */
    MR__ITEM_WEIGHT,   /* a target's id */
    MR__ITEM_SKIP,     /* an offset beyond the cursor that is settled */
    MR__ITEM_DEAD,     /* offset of a dead letter */
    MR__ITEM_DELIVERY, /* offset */
    MR__ITEM_KEYS,     /* a source's id: begins its section */
    MR__ITEM_KEY,      /* offset of its event */
    MR__ITEM_JOINS,    /* how many: begins their section */
    MR__ITEM_JOIN,     /* offset */
    MR__ITEM_END,      /* 0: of a section */
    MR__ITEM_LAST,     /* how many subscriptions; nothing is behind it */
    MR__ITEM_MAX,
};

struct mr__checkpoint_head {
    uint32_t version;
    uint32_t chunks;
    uint64_t generation;
    uint64_t log_id;
    uint64_t position; /* of the first group that is not in all of it */
    uint64_t sequence; /* of the last group that is in all of it */
    uint32_t previous_crc;
    uint64_t stamp; /* of its chunks */
    uint64_t size;
};

/* One slot as it was read. */
struct mr__chunk_read {
    const uint8_t *items; /* in the file; NULL: damaged */
    size_t size;
    bool continues; /* it begins within a section */
};

struct mr__section {
    uint8_t kind; /* of the item that begins it */
    bool whole;
    uint32_t id;
    uint32_t chunk; /* where that item stands */
    size_t at;
};

struct mr__slot {
    struct mr__checkpoint_head head; /* generation 0: the slot is of no use */
    uint8_t *file; /* owned */
    size_t file_size;
    struct mr__chunk_read *chunks; /* owned; NULL: of an old version */
    struct mr__section *sections; /* owned; in the order of the file */
    uint64_t section_count;
    uint64_t section_capacity;
    uint64_t sub_count; /* valid when `ends` */
    bool ends;          /* its last item is there */
    bool whole;         /* nothing is damaged */
};

/* The bytes of one item, or of an old body. */
struct mr__loader {
    const uint8_t *at;
    size_t left;
    enum mr_status status;
};
uint64_t mr__load_u64(struct mr__loader *l);
struct mr_bytes mr__load_text(struct mr__loader *l); /* borrowed */
char *mr__load_name(struct mr__loader *l);           /* owned; NULL: status says why */

/* The items of a section, one after the other. */
struct mr__items {
    const struct mr__slot *slot;
    uint32_t chunk;
    size_t at;
};
/* @return its kind, or MR__ITEM_END: there are no more. @param[out] ret_l its bytes behind the
 * first u64 */
enum mr__item mr__items_next(struct mr__items *items, uint64_t *ret_number,
                             struct mr__loader *ret_l);

/* snap.c */
/* Everything before it is in the log and in the state, and nothing else is: nothing is staged. */
uint64_t mr__snap_position(const struct mr_bus *bus);
void mr__snap_base(struct mr__snap *snap, const struct mr_bus *bus);
/* Saves more of what has its turn, until the chunk is full or all of it is saved. */
void mr__snap_save(struct mr__snap *snap, struct mr_bus *bus);
bool mr__snap_is_full(const struct mr__snap *snap); /* its chunk, or memory was short */

/* checkpoint_read.c */
/* What the first bytes of a slot say. @return as mr__slot_parse() */
MR_MUST_USE enum mr_status mr__slot_head(const uint8_t *at, size_t size,
                                         struct mr__checkpoint_head *ret_head);
/** Whether @p file, which moves to @p slot, is a checkpoint, and what of it is good.
 * @return MR_E_CORRUPT: nothing of it is of use; MR_E_UNSUPPORTED: of a later version;
 * MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__slot_parse(struct mr__slot *slot, uint8_t *file, size_t size);
void mr__slot_release(struct mr__slot *slot);
/* The section that @p kind and @p id name; NULL: there is none that is whole. */
const struct mr__section *mr__slot_find(const struct mr__slot *slot, enum mr__item kind,
                                        uint32_t id);

/* checkpoint_slots.c */
extern const char *const mr__slot_names[2]; /* of their files */
/* The bytes of one: as many as there are. @return as the operations of @p io; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__slot_read(struct mr_io *io, const char *name, uint8_t **ret_data,
                                         size_t *ret_size);

/* checkpoint_load.c */
enum mr_status mr__load_base(struct mr_bus *bus, struct mr__loader *l);
/* A subscription as its section begins, and the parts that follow. */
struct mr__sub *mr__load_sub(struct mr_bus *bus, struct mr__loader *l, bool has_order);
void mr__load_skip(struct mr__sub *sub, uint64_t offset);
void mr__load_dead(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset,
                   struct mr__loader *l);
/* Deliveries of @p sub, each given by where its bytes begin, offset first; sorted here. */
enum mr_status mr__load_deliveries(struct mr_bus *bus, struct mr__sub *sub, const uint8_t **at,
                                   uint64_t count);
/* What a source keeps, before its keys. */
enum mr_status mr__load_keys(struct mr_bus *bus, struct mr__seen *seen, uint64_t window_ns,
                             uint64_t limit, uint64_t count);
void mr__load_key(struct mr_bus *bus, struct mr__seen *seen, struct mr__seen_key *key);
void mr__load_join(struct mr_bus *bus, uint64_t offset, struct mr__loader *l);
size_t mr__delivery_item_size(const uint8_t *at); /* its notes included */

/* checkpoint_old.c: versions 1 to 4 */
enum mr_status mr__checkpoint_old_load(struct mr_bus *bus, const struct mr__slot *slot);

#endif
