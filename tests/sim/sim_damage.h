/* What the parts of the damage share: the files as they were, and what a start makes of them. */
#ifndef SIM_DAMAGE_H
#define SIM_DAMAGE_H

#include "sim.h"

#define FILES_MAX 64u
#define GROUPS_MAX 512u
#define RECORDS_MAX 16384u
#define BEFORE_MAX 4u
#define PLACES_MAX 4096u
#define LLU(x) ((unsigned long long)(x))

struct file {
    char name[SIM_NAME_MAX];
    uint8_t *data;  /* owned; as it was */
    uint64_t size;
    uint64_t used;  /* up to the last byte that is not zero */
};

struct files {
    struct file items[FILES_MAX];
    uint32_t count;
};

struct record {
    uint32_t at; /* in its file */
    uint32_t body;
    uint32_t a;
    uint64_t offset;
    uint8_t kind;
    bool lost;
};

struct group { /* one that a start of the undamaged log without checkpoints reads, in order */
    uint32_t file;
    uint64_t at;
    uint64_t sequence;
    uint64_t durable;
    uint32_t first;
    uint32_t count;
};

/* What a delivery or a dead letter has in a survivor file. */
struct place {
    uint32_t file;
    uint32_t at;
    uint32_t body;
    uint32_t sub;
    uint64_t offset;
    uint8_t kind; /* of the record */
};

/* What a start finds. */
struct base {
    uint64_t hash;
    struct mr_bus_opened opened;
    struct mr_bus_status status;
    struct mr_bus *bus; /* owned */
};

struct damage {
    struct sim_world *world;
    struct sim_disk *disk; /* owned: whole */
    struct files files;
    struct files before[BEFORE_MAX]; /* the same log, earlier */
    uint32_t before_count;
    struct group *groups; /* of the newest slot */
    uint32_t group_count;
    struct record *records;
    uint32_t record_count;
    struct place *places; /* that `base` needs, and that are whole */
    uint32_t place_count;
    struct base base; /* undamaged */
    uint32_t base_found; /* by `log verify`, in survivor files */
    bool by_hand; /* nothing is known of what must be lost */
    char what[128]; /* the damage that is looked at */
    uint64_t tried;
    uint64_t lossy;
    uint64_t kinds; /* bits, of records */
};

/* One file as it is now. */
struct view {
    uint32_t file;
    uint8_t *data;
    uint64_t size;
};

enum same {
    SAME = 0,
    ONE_BIT,
    OTHER,
};

void sim_damage_fail(const struct damage *d, const char *text);
struct file *sim_damage_file(struct files *files, const char *name);
enum same sim_damage_compare(const uint8_t *a, const uint8_t *b, size_t size);

/* sim_damage_keep.c: survivor files. */
bool sim_damage_is_keep(const struct file *file);
/* What `base` needs of them. */
void sim_damage_find_places(struct damage *d);
/* Such a file is damaged: what a start, `log verify` and whoever reads in it find. */
void sim_damage_look_at_keep(struct damage *d, struct sim_disk *disk, const struct view *view,
                             struct mr_bus *bus, const struct mr_bus_opened *opened);

#endif
