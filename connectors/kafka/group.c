/* Member of a consumer group: which partitions are ours, where to read on, what to commit.
 *
 * The log is the source of truth: a partition is begun at the later of the position in the log and
 * the one at the broker, which matters when another Millrace of the group had it in between. The
 * broker's position follows what is durable, for the others and for those who look at lag.
 *
 * Before a partition goes: what was read and not submitted is forgotten (the next owner reads it
 * again), what is out is waited for, what is durable is committed. A batch that does not come back
 * in time enters here and at the next owner. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "connectors/kafka/source.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define ASK_MS 2000
#define ASK_AGAIN_NS (500 * MR_MS)
/* A cooperative group changes in two rounds, and the second begins without a word to us. The broker
 * answers a connection in turn: a commit that follows our joining is answered after it, as one of a
 * generation that is over, and librdkafka 2.0.2 then drops all partitions (librdkafka#4059). So
 * commits wait until a round has passed, which takes each member's next heartbeat (3 s). */
#define SETTLE_NS (5 * MR_SECOND)
#define ANEW_NS (10 * MR_SECOND) /* an end before our place must stand so long, without a gap */
#define LEAVE_NS (4 * MR_SECOND) /* for what is out and the last commit; a session is longer */

static bool is_cooperative(rd_kafka_t *rk)
{
    const char *protocol = rd_kafka_rebalance_protocol(rk);
    return protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
}

static void note_error(struct mr_source *source, const char *what, rd_kafka_error_t *error)
{
    if (error == NULL) {
        return;
    }
    char text[256];
    (void)snprintf(text, sizeof(text), "%s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    MR_WARN("kafka", "source=%s err=\"%s\"", source->intake.life.name, text);
    mr__kafka_show(source, text);
}

/* The client's assignment, by the protocol of the group. @param list NULL: none */
static void assign(struct mr_source *source, const rd_kafka_topic_partition_list_t *list)
{
    if (list != NULL && is_cooperative(source->rk)) {
        note_error(source, "assign", rd_kafka_incremental_assign(source->rk, list));
        return;
    }
    rd_kafka_resp_err_t error = rd_kafka_assign(source->rk, list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        MR_WARN("kafka", "source=%s err=\"assign: %s\"", source->intake.life.name,
                rd_kafka_err2str(error));
        mr__kafka_show(source, rd_kafka_err2str(error));
    }
}

static void unassign(struct mr_source *source, const rd_kafka_topic_partition_list_t *list)
{
    if (is_cooperative(source->rk)) {
        note_error(source, "unassign", rd_kafka_incremental_unassign(source->rk, list));
    } else {
        assign(source, NULL);
    }
}

/* --- commits ---------------------------------------------------------------------------------- */

static bool wants_commit(const struct mr_kafka_partition *p)
{
    return p->assigned && p->logged != MR_KAFKA_NONE && p->logged > p->committed;
}

/* What is to be committed, or NULL. */
static rd_kafka_topic_partition_list_t *list_commit(struct mr_source *source)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        if (!wants_commit(p)) {
            continue;
        }
        if (list == NULL) {
            list = rd_kafka_topic_partition_list_new(16);
        }
        rd_kafka_topic_partition_list_add(list, p->topic, p->number)->offset = p->logged;
    }
    return list;
}

void mr__kafka_on_committed(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *context)
{
    (void)rk;
    struct mr_source *source = context;
    source->committing = false;
    for (int i = 0; list != NULL && error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *at = &list->elems[i];
        struct mr_kafka_partition *p =
            mr__kafka_positions_find(&source->positions, at->topic, at->partition);
        if (at->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            error = at->err;
        } else if (p != NULL && at->offset > p->committed) {
            p->committed = at->offset;
        }
    }
    /* A group that changes takes no commits; those of its new members come again. */
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && error != RD_KAFKA_RESP_ERR__NO_OFFSET &&
        error != RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS &&
        error != RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION &&
        error != RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID && error != RD_KAFKA_RESP_ERR__DESTROY) {
        char text[160];
        (void)snprintf(text, sizeof(text), "commit: %s", rd_kafka_err2str(error));
        MR_WARN("kafka", "source=%s err=\"%s\", tried again", source->intake.life.name, text);
        mr__kafka_show(source, text);
    }
}

void mr__kafka_commit(struct mr_source *source)
{
    if (source->committing || mr_clock_mono_ns() < source->commit_at_ns) {
        return;
    }
    rd_kafka_topic_partition_list_t *list = list_commit(source);
    if (list == NULL) {
        return;
    }
    source->committing =
        rd_kafka_commit(source->rk, list, 1) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_last_committed(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                              rd_kafka_topic_partition_list_t *list, void *context)
{
    struct mr_source *source = context;
    source->committed_last = true;
    mr__kafka_on_committed(rk, error, list, source);
}

/* Commits and waits for the answer, until @p until_ns at most. */
static void commit_and_wait(struct mr_source *source, uint64_t until_ns)
{
    rd_kafka_topic_partition_list_t *list = list_commit(source);
    if (list == NULL) {
        return;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(source->rk);
    source->committed_last = false;
    if (rd_kafka_commit_queue(source->rk, list, queue, on_last_committed, source) ==
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        uint64_t now_ns;
        while (!source->committed_last && (now_ns = mr_clock_mono_ns()) < until_ns) {
            (void)rd_kafka_queue_poll_callback(queue, (int)((until_ns - now_ns) / MR_MS) + 1);
        }
    }
    if (!source->committed_last) {
        MR_WARN("kafka", "source=%s err=\"no answer to the last commit\", ignoring",
                source->intake.life.name);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(list);
}

/* --- partitions go ---------------------------------------------------------------------------- */

static void wait_for_batch(struct mr_source *source, uint64_t until_ns)
{
    for (;;) {
        mr__kafka_take_replies(source);
        uint64_t now_ns = mr_clock_mono_ns();
        if (source->intake.submitted == 0 || now_ns >= until_ns) {
            break;
        }
        struct pollfd fd = {.fd = mr_opq_fd(&source->intake.life.queue), .events = POLLIN};
        (void)poll(&fd, 1, (int)((until_ns - now_ns) / MR_MS) + 1);
    }
    if (source->intake.submitted > 0) {
        MR_WARN("kafka", "source=%s err=\"partitions go before their last events are durable\"",
                source->intake.life.name);
    }
}

/* What the bus refused is with nobody: the next owner reads it again. */
static void drop_refused(struct mr_source *source)
{
    if (source->intake.refused == NULL) {
        return;
    }
    mr__intake_forget(&source->intake);
    for (uint32_t i = 0; i < source->positions.count; i++) {
        source->positions.items[i]->submitted = MR_KAFKA_NONE;
    }
}

static void revoke(struct mr_source *source, const rd_kafka_topic_partition_list_t *list, bool lost)
{
    uint64_t until_ns = mr_clock_mono_ns() + LEAVE_NS;
    bool all = !is_cooperative(source->rk);
    if (all || source->closing) {
        mr__kafka_forget(source, NULL);
    }
    for (int i = 0; i < list->cnt; i++) {
        struct mr_kafka_partition *p = mr__kafka_positions_find(
            &source->positions, list->elems[i].topic, list->elems[i].partition);
        if (p != NULL) {
            mr__kafka_forget(source, p);
        }
    }
    if (!lost) {
        wait_for_batch(source, until_ns);
        commit_and_wait(source, until_ns);
    }
    if (all) {
        drop_refused(source);
    }
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        bool goes = rd_kafka_topic_partition_list_find(list, p->topic, p->number) != NULL;
        if (p->assigned && (all || goes)) {
            p->assigned = false;
            mr__kafka_unstick(p);
            p->next = MR_KAFKA_NONE;
            source->assigned--;
        }
    }
}

void mr__kafka_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *context)
{
    struct mr_source *source = context;
    source->commit_at_ns = is_cooperative(rk) ? mr_clock_mono_ns() + SETTLE_NS : 0;
    if (source->assigning != NULL) { /* given and taken before we got round to it */
        rd_kafka_topic_partition_list_destroy(source->assigning);
        source->assigning = NULL;
    }
    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        MR_INFO("kafka", "source=%s group=%s partitions given=%d", source->intake.life.name,
                source->group, list->cnt);
        source->assigning = rd_kafka_topic_partition_list_copy(list);
        source->assign_at_ns = 0;
        source->up = true;
        return;
    }
    bool lost = rd_kafka_assignment_lost(rk) != 0;
    source->joined = false;
    if (error == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
        MR_INFO("kafka", "source=%s group=%s partitions %s=%d", source->intake.life.name,
                source->group, lost ? "lost" : "taken", list->cnt);
        revoke(source, list, lost);
        unassign(source, list);
    } else {
        MR_WARN("kafka", "source=%s err=\"rebalance: %s\"", source->intake.life.name,
                rd_kafka_err2str(error));
        revoke(source, list, true);
        assign(source, NULL);
    }
    mr__kafka_show(source, lost ? "the group took the partitions: no sign of life in time" : NULL);
}

/* --- partitions come -------------------------------------------------------------------------- */

/* The log's cursor can be judged once the cluster told who it is. */
static bool load_cursor(struct mr_source *source)
{
    if (source->cluster == NULL) {
        source->cluster = rd_kafka_clusterid(source->rk, ASK_MS);
    }
    if (source->cursor == NULL) {
        return true;
    }
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr__kafka_positions_load(&source->positions, source->cursor,
                                                source->cluster, source->group, &problem);
    if (r == MR_E_NOMEM) {
        return false;
    }
    if (r == MR_E_CONFLICT) {
        MR_WARN("kafka", "source=%s the log's position is of another cluster or group, not used",
                source->intake.life.name);
    } else if (r != MR_OK) {
        MR_ERROR("kafka", "source=%s err=\"%s\", not used", source->intake.life.name, problem.text);
    }
    mr_free(source->cursor);
    source->cursor = NULL;
    return true;
}

/* Where to begin what nobody has a position of. @return false: ask again */
static bool find_start(struct mr_source *source, rd_kafka_topic_partition_t *at)
{
    int64_t low;
    int64_t high;
    if (source->options.start == MR_KAFKA_EARLIEST) {
        at->offset = RD_KAFKA_OFFSET_BEGINNING;
        return true;
    }
    /* The number, not "the end": a later crash must not jump to a later end. */
    at->err = rd_kafka_query_watermark_offsets(source->rk, at->topic, at->partition, &low, &high,
                                               ASK_MS);
    at->offset = high;
    return at->err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool settle_position(struct mr_source *source, rd_kafka_topic_partition_t *at)
{
    struct mr_kafka_partition *p =
        mr__kafka_positions_add(&source->positions, at->topic, at->partition);
    if (p == NULL) {
        return false;
    }
    p->committed = at->offset >= 0 ? at->offset : MR_KAFKA_NONE;
    p->logged = p->committed > p->logged ? p->committed : p->logged;
    p->next = p->logged;
    if (p->next != MR_KAFKA_NONE) {
        at->offset = p->next;
        return true;
    }
    if (!find_start(source, at)) {
        return false;
    }
    if (at->offset >= 0) {
        p->next = at->offset;
        p->logged = at->offset; /* committed with the next tick */
    }
    return true;
}

/* Fills in the offsets of @p list. @return false: ask again, *ret_error says why */
static bool find_positions(struct mr_source *source, rd_kafka_topic_partition_list_t *list,
                           rd_kafka_resp_err_t *ret_error)
{
    *ret_error = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (list->cnt == 0) {
        return true;
    }
    if (!load_cursor(source)) {
        return false;
    }
    *ret_error = rd_kafka_committed(source->rk, list, ASK_MS);
    for (int i = 0; *ret_error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++) {
        *ret_error = list->elems[i].err;
        if (*ret_error == RD_KAFKA_RESP_ERR_NO_ERROR &&
            !settle_position(source, &list->elems[i])) {
            *ret_error = list->elems[i].err;
            return false;
        }
    }
    return *ret_error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

void mr__kafka_resolve(struct mr_source *source, uint64_t now_ns)
{
    /* A batch that is out may hold records of these very partitions. */
    if (source->assigning == NULL || now_ns < source->assign_at_ns ||
        mr__intake_is_out(&source->intake)) {
        return;
    }
    rd_kafka_topic_partition_list_t *list = source->assigning;
    rd_kafka_resp_err_t error;
    if (!find_positions(source, list, &error)) {
        source->assign_at_ns = mr_clock_mono_ns() + ASK_AGAIN_NS;
        char text[160];
        (void)snprintf(text, sizeof(text), "cannot ask for the group's positions: %s",
                       error == RD_KAFKA_RESP_ERR_NO_ERROR ? "out of memory"
                                                           : rd_kafka_err2str(error));
        mr__kafka_show(source, text);
        return;
    }
    for (int i = 0; i < list->cnt; i++) {
        struct mr_kafka_partition *p = mr__kafka_positions_find(
            &source->positions, list->elems[i].topic, list->elems[i].partition);
        MR_ASSERT(p != NULL);
        source->assigned += p->assigned ? 0 : 1;
        p->assigned = true;
        mr__kafka_unstick(p);
    }
    assign(source, list);
    rd_kafka_topic_partition_list_destroy(list);
    source->assigning = NULL;
    source->joined = true;
    mr__backoff_reset(&source->backoff);
    if (source->held) {
        mr__kafka_hold(source, true);
    }
    mr__kafka_show(source, NULL);
}

/* --- while they are ours ---------------------------------------------------------------------- */

static rd_kafka_topic_partition_list_t *list_assigned(struct mr_source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (uint32_t i = 0; i < source->positions.count; i++) {
        const struct mr_kafka_partition *p = source->positions.items[i];
        if (p->assigned) {
            rd_kafka_topic_partition_list_add(list, p->topic, p->number)->offset =
                p->next == MR_KAFKA_NONE ? RD_KAFKA_OFFSET_BEGINNING : p->next;
        }
    }
    return list;
}

void mr__kafka_hold(struct mr_source *source, bool hold)
{
    source->held = hold;
    source->held_at_ns = mr_clock_mono_ns();
    rd_kafka_topic_partition_list_t *list = list_assigned(source);
    rd_kafka_resp_err_t error = hold ? rd_kafka_pause_partitions(source->rk, list)
                                     : rd_kafka_resume_partitions(source->rk, list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        mr__kafka_show(source, rd_kafka_err2str(error));
    }
    rd_kafka_topic_partition_list_destroy(list);
}

/* The broker ends before our place: was the topic made anew? One that was frozen or cut off takes
 * itself for the leader for a while, and knows less than we have read. Only an answer that stands
 * is believed; each time the topic's leaders are asked for, too, of whatever broker is there. */
static bool is_made_anew(struct mr_source *source, struct mr_kafka_partition *p, int64_t high)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (p->beyond_since_ns != 0 && now_ns - p->beyond_since_ns >= ANEW_NS) {
        return true;
    }
    source->restart_at_ns = now_ns + ASK_AGAIN_NS;
    if (p->beyond_since_ns == 0) {
        p->beyond_since_ns = now_ns;
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "%.100s/%d ends at %lld, before our position %lld: asking again for %u s, "
                       "another broker may have more",
                       p->topic, (int)p->number, (long long)high, (long long)p->next,
                       (unsigned)(ANEW_NS / MR_SECOND));
        MR_WARN("kafka", "source=%s err=\"%s\"", source->intake.life.name, text);
        mr__kafka_show(source, text);
    }
    rd_kafka_resp_err_t error;
    (void)mr__kafka_probe(source->rk, p->topic, &error);
    return false;
}

/* Where to read on; it stays stuck while that is not known. */
static void find_place(struct mr_source *source, struct mr_kafka_partition *p)
{
    int64_t low;
    int64_t high;
    rd_kafka_resp_err_t error =
        rd_kafka_query_watermark_offsets(source->rk, p->topic, p->number, &low, &high, ASK_MS);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        uint64_t now_ns = mr_clock_mono_ns();
        source->restart_at_ns = now_ns + ASK_AGAIN_NS; /* meets the same error again */
        p->beyond_since_ns = p->beyond_since_ns == 0 ? 0 : now_ns;
        return;
    }
    char text[256] = "";
    if (p->next > high) {
        if (!is_made_anew(source, p, high)) {
            return;
        }
        bool latest = source->options.start == MR_KAFKA_LATEST;
        (void)snprintf(text, sizeof(text),
                       "%.100s/%d ends at %lld, before our position %lld: the topic was made anew; "
                       "reading on from its %s",
                       p->topic, (int)p->number, (long long)high, (long long)p->next,
                       latest ? "end" : "beginning");
        p->next = latest ? high : low;
        p->logged = p->submitted = p->committed = MR_KAFKA_NONE;
    } else if (p->next != MR_KAFKA_NONE && p->next < low) {
        (void)snprintf(text, sizeof(text),
                       "%.100s/%d: the broker removed %lld records before they were read; "
                       "reading on from %lld",
                       p->topic, (int)p->number, (long long)(low - p->next), (long long)low);
        p->next = low;
    }
    p->beyond_since_ns = 0;
    source->restart_at_ns = 0;
    if (text[0] != '\0') {
        MR_ERROR("kafka", "source=%s err=\"%s\"", source->intake.life.name, text);
        mr__kafka_show(source, text);
    }
}

void mr__kafka_out_of_range(struct mr_source *source, struct mr_kafka_partition *p)
{
    p->stuck = true;
    source->lost_place = true;
    find_place(source, p);
}

/* Eager groups know only whole assignments; in cooperative ones a partition can go and come. */
static void restart_all(struct mr_source *source)
{
    rd_kafka_topic_partition_list_t *list = list_assigned(source);
    assign(source, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void restart_one(struct mr_source *source, const struct mr_kafka_partition *p)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, p->topic, p->number)->offset =
        p->next == MR_KAFKA_NONE ? RD_KAFKA_OFFSET_BEGINNING : p->next;
    unassign(source, list);
    assign(source, list);
    rd_kafka_topic_partition_list_destroy(list);
}

void mr__kafka_restart(struct mr_source *source, uint64_t now_ns)
{
    if (!source->lost_place || now_ns < source->restart_at_ns || source->assigning != NULL) {
        return;
    }
    bool one_by_one = is_cooperative(source->rk);
    bool restarts = false;
    source->lost_place = false;
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        if (p->stuck && p->assigned && p->beyond_since_ns != 0) {
            find_place(source, p);
        }
        if (!p->assigned || !p->stuck || p->beyond_since_ns != 0) {
            source->lost_place = source->lost_place || p->stuck;
            continue;
        }
        if (one_by_one) {
            restart_one(source, p);
        }
        p->stuck = false;
        restarts = true;
    }
    if (!one_by_one && restarts) {
        restart_all(source);
    }
    if (source->held && restarts) {
        mr__kafka_hold(source, true);
    }
    mr__kafka_show(source, NULL);
}

uint64_t mr__kafka_lag(struct mr_source *source)
{
    uint64_t lag = 0;
    for (uint32_t i = 0; i < source->positions.count; i++) {
        const struct mr_kafka_partition *p = source->positions.items[i];
        int64_t low;
        int64_t high;
        if (p->assigned &&
            rd_kafka_get_watermark_offsets(source->rk, p->topic, p->number, &low, &high) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            high >= 0) {
            int64_t from = p->next != MR_KAFKA_NONE ? p->next : low;
            lag += high > from && from >= 0 ? (uint64_t)(high - from) : 0;
        }
    }
    return lag;
}
