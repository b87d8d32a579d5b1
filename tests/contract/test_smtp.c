/* The SMTP sink against a real server (aiosmtpd): TLS, log-in, refusals, silence, digests. */
#include "tests/support/test.h"

#include <signal.h>

#include "connectors/smtp/smtp.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "tests/support/instance.h"
#include "tests/support/server.h"

static const struct mr_target_ops *const ops = &mr__smtp_sink_ops;

/* --- the server ------------------------------------------------------------------------------- */

/* @p tls NULL, "starttls", "smtps"; @p certificate NULL: the good one */
static void mail_start(struct server *s, const char *tls, const char *certificate, bool auth)
{
    tls == NULL ? unsetenv("SMTP_TLS") : setenv("SMTP_TLS", tls, 1);
    certificate == NULL ? unsetenv("SMTP_TLS_CERT") : setenv("SMTP_TLS_CERT", certificate, 1);
    auth ? setenv("SMTP_AUTH", "1", 1) : unsetenv("SMTP_AUTH");
    server_make(s, "smtp.sh");
}

static void mail_tell(const struct server *s, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", s->dir, name);
    if (text == NULL) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const char *mail_text(const struct server *s, int number)
{
    static char text[65536];
    char path[128];
    snprintf(path, sizeof(path), "%s/mail/%06d.eml", s->dir, number);
    FILE *f = fopen(path, "r");
    size_t size = f == NULL ? 0 : fread(text, 1, sizeof(text) - 1, f);
    text[size] = '\0';
    if (f != NULL) {
        fclose(f);
    }
    return text;
}

static int mail_count(const struct server *s)
{
    int count = 0;
    while (mail_text(s, count + 1)[0] != '\0') {
        count++;
    }
    return count;
}

/* The line of a header, in a buffer of its own for each of two. */
static const char *header(const char *mail, const char *name)
{
    static char line[2][256];
    static int turn;
    char start[64];
    snprintf(start, sizeof(start), "\n%s: ", name);
    const char *at = strstr(mail, start);
    turn = !turn;
    size_t size = at == NULL ? 0 : strcspn(at + 1, "\r\n");
    snprintf(line[turn], sizeof(line[turn]), "%.*s", (int)size, at == NULL ? "" : at + 1);
    return line[turn];
}

/* --- the sink --------------------------------------------------------------------------------- */

struct words {
    const char *scheme; /* "smtp" */
    const char *host;   /* "127.0.0.1" */
    const char *user;
    const char *password;
    const char *to;
    const char *subject;
    bool ca;
    int tls;
    int digest;
    uint64_t window_ns;
};

static struct mr_target *sink_open(struct test_host *h, const struct server *s,
                                   const struct words *w)
{
    const struct mr_config_kind *kind = &mr_connector_smtp.sink_kind;
    struct mr_smtp_options o;
    char text[128];
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    snprintf(text, sizeof(text), "%s://%s:%u", w->scheme == NULL ? "smtp" : w->scheme,
             w->host == NULL ? "127.0.0.1" : w->host, s->port);
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &o.url, NULL), MR_OK);
    snprintf(text, sizeof(text), "%s/certs/ca.crt", s->dir);
    o.tls_ca = w->ca ? mr_strdup(text) : NULL;
    o.tls = w->tls;
    o.user = mr_strdup(w->user);
    o.password = w->password == NULL ? NULL : mr_secret_create(mr_bytes_of(w->password));
    o.from = mr_strdup("Bus <bus@example.com>");
    o.to.items = mr_calloc(2, sizeof(char *));
    o.to.items[0] = mr_strdup("ops@example.com");
    o.to.items[1] = mr_strdup(w->to == NULL ? "more@example.com" : w->to);
    o.to.count = 2;
    if (w->subject != NULL) {
        mr_free(o.subject);
        o.subject = mr_strdup(w->subject);
    }
    o.connect_timeout_ns = 5 * MR_SECOND;
    o.digest.max = w->digest == 0 ? 1 : w->digest;
    o.digest.window_ns = w->window_ns == 0 ? 10 * MR_SECOND : w->window_ns;
    return sink_start(&mr_connector_smtp, h, "mail", &o,
                      (struct mr_target_config){.concurrency = 16});
}

/* A server and the host of a sink that mails to it. */
struct rig {
    struct server s;
    struct test_host h;
};

static void rig_open(struct rig *r, const char *tls, const char *certificate, bool auth)
{
    mail_start(&r->s, tls, certificate, auth);
    test_host_init(&r->h);
}

static struct mr_target *rig_sink(struct rig *r, const struct words *w)
{
    struct mr_target *target = sink_open(&r->h, &r->s, w);
    sink_ready(&r->h, target, 16);
    return target;
}

static void rig_close(struct rig *r)
{
    test_host_free(&r->h);
    server_remove(&r->s);
}

static struct mr_handout *make_handout(int number, const char *subject, uint64_t timeout_ns)
{
    char text[512];
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\",\"type\":\"com.example.t\","
             "\"subject\":\"%s\",\"data\":{\"n\":%d}}",
             number, subject, number);
    struct mr_handout *handout = handout_of(text);
    handout->offset = (uint64_t)number;
    handout->timeout_ns = timeout_ns;
    snprintf(handout->delivery, sizeof(handout->delivery), "sub:%d", number);
    return handout;
}

static void submit(struct mr_target *target, int number)
{
    sink_give(target, make_handout(number, "s", 10 * MR_SECOND));
}

static void submit_chain(struct mr_target *target, int from, int count)
{
    struct mr_handout *first = NULL;
    for (int i = count - 1; i >= 0; i--) {
        first = chain_handout(make_handout(from + i, "s", 10 * MR_SECOND), first);
    }
    sink_give(target, first);
}

static void expect(struct test_host *h, uint32_t number, enum mr_verdict verdict, const char *part)
{
    expect_verdict(test_host_answered(h, number), verdict, part);
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void deliver(const char *server_tls, const struct words *w, bool auth, const char *session)
{
    struct rig r;
    rig_open(&r, server_tls, NULL, auth);
    struct mr_target *target = rig_sink(&r, w);
    submit_chain(target, 1, 3);
    for (uint32_t i = 1; i <= 3; i++) {
        expect(&r.h, i, MR_VERDICT_OK, "");
        assert_true(r.h.answers[i - 1]->answer.started_wall_ns > 0);
    }
    sink_close(target);
    assert_int_equal(mail_count(&r.s), 3);
    const char *mail = mail_text(&r.s, 1);
    assert_string_equal(header(mail, "X-Session"), session);
    assert_string_equal(header(mail, "X-Envelope-To"),
                        "X-Envelope-To: ops@example.com, more@example.com");
    assert_string_equal(header(mail, "From"), "From: \"Bus\" <bus@example.com>");
    assert_string_equal(header(mail, "X-Millrace-Delivery"), "X-Millrace-Delivery: sub:1");
    assert_string_equal(header(mail, "Subject"), "Subject: com.example.t s");
    assert_non_null(strstr(mail, "{\"n\":1}"));
    rig_close(&r);
}

static void test_plain_on_this_machine(void **state)
{
    (void)state;
    deliver(NULL, &(struct words){.tls = MR_SMTP_TLS_NONE}, false, "X-Session: plain");
    deliver(NULL, &(struct words){.host = "localhost"}, false, "X-Session: plain");
}

static void test_starttls(void **state)
{
    (void)state;
    deliver("starttls", &(struct words){.ca = true}, false, "X-Session: tls");
    deliver("starttls", &(struct words){.ca = true, .tls = MR_SMTP_TLS_REQUIRED}, false,
            "X-Session: tls");
}

static void test_smtps_with_log_in(void **state)
{
    (void)state;
    deliver("smtps",
            &(struct words){.scheme = "smtps",
                            .host = "localhost",
                            .ca = true,
                            .user = "millrace",
                            .password = "millrace-secret"},
            true, "X-Session: tls");
}

static void test_message_id_is_the_same_for_all_attempts(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    mail_tell(&r.s, "replies", "451 4.3.0 not now\n");
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_RETRY, "the mail was refused: 451 4.3.0 not now");
    submit(target, 1);
    expect(&r.h, 2, MR_VERDICT_OK, "");
    submit(target, 1);
    expect(&r.h, 3, MR_VERDICT_OK, "");
    submit(target, 2);
    expect(&r.h, 4, MR_VERDICT_OK, "");
    sink_close(target);
    char first[256];
    snprintf(first, sizeof(first), "%s", header(mail_text(&r.s, 1), "Message-ID"));
    assert_string_equal(header(mail_text(&r.s, 2), "Message-ID"), first);
    assert_string_not_equal(header(mail_text(&r.s, 3), "Message-ID"), first);
    rig_close(&r);
}

static void test_an_event_writes_no_header(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    struct mr_target *target =
        rig_sink(&r, &(struct words){.subject = "{{data.evil}} {{subject}}"});
    const char *text = "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                       "\"subject\":\"gr\xc3\xb6\xc3\x9f" "e\",\"data\":{\"evil\":"
                       "\"x\\r\\nBcc: all@example.com\\r\\n\\r\\nbody\\r\\n.\\r\\nQUIT\"}}";
    sink_give(target, handout_of(text));
    expect(&r.h, 1, MR_VERDICT_OK, "");
    sink_close(target);
    const char *mail = mail_text(&r.s, 1);
    assert_null(strstr(mail, "\nBcc"));
    assert_null(strstr(header(mail, "X-Envelope-To"), "all@"));
    assert_non_null(strstr(header(mail, "Subject"), "=?UTF-8?B?"));
    assert_int_equal(mail_count(&r.s), 1);
    rig_close(&r);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void refuse_connection(const char *server_tls, const char *certificate, bool auth,
                              const struct words *w, const char *error)
{
    struct rig r;
    rig_open(&r, server_tls, certificate, auth);
    struct mr_target *target = sink_open(&r.h, &r.s, w);
    sink_says(target, error);
    assert_int_equal(sink_health(target).state, MR_HEALTH_DOWN);
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_REFUSED, "not connected");
    assert_int_equal(r.h.capacity_calls, 0);
    sink_close(target);
    assert_int_equal(mail_count(&r.s), 0);
    rig_close(&r);
}

static void test_bad_servers_get_no_mail(void **state)
{
    (void)state;
    struct words tls = {.scheme = "smtps", .ca = true};
    refuse_connection("smtps", "wronghost", false, &tls, "no alternative certificate subject name");
    refuse_connection("smtps", "expired", false, &tls, "expired");
    refuse_connection("smtps", NULL, false, &(struct words){.scheme = "smtps"}, "certificate");
    refuse_connection("starttls", "wronghost", false, &(struct words){.ca = true},
                      "no alternative certificate subject name");
    refuse_connection(NULL, NULL, false, &(struct words){.tls = MR_SMTP_TLS_REQUIRED},
                      "STARTTLS");
}

static void test_wrong_password_is_no_mails_fault(void **state)
{
    (void)state;
    refuse_connection(NULL, NULL, true,
                      &(struct words){.user = "millrace", .password = "wrong"}, "535");
}

static void test_missing_log_in_refuses_and_waits(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, true);
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_REFUSED, "530");
    assert_int_equal(r.h.answers[0]->answer.started_wall_ns, 0);
    sink_close(target);
    rig_close(&r);
}

static void test_refused_recipient_is_dead_and_nobody_gets_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    mail_tell(&r.s, "refuse-rcpt", "550 5.1.1 nobody\n");
    struct mr_target *target = rig_sink(&r, &(struct words){.to = "refused@example.com"});
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_DEAD, "a recipient was refused: 550 5.1.1 nobody");
    mail_tell(&r.s, "refuse-rcpt", "450 4.2.1 come again\n");
    submit(target, 2);
    expect(&r.h, 2, MR_VERDICT_RETRY, "a recipient was refused: 450 4.2.1 come again");
    mail_tell(&r.s, "refuse-rcpt", NULL);
    submit(target, 3);
    expect(&r.h, 3, MR_VERDICT_OK, "");
    mail_tell(&r.s, "replies", "554 5.7.1 spam\n");
    submit(target, 4);
    expect(&r.h, 4, MR_VERDICT_DEAD, "the mail was refused: 554 5.7.1 spam");
    sink_close(target);
    assert_int_equal(mail_count(&r.s), 1);
    rig_close(&r);
}

/* --- silence and death ------------------------------------------------------------------------ */

static void test_server_that_stalls_times_out(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    mail_tell(&r.s, "stall", "");
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    sink_give(target, make_handout(1, "s", 300 * MR_MS));
    expect(&r.h, 1, MR_VERDICT_RETRY, "timed out");
    mail_tell(&r.s, "stall", NULL);
    submit(target, 2);
    expect(&r.h, 2, MR_VERDICT_OK, "");
    sink_close(target);
    rig_close(&r);
}

static void test_stop_does_not_wait_for_a_stalled_server(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    mail_tell(&r.s, "stall", "");
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    submit_chain(target, 1, 2);
    assert_false(test_host_wait_for(&r.h, HOST_ANSWERS, 1, 0.5));
    uint64_t began = mr_clock_mono_ns();
    ops->stop(target, began + 500 * MR_MS);
    assert_true(mr_clock_mono_ns() - began < 5 * MR_SECOND);
    ops->destroy(target);
    expect(&r.h, 2, MR_VERDICT_REFUSED, "stopped"); /* the second never began */
    expect(&r.h, 1, MR_VERDICT_CRASH, "stopped");
    rig_close(&r);
}

static void test_frozen_server_does_not_hold_up_a_stop(void **state)
{
    (void)state;
    struct rig r;
    char path[128];
    int pid = 0;
    rig_open(&r, NULL, NULL, false);
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_OK, "");
    snprintf(path, sizeof(path), "%s/pid", r.s.dir);
    FILE *f = fopen(path, "r");
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    kill(pid, SIGSTOP);
    uint64_t began = mr_clock_mono_ns();
    sink_close(target);
    assert_true(mr_clock_mono_ns() - began < 8 * MR_SECOND);
    kill(pid, SIGCONT);
    rig_close(&r);
}

static void test_server_that_dies_is_waited_for(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    struct mr_target *target = rig_sink(&r, &(struct words){.tls = MR_SMTP_TLS_NONE});
    submit(target, 1);
    expect(&r.h, 1, MR_VERDICT_OK, "");
    server_do(&r.s, "kill");
    submit(target, 2);
    expect(&r.h, 2, MR_VERDICT_REFUSED, "");
    assert_true(test_host_wait(&r.h, HOST_CAPACITY, 0));
    server_start(&r.s);
    assert_true(test_host_wait(&r.h, HOST_CAPACITY, 16));
    submit(target, 3);
    expect(&r.h, 3, MR_VERDICT_OK, "");
    sink_close(target);
    rig_close(&r);
}

/* --- digests ---------------------------------------------------------------------------------- */

static void test_digest_is_one_mail_for_many(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    struct mr_target *target = rig_sink(&r, &(struct words){.digest = 5});
    submit_chain(target, 1, 3);
    assert_false(test_host_wait_for(&r.h, HOST_ANSWERS, 1, 0.2));
    submit_chain(target, 4, 2);
    for (uint32_t i = 1; i <= 5; i++) {
        expect(&r.h, i, MR_VERDICT_OK, "");
    }
    assert_int_equal(mail_count(&r.s), 1);
    const char *mail = mail_text(&r.s, 1);
    assert_string_equal(header(mail, "Subject"), "Subject: [5 events] com.example.t s");
    for (int i = 1; i <= 5; i++) {
        char part[64];
        snprintf(part, sizeof(part), "--- %d of 5: sub:%d ---", i, i);
        assert_non_null(strstr(mail, part));
        snprintf(part, sizeof(part), "{\"n\":%d}", i);
        assert_non_null(strstr(mail, part));
    }
    sink_close(target);
    rig_close(&r);
}

static void test_digest_goes_when_its_window_ends(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    struct words w = {.digest = 10, .window_ns = 600 * MR_MS};
    struct mr_target *target = rig_sink(&r, &w);
    for (int i = 1; i <= 3; i++) { /* shorter leases than the window: they are extended */
        sink_give(target, make_handout(i, "s", 300 * MR_MS));
    }
    for (uint32_t i = 1; i <= 3; i++) {
        expect(&r.h, i, MR_VERDICT_OK, "");
    }
    assert_int_equal(mail_count(&r.s), 1);
    assert_true(r.h.heartbeats >= 6);
    sink_close(target);
    rig_close(&r);
}

static void test_digest_that_is_rejected_goes_one_by_one(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, NULL, false);
    mail_tell(&r.s, "replies", "554 5.6.0 not this\n250\n554 5.6.0 this one\n250\n");
    struct mr_target *target = rig_sink(&r, &(struct words){.digest = 3});
    submit_chain(target, 1, 3);
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 3));
    int dead = 0;
    for (uint32_t i = 0; i < 3; i++) {
        bool is_second = r.h.answers[i]->offset == 2;
        assert_int_equal(r.h.answers[i]->answer.verdict,
                         is_second ? MR_VERDICT_DEAD : MR_VERDICT_OK);
        dead += is_second ? 1 : 0;
    }
    assert_int_equal(dead, 1);
    assert_int_equal(mail_count(&r.s), 2);
    sink_close(target);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_on_this_machine),
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_smtps_with_log_in),
        cmocka_unit_test(test_message_id_is_the_same_for_all_attempts),
        cmocka_unit_test(test_an_event_writes_no_header),
        cmocka_unit_test(test_bad_servers_get_no_mail),
        cmocka_unit_test(test_wrong_password_is_no_mails_fault),
        cmocka_unit_test(test_missing_log_in_refuses_and_waits),
        cmocka_unit_test(test_refused_recipient_is_dead_and_nobody_gets_it),
        cmocka_unit_test(test_server_that_stalls_times_out),
        cmocka_unit_test(test_stop_does_not_wait_for_a_stalled_server),
        cmocka_unit_test(test_frozen_server_does_not_hold_up_a_stop),
        cmocka_unit_test(test_server_that_dies_is_waited_for),
        cmocka_unit_test(test_digest_is_one_mail_for_many),
        cmocka_unit_test(test_digest_goes_when_its_window_ends),
        cmocka_unit_test(test_digest_that_is_rejected_goes_one_by_one),
    };
    mr_logger_set_fd(-1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
