/* The object store connector's pure parts: signing, XML, listings, what SQS says, explanations. */
#include "tests/support/test.h"

#include "connectors/adapting.h"
#include "connectors/connector.h"
#include "connectors/amqp/amqp.h"
#include "connectors/http/verify.h"
#include "connectors/objectstore/listing.h"
#include "connectors/objectstore/objectstore.h"
#include "connectors/objectstore/sqs_wire.h"
#include "core/alloc.h"
#include "core/clock.h"

/* --- signing ---------------------------------------------------------------------------------- */

/* The examples of the S3 documentation: GET of ?lifecycle= and of a listing. */
static void check_signature(const char *query, const char *expected)
{
    struct mr_credentials c = {0};
    struct mr_secret *secret =
        mr_secret_create(MR_BYTES_LITERAL("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
    struct mr_problem problem;
    assert_int_equal(mr__credentials_init(&c, "AKIAIOSFODNN7EXAMPLE", secret, NULL, &problem),
                     MR_OK);
    char hash[MR_SHA256_HEX_SIZE];
    assert_int_equal(mr__sign_hash(mr_bytes(NULL, 0), hash), MR_OK);
    assert_string_equal(hash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    char date[MR_AMZ_DATE_SIZE];
    mr__sign_date(1369353600 * MR_SECOND, date);
    assert_string_equal(date, "20130524T000000Z");
    const struct mr_field headers[] = {
        {MR_BYTES_LITERAL("host"), MR_BYTES_LITERAL("examplebucket.s3.amazonaws.com")},
        {MR_BYTES_LITERAL("x-amz-content-sha256"), mr_bytes_of(hash)},
        {MR_BYTES_LITERAL("x-amz-date"), mr_bytes_of(date)},
    };
    const struct mr_sign_input input = {.method = "GET",
                                        .path = MR_BYTES_LITERAL("/"),
                                        .query = mr_bytes_of(query),
                                        .headers = headers,
                                        .header_count = 3,
                                        .body_hash = hash,
                                        .date = date,
                                        .region = "us-east-1",
                                        .service = "s3"};
    struct mr_buf out;
    mr_buf_init(&out, 4096);
    assert_int_equal(mr__sign(&c, &input, &out), MR_OK);
    char *text = mr_buf_take_text(&out);
    assert_non_null(strstr(text, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/"
                                 "us-east-1/s3/aws4_request, SignedHeaders=host;"
                                 "x-amz-content-sha256;x-amz-date, Signature="));
    assert_string_equal(strstr(text, "Signature=") + 10, expected);
    mr_free(text);
    mr__credentials_release(&c);
    mr_secret_destroy(secret);
}

static void test_sign_published_examples(void **state)
{
    (void)state;
    check_signature("lifecycle=",
                    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check_signature("max-keys=2&prefix=J",
                    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_credentials_come_in_pairs(void **state)
{
    (void)state;
    struct mr_credentials c = {0};
    struct mr_problem problem;
    assert_int_equal(mr__credentials_init(&c, "id", NULL, NULL, &problem), MR_E_INVALID);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    assert_int_equal(mr__credentials_init(&c, NULL, NULL, NULL, &problem), MR_OK);
    assert_null(c.access_key);
    setenv("AWS_ACCESS_KEY_ID", "id", 1);
    assert_int_equal(mr__credentials_init(&c, NULL, NULL, NULL, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "AWS_SECRET_ACCESS_KEY"));
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    setenv("AWS_SESSION_TOKEN", "token", 1);
    assert_int_equal(mr__credentials_init(&c, NULL, NULL, NULL, &problem), MR_OK);
    assert_string_equal(c.access_key, "id");
    assert_true(mr_secret_equal(c.session_token, MR_BYTES_LITERAL("token")));
    mr__credentials_release(&c);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("AWS_SESSION_TOKEN");
}

static void test_uri_encode_and_decode(void **state)
{
    (void)state;
    static const struct {
        const char *plain;
        const char *encoded;
    } cases[] = {
        {"dir/a b+\xc3\xbc=:@~-._.txt", "dir/a%20b%2B%C3%BC%3D%3A%40~-._.txt"},
        {"", ""},
        {"%", "%25"},
    };
    struct mr_buf out;
    mr_buf_init(&out, 256);
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        mr_buf_clear(&out);
        assert_int_equal(mr__uri_encode(&out, mr_bytes_of(cases[i].plain), true), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&out), mr_bytes_of(cases[i].encoded)));
        mr_buf_clear(&out);
        assert_int_equal(mr__uri_decode(&out, mr_bytes_of(cases[i].encoded)), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&out), mr_bytes_of(cases[i].plain)));
    }
    mr_buf_clear(&out);
    assert_int_equal(mr__uri_decode(&out, MR_BYTES_LITERAL("a+b%2b")), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&out), MR_BYTES_LITERAL("a b+")));
    static const char *const bad[] = {"%", "%2", "a%zz", "%4", "%%41"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(mr__uri_decode(&out, mr_bytes_of(bad[i])), MR_E_INVALID);
    }
    mr_buf_release(&out);
}

/* --- XML -------------------------------------------------------------------------------------- */

static const char *xml_fault(const char *text)
{
    struct mr_xml xml;
    mr__xml_init(&xml, mr_bytes_of(text));
    for (;;) {
        switch (mr__xml_next(&xml)) {
        case MR_XML_END:
            return NULL;
        case MR_XML_FAULT:
            return xml.fault;
        case MR_XML_OPEN:
        case MR_XML_CLOSE:
        case MR_XML_TEXT:
            break;
        }
    }
}

static void test_xml_wellformed(void **state)
{
    (void)state;
    static const char *const good[] = {
        "<a/>",
        "\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- a > b --><a x='>' y=\"/\"><b/>t<c>&amp;</c></a>\n",
        "<s3:a xmlns:s3='x'><s3:b></s3:b ></s3:a>",
        "<a><![CDATA[<no tag>]]></a>",
    };
    static const char *const bad[] = {
        "",    "  ",          "text",      "<a>",        "<a></b>",       "<a/><b/>",
        "<a",  "<a><b></a>",  "</a>",      "<a>x</a>x",  "<!DOCTYPE a><a/>",
        "<>",  "<a b='></a>", "<?xml <a>", "<!-- <a/>",  "<a><![CDATA[x</a>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        assert_null(xml_fault(good[i]));
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_non_null(xml_fault(bad[i]));
    }
}

static void test_xml_content_decodes(void **state)
{
    (void)state;
    static const struct {
        const char *xml;
        const char *text;
    } cases[] = {
        {"<a>x&amp;y&lt;&gt;&quot;&apos;&#65;&#x42;&#xfc;&#x20ac;&#x1F600;</a>",
         "x&y<>\"'AB\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"<a>1<b>no</b>2<!-- 3 -->4<![CDATA[&amp;]]></a>", "124&amp;"},
        {"<a/>", ""},
        {"<a>&nbsp;</a>", NULL},
        {"<a>&#0;</a>", NULL},
        {"<a>&#xd800;</a>", NULL},
        {"<a>&#x110000;</a>", NULL},
        {"<a>&amp</a>", NULL},
        {"<a>&</a>", NULL},
        {"<a>&#;</a>", NULL},
        {"<a>&#xg;</a>", NULL},
        {"<a>&#1a;</a>", NULL},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_xml xml;
        struct mr_buf out;
        mr_buf_init(&out, 64);
        mr__xml_init(&xml, mr_bytes_of(cases[i].xml));
        assert_int_equal(mr__xml_next(&xml), MR_XML_OPEN);
        enum mr_status r = mr__xml_content(&xml, &out);
        if (cases[i].text == NULL) {
            assert_int_equal(r, MR_E_INVALID);
            assert_non_null(xml.fault);
        } else {
            assert_int_equal(r, MR_OK);
            assert_true(mr_bytes_equal(mr_buf_bytes(&out), mr_bytes_of(cases[i].text)));
        }
        mr_buf_release(&out);
    }
}

/* --- listings --------------------------------------------------------------------------------- */

static const char page[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
    "<Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><Delimiter></Delimiter>"
    "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    "<Contents><Key>dir/a+b%2B%C3%BC</Key><LastModified>2026-11-21T03:10:09.409Z</LastModified>"
    "<ETag>&#34;5d41&#34;</ETag><Size>5</Size><Owner><ID>x</ID><Key>no</Key></Owner>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
    "<Contents><Key>e</Key><Size>0</Size></Contents>"
    "<EncodingType>url</EncodingType></ListBucketResult>";

static void test_listing_reads_a_page(void **state)
{
    (void)state;
    struct mr_listing listing;
    struct mr_object object;
    struct mr_problem problem = {.text = ""};
    mr__listing_init(&listing);
    mr__object_init(&object);
    assert_int_equal(mr__listing_open(&listing, mr_bytes_of(page), &problem), MR_OK);
    assert_true(listing.is_truncated && listing.is_encoded);
    assert_int_equal(mr__listing_next(&listing, &object, &problem), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&object.key), MR_BYTES_LITERAL("dir/a b+\xc3\xbc")));
    assert_true(mr_bytes_equal(mr_buf_bytes(&object.etag), MR_BYTES_LITERAL("5d41")));
    assert_int_equal(object.size, 5);
    assert_int_equal(object.modified_ns, 1795230609409 * 1000000);
    assert_int_equal(mr__listing_next(&listing, &object, &problem), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&object.key), MR_BYTES_LITERAL("e")));
    assert_int_equal(object.etag.size, 0);
    assert_int_equal(mr__listing_next(&listing, &object, &problem), MR_E_NOT_FOUND);
    mr__listing_release(&listing);
    mr__object_release(&object);
}

static void test_listing_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "<html>no</html>",
        "{}",
        "<ListBucketResult><Contents>",
        "<ListBucketResult><Contents></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>x</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><LastModified>now</LastModified></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%</Key></Contents>"
        "</ListBucketResult>",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        struct mr_listing listing;
        struct mr_object object;
        struct mr_problem problem = {.text = ""};
        mr__listing_init(&listing);
        mr__object_init(&object);
        enum mr_status r = mr__listing_open(&listing, mr_bytes_of(bad[i]), &problem);
        r = r == MR_OK ? mr__listing_next(&listing, &object, &problem) : r;
        assert_int_equal(r, MR_E_INVALID);
        assert_non_null(strstr(problem.text, "the listing cannot be read"));
        mr__listing_release(&listing);
        mr__object_release(&object);
    }
}

/* --- SQS -------------------------------------------------------------------------------------- */

static void test_sqs_messages(void **state)
{
    (void)state;
    struct mr__scan scan;
    struct mr_sqs_message m;
    struct mr_problem problem;
    bool any = false;
    assert_int_equal(
        mr__sqs_open(&scan,
                     MR_BYTES_LITERAL("{\"Messages\":[{\"MessageId\":\"i\",\"ReceiptHandle\":\"h\","
                                      "\"Body\":\"{\\\"a\\\":1}\",\"Attributes\":{}}]}"),
                     &any, &problem),
        MR_OK);
    assert_true(any);
    assert_int_equal(mr__sqs_next(&scan, &m, &problem), MR_OK);
    assert_true(mr_bytes_equal(m.id, MR_BYTES_LITERAL("i")));
    assert_true(mr_bytes_equal(m.handle, MR_BYTES_LITERAL("h")));
    assert_true(mr_bytes_equal(m.body, MR_BYTES_LITERAL("{\\\"a\\\":1}")));
    assert_int_equal(mr__sqs_next(&scan, &m, &problem), MR_E_NOT_FOUND);
    static const char *const empty[] = {"{}", "{\"Messages\":null}", " {\"Messages\":[]} "};
    for (size_t i = 0; i < MR_ARRAY_COUNT(empty); i++) {
        assert_int_equal(mr__sqs_open(&scan, mr_bytes_of(empty[i]), &any, &problem), MR_OK);
        assert_true(!any || mr__sqs_next(&scan, &m, &problem) == MR_E_NOT_FOUND);
    }
    static const char *const bad[] = {"", "[]", "{", "<a/>", "{\"Messages\":{}}",
                                      "{\"Messages\":[{\"MessageId\":\"i\",\"Body\":\"\"}]}",
                                      "{\"Messages\":[1]}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        enum mr_status r = mr__sqs_open(&scan, mr_bytes_of(bad[i]), &any, &problem);
        assert_int_equal(r == MR_OK ? mr__sqs_next(&scan, &m, &problem) : r, MR_E_INVALID);
    }
}

static void test_sqs_failures(void **state)
{
    (void)state;
    struct mr_sqs_failure f[MR_SQS_BATCH_MAX];
    assert_int_equal(mr__sqs_failures(MR_BYTES_LITERAL("{\"Successful\":[{\"Id\":\"0\"}]}"), f), 0);
    assert_int_equal(
        mr__sqs_failures(MR_BYTES_LITERAL("{\"Failed\":[{\"Id\":\"7\",\"SenderFault\":true,"
                                          "\"Code\":\"ReceiptHandleIsInvalid\"},"
                                          "{\"Id\":\"0\",\"SenderFault\":false}]}"),
                         f),
        2);
    assert_int_equal(f[0].index, 7);
    assert_true(f[0].is_final && !f[1].is_final);
    assert_string_equal(f[0].code, "ReceiptHandleIsInvalid");
    static const char *const bad[] = {"", "[]", "{\"Failed\":3}", "{\"Failed\":[{\"Id\":\"10\"}]}",
                                      "{\"Failed\":[{\"Id\":\"x\"}]}", "{\"Failed\":[1]}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(mr__sqs_failures(mr_bytes_of(bad[i]), f), UINT32_MAX);
    }
    assert_int_equal(mr__sqs_waiting(MR_BYTES_LITERAL(
                         "{\"Attributes\":{\"ApproximateNumberOfMessages\":\"12\"}}")),
                     12);
    assert_int_equal(mr__sqs_waiting(MR_BYTES_LITERAL("{}")), 0);
}

/* --- explanations ----------------------------------------------------------------------------- */

static void check_explained(unsigned status, const char *answer, const char *expected,
                            enum mr_call_end end)
{
    struct mr_credentials credentials = {.access_key = (char *)(uintptr_t)"id"};
    struct mr_client_options options = {
        .credentials = &credentials, .region = "us-east-1", .service = "s3"};
    struct mr_call call;
    char text[400];
    char code[MR_CALL_CODE_SIZE];
    mr__call_init(&call, 4096);
    call.status = status;
    assert_int_equal(mr_buf_append_text(&call.answer, answer), MR_OK);
    mr__call_explain(&call, &options, text, sizeof(text), code);
    if (strstr(text, expected) == NULL) {
        print_error("\"%s\" is not in \"%s\"\n", expected, text);
        fail();
    }
    assert_int_equal(mr__call_end(&call, code), end);
    mr__call_release(&call);
}

static void test_explain(void **state)
{
    (void)state;
    check_explained(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>m</Message></Error>",
                    "HTTP 403 SignatureDoesNotMatch: the secret key is wrong (m)", MR_CALL_RETRY);
    check_explained(403, "<Error><Code>InvalidAccessKeyId</Code></Error>", "access key",
                    MR_CALL_RETRY);
    check_explained(400, "<Error><Code>AuthorizationHeaderMalformed</Code></Error>",
                    "the region is not us-east-1", MR_CALL_RETRY);
    check_explained(404, "<Error><Code>NoSuchBucket</Code></Error>", "no such bucket",
                    MR_CALL_RETRY);
    check_explained(400, "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":\"w\"}",
                    "HTTP 400 QueueDoesNotExist: there is no such", MR_CALL_RETRY);
    check_explained(503, "<Error><Code>SlowDown</Code></Error>", "SlowDown", MR_CALL_REFUSED);
    check_explained(500, "not XML", "HTTP 500", MR_CALL_RETRY);
    check_explained(400, "<Error><Code>EntityTooLarge</Code></Error>", "EntityTooLarge",
                    MR_CALL_NEVER);
    check_explained(400, "<Error><Code>RequestTimeout</Code></Error>", "RequestTimeout",
                    MR_CALL_RETRY);
    check_explained(413, "", "HTTP 413", MR_CALL_NEVER);
}

/* --- options ---------------------------------------------------------------------------------- */

static void check_source(const char *url, int via, enum mr_status expected)
{
    struct mr_objectstore_source_options o = {0};
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr_options_defaults(mr__objectstore_source_table, &o), MR_OK);
    o.via = via;
    if (url != NULL) {
        assert_int_equal(mr_parse_url(mr_bytes_of(url), &o.peer.url, &problem), MR_OK);
    }
    assert_int_equal(mr__objectstore_check_source(&o, &problem), expected);
    assert_int_equal(problem.text[0] != '\0', expected != MR_OK);
    mr_options_release(mr__objectstore_source_table, &o);
}

static void test_check_source_looks_into_what_it_hands_on(void **state)
{
    (void)state;
    struct mr_objectstore_source_options o = {0};
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr_options_defaults(mr__objectstore_source_table, &o), MR_OK);
    o.via = MR_VIA_WEBHOOK;
    o.path = mr_strdup("/lake");
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_OK);
    o.verify.scheme = MR_HTTP_SCHEME_HMAC;
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_E_INVALID); /* no secret */
    o.verify.scheme = MR_HTTP_SCHEME_NONE;
    o.confirm = true;
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_E_INVALID);
    o.verify.scheme = MR_HTTP_SCHEME_SNS;
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_OK);
    o.via = MR_VIA_AMQP;
    o.queue = mr_strdup("jobs");
    assert_int_equal(mr_parse_url(mr_bytes_of("amqp://127.0.0.1"), &o.peer.url, &problem), MR_OK);
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_OK);
    o.declare.arguments = mr_strdup("{}"); /* with a queue that has to be there */
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_E_INVALID);
    o.declare.type = MR_AMQP_QUEUE_QUORUM;
    assert_int_equal(mr__objectstore_check_source(&o, &problem), MR_OK);
    mr_options_release(mr__objectstore_source_table, &o);
}

static void test_check_source(void **state)
{
    (void)state;
    check_source("http://127.0.0.1:1/000/q", MR_VIA_SQS, MR_OK);
    check_source("https://b.s3.eu-central-1.amazonaws.com", MR_VIA_LIST, MR_OK);
    check_source("http://127.0.0.1:1", MR_VIA_SQS, MR_E_INVALID);
    check_source("http://u:p@127.0.0.1/b", MR_VIA_LIST, MR_E_INVALID);
    check_source("http://127.0.0.1/b?x=1", MR_VIA_LIST, MR_E_INVALID);
    check_source("mqtt://127.0.0.1", MR_VIA_LIST, MR_E_INVALID);
    check_source(NULL, MR_VIA_SQS, MR_E_INVALID);
    check_source(NULL, MR_VIA_WEBHOOK, MR_E_INVALID); /* wants a path */
    check_source(NULL, MR_VIA_KAFKA, MR_E_INVALID);
}

static void check_region(const char *url, const char *expected)
{
    struct mr_objectstore_peer peer = {0};
    struct mr_service service;
    struct mr_problem problem;
    assert_int_equal(mr_parse_url(mr_bytes_of(url), &peer.url, &problem), MR_OK);
    assert_int_equal(mr__service_init(&service, &peer, "s3", 1, &problem), MR_OK);
    assert_string_equal(service.region, expected);
    mr__service_release(&service);
    mr_url_destroy(peer.url);
}

static void test_region_is_found(void **state)
{
    (void)state;
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
    check_region("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1");
    check_region("https://b.s3.cn-north-1.amazonaws.com.cn", "cn-north-1");
    check_region("https://s3.amazonaws.com/b", "us-east-1");
    setenv("AWS_DEFAULT_REGION", "eu-west-1", 1);
    check_region("http://127.0.0.1/b", "eu-west-1");
    setenv("AWS_REGION", "bad region", 1);
    check_region("http://127.0.0.1/b", "us-east-1");
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_published_examples),
        cmocka_unit_test(test_credentials_come_in_pairs),
        cmocka_unit_test(test_uri_encode_and_decode),
        cmocka_unit_test(test_xml_wellformed),
        cmocka_unit_test(test_xml_content_decodes),
        cmocka_unit_test(test_listing_reads_a_page),
        cmocka_unit_test(test_listing_refuses),
        cmocka_unit_test(test_sqs_messages),
        cmocka_unit_test(test_sqs_failures),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_check_source),
        cmocka_unit_test(test_check_source_looks_into_what_it_hands_on),
        cmocka_unit_test(test_region_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
