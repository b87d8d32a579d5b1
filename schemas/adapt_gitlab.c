/* GitLab (digest 13.1). Its token covers nothing of the request: all of it is a claim. */
#include "core/limits.h"
#include "schemas/adapt.h"

/* A row for each kind of event. Absent: no suffix, no subject, the receive time. What two paths
 * name, the first that is there. */
struct row {
    const char *kind;     /* object_kind */
    const char *noteable; /* of notes: object_attributes.noteable_type */
    const char *type;     /* behind com.gitlab. */
    const char *suffixes[2];
    const char *source;
    const char *subjects[2];
    const char *time;
};

#define ATTRS "object_attributes."
static const struct row rows[] = {
    {"push", NULL, "push", {NULL}, "repository.homepage", {"checkout_sha"}, NULL},
    {"tag_push", NULL, "tag_push", {NULL}, "repository.homepage", {"ref"}, NULL},
    {"issue", NULL, "issue", {ATTRS "state"}, "repository.homepage", {ATTRS "iid"}, NULL},
    {"note", "Commit", "note.commit", {NULL}, "commit.url", {ATTRS "id"}, ATTRS "created_at"},
    {"note", "MergeRequest", "note.merge_request", {NULL}, ATTRS "url", {ATTRS "id"},
     ATTRS "created_at"},
    {"note", "Issue", "note.issue", {NULL}, ATTRS "url", {ATTRS "id"}, ATTRS "created_at"},
    {"note", "Snippet", "note.snippet", {NULL}, ATTRS "url", {ATTRS "id"}, ATTRS "created_at"},
    {"merge_request", NULL, "merge_request", {ATTRS "action"}, "repository.homepage",
     {ATTRS "iid"}, ATTRS "created_at"},
    {"wiki_page", NULL, "wiki_page", {ATTRS "action"}, "project.web_url", {ATTRS "slug"}, NULL},
    {"pipeline", NULL, "pipeline", {ATTRS "status"}, "project.web_url", {ATTRS "id"}, NULL},
    /* The adapter's text says job_…, the requests build_…. */
    {"build", NULL, "job", {"job_status", "build_status"}, "repository.homepage",
     {"job_id", "build_id"}, NULL},
    {"job", NULL, "job", {"job_status", "build_status"}, "repository.homepage",
     {"job_id", "build_id"}, NULL},
};

/* What the table does not know: system hooks, and what GitLab adds. */
static const struct row other = {
    NULL, NULL, NULL, {ATTRS "action", "action"}, "project.web_url", {ATTRS "iid", ATTRS "id"},
    NULL};

static const struct row *find_row(struct mr__adapt *run, struct mr_bytes json)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        if (mr__adapt_is(run, json, "object_kind", rows[i].kind) &&
            (rows[i].noteable == NULL ||
             mr__adapt_is(run, json, ATTRS "noteable_type", rows[i].noteable))) {
            return &rows[i];
        }
    }
    return &other;
}

/* "Push Hook" as "push": the header, where the body does not say what it is. */
static void draft_header_kind(struct mr__draft *draft)
{
    struct mr_bytes header;
    if (!mr__adapt_header(draft->run, "x-gitlab-event", &header)) {
        mr__adapt_fail(draft->run, MR_E_INVALID,
                       "neither the member object_kind nor the header X-Gitlab-Event is there");
        return;
    }
    if (mr_bytes_ends(header, MR_BYTES_LITERAL(" Hook"))) {
        header.size -= 5;
    }
    for (size_t i = 0; i < header.size; i++) {
        uint8_t c = header.data[i];
        c = c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        mr__draft_bytes(draft, MR__TYPE, mr_bytes(&c, 1));
    }
}

static void draft_type(struct mr__draft *draft, const struct row *row, struct mr_bytes json)
{
    mr__draft_text(draft, MR__TYPE, "com.gitlab.");
    if (row->type != NULL) {
        mr__draft_text(draft, MR__TYPE, row->type);
    } else if (!mr__draft_get(draft, MR__TYPE, json, "object_kind") &&
               !mr__draft_get(draft, MR__TYPE, json, "event_name")) {
        draft_header_kind(draft);
    }
    size_t before = draft->parts[MR__TYPE].size;
    mr__draft_text(draft, MR__TYPE, ".");
    bool found = false;
    for (size_t i = 0; !found && i < MR_ARRAY_COUNT(row->suffixes); i++) {
        found = row->suffixes[i] != NULL &&
                mr__draft_get(draft, MR__TYPE, json, row->suffixes[i]);
    }
    if (!found && draft->run->status == MR_OK) {
        draft->parts[MR__TYPE].size = before;
    }
}

static void draft_source(struct mr__draft *draft, const struct row *row, struct mr_bytes json)
{
    static const char *const others[] = {"project.web_url", "repository.homepage",
                                         "project.homepage"};
    struct mr_buf *source = &draft->parts[MR__SOURCE];
    bool found = mr__draft_get(draft, MR__SOURCE, json, row->source);
    if (found && row->noteable != NULL) {
        const uint8_t *note = memmem(source->data, source->size, "#note_", 6);
        source->size = note == NULL ? source->size : (size_t)(note - source->data);
    }
    for (size_t i = 0; !found && i < MR_ARRAY_COUNT(others); i++) {
        found = mr__draft_get(draft, MR__SOURCE, json, others[i]);
    }
    if (!found) {
        mr__draft_source_name(draft, "/gitlab/");
    }
}

/* An id that comes again with a repeated delivery, where GitLab sends one. */
static void draft_id(struct mr__draft *draft)
{
    struct mr_bytes value;
    if (mr__adapt_header(draft->run, "x-gitlab-event-uuid", &value) ||
        mr__adapt_header(draft->run, "idempotency-key", &value)) {
        mr__draft_bytes(draft, MR__ID, value);
        return;
    }
    char id[MR__UUID_SIZE];
    mr__adapt_uuid(draft->run->input->unique, id);
    mr__draft_text(draft, MR__ID, id);
}

void mr__adapt_gitlab(struct mr__adapt *run)
{
    struct mr__draft draft;
    struct mr_bytes json;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (json.data[0] != '{') {
        mr__adapt_fail(run, MR_E_INVALID, "the body is no JSON object");
        return;
    }
    const struct row *row = find_row(run, json);
    mr__draft_begin(&draft, run, run->body);
    draft_id(&draft);
    draft_type(&draft, row, json);
    draft_source(&draft, row, json);
    bool found = false;
    for (size_t i = 0; !found && i < MR_ARRAY_COUNT(row->subjects); i++) {
        found = row->subjects[i] != NULL &&
                mr__draft_get(&draft, MR__SUBJECT, json, row->subjects[i]);
    }
    if (row->time != NULL) {
        (void)mr__draft_time(&draft, json, row->time); /* else the receive time */
    }
    mr__draft_end(&draft);
}
