/* A mail made from the events of one or more hand-outs (RFC 5322, 2045, 2047). Pure.
 *
 * No text of an event can become a header of its own or end one: control characters are blanks,
 * everything that is not plain ASCII is encoded, long values are cut and folded. The body is UTF-8,
 * quoted-printable or base64, whichever is shorter; lines are at most 76 characters.
 *
 * The Message-ID depends on the delivery and its event only: every attempt sends the same one, so
 * that a receiver can tell a mail that came twice. */
#ifndef MR_CONNECTORS_SMTP_MAIL_H
#define MR_CONNECTORS_SMTP_MAIL_H

#include "connectors/smtp/smtp.h"

#define MR_SMTP_MAIL_SIZE_MAX (16u * MR_MIB) /* encoded */
#define MR_SMTP_DIGEST_MAX 1000

/** Appends the mail for @p count hand-outs, with more than one a digest that lists each.
 * @param handouts their events, delivery ids and attempts are read
 * @return MR_E_TOO_BIG: it does not fit @p out; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__smtp_compose(const struct mr_smtp_options *options,
                                            struct mr_handout *const *handouts, uint32_t count,
                                            uint64_t wall_ns, struct mr_buf *out);

#endif
