/* GitHub (digest 13.1, one row for each event). The signature covers the body alone: the name of
 * the event and the id of the delivery are headers, claims and no facts. */
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/text.h"

#define REPO "repository.url"
#define ACTION ".action"

/* How an event maps. Absent: the plain type, no subject, the receive time.
 * - suffix: behind the name, the value at a path; a dot before the path is written too, and ".a.b"
 *   of membership means two values. "." alone is a dot, as the table has it for `status`.
 * - source: the value at a path; "=x" x itself; "a+b" two values with a slash between; "a^" the
 *   value without its last segment.
 * - time: the first of the two that is a timestamp; * stands for the action. */
struct row {
    const char *event;
    const char *suffix;
    const char *source;
    const char *subject;
    const char *time;
    const char *time2;
};

static const struct row rows[] = {
    {"branch_protection_configuration", ACTION, REPO, NULL, NULL, NULL},
    {"branch_protection_rule", ACTION, REPO, "rule.id", "rule.updated_at", NULL},
    {"check_run", ACTION, REPO, "check_run.id", "check_run.completed_at", "check_run.started_at"},
    {"check_suite", ACTION, REPO, "check_suite.id", "check_suite.updated_at", NULL},
    {"code_scanning_alert", ACTION, REPO, "alert.number", NULL, NULL},
    {"commit_comment", ACTION, "comment.url+comment.commit_id", "comment.id",
     "comment.updated_at", NULL},
    {"content_reference", ACTION, REPO, "content_reference.id", NULL, NULL},
    {"create", ".ref_type", REPO, "ref", NULL, NULL},
    {"custom_property", ACTION, REPO, "definition.property_name", NULL, NULL},
    {"custom_property_values", ACTION, REPO, NULL, NULL, NULL},
    {"delete", ".ref_type", REPO, "ref", NULL, NULL},
    {"dependabot_alert", ACTION, REPO, "alert.id", NULL, NULL},
    {"deploy_key", ACTION, REPO, "key.id", "key.deleted_at", "key.created_at"},
    {"deployment", NULL, REPO, "deployment.id", "deployment.updated_at", NULL},
    {"deployment_protection_rule", ACTION, "deployment.url", "deployment.id", NULL, NULL},
    {"deployment_review", ACTION, "deployment.url", "workflow_run.id", NULL, NULL},
    {"deployment_status", ".deployment_status.state", "deployment.url", "deployment_status.url",
     "deployment_status.updated_at", NULL},
    {"discussion", ACTION, REPO, "discussion.id", NULL, NULL},
    {"discussion_comment", ACTION, REPO, "discussion.id", "comment.updated_at", NULL},
    {"fork", NULL, REPO, "forkee.url", "forkee.created_at", NULL},
    {"github_app_authorization", NULL, "sender.url", NULL, NULL, NULL},
    {"gollum", NULL, REPO, NULL, NULL, NULL},
    {"installation", ACTION, "installation.account.url", "installation.id",
     "installation.updated_at", NULL},
    {"installation_repositories", ACTION, "installation.account.url", "installation.id",
     "installation.updated_at", NULL},
    {"installation_target", ACTION, "installation.account.url", "installation.id", NULL, NULL},
    {"issue_comment", ACTION, "issue.url", "comment.id", "comment.updated_at", NULL},
    {"issues", ACTION, REPO, "issue.number", "issue.updated_at", NULL},
    {"label", ACTION, REPO, "label.name", NULL, NULL},
    {"marketplace_purchase", ACTION, "sender.url^", "marketplace_purchase.account.login",
     "effective_date", NULL},
    {"member", ACTION, REPO, "member.login", NULL, NULL},
    {"membership", ".scope.action", "team.url", "member.login", NULL, NULL},
    {"merge_group", ACTION, REPO, "merge_group.head_ref", NULL, NULL},
    {"meta", ACTION, REPO, "hook_id", "hook.updated_at", NULL},
    {"milestone", ACTION, REPO, "milestone.number", "milestone.updated_at", NULL},
    {"organization", ACTION, "organization.url", "membership.user.login", NULL, NULL},
    {"org_block", ACTION, "organization.url", "blocked_user.login", NULL, NULL},
    {"package", ACTION, REPO, "package.id", "package.updated_at", "package.created_at"},
    {"page_build", NULL, REPO, "build.url", "pusher.updated_at", NULL},
    {"ping", NULL, REPO, "hook_id", NULL, NULL},
    {"project_card", ACTION, REPO, "project_card.id", "project_card.updated_at", NULL},
    {"project_column", ACTION, REPO, "project_column.id", "project_column.updated_at", NULL},
    {"project", ACTION, REPO, "project.id", "project.updated_at", NULL},
    {"projects_v2", ACTION, REPO, "projects_v2.id", "projects_v2.updated_at", NULL},
    {"projects_v2_item", ACTION, REPO, "projects_v2_item.id", "projects_v2_item.updated_at", NULL},
    {"projects_v2_status_update", ACTION, REPO, "projects_v2_status_update.id",
     "projects_v2_status_update.updated_at", NULL},
    {"public", NULL, "repository.owner.url", "repository.name", "repository.updated_at", NULL},
    {"pull_request", ACTION, REPO, "number", "pull_request.updated_at", NULL},
    {"pull_request_review", ACTION, "pull_request.url", "review.id", "review.submitted_at", NULL},
    {"pull_request_review_comment", ACTION, "pull_request.url", "comment.id",
     "pull_request.updated_at", NULL},
    {"pull_request_review_thread", ACTION, "pull_request.url", "pull_request.id", NULL, NULL},
    {"push", NULL, REPO, "ref", NULL, NULL},
    {"registry_package", ACTION, REPO, "registry_package.html_url",
     "registry_package.updated_at", NULL},
    {"release", ACTION, REPO, "release.id", "release.*_at", NULL},
    {"repository", ACTION, "repository.owner.url", "repository.name",
     "repository.updated_at", NULL},
    {"repository_advisory", ACTION, REPO, "repository_advisory.ghsa_id",
     "repository_advisory.updated_at", NULL},
    {"repository_dispatch", "action", "repository.owner.url", NULL, NULL, NULL},
    {"repository_import", NULL, "repository.owner.url", "repository.name",
     "repository.updated_at", NULL},
    {"repository_ruleset", "action", "repository.owner.url", "repository.name",
     "repository.updated_at", NULL},
    {"repository_vulnerability_alert", ACTION, REPO, "alert.id", NULL, NULL},
    {"secret_scanning_alert", ACTION, REPO, "alert.number", "alert.updated_at", "alert.created_at"},
    {"secret_scanning_alert_location", ACTION, REPO, "alert.number",
     "alert.updated_at", "alert.created_at"},
    {"security_advisory", ACTION, "=github.com", "security_advisory.ghsa_id",
     "security_advisory.updated_at", NULL},
    {"security_and_analysis", NULL, REPO, NULL, NULL, NULL},
    {"sponsorship", ACTION, REPO, "sponsorship.sponsor.login", NULL, NULL},
    {"star", ACTION, REPO, NULL, "starred_at", NULL},
    {"status", ".", REPO, "sha", "updated_at", NULL},
    {"team", ACTION, REPO, "team.id", "updated_at", NULL},
    {"team_add", ACTION, REPO, "team.id", NULL, NULL},
    {"watch", ACTION, REPO, NULL, NULL, NULL},
    {"workflow_dispatch", NULL, REPO, "workflow", NULL, NULL},
    {"workflow_job", ACTION, REPO, "workflow_job.name", NULL, NULL},
    {"workflow_run", ACTION, REPO, "workflow.name", NULL, NULL},
};

static const struct row *find_row(struct mr_bytes event)
{
    /* Also for what the table does not know: GitHub adds events. */
    static const struct row other = {NULL, ACTION, REPO, NULL, NULL, NULL};
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        if (mr_bytes_equal(event, mr_bytes_of(rows[i].event))) {
            return &rows[i];
        }
    }
    return &other;
}

/* A dot and the value at @p path; neither when there is none. */
static void draft_suffix(struct mr__draft *draft, struct mr_bytes json, const char *path)
{
    size_t before = draft->parts[MR__TYPE].size;
    mr__draft_text(draft, MR__TYPE, ".");
    if (!mr__draft_get(draft, MR__TYPE, json, path) && draft->run->status == MR_OK) {
        draft->parts[MR__TYPE].size = before;
    }
}

static void draft_type(struct mr__draft *draft, const struct row *row, struct mr_bytes event,
                       struct mr_bytes json)
{
    mr__draft_text(draft, MR__TYPE, "com.github.");
    mr__draft_bytes(draft, MR__TYPE, event);
    if (row->suffix == NULL) {
        return;
    }
    if (row->suffix[0] != '.') {
        (void)mr__draft_get(draft, MR__TYPE, json, row->suffix); /* may have none */
    } else if (row->suffix[1] == '\0') {
        mr__draft_text(draft, MR__TYPE, ".");
    } else if (strcmp(row->suffix, ".scope.action") == 0) {
        draft_suffix(draft, json, "scope");
        draft_suffix(draft, json, "action");
    } else {
        draft_suffix(draft, json, row->suffix + 1);
    }
}

/* Up to the last slash that is no part of "//". */
static void cut_segment(struct mr_buf *text)
{
    size_t i = text->size;
    while (i > 1 && text->data[i - 1] != '/') {
        i--;
    }
    if (i > 1 && text->data[i - 2] != '/') {
        text->size = i - 1;
    }
}

static bool draft_row_source(struct mr__draft *draft, const char *source, struct mr_bytes json)
{
    char path[64];
    struct mr_buf *text = &draft->parts[MR__SOURCE];
    size_t size = strcspn(source, "+^");
    if (source[0] == '=') {
        mr__draft_text(draft, MR__SOURCE, source + 1);
        return true;
    }
    if (size >= sizeof(path)) {
        return false;
    }
    memcpy(path, source, size);
    path[size] = '\0';
    if (!mr__draft_get(draft, MR__SOURCE, json, path)) {
        return false;
    }
    if (source[size] == '+') {
        mr__draft_text(draft, MR__SOURCE, "/");
        (void)mr__draft_get(draft, MR__SOURCE, json, source + size + 1); /* it always has */
    } else if (source[size] == '^') {
        cut_segment(text);
    }
    return true;
}

/* Events of organisations and apps lack what their row names: the next best that is there. */
static void draft_source(struct mr__draft *draft, const struct row *row, struct mr_bytes json)
{
    static const char *const others[] = {
        "repository.url",     "organization.url", "installation.account.url",
        "enterprise.html_url", "hook.url",        "sender.url",
    };
    bool found = draft_row_source(draft, row->source, json);
    for (size_t i = 0; !found && i < MR_ARRAY_COUNT(others); i++) {
        found = mr__draft_get(draft, MR__SOURCE, json, others[i]);
    }
    if (!found) {
        mr__draft_text(draft, MR__SOURCE, "https://api.github.com");
    }
}

static void draft_time(struct mr__draft *draft, const char *path, struct mr_bytes json)
{
    if (path == NULL) {
        return;
    }
    const char *star = strchr(path, '*');
    if (star == NULL) {
        (void)mr__draft_time(draft, json, path); /* else the receive time */
        return;
    }
    struct mr_buf text;
    struct mr_bytes action;
    mr_buf_init(&text, 256);
    if (mr__adapt_get_kind(draft->run, json, "action", '"', &action) && action.size < 64 &&
        mr__adapt_put(draft->run, &text, mr_bytes(path, (size_t)(star - path))) &&
        mr__adapt_text(draft->run, action, &text) &&
        mr__adapt_put(draft->run, &text, mr_bytes(star + 1, strlen(star + 1) + 1))) {
        (void)mr__draft_time(draft, json, (const char *)text.data);
    }
    mr_buf_release(&text);
}

static void adapt_delivery(struct mr__adapt *run, struct mr_bytes json, struct mr_bytes data)
{
    struct mr__draft draft;
    struct mr_bytes event;
    struct mr_bytes id;
    if (!mr__adapt_header(run, "x-github-event", &event)) {
        mr__adapt_fail(run, MR_E_INVALID,
                       "the header X-GitHub-Event is missing, so there is no type");
        return;
    }
    const struct row *row = find_row(event);
    mr__draft_begin(&draft, run, data);
    draft_type(&draft, row, event, json);
    draft_source(&draft, row, json);
    if (row->subject != NULL) {
        (void)mr__draft_get(&draft, MR__SUBJECT, json, row->subject); /* may be null */
    }
    draft_time(&draft, row->time, json);
    draft_time(&draft, row->time2, json);
    if (mr__adapt_header(run, "x-github-delivery", &id)) {
        mr__draft_bytes(&draft, MR__ID, id);
    } else {
        mr__draft_bytes(&draft, MR__ID, event);
        mr__draft_text(&draft, MR__ID, "/");
        mr__draft_digest(&draft, MR__ID, data);
    }
    mr__draft_end(&draft);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value of the field payload of a form (application/x-www-form-urlencoded). */
static void read_form(struct mr__adapt *run, struct mr_bytes form, struct mr_buf *out)
{
    static const char name[] = "payload=";
    while (!mr_bytes_starts(form, MR_BYTES_LITERAL("payload="))) {
        const uint8_t *next = form.size == 0 ? NULL : memchr(form.data, '&', form.size);
        if (next == NULL) {
            mr__adapt_fail(run, MR_E_INVALID, "the form has no field payload");
            return;
        }
        form.size -= (size_t)(next + 1 - form.data);
        form.data = next + 1;
    }
    form = mr_bytes(form.data + sizeof(name) - 1, form.size - (sizeof(name) - 1));
    enum mr_status r = mr_buf_reserve(out, form.size);
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "out of memory");
        return;
    }
    for (size_t i = 0; i < form.size && form.data[i] != '&'; i++) {
        uint8_t c = form.data[i] == '+' ? ' ' : form.data[i];
        if (c == '%') {
            int high = form.size - i > 2 ? hex_value(form.data[i + 1]) : -1;
            int low = form.size - i > 2 ? hex_value(form.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                mr__adapt_fail(run, MR_E_INVALID, "the form holds a stray %%");
                return;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        out->data[out->size++] = c;
    }
}

void mr__adapt_github(struct mr__adapt *run)
{
    struct mr_bytes json;
    struct mr_bytes type;
    struct mr_buf form;
    mr_buf_init(&form, run->body.size + 1);
    struct mr_bytes body = run->body;
    bool is_form =
        mr__adapt_header(run, "content-type", &type)
            ? mr_bytes_equal_nocase(mr__text_media_type(type),
                                    MR_BYTES_LITERAL("application/x-www-form-urlencoded"))
            : mr_bytes_starts(body, MR_BYTES_LITERAL("payload="));
    if (is_form) {
        read_form(run, body, &form);
        body = mr_buf_bytes(&form);
    }
    if (mr__adapt_parse(run, body, &json)) {
        if (json.data[0] == '{') {
            adapt_delivery(run, json, body);
        } else {
            mr__adapt_fail(run, MR_E_INVALID, "the body is no JSON object");
        }
    }
    mr_buf_release(&form);
}
