#include "admin/past.h"

struct snapshot_search {
    uint64_t hash;
    struct mr_config *found; /* owned */
    enum mr_status status;
};

static bool search_snapshot(void *context, const struct mr_history_record *seen)
{
    struct snapshot_search *search = context;
    if (seen->record.kind != MR_RECORD_CONFIG || seen->record.c != search->hash) {
        return true;
    }
    search->status = mr_config_from_snapshot(seen->record.body, &search->found);
    return false;
}

/* Each segment has the snapshots that its events were matched by, but for the first group of it
 * (then the segment before has) and a crash right behind that (then the next one). */
static enum mr_status find_snapshot(struct mr_admin *admin, uint64_t position,
                                    struct snapshot_search *search)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(admin, &status);
    r = r == MR_OK ? mr_history_open(admin->history, status.durable_position, &history, NULL)
                   : r;
    if (r != MR_OK) {
        return r;
    }
    uint64_t segment = mr_position_segment(position);
    const uint64_t places[] = {segment, segment - 1, segment + 1};
    for (size_t i = 0; i < MR_ARRAY_COUNT(places) && r == MR_OK && search->found == NULL; i++) {
        bool there = false;
        for (uint32_t k = 0; k < history.index.segment_count; k++) {
            there = there || history.index.segments[k].number == places[i];
        }
        r = there ? mr_history_scan(&history, places[i], true, search_snapshot, search) : MR_OK;
        r = r == MR_OK ? search->status : r;
    }
    mr_history_release(&history);
    return r;
}

enum mr_status mr_past_open(struct mr_admin *admin, uint64_t hash, uint64_t position,
                            struct mr_past *ret_past)
{
    struct mr_past past = {.admin = admin, .is_present = true};
    past.config = admin->host->ops->config(admin->host, &past.router);
    if (past.config == NULL || hash == 0 || past.config->hash == hash) {
        *ret_past = past;
        return MR_OK;
    }
    struct snapshot_search search = {.hash = hash};
    enum mr_status r = find_snapshot(admin, position, &search);
    uint32_t refused;
    if (r == MR_OK && search.found != NULL) {
        r = mr_router_create(search.found, &past.own_router, &refused, NULL);
    }
    if (r != MR_OK || search.found == NULL) {
        mr_config_destroy(search.found);
        past.is_guess = true;
        if (r == MR_E_NOMEM) {
            mr_past_release(&past);
            return r;
        }
        *ret_past = past; /* gone, or of a release with other filters */
        return MR_OK;
    }
    admin->host->ops->config_release(admin->host, past.config);
    past.is_present = false;
    past.own_config = search.found;
    past.config = past.own_config;
    past.router = past.own_router;
    *ret_past = past;
    return MR_OK;
}

void mr_past_release(struct mr_past *past)
{
    mr_router_destroy(past->own_router);
    mr_config_destroy(past->own_config);
    if (past->own_config == NULL && past->config != NULL) {
        past->admin->host->ops->config_release(past->admin->host, past->config);
    }
    *past = (struct mr_past){.admin = past->admin};
}
