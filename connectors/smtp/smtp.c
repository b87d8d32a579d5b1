#include "connectors/smtp/smtp.h"

#include "connectors/smtp/mail.h"
#include "core/clock.h"
#include "schemas/template.h"

#define ADDRESS_SIZE_MAX 254u /* RFC 5321 4.5.3.1.3, without the brackets */
#define RECIPIENTS_MAX 100u   /* what every server must take: RFC 5321 4.5.3.1.8 */

static const char *const tls_words[] = {"auto", "required", "none", NULL};

static const struct mr_option digest_options[] = {
    {.name = "max", .type = MR_OPTION_INT, .at = offsetof(struct mr_smtp_digest_options, max),
     .default_text = "1", .min = 1, .max = MR_SMTP_DIGEST_MAX,
     .help = "Events in one mail, at most; 1 sends a mail for each."},
    {.name = "window", .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_smtp_digest_options, window_ns), .default_text = "1m",
     .min = 10 * (int64_t)MR_MS, .max = 10 * (int64_t)MR_MINUTE,
     .help = "How long the first event of a mail waits for others."},
    MR_OPTION_END,
};

static const struct mr_option sink_options[] = {
    {.name = "url", .type = MR_OPTION_URL, .at = offsetof(struct mr_smtp_options, url),
     .flags = MR_OPTION_REQUIRED,
     .help = "Server: smtp://host[:25] with STARTTLS, or smtps://host[:465]; smtp://…:587 for "
             "submission."},
    {.name = "user", .type = MR_OPTION_STRING, .at = offsetof(struct mr_smtp_options, user),
     .help = "Who logs in, if the server wants that."},
    {.name = "password", .type = MR_OPTION_SECRET,
     .at = offsetof(struct mr_smtp_options, password), .help = "Its password."},
    {.name = "tls", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_smtp_options, tls),
     .default_text = "auto", .words = tls_words,
     .help = "Of smtp://: auto wants STARTTLS from every server but one on this machine, where it "
             "is used if offered; none is for a server on this machine only."},
    {.name = "tls_ca", .type = MR_OPTION_PATH, .at = offsetof(struct mr_smtp_options, tls_ca),
     .help = "PEM file of the authorities trusted; by default those of the system."},
    {.name = "from", .type = MR_OPTION_STRING, .at = offsetof(struct mr_smtp_options, from),
     .flags = MR_OPTION_REQUIRED,
     .help = "Sender: bus@example.com, or \"The bus <bus@example.com>\"."},
    {.name = "to", .type = MR_OPTION_STRINGS, .at = offsetof(struct mr_smtp_options, to),
     .flags = MR_OPTION_REQUIRED, .help = "Recipients, in the same form."},
    {.name = "cc", .type = MR_OPTION_STRINGS, .at = offsetof(struct mr_smtp_options, cc),
     .help = "Further recipients, named as receiving a copy."},
    {.name = "subject", .type = MR_OPTION_STRING, .at = offsetof(struct mr_smtp_options, subject),
     .default_text = "{{type}} {{subject}}",
     .help = "Subject; {{attribute}} and {{data.path}} are filled in from the event."},
    {.name = "body", .type = MR_OPTION_STRING, .at = offsetof(struct mr_smtp_options, body),
     .help = "Text of the mail, filled in likewise; by default all attributes and the data."},
    {.name = "connect_timeout", .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_smtp_options, connect_timeout_ns), .default_text = "10s",
     .min = 100 * (int64_t)MR_MS, .max = 5 * (int64_t)MR_MINUTE,
     .help = "How long connecting may take, TLS and log-in included."},
    {.name = "digest", .type = MR_OPTION_BLOCK, .at = offsetof(struct mr_smtp_options, digest),
     .block = digest_options, .help = "Several events in one mail."},
    MR_OPTION_END,
};

/* --- addresses -------------------------------------------------------------------------------- */

/* What needs no quotes and no extension of the server: ASCII, the usual characters. */
static bool is_box(struct mr_bytes box)
{
    const uint8_t *at = box.size == 0 ? NULL : memchr(box.data, '@', box.size);
    if (at == NULL || at == box.data || at + 1 == box.data + box.size ||
        box.size > ADDRESS_SIZE_MAX) {
        return false;
    }
    for (size_t i = 0; i < box.size; i++) {
        uint8_t c = box.data[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        const char *more = box.data + i < at ? "!#$%&'*+-/=?^_`{|}~." : "-.[]:";
        if (box.data + i != at && !alnum && (c == '\0' || strchr(more, c) == NULL)) {
            return false;
        }
    }
    return true;
}

bool mr__smtp_read_address(const char *text, struct mr_smtp_address *ret_address)
{
    struct mr_smtp_address a = {.box = mr_bytes_trim(mr_bytes_of(text))};
    struct mr_bytes whole = a.box;
    if (whole.size > 0 && whole.data[whole.size - 1] == '>') {
        const uint8_t *open = memchr(whole.data, '<', whole.size);
        if (open == NULL) {
            return false;
        }
        size_t name_size = (size_t)(open - whole.data);
        a.box = mr_bytes_trim(mr_bytes(open + 1, whole.size - name_size - 2));
        a.name = mr_bytes_trim(mr_bytes(whole.data, name_size));
        if (a.name.size >= 2 && a.name.data[0] == '"' && a.name.data[a.name.size - 1] == '"') {
            a.name = mr_bytes(a.name.data + 1, a.name.size - 2);
        }
    }
    for (size_t i = 0; i < a.name.size; i++) {
        if (a.name.data[i] < ' ' || a.name.data[i] == 0x7f || a.name.data[i] == '"') {
            return false;
        }
    }
    if (!is_box(a.box) || a.name.size > ADDRESS_SIZE_MAX || !mr_bytes_is_utf8(a.name)) {
        return false;
    }
    *ret_address = a;
    return true;
}

/* --- checks ----------------------------------------------------------------------------------- */

bool mr__smtp_is_loopback(const char *host)
{
    struct mr_bytes text = mr_bytes_of(host);
    if (mr_bytes_equal_nocase(text, MR_BYTES_LITERAL("localhost")) ||
        mr_bytes_equal(text, MR_BYTES_LITERAL("::1"))) {
        return true;
    }
    return mr_bytes_starts(text, MR_BYTES_LITERAL("127.")) &&
           strspn(host, "0123456789.") == text.size; /* 127.example.com is somebody else */
}

bool mr__smtp_is_smtps(const struct mr_smtp_options *options)
{
    return strcmp(options->url->scheme, "smtps") == 0;
}

uint16_t mr__smtp_port(const struct mr_smtp_options *options)
{
    return options->url->port != 0 ? options->url->port : mr__smtp_is_smtps(options) ? 465 : 25;
}

static enum mr_status check_server(const struct mr_smtp_options *o, struct mr_problem *problem)
{
    const char *scheme = o->url == NULL ? "" : o->url->scheme;
    if (strcmp(scheme, "smtp") != 0 && strcmp(scheme, "smtps") != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: wants smtp://host[:port] or smtps://host[:port], not \"%s://\"",
                              scheme);
    }
    if (o->url->host == NULL || o->url->host[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "url: names no host");
    }
    if (o->url->path != NULL && o->url->path[0] != '\0' && strcmp(o->url->path, "/") != 0) {
        return mr_problem_set(problem, MR_E_INVALID, "url: has a path; a mail server has none");
    }
    if (o->tls == MR_SMTP_TLS_NONE && mr__smtp_is_smtps(o)) {
        return mr_problem_set(problem, MR_E_INVALID, "tls: none wants an smtp:// url");
    }
    if (o->tls == MR_SMTP_TLS_NONE && !mr__smtp_is_loopback(o->url->host)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "tls: none is for a server on this machine only; %s is none",
                              o->url->host);
    }
    if (o->user != NULL && o->url->user != NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "user stands in the url already");
    }
    bool has_password = o->password != NULL || o->url->password != NULL;
    if (has_password != (o->user != NULL || o->url->user != NULL)) {
        return mr_problem_set(problem, MR_E_INVALID, "user and password go together");
    }
    return MR_OK;
}

static enum mr_status check_addresses(const char *option, char *const *items, uint32_t count,
                                      struct mr_problem *problem)
{
    struct mr_smtp_address address;
    for (uint32_t i = 0; i < count; i++) {
        if (!mr__smtp_read_address(items[i] == NULL ? "" : items[i], &address)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "%s: \"%s\" is no address as ops@example.com or "
                                  "\"Ops <ops@example.com>\" is",
                                  option, items[i] == NULL ? "" : items[i]);
        }
    }
    return MR_OK;
}

enum mr_status mr__smtp_check(const void *options, struct mr_problem *problem)
{
    const struct mr_smtp_options *o = options;
    enum mr_status r = check_server(o, problem);
    if (r == MR_OK) {
        r = check_addresses("from", &o->from, 1, problem);
    }
    if (r == MR_OK && o->to.count == 0) {
        r = mr_problem_set(problem, MR_E_INVALID, "to: names nobody");
    }
    if (r == MR_OK && (uint64_t)o->to.count + o->cc.count > RECIPIENTS_MAX) {
        r = mr_problem_set(problem, MR_E_INVALID, "to, cc: more than %u recipients",
                           RECIPIENTS_MAX);
    }
    if (r == MR_OK) {
        r = check_addresses("to", o->to.items, o->to.count, problem);
    }
    if (r == MR_OK) {
        r = check_addresses("cc", o->cc.items, o->cc.count, problem);
    }
    const char *texts[2] = {o->subject, o->body};
    for (int i = 0; i < 2 && r == MR_OK; i++) {
        if (texts[i] != NULL && !mr_template_is_valid(texts[i])) {
            r = mr_problem_set(problem, MR_E_INVALID,
                               "%s: wants {{attribute}} with a CloudEvents attribute name, "
                               "{{data}} or {{data.path}} where braces stand",
                               i == 0 ? "subject" : "body");
        }
    }
    return r;
}

/* The mail under way, twice while it is encoded, and what is filled in for it. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return 3ull * MR_SMTP_MAIL_SIZE_MAX;
}

const struct mr_connector mr_connector_smtp = {
    .abi = MR_CONNECTOR_ABI,
    .name = "smtp",
    .sink_kind = {.name = "smtp",
                  .options = sink_options,
                  .options_size = sizeof(struct mr_smtp_options),
                  .check = mr__smtp_check},
    .sink = &mr__smtp_sink_ops,
    .bytes_max = bytes_max,
};
