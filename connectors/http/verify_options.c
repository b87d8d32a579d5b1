#include <stddef.h>

#include "connectors/http/verify.h"

const char *const mr__http_scheme_words[] = {"none",   "github",           "gitlab", "stripe",
                                      "shopify", "standard-webhooks", "hmac",   "bearer",
                                      "basic",  "sns",              NULL};
static const char *const ENCODINGS[] = {"hex", "base64", NULL};
static const char *const ALGORITHMS[] = {"sha256", "sha512", "sha1", NULL};

#define AT(field) offsetof(struct mr_http_verify_options, field)
const struct mr_option mr_http_verify_option_table[] = {
    {.name = "scheme",
     .type = MR_OPTION_ENUM,
     .at = AT(scheme),
     .default_text = "none",
     .words = mr__http_scheme_words,
     .help = "How the sender proves itself; what fails gets 401 before anything else is said."},
    {.name = "secret",
     .type = MR_OPTION_SECRET,
     .at = AT(secret),
     .help = "The shared secret; for `basic` user:password, for `standard-webhooks` the "
             "whsec_… (HMAC) or whpk_… (ed25519 public) key."},
    {.name = "previous_secret",
     .type = MR_OPTION_SECRET,
     .at = AT(previous_secret),
     .help = "As good as `secret`, while the sender changes from one to the other."},
    {.name = "window",
     .type = MR_OPTION_DURATION,
     .at = AT(window_ns),
     .default_text = "300s",
     .max = 7ll * 24 * 3600 * 1000000000,
     .help = "How far the signed time of `stripe` and `standard-webhooks` may be from now; 0 takes "
             "any."},
    {.name = "header",
     .type = MR_OPTION_STRING,
     .at = AT(header),
     .help = "`hmac`: the header that holds the digest of the body."},
    {.name = "prefix",
     .type = MR_OPTION_STRING,
     .at = AT(prefix),
     .help = "`hmac`: what stands before the digest in the header, as sha256=."},
    {.name = "encoding",
     .type = MR_OPTION_ENUM,
     .at = AT(encoding),
     .default_text = "hex",
     .words = ENCODINGS,
     .help = "`hmac`: how the digest is written."},
    {.name = "algorithm",
     .type = MR_OPTION_ENUM,
     .at = AT(algorithm),
     .default_text = "sha256",
     .words = ALGORITHMS,
     .help = "`hmac`: the hash."},
    {.name = "certificate",
     .type = MR_OPTION_PATH,
     .at = AT(certificate),
     .help = "`sns`: PEM file of the certificate to believe instead of the one that a message "
             "names (which is fetched from sns.*.amazonaws.com only)."},
    {.name = "topics",
     .type = MR_OPTION_STRINGS,
     .at = AT(topics),
     .help = "`sns`: the topic ARNs that are taken; without it every topic, and anybody with an "
             "AWS account has one."},
    MR_OPTION_END,
};
#undef AT
