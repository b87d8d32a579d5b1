/* Fuzz target: the headers in which senders of webhooks prove themselves, the handshake's, and the
 * content codings. The first byte picks what; then header lines up to an empty line, then the body.
 * Nothing an attacker writes may be believed: the key never occurs in the input. */
#include "connectors/http/content.h"
#include "connectors/http/handshake.h"
#include "connectors/http/verify.h"
#include "core/clock.h"
#include "core/limits.h"
#include "tests/fuzz/message.h"

#define HEADERS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mr_http_verifier *make_verifier(enum mr_http_scheme scheme)
{
    static char header[] = "x-sig";
    static char prefix[] = "v0=";
    struct mr_problem problem = {""};
    struct mr_http_verifier *verifier = NULL;
    /* Long and random: a fuzzer does not find it. */
    struct mr_bytes text =
        scheme == MR_HTTP_SCHEME_STANDARD
            ? MR_BYTES_LITERAL("whpk_QkPqFH7zLOUvIaYkkEgjZfrN1TzGrWVtyL6LpGBpXEw=")
            : MR_BYTES_LITERAL("a user:5f0c7e02b1d94d1bb8a34f9f6c1f2d77");
    struct mr_http_verify_options options = {.scheme = (int)scheme,
                                             .window_ns = 300 * MR_SECOND,
                                             .secret = mr_secret_create(text)};
    if (scheme == MR_HTTP_SCHEME_STANDARD) {
        options.previous_secret = mr_secret_create(
            MR_BYTES_LITERAL("whsec_XwyfAvkfNvJBlk4e3Nd8nMzT0vS3UZ8lWl3sJ1qkqTg="));
    }
    if (scheme == MR_HTTP_SCHEME_HMAC) {
        options.header = header;
        options.prefix = prefix;
    }
    enum mr_status r = mr_http_verifier_create(&options, &verifier, &problem);
    MR_ASSERT(r == MR_OK);
    mr_secret_destroy(options.secret);
    mr_secret_destroy(options.previous_secret);
    return verifier;
}

static void fuzz_verify(enum mr_http_scheme scheme, struct mr_bytes text)
{
    struct mr_field headers[HEADERS_MAX];
    struct mr_http_signed message = {.headers = headers, .wall_ns = 1700000000ull * MR_SECOND};
    message.header_count = take_http_headers(&text, headers, HEADERS_MAX);
    message.body = text;
    struct mr_http_verifier *verifier = make_verifier(scheme);
    const char *head = mr_http_verify_head(verifier, &message);
    const char *whole = mr_http_verify(verifier, &message);
    MR_ASSERT(whole != NULL);                 /* nobody proved anything */
    MR_ASSERT(head == NULL || head == whole); /* both say the same */
    mr_http_verifier_destroy(verifier);
}

static void fuzz_handshake(struct mr_bytes text)
{
    char *origins[] = {(char[]){"a.example"}, (char[]){"b.example"}};
    struct mr_http_handshake_options options = {.origins = {origins, 2}, .rate = 60};
    struct mr_field headers[HEADERS_MAX];
    uint32_t count = take_http_headers(&text, headers, HEADERS_MAX);
    struct mr_http_consent consent;
    uint64_t rate;
    mr_http_handshake_answer(&options, headers, count, &consent);
    MR_ASSERT(consent.header_count == 0 || consent.origin != NULL);
    options.grant = MR_HTTP_GRANT_CALLBACK;
    mr_http_handshake_answer(&options, headers, count, &consent);
    MR_ASSERT(consent.header_count <= 1);
    MR_ASSERT(consent.callback.size == 0 ||
              consent.callback.size >= sizeof("https://a.example") - 1);
    (void)mr_http_handshake_granted(MR_BYTES_LITERAL("a.example"), headers, count, &rate);
}

static void fuzz_content(bool is_gzip, struct mr_bytes body)
{
    const size_t size_max = MR_MIB;
    struct mr_buf plain;
    struct mr_bytes out;
    struct mr_problem problem = {""};
    mr_buf_init(&plain, size_max + 1);
    enum mr_status r = mr_http_content_decode(
        MR_HTTP_CODING_GZIP | MR_HTTP_CODING_ZSTD,
        is_gzip ? MR_BYTES_LITERAL("gzip") : MR_BYTES_LITERAL("zstd"), body, size_max, &plain, &out,
        &problem);
    MR_ASSERT(r != MR_OK || out.size <= size_max);
    MR_ASSERT(r == MR_OK || problem.text[0] != '\0' || r == MR_E_NOMEM);
    mr_buf_release(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct mr_bytes text = mr_bytes(data + 1, size - 1);
    switch (data[0]) {
    case 'h':
        fuzz_handshake(text);
        break;
    case 'g':
    case 'z':
        fuzz_content(data[0] == 'g', text);
        break;
    default:
        if (data[0] >= '1' && data[0] <= '8') {
            fuzz_verify((enum mr_http_scheme)(data[0] - '0'), text);
        }
        break;
    }
    return 0;
}
