#include "connectors/smtp/link.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "connectors/libcurl.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define GOODBYE_S 2 /* a server that answers no more must not hold up a stop */

/* What was said last: what an answer, or its absence, is about. */
enum stage {
    STAGE_CONNECT = 0, /* greeting, EHLO, STARTTLS, AUTH */
    STAGE_SENDER,
    STAGE_RECIPIENT,
    STAGE_DATA, /* before 354 */
    STAGE_BODY,
};

static const char *const stage_words[] = {"connecting", "the sender", "a recipient", "the mail",
                                          "the mail"};

struct mr_smtp_link {
    const struct mr_smtp_options *options; /* borrowed: outlives us */
    CURL *easy;                            /* owned; NULL: to be made */
    struct curl_slist *recipients;         /* owned */
    struct mr_buf url;                     /* text, NUL-terminated */
    bool (*tick)(void *context);
    void *context;
    bool open; /* the last call left a connection behind */
    struct mr_bytes left; /* of the mail; borrowed during a call */
    enum stage stage;
    unsigned code;    /* of the last answer that refused something; 0: none did */
    char answer[256]; /* that answer */
    char error[CURL_ERROR_SIZE];
    char text[640];
};

/* --- libcurl's callbacks ---------------------------------------------------------------------- */

static void note_command(struct mr_smtp_link *link, struct mr_bytes line)
{
    if (mr_bytes_starts(line, MR_BYTES_LITERAL("MAIL "))) {
        link->stage = STAGE_SENDER;
    } else if (mr_bytes_starts(line, MR_BYTES_LITERAL("RCPT "))) {
        link->stage = STAGE_RECIPIENT;
    } else if (mr_bytes_starts(line, MR_BYTES_LITERAL("DATA"))) {
        link->stage = STAGE_DATA;
    } else {
        return; /* QUIT after a refusal, for one */
    }
    link->code = 0;
    link->answer[0] = '\0';
}

static void note_answer(struct mr_smtp_link *link, struct mr_bytes line)
{
    uint64_t code;
    if (line.size < 3 || !mr_parse_u64(mr_bytes(line.data, 3), &code) || code < 400) {
        return;
    }
    while (line.size > 0 && line.data[line.size - 1] <= ' ') {
        line.size--;
    }
    link->code = (unsigned)code;
    mr_text_clean(link->answer, sizeof(link->answer), line);
}

/* What goes over the line, log-in included: looked at for the two things above, kept nowhere. */
static int see_traffic(CURL *easy, curl_infotype type, char *data, size_t size, void *context)
{
    (void)easy;
    if (type == CURLINFO_HEADER_OUT) {
        note_command(context, mr_bytes(data, size));
    } else if (type == CURLINFO_HEADER_IN) {
        note_answer(context, mr_bytes(data, size));
    }
    return 0;
}

static size_t give_mail(char *to, size_t one, size_t count, void *context)
{
    struct mr_smtp_link *link = context;
    size_t size = one * count < link->left.size ? one * count : link->left.size;
    link->stage = STAGE_BODY;
    memcpy(to, link->left.data, size);
    link->left = mr_bytes(link->left.data + size, link->left.size - size);
    return size;
}

static int see_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct mr_smtp_link *link = context;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return link->tick(link->context) ? 0 : 1;
}

static size_t ignore_body(char *data, size_t one, size_t count, void *context)
{
    (void)data;
    (void)context;
    return one * count;
}

/* --- settings --------------------------------------------------------------------------------- */

static long use_ssl(const struct mr_smtp_options *o)
{
    if (o->tls == MR_SMTP_TLS_NONE) {
        return CURLUSESSL_NONE;
    }
    bool lenient = o->tls == MR_SMTP_TLS_AUTO && mr__smtp_is_loopback(o->url->host);
    return lenient ? CURLUSESSL_TRY : CURLUSESSL_ALL;
}

/* Without a path: libcurl would take that for the name to greet with. */
static enum mr_status make_url(struct mr_smtp_link *link)
{
    const struct mr_smtp_options *o = link->options;
    bool six = strchr(o->url->host, ':') != NULL;
    enum mr_status r = mr_buf_printf(&link->url, "%s://%s%s%s:%u", o->url->scheme, six ? "[" : "",
                                     o->url->host, six ? "]" : "", mr__smtp_port(o));
    return r == MR_OK ? mr_buf_append_byte(&link->url, '\0') : r;
}

static bool set_log_in(struct mr_smtp_link *link)
{
    const struct mr_smtp_options *o = link->options;
    const char *user = o->user != NULL ? o->user : o->url->user;
    const struct mr_secret *password = o->password != NULL ? o->password : o->url->password;
    if (user == NULL || password == NULL) {
        return true;
    }
    return curl_easy_setopt(link->easy, CURLOPT_USERNAME, user) == CURLE_OK &&
           curl_easy_setopt(link->easy, CURLOPT_PASSWORD,
                            (const char *)mr_secret_use(password).data) == CURLE_OK;
}

static bool set_options(struct mr_smtp_link *link)
{
    const struct mr_smtp_options *o = link->options;
    CURL *easy = link->easy;
    return mr__curl_set_all(easy, "smtp,smtps", o->tls_ca) &&
           curl_easy_setopt(easy, CURLOPT_URL, (const char *)link->url.data) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USE_SSL, use_ssl(o)) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, link->error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, see_traffic) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_DEBUGDATA, link) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, see_progress) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_XFERINFODATA, link) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_mail) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_READDATA, link) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore_body) == CURLE_OK &&
           set_log_in(link);
}

static bool open_easy(struct mr_smtp_link *link)
{
    if (link->easy != NULL) {
        return true;
    }
    link->easy = curl_easy_init();
    if (link->easy == NULL || !set_options(link)) {
        curl_easy_cleanup(MR_TAKE(link->easy));
        return false;
    }
    return true;
}

/* Ends the connection at once. libcurl itself would wait two minutes for an answer to QUIT, and
 * after a time limit within the last answer it even uses the connection again, one answer late. */
static void drop_easy(struct mr_smtp_link *link)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (curl_easy_getinfo(link->easy, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK &&
        fd != CURL_SOCKET_BAD) {
        (void)shutdown(fd, SHUT_RDWR); /* gone already: as well */
    }
    curl_easy_cleanup(MR_TAKE(link->easy));
    link->open = false;
}

/* --- what came of it -------------------------------------------------------------------------- */

/* Log-in wanted, wrong, or too weak (RFC 4954): the configuration is wrong, not the mail. */
static bool is_about_log_in(unsigned code)
{
    return code == 530 || code == 534 || code == 535 || code == 538;
}

static enum mr_smtp_result judge(const struct mr_smtp_link *link, CURLcode done)
{
    if (done == CURLE_OK) {
        return MR_SMTP_SENT;
    }
    /* A transfer that ended otherwise than by an answer was not ended by the last one. */
    bool refused = link->code >= 400 &&
                   (done == CURLE_SEND_ERROR || done == CURLE_WEIRD_SERVER_REPLY ||
                    done == CURLE_RECV_ERROR || done == CURLE_UPLOAD_FAILED);
    if (link->stage == STAGE_CONNECT || (refused && is_about_log_in(link->code))) {
        return MR_SMTP_NOT_REACHED;
    }
    if (refused && link->code >= 500) {
        return link->stage >= STAGE_DATA ? MR_SMTP_REJECTED : MR_SMTP_PERMANENT;
    }
    if (refused) {
        return link->code == 421 ? MR_SMTP_NOT_REACHED : MR_SMTP_TEMPORARY; /* it closes */
    }
    return link->stage == STAGE_BODY ? MR_SMTP_UNKNOWN : MR_SMTP_TEMPORARY;
}

static void explain(struct mr_smtp_link *link, CURLcode done)
{
    const char *why = link->error[0] != '\0' ? link->error : curl_easy_strerror(done);
    if (done == CURLE_OPERATION_TIMEDOUT || link->answer[0] == '\0') {
        (void)snprintf(link->text, sizeof(link->text), "%s%s",
                       done == CURLE_OPERATION_TIMEDOUT ? "timed out: " : "", why);
    } else if (link->stage == STAGE_CONNECT) {
        (void)snprintf(link->text, sizeof(link->text), "%s: the server said %s", why,
                       link->answer);
    } else {
        (void)snprintf(link->text, sizeof(link->text), "%s was refused: %s",
                       stage_words[link->stage], link->answer);
    }
}

static enum mr_smtp_result perform(struct mr_smtp_link *link, bool ready, uint64_t timeout_ns)
{
    uint64_t connect_ms = link->options->connect_timeout_ns / MR_MS;
    uint64_t timeout_ms = timeout_ns / MR_MS + 1;
    timeout_ms = timeout_ms > INT32_MAX ? INT32_MAX : timeout_ms;
    CURL *easy = link->easy;
    link->stage = STAGE_CONNECT;
    link->code = 0;
    link->answer[0] = '\0';
    link->error[0] = '\0';
    link->text[0] = '\0';
    bool ok = ready && curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms) ==
                           CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT,
                               (long)(timeout_ms / 1000 + 1)) == CURLE_OK;
    CURLcode done = ok ? curl_easy_perform(easy) : CURLE_OUT_OF_MEMORY;
    enum mr_smtp_result result = judge(link, done);
    link->open = result == MR_SMTP_SENT;
    if (result != MR_SMTP_SENT) {
        explain(link, done);
        if (easy != NULL) {
            drop_easy(link);
        }
    }
    return result;
}

/* No mail: connects if need be, and a NOOP. */
static enum mr_smtp_result converse(struct mr_smtp_link *link, uint64_t timeout_ns)
{
    bool ok = open_easy(link) &&
              curl_easy_setopt(link->easy, CURLOPT_UPLOAD, 0L) == CURLE_OK &&
              curl_easy_setopt(link->easy, CURLOPT_NOBODY, 1L) == CURLE_OK &&
              curl_easy_setopt(link->easy, CURLOPT_MAIL_FROM, NULL) == CURLE_OK &&
              curl_easy_setopt(link->easy, CURLOPT_MAIL_RCPT, NULL) == CURLE_OK &&
              curl_easy_setopt(link->easy, CURLOPT_CUSTOMREQUEST, "NOOP") == CURLE_OK;
    return perform(link, ok, timeout_ns);
}

enum mr_smtp_result mr__smtp_link_probe(struct mr_smtp_link *link)
{
    return converse(link, link->options->connect_timeout_ns);
}

enum mr_smtp_result mr__smtp_link_send(struct mr_smtp_link *link, struct mr_bytes mail,
                                       uint64_t timeout_ns)
{
    MR_ASSERT(mail.size > 0);
    struct mr_smtp_address from = {.box = {NULL, 0}};
    char box[300];
    bool ok = mr__smtp_read_address(link->options->from, &from);
    (void)snprintf(box, sizeof(box), "<%.*s>", (int)from.box.size, (const char *)from.box.data);
    link->left = mail;
    ok = ok && open_easy(link) &&
         curl_easy_setopt(link->easy, CURLOPT_CUSTOMREQUEST, NULL) == CURLE_OK &&
         curl_easy_setopt(link->easy, CURLOPT_NOBODY, 0L) == CURLE_OK &&
         curl_easy_setopt(link->easy, CURLOPT_UPLOAD, 1L) == CURLE_OK &&
         curl_easy_setopt(link->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)mail.size) ==
             CURLE_OK &&
         curl_easy_setopt(link->easy, CURLOPT_MAIL_FROM, box) == CURLE_OK &&
         curl_easy_setopt(link->easy, CURLOPT_MAIL_RCPT, link->recipients) == CURLE_OK;
    enum mr_smtp_result result = perform(link, ok, timeout_ns);
    link->left = mr_bytes(NULL, 0);
    return result;
}

const char *mr__smtp_link_text(const struct mr_smtp_link *link)
{
    return link->text;
}

/* --- life ------------------------------------------------------------------------------------- */

static bool add_recipients(struct mr_smtp_link *link, const struct mr_strings *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_smtp_address a;
        char box[300];
        if (!mr__smtp_read_address(list->items[i], &a)) {
            return false;
        }
        (void)snprintf(box, sizeof(box), "<%.*s>", (int)a.box.size, (const char *)a.box.data);
        struct curl_slist *longer = curl_slist_append(link->recipients, box);
        if (longer == NULL) {
            return false;
        }
        link->recipients = longer;
    }
    return true;
}

/* QUIT, but not for long. */
static void say_goodbye(struct mr_smtp_link *link)
{
    if (curl_easy_setopt(link->easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK &&
        curl_easy_setopt(link->easy, CURLOPT_NOPROGRESS, 1L) == CURLE_OK) {
        (void)converse(link, GOODBYE_S * MR_SECOND); /* it goes either way */
    }
}

void mr__smtp_link_destroy(struct mr_smtp_link *link)
{
    if (link == NULL) {
        return;
    }
    if (link->open) {
        say_goodbye(link);
    }
    if (link->easy != NULL) {
        drop_easy(link);
    }
    curl_slist_free_all(link->recipients);
    mr_buf_release(&link->url);
    mr_free(link);
}

enum mr_status mr__smtp_link_create(const struct mr_smtp_options *options,
                                    bool (*tick)(void *context), void *context,
                                    struct mr_smtp_link **ret_link, struct mr_problem *problem)
{
    mr__curl_begin();
    struct mr_smtp_link *link = mr_calloc(1, sizeof(*link));
    if (link == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the mail client");
    }
    link->options = options;
    link->tick = tick;
    link->context = context;
    mr_buf_init(&link->url, 1024);
    if (make_url(link) != MR_OK || !open_easy(link) ||
        !add_recipients(link, &options->to) || !add_recipients(link, &options->cc)) {
        mr__smtp_link_destroy(link);
        return mr_problem_set(problem, MR_E_NOMEM, "the mail client did not start");
    }
    *ret_link = link;
    return MR_OK;
}
