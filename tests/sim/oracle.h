/* The oracle: its own fold over every group the bus writes, and the promises checked against it.
 *
 * It sees what crosses the ports: the bytes of each WRITE, which batches were acknowledged, what
 * was handed out and answered. From the bytes alone it keeps the state of every delivery, knows
 * what a recovery must find, and says so when a record breaks a rule. Groups that are not yet
 * durable can be taken back: a crash may lose them. */
#ifndef MR_TESTS_SIM_ORACLE_H
#define MR_TESTS_SIM_ORACLE_H

#include "bus/bus.h"

struct sim_disk;
struct oracle;
struct sim_world;
struct sim_disk;

struct oracle *oracle_create(const struct sim_world *world, bool always);
void oracle_destroy(struct oracle *oracle);

/* --- what the bus does ------------------------------------------------------------------------ */

/** A group is on its way to the disk: checked record by record, and folded. */
void oracle_write(struct oracle *oracle, const struct mr_log_request *request);
void oracle_write_done(struct oracle *oracle, enum mr_status result);
void oracle_synced(struct oracle *oracle, uint64_t sequence);
void oracle_retire(struct oracle *oracle, uint64_t segment);
/** Records were copied into a survivor file. */
void oracle_copied(struct oracle *oracle, const struct mr_log_request *request);
void oracle_checkpoint(struct oracle *oracle, const struct mr_log_request *request);
/** @param asked_ns log clock when it was submitted, by source @p s */
void oracle_acknowledged(struct oracle *oracle, const struct mr_batch *batch, uint64_t s,
                         uint64_t asked_ns);
void oracle_handed_out(struct oracle *oracle, const struct mr_handout *handout);

/* --- what the world does ---------------------------------------------------------------------- */

/** A message a source is about to send; @p crc of its record, @p keys it may be known by. */
void oracle_sends(struct oracle *oracle, uint32_t source, uint32_t n, uint32_t crc,
                  const struct mr_dedupe_key keys[MR_DEDUPE_BY_MAX]);
void oracle_answers(struct oracle *oracle, const struct mr_handout *handout);
void oracle_emits(struct oracle *oracle, const struct mr_handout *handout, uint64_t number,
                  uint32_t crc);
/** An operator is about to give it edited event @p number. */
void oracle_may_edit(struct oracle *oracle, uint32_t subscription, uint64_t offset,
                     uint32_t number, uint32_t crc);
/** An operator is about to skip it. */
void oracle_may_skip(struct oracle *oracle, uint32_t subscription, uint64_t offset);
void oracle_configured(struct oracle *oracle);
/** A process begins: write errors of the one before are forgotten. */
void oracle_started(struct oracle *oracle);
/** Bits of the log were flipped: from here on the disk decides what is left. */
void oracle_rotten(struct oracle *oracle);
/** The same, and its end may be gone without a trace. */
void oracle_cut(struct oracle *oracle);

/* --- checks ----------------------------------------------------------------------------------- */

/** What a recovery found in @p bus: a state the log may be in after this crash, nothing less and
 * nothing else. @p floor: the groups that must have survived. @return the sequence recovered */
uint64_t oracle_check_recovered(struct oracle *oracle, const struct mr_bus *bus, uint64_t floor,
                                const char *where);
/** Groups that must survive a crash of this kind now. */
uint64_t oracle_floor(const struct oracle *oracle, bool power_cut);
/** Takes back the groups behind @p sequence. */
void oracle_undo(struct oracle *oracle, uint64_t sequence);
/** Nothing is left: every delivery ended once, every message came in, all counts agree. */
void oracle_check_end(struct oracle *oracle, const struct mr_bus *bus);
/** What the bus says of each delivery it has in its window, after a restart. */
void oracle_check_deliveries(const struct oracle *oracle, const struct mr_bus *bus,
                             const char *where);
/** Whether the footer of segment @p number is believed; if so it agrees with the segment. */
bool oracle_check_footer(const struct oracle *oracle, struct mr_io *io, uint64_t number,
                         uint64_t salt, const char *where);
/** The same for all there are after a start; none is of a segment that is gone. */
void oracle_check_footers(const struct oracle *oracle, struct mr_io *io, const char *where);
/** Events of all segments are found by their ids. */
void oracle_check_search(const struct oracle *oracle, struct sim_disk *disk);
/** After a restart: what had moved may be behind a cursor again, to be read where it was. */
void oracle_found_places(struct oracle *oracle, const struct mr_bus *bus);
/** The bytes of all that @p bus knows alive are where it says, in @p io, and as they were sent. */
void oracle_check_places(const struct oracle *oracle, const struct mr_bus *bus, struct mr_io *io,
                         const char *where);
/** A piece of a file was read by the scrubber, or records judged: on a disk alone. */
void oracle_scrubbed(const struct sim_world *world, const struct mr_log_request *request);
/** Whether a byte that a checksum of the group at @p was is over is another at @p is. */
bool oracle_group_differs(const uint8_t *was, const uint8_t *is,
                          const struct mr_group_header *group);
/** What `log verify` finds in survivor files. @return how many damaged places */
uint32_t oracle_verify_keeps(struct mr_io *io);
/** The same in the segments, with files that are missing and needed. */
uint32_t oracle_verify_log(struct mr_io *io);
uint64_t oracle_unsettled(const struct oracle *oracle);
/** Highest message of the cursor source that is in the log, + 1. */
uint32_t oracle_cursor(const struct oracle *oracle);
bool oracle_message_logged(const struct oracle *oracle, uint32_t source, uint32_t n);
uint64_t oracle_sequence(const struct oracle *oracle);

#endif
