/* Dead letters of one subscription: copied from the bus some at a time, read from the log files,
 * and picked by what a person asks for. */
#ifndef MR_ADMIN_LETTERS_H
#define MR_ADMIN_LETTERS_H

#include "admin/failure.h"
#include "admin/history.h"
#include "admin/internal.h"

/* What a person asks for; everything that is set must hold. */
struct mr_letter_query {
    const char *id;    /* borrowed; the event's id, or its offset in digits */
    const char *error; /* borrowed; a part of the last error or of the reason, any case */
    const char *class; /* borrowed; as mr_failure_class() names it */
    uint64_t group;    /* as mr_failure_group() numbers it; 0: any */
    bool has_attempts;
    uint64_t attempts;
    struct mr_filter *filter; /* owned */
    uint64_t since_ns; /* died within; 0: any */
    uint64_t until_ns; /* died longer ago than; 0: any */
    uint64_t after;    /* offset: letters behind it */
    uint64_t limit;    /* letters at most */
};

/** Reads the query arguments of @p http: id error class group attempts
 * filter since until after limit.
 * @return MR_E_INVALID with what is wrong; release it in every case */
MR_MUST_USE enum mr_status mr_letter_query_init(struct mr_letter_query *query,
                                                const struct mr_http_request *http,
                                                struct mr_problem *problem);
void mr_letter_query_release(struct mr_letter_query *query);

/* One letter with what the log says about it. */
struct mr_letter {
    struct mr_dead_letter dead;
    bool has_result;          /* its DEAD record could be read */
    struct mr_result result;  /* slices into the records; valid during the visit */
    uint64_t ended_wall_ns;
    uint64_t started_wall_ns;
    struct mr_bytes event;    /* its record; empty when it could not be read */
};

/** Its class; "unknown" when its record could not be read. */
const char *mr_letter_class(const struct mr_letter *letter);
/** When its last attempt ended, if one did; else the log clock, which reads like wall time. */
uint64_t mr_letter_died_ns(const struct mr_letter *letter);
/** The number of its group. @param[out] text its normalised error */
uint32_t mr_letter_group(const struct mr_letter *letter, char text[MR_FAILURE_TEXT_SIZE]);

/** Calls @p visit for each letter of subscription @p id that @p query picks, in order of offset,
 * until it returns false or the limit is reached.
 * @param[out] ret_next offset to go on behind; UINT64_MAX: there are no more
 * @thread slow lane  @blocks on the disk */
MR_MUST_USE enum mr_status mr_letters_each(struct mr_admin *admin, uint32_t id,
                                           const struct mr_letter_query *query,
                                           bool (*visit)(void *context,
                                                         const struct mr_letter *letter),
                                           void *context, uint64_t *ret_next);

#endif
