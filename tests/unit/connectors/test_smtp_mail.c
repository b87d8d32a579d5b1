/* The SMTP sink's pure parts: options, addresses, and what a mail looks like. */
#include "tests/support/test.h"

#include "connectors/smtp/mail.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/rng.h"
#include "schemas/json_format.h"

#define WALL_NS (1795219200ull * MR_SECOND) /* 2026-11-21T00:00:00Z, a Saturday */

static void test_read_address_table(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        const char *box; /* NULL: refused */
    } cases[] = {
        {"ops@example.com", "", "ops@example.com"},
        {"  ops+tag@example.com ", "", "ops+tag@example.com"},
        {"<ops@example.com>", "", "ops@example.com"},
        {"Ops Team <ops@example.com>", "Ops Team", "ops@example.com"},
        {"\"Team, Ops\" <ops@[127.0.0.1]>", "Team, Ops", "ops@[127.0.0.1]"},
        {"Der B\xc3\xbcs <bus@localhost>", "Der B\xc3\xbcs", "bus@localhost"},
        {"", NULL, NULL},
        {"ops", NULL, NULL},
        {"@example.com", NULL, NULL},
        {"ops@", NULL, NULL},
        {"a@b@c", NULL, NULL},
        {"ops@example.com, other@example.com", NULL, NULL},
        {"ops@example.com>", NULL, NULL},
        {"<ops@example.com> x", NULL, NULL},
        {"ops @example.com", NULL, NULL},
        {"ops@exam\nple.com", NULL, NULL},
        {"ops@example.com\r\nBcc: x@example.com", NULL, NULL},
        {"Ops\r\nBcc: x <ops@example.com>", NULL, NULL},
        {"<a>b@example.com>", NULL, NULL},
        {"b\xc3\xbcs@example.com", NULL, NULL}, /* wants SMTPUTF8 */
        {"\xff\xfe <ops@example.com>", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_smtp_address a = {.name = {NULL, 0}};
        bool good = mr__smtp_read_address(cases[i].text, &a);
        if (good != (cases[i].box != NULL)) {
            fail_msg("\"%s\"", cases[i].text);
        }
        if (good) {
            assert_true(mr_bytes_equal(a.name, mr_bytes_of(cases[i].name)));
            assert_true(mr_bytes_equal(a.box, mr_bytes_of(cases[i].box)));
        }
    }
}

static struct mr_smtp_options make_options(const char *url)
{
    struct mr_smtp_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_smtp.sink_kind.options, &o), MR_OK);
    assert_int_equal(mr_parse_url(mr_bytes_of(url), &o.url, NULL), MR_OK);
    o.from = mr_strdup("The bus <bus@example.com>");
    o.to.items = mr_calloc(1, sizeof(char *));
    o.to.items[0] = mr_strdup("Ops <ops@example.com>");
    o.to.count = 1;
    return o;
}

static void free_options(struct mr_smtp_options *o)
{
    mr_options_release(mr_connector_smtp.sink_kind.options, o);
}

static void test_check_table(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *user;
        const char *password;
        const char *subject;
        int tls;
        const char *problem; /* NULL: good */
    } cases[] = {
        {"smtp://mail.example.com", NULL, NULL, NULL, MR_SMTP_TLS_AUTO, NULL},
        {"smtps://mail.example.com:465", "u", "p", NULL, MR_SMTP_TLS_REQUIRED, NULL},
        {"smtp://u:p@mail.example.com:587", NULL, NULL, NULL, MR_SMTP_TLS_AUTO, NULL},
        {"smtp://127.0.0.1:2525", NULL, NULL, NULL, MR_SMTP_TLS_NONE, NULL},
        {"smtp://[::1]", NULL, NULL, NULL, MR_SMTP_TLS_NONE, NULL},
        {"smtp://LOCALHOST", NULL, NULL, "{{data.a}}", MR_SMTP_TLS_NONE, NULL},
        {"smtp://127.example.com", NULL, NULL, NULL, MR_SMTP_TLS_NONE, "tls: none is for"},
        {"smtp://mail.example.com", NULL, NULL, NULL, MR_SMTP_TLS_NONE, "tls: none is for"},
        {"smtps://127.0.0.1", NULL, NULL, NULL, MR_SMTP_TLS_NONE, "wants an smtp:// url"},
        {"http://mail.example.com", NULL, NULL, NULL, MR_SMTP_TLS_AUTO, "wants smtp://"},
        {"smtp://mail.example.com/x", NULL, NULL, NULL, MR_SMTP_TLS_AUTO, "has a path"},
        {"smtp://mail.example.com", "u", NULL, NULL, MR_SMTP_TLS_AUTO, "go together"},
        {"smtp://mail.example.com", NULL, "p", NULL, MR_SMTP_TLS_AUTO, "go together"},
        {"smtp://u:p@mail.example.com", "u", "p", NULL, MR_SMTP_TLS_AUTO, "already"},
        {"smtp://mail.example.com", NULL, NULL, "{{Type}}", MR_SMTP_TLS_AUTO, "subject: wants"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_smtp_options o = make_options(cases[i].url);
        struct mr_problem problem = {.text = ""};
        o.user = mr_strdup(cases[i].user);
        o.password =
            cases[i].password == NULL ? NULL : mr_secret_create(mr_bytes_of(cases[i].password));
        o.tls = cases[i].tls;
        if (cases[i].subject != NULL) {
            mr_free(o.subject);
            o.subject = mr_strdup(cases[i].subject);
        }
        enum mr_status r = mr__smtp_check(&o, &problem);
        const char *part = cases[i].problem == NULL ? "" : cases[i].problem;
        if ((r == MR_OK) != (cases[i].problem == NULL) || strstr(problem.text, part) == NULL) {
            fail_msg("case %zu: %s (%s)", i, mr_status_text(r), problem.text);
        }
        free_options(&o);
    }
}

static struct mr_handout *make_handout(const char *json, const char *delivery)
{
    struct mr_handout *handout = mr_handout_create();
    struct mr_problem problem = {.text = ""};
    assert_non_null(handout);
    if (mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &handout->event, &problem) !=
        MR_OK) {
        fail_msg("%s", problem.text);
    }
    snprintf(handout->delivery, sizeof(handout->delivery), "%s", delivery);
    return handout;
}

/* The mail as text; the caller frees it. */
static char *compose(const struct mr_smtp_options *o, struct mr_handout *const *handouts,
                     uint32_t count)
{
    struct mr_buf out;
    mr_buf_init(&out, MR_SMTP_MAIL_SIZE_MAX);
    assert_int_equal(mr__smtp_compose(o, handouts, count, WALL_NS, &out), MR_OK);
    return mr_buf_take_text(&out);
}

/* ASCII, CR LF always together, no line longer than 998, the body's not longer than 76. */
static void check_form(const char *mail)
{
    const char *body = strstr(mail, "\r\n\r\n");
    assert_non_null(body);
    for (const char *at = mail; *at != '\0';) {
        const char *end = strstr(at, "\r\n");
        assert_non_null(end);
        assert_true(end - at <= (at > body ? 76 : 998));
        for (const char *c = at; c < end; c++) {
            assert_true(*c >= ' ' && *c <= '~');
        }
        at = end + 2;
    }
}

static const char *const plain_event =
    "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"com.example.t\","
    "\"subject\":\"x\",\"data\":{\"n\":1}}";

static void test_compose_one_event(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    struct mr_handout *handout = make_handout(plain_event, "sub:17");
    char *mail = compose(&o, &handout, 1);
    check_form(mail);
    assert_non_null(strstr(mail, "Date: Sat, 21 Nov 2026 00:00:00 +0000\r\n"));
    assert_non_null(strstr(mail, "From: \"The bus\" <bus@example.com>\r\n"));
    assert_non_null(strstr(mail, "To: \"Ops\" <ops@example.com>\r\n"));
    assert_non_null(strstr(mail, "Subject: com.example.t x\r\n"));
    assert_non_null(strstr(mail, "X-Millrace-Delivery: sub:17\r\n"));
    assert_non_null(strstr(mail, "\r\nid: e1\r\nsource: /s\r\ntype: com.example.t\r\n"));
    assert_non_null(strstr(mail, "\r\n\r\n{\"n\":1}\r\n"));
    assert_null(strstr(mail, "Cc:"));
    mr_free(mail);
    mr_handout_destroy(handout);
    free_options(&o);
}

static void message_id_of(const char *json, const char *delivery, char id[128])
{
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    struct mr_handout *handout = make_handout(json, delivery);
    handout->attempt = (uint32_t)strlen(delivery); /* it must not matter */
    char *mail = compose(&o, &handout, 1);
    const char *at = strstr(mail, "Message-ID: <");
    assert_non_null(at);
    snprintf(id, 128, "%.*s", (int)strcspn(at, "\r"), at);
    assert_non_null(strstr(id, "@example.com>"));
    mr_free(mail);
    mr_handout_destroy(handout);
    free_options(&o);
}

static void test_message_id_follows_delivery_and_event(void **state)
{
    (void)state;
    char a[128];
    char b[128];
    message_id_of(plain_event, "sub:17", a);
    message_id_of(plain_event, "sub:17", b);
    assert_string_equal(a, b);
    message_id_of(plain_event, "sub:18", b);
    assert_string_not_equal(a, b);
    message_id_of("{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/t\",\"type\":\"t\"}",
                  "sub:17", b);
    assert_string_not_equal(a, b);
}

static void test_compose_texts_are_encoded(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    mr_free(o.subject);
    o.subject = mr_strdup("{{data.evil}}{{subject}}");
    o.body = mr_strdup("{{data.evil}}");
    struct mr_handout *handout = make_handout(
        "{\"specversion\":\"1.0\",\"id\":\"=?utf-8?q?x?=\",\"source\":\"/s\",\"type\":\"t\","
        "\"subject\":\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\",\"data\":{\"evil\":"
        "\"a\\r\\nBcc: x@example.com\\rlone\\nline \\n.\\n\\u0000=3D\"}}",
        "sub:1");
    char *mail = compose(&o, &handout, 1);
    check_form(mail);
    const char *body = strstr(mail, "\r\n\r\n") + 4;
    assert_non_null(strstr(mail, "Subject: =?UTF-8?B?"));
    assert_non_null(strstr(mail, "X-Millrace-Event-Id: =?UTF-8?B?")); /* looked encoded */
    assert_string_equal(body, "a\r\nBcc: x@example.com\r\nlone\r\nline=20\r\n.\r\n=00=3D3D\r\n"
                              "\r\n");
    *strstr(mail, "\r\n\r\n") = '\0';
    assert_null(strstr(mail, "Bcc"));
    mr_free(mail);
    mr_handout_destroy(handout);
    free_options(&o);
}

static void test_compose_foreign_script_goes_as_base64(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    o.body = mr_strdup("{{data.t}}");
    struct mr_handout *handout = make_handout(
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data\":{\"t\":"
        "\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\"}}",
        "sub:1");
    char *mail = compose(&o, &handout, 1);
    check_form(mail);
    assert_non_null(strstr(mail, "Content-Transfer-Encoding: base64\r\n"));
    assert_string_equal(strstr(mail, "\r\n\r\n") + 4, "5pel5pys6KqeDQo=\r\n");
    mr_free(mail);
    mr_handout_destroy(handout);
    free_options(&o);
}

static void test_compose_any_bytes_keep_the_form(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    struct mr_rng rng;
    mr_free(o.subject);
    o.subject = mr_strdup("{{data}}");
    o.body = mr_strdup("{{data}}{{data}}");
    mr_rng_init(&rng, 11);
    for (int round = 0; round < 300; round++) {
        uint8_t bytes[700];
        size_t size = 1 + (size_t)mr_rng_below(&rng, sizeof(bytes) - 1);
        for (size_t i = 0; i < size; i++) { /* often line ends, often not UTF-8 */
            static const uint8_t some[] = "\r\n =?.\xc3\xa4\xe6\x97\xa5\xff\t\x01";
            bytes[i] = mr_rng_below(&rng, 2) == 0 ? some[mr_rng_below(&rng, sizeof(some))]
                                                  : (uint8_t)mr_rng_below(&rng, 256);
        }
        struct mr_event_builder builder;
        struct mr_handout *handout = mr_handout_create();
        mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
        static const char *const names[] = {"id", "source", "type", "datacontenttype"};
        static const char *const values[] = {"1", "/s", "t", "text/plain"};
        for (int i = 0; i < 4; i++) {
            assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of(names[i]), MR_ATTR_STRING,
                                                   mr_bytes_of(values[i]), NULL),
                             MR_OK);
        }
        mr_event_builder_data(&builder, mr_bytes(bytes, size), true);
        assert_int_equal(mr_event_builder_finish(&builder, true, &handout->event, NULL), MR_OK);
        char *mail = compose(&o, &handout, 1);
        check_form(mail);
        mr_free(mail);
        mr_handout_destroy(handout);
    }
    free_options(&o);
}

static void test_compose_digest_lists_each(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    struct mr_handout *handouts[3];
    for (int i = 0; i < 3; i++) {
        char delivery[32];
        snprintf(delivery, sizeof(delivery), "sub:%d", i + 1);
        handouts[i] = make_handout(plain_event, delivery);
    }
    char *mail = compose(&o, handouts, 3);
    check_form(mail);
    assert_non_null(strstr(mail, "Subject: [3 events] com.example.t x\r\n"));
    assert_non_null(strstr(mail, "X-Millrace-Delivery: sub:3\r\n"));
    assert_non_null(strstr(mail, "--- 1 of 3: sub:1 ---\r\n"));
    assert_non_null(strstr(mail, "--- 3 of 3: sub:3 ---\r\n"));
    mr_free(mail);
    for (int i = 0; i < 3; i++) {
        mr_handout_destroy(handouts[i]);
    }
    free_options(&o);
}

static void test_compose_memory_short_is_said(void **state)
{
    (void)state;
    struct mr_smtp_options o = make_options("smtp://127.0.0.1");
    struct mr_handout *handout = make_handout(plain_event, "sub:1");
    bool made = false;
    for (uint64_t n = 1; n < 100 && !made; n++) {
        struct mr_buf out;
        int64_t live = mr_alloc_live();
        mr_buf_init(&out, MR_SMTP_MAIL_SIZE_MAX);
        (void)mr_alloc_fail_at(n, 0);
        enum mr_status r = mr__smtp_compose(&o, &handout, 1, WALL_NS, &out);
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        made = r == MR_OK;
        mr_buf_release(&out);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(made);
    struct mr_buf small;
    mr_buf_init(&small, 100);
    assert_int_equal(mr__smtp_compose(&o, &handout, 1, WALL_NS, &small), MR_E_TOO_BIG);
    mr_buf_release(&small);
    mr_handout_destroy(handout);
    free_options(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_address_table),
        cmocka_unit_test(test_check_table),
        cmocka_unit_test(test_compose_one_event),
        cmocka_unit_test(test_message_id_follows_delivery_and_event),
        cmocka_unit_test(test_compose_texts_are_encoded),
        cmocka_unit_test(test_compose_foreign_script_goes_as_base64),
        cmocka_unit_test(test_compose_any_bytes_keep_the_form),
        cmocka_unit_test(test_compose_digest_lists_each),
        cmocka_unit_test(test_compose_memory_short_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
