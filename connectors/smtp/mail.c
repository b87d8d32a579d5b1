#include "connectors/smtp/mail.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/logger.h"
#include "schemas/template.h"

#define VALUE_SIZE_MAX 512u         /* of a header's text; a line may hold 998 bytes */
#define WORD_SIZE_MAX 45u           /* bytes in one encoded word: 75 characters with its frame */
#define LINE_SIZE_MAX 76u           /* of the encoded body */
#define BASE64_LINE_BYTES 57u       /* 76 characters */
#define DATA_SIZE_MAX (64u * MR_KIB) /* shown when no body is configured */
#define DATA_SIZE_MAX_DIGEST (4u * MR_KIB)

static const char *const weekdays[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* How much of @p text fits @p size_max without cutting a character in two. */
static size_t cut(struct mr_bytes text, size_t size_max)
{
    size_t size = text.size < size_max ? text.size : size_max;
    while (size > 0 && size < text.size && (text.data[size] & 0xc0) == 0x80) {
        size--;
    }
    return size;
}

/* --- headers ---------------------------------------------------------------------------------- */

static bool is_plain(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        bool marked = text.data[i] == '=' && i + 1 < text.size && text.data[i + 1] == '?';
        if (text.data[i] < ' ' || text.data[i] > '~' || marked) { /* =?: would be decoded */
            return false;
        }
    }
    return true;
}

/* Encoded words (RFC 2047), each on a line of its own but the first. */
static enum mr_status append_words(struct mr_buf *out, struct mr_bytes text)
{
    enum mr_status r = MR_OK;
    for (size_t at = 0; at < text.size && r == MR_OK;) {
        size_t size = cut(mr_bytes(text.data + at, text.size - at), WORD_SIZE_MAX);
        r = mr_buf_append_text(out, at == 0 ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
        r = r == MR_OK ? mr_buf_append_base64(out, mr_bytes(text.data + at, size)) : r;
        r = r == MR_OK ? mr_buf_append_text(out, "?=") : r;
        at += size;
    }
    return r;
}

/* Any text as the value of a header: cleaned, cut, encoded. */
static enum mr_status append_header(struct mr_buf *out, const char *name, struct mr_bytes value)
{
    char text[VALUE_SIZE_MAX];
    mr_text_clean(text, sizeof(text), value);
    struct mr_bytes clean = mr_bytes_of(text + strspn(text, " "));
    while (clean.size > 0 && clean.data[clean.size - 1] == ' ') {
        clean.size--;
    }
    enum mr_status r = mr_buf_printf(out, "%s: ", name);
    if (r == MR_OK) {
        r = is_plain(clean) ? mr_buf_append_bytes(out, clean) : append_words(out, clean);
    }
    return r == MR_OK ? mr_buf_append_text(out, "\r\n") : r;
}

static enum mr_status append_address(struct mr_buf *out, const char *text)
{
    struct mr_smtp_address a = {.name = {NULL, 0}};
    if (!mr__smtp_read_address(text, &a)) {
        return MR_E_INVALID; /* the check let only good ones through */
    }
    enum mr_status r = MR_OK;
    if (a.name.size > 0 && is_plain(a.name)) {
        r = mr_buf_append_byte(out, '"');
        for (size_t i = 0; i < a.name.size && r == MR_OK; i++) {
            r = a.name.data[i] == '\\' ? mr_buf_append_text(out, "\\\\")
                                       : mr_buf_append_byte(out, a.name.data[i]);
        }
        r = r == MR_OK ? mr_buf_append_text(out, "\" ") : r;
    } else if (a.name.size > 0) {
        r = append_words(out, a.name);
        r = r == MR_OK ? mr_buf_append_byte(out, ' ') : r;
    }
    return r == MR_OK ? mr_buf_printf(out, "<%.*s>", (int)a.box.size, (const char *)a.box.data)
                      : r;
}

static enum mr_status append_addresses(struct mr_buf *out, const char *name, char *const *items,
                                       uint32_t count)
{
    enum mr_status r = count == 0 ? MR_OK : mr_buf_printf(out, "%s: ", name);
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        r = append_address(out, items[i]);
        r = r == MR_OK ? mr_buf_append_text(out, i + 1 < count ? ",\r\n " : "\r\n") : r;
    }
    return r;
}

static enum mr_status append_date(struct mr_buf *out, uint64_t wall_ns)
{
    int64_t seconds = (int64_t)(wall_ns / MR_SECOND);
    int64_t days = seconds / 86400;
    unsigned rest = (unsigned)(seconds % 86400);
    int64_t year;
    unsigned month;
    unsigned day;
    mr_civil_from_days(days, &year, &month, &day);
    return mr_buf_printf(out, "Date: %s, %u %s %lld %02u:%02u:%02u +0000\r\n", weekdays[days % 7],
                         day, months[month - 1], (long long)year, rest / 3600, rest / 60 % 60,
                         rest % 60);
}

static uint64_t hash_text(uint64_t h, struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        h = mr_hash_step(h, text.data[i]);
    }
    return mr_hash_step(h, 0);
}

static enum mr_status append_message_id(const struct mr_smtp_options *options,
                                        struct mr_handout *const *handouts, uint32_t count,
                                        struct mr_buf *out)
{
    uint64_t deliveries = MR_HASH_BEGIN;
    uint64_t events = MR_HASH_BEGIN; /* another installation may count the same deliveries */
    for (uint32_t i = 0; i < count; i++) {
        struct mr_bytes record = mr_event_record(handouts[i]->event);
        deliveries = hash_text(deliveries, mr_bytes_of(handouts[i]->delivery));
        events = hash_text(hash_text(events, mr_event_source(record)), mr_event_id(record));
    }
    struct mr_smtp_address from = {.box = {NULL, 0}};
    if (!mr__smtp_read_address(options->from, &from)) {
        return MR_E_INVALID;
    }
    const uint8_t *at = memchr(from.box.data, '@', from.box.size);
    size_t domain_size = (size_t)(from.box.data + from.box.size - at - 1);
    return mr_buf_printf(out, "Message-ID: <%016llx.%016llx@%.*s>\r\n",
                         (unsigned long long)mr_hash_end(deliveries),
                         (unsigned long long)mr_hash_end(events), (int)domain_size,
                         (const char *)at + 1);
}

static enum mr_status append_subject(const struct mr_smtp_options *options,
                                     struct mr_handout *const *handouts, uint32_t count,
                                     struct mr_buf *scratch, struct mr_buf *out)
{
    mr_buf_clear(scratch);
    if (count > 1) { /* before the subject, which may be cut */
        enum mr_status r = mr_buf_printf(scratch, "[%u events] ", count);
        if (r != MR_OK) {
            return r;
        }
    }
    enum mr_status r =
        mr_template_fill(options->subject, mr_event_record(handouts[0]->event), scratch);
    return r == MR_OK ? append_header(out, "Subject", mr_buf_bytes(scratch)) : r;
}

static enum mr_status append_marks(struct mr_handout *const *handouts, uint32_t count,
                                   struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        r = append_header(out, "X-Millrace-Delivery", mr_bytes_of(handouts[i]->delivery));
    }
    if (count > 1 || r != MR_OK) {
        return r;
    }
    struct mr_bytes record = mr_event_record(handouts[0]->event);
    r = append_header(out, "X-Millrace-Event-Id", mr_event_id(record));
    r = r == MR_OK ? append_header(out, "X-Millrace-Event-Source", mr_event_source(record)) : r;
    return r == MR_OK ? append_header(out, "X-Millrace-Event-Type", mr_event_type(record)) : r;
}

/* --- the text --------------------------------------------------------------------------------- */

static enum mr_status append_line(struct mr_buf *out, struct mr_bytes name, struct mr_bytes value)
{
    enum mr_status r = mr_buf_append_bytes(out, name);
    r = r == MR_OK ? mr_buf_append_text(out, ": ") : r;
    r = r == MR_OK ? mr_buf_append_bytes(out, value) : r;
    return r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
}

static enum mr_status append_data(struct mr_bytes record, size_t size_max, struct mr_buf *out)
{
    struct mr_bytes data = mr_event_data(record);
    if (data.size == 0) {
        return MR_OK;
    }
    if (!mr_bytes_is_utf8(data)) {
        return mr_buf_printf(out, "\n(%zu bytes that are no text)\n", data.size);
    }
    size_t size = cut(data, size_max);
    enum mr_status r = mr_buf_append_byte(out, '\n');
    r = r == MR_OK ? mr_buf_append(out, data.data, size) : r;
    if (r == MR_OK && size < data.size) {
        r = mr_buf_printf(out, "\n(cut; %zu bytes in all)", data.size);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
}

/* The event in readable form. */
static enum mr_status append_listing(const struct mr_handout *handout, size_t data_size_max,
                                     struct mr_buf *out)
{
    struct mr_bytes record = mr_event_record(handout->event);
    struct mr_attr attr;
    enum mr_status r = MR_OK;
    for (uint32_t position = 0; r == MR_OK && mr_event_next_attr(record, &position, &attr);) {
        r = append_line(out, attr.name, attr.value);
    }
    if (r == MR_OK) {
        r = append_line(out, MR_BYTES_LITERAL("delivery"), mr_bytes_of(handout->delivery));
    }
    return r == MR_OK ? append_data(record, data_size_max, out) : r;
}

static enum mr_status append_text(const struct mr_smtp_options *options,
                                  struct mr_handout *const *handouts, uint32_t count,
                                  struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    size_t data_size_max = count > 1 ? DATA_SIZE_MAX_DIGEST : DATA_SIZE_MAX;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        if (count > 1) {
            r = mr_buf_printf(out, "%s--- %u of %u: %s ---\n", i == 0 ? "" : "\n", i + 1, count,
                              handouts[i]->delivery);
        }
        if (r == MR_OK && options->body != NULL) {
            r = mr_template_fill(options->body, mr_event_record(handouts[i]->event), out);
            r = r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
        } else if (r == MR_OK) {
            r = append_listing(handouts[i], data_size_max, out);
        }
    }
    return r;
}

/* Every kind of line end becomes CR LF; what is not UTF-8 loses its bytes above ASCII. */
static enum mr_status append_canonical(struct mr_bytes text, struct mr_buf *out)
{
    bool utf8 = mr_bytes_is_utf8(text);
    enum mr_status r = mr_buf_reserve(out, text.size);
    for (size_t i = 0; i < text.size && r == MR_OK; i++) {
        uint8_t c = text.data[i];
        if (c == '\r' || c == '\n') {
            r = mr_buf_append(out, "\r\n", 2);
            i += c == '\r' && i + 1 < text.size && text.data[i + 1] == '\n' ? 1 : 0;
        } else {
            r = mr_buf_append_byte(out, c >= 0x80 && !utf8 ? '?' : c);
        }
    }
    return r;
}

/* --- its encoding ----------------------------------------------------------------------------- */

static enum mr_status append_quoted(struct mr_bytes text, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    size_t column = 0;
    for (size_t i = 0; i < text.size && r == MR_OK; i++) {
        uint8_t c = text.data[i];
        if (c == '\r') { /* always before a line feed here */
            r = mr_buf_append(out, "\r\n", 2);
            column = 0;
            i++;
            continue;
        }
        bool last = i + 1 == text.size || text.data[i + 1] == '\r';
        bool literal = (c > ' ' && c <= '~' && c != '=') || (c == ' ' && !last);
        if (column + (literal ? 1 : 3) > LINE_SIZE_MAX - 1) { /* room for the = of a soft break */
            r = mr_buf_append_text(out, "=\r\n");
            column = 0;
        }
        if (r == MR_OK) {
            r = literal ? mr_buf_append_byte(out, c) : mr_buf_printf(out, "=%02X", c);
        }
        column += literal ? 1 : 3;
    }
    return r == MR_OK ? mr_buf_append(out, "\r\n", 2) : r;
}

static enum mr_status append_base64_lines(struct mr_bytes text, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    for (size_t at = 0; at < text.size && r == MR_OK; at += BASE64_LINE_BYTES) {
        size_t size = text.size - at < BASE64_LINE_BYTES ? text.size - at : BASE64_LINE_BYTES;
        r = mr_buf_append_base64(out, mr_bytes(text.data + at, size));
        r = r == MR_OK ? mr_buf_append(out, "\r\n", 2) : r;
    }
    return r;
}

static enum mr_status append_body(struct mr_bytes text, struct mr_buf *out)
{
    size_t high = 0;
    for (size_t i = 0; i < text.size; i++) {
        high += text.data[i] >= 0x80 ? 1 : 0;
    }
    bool base64 = high > text.size / 6; /* three characters for one byte against four for three */
    enum mr_status r = mr_buf_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n",
                                     base64 ? "base64" : "quoted-printable");
    if (r != MR_OK) {
        return r;
    }
    return base64 ? append_base64_lines(text, out) : append_quoted(text, out);
}

static enum mr_status compose(const struct mr_smtp_options *options,
                              struct mr_handout *const *handouts, uint32_t count, uint64_t wall_ns,
                              struct mr_buf *scratch, struct mr_buf *canonical, struct mr_buf *out)
{
    enum mr_status r = append_date(out, wall_ns);
    r = r == MR_OK ? append_addresses(out, "From", &options->from, 1) : r;
    r = r == MR_OK ? append_addresses(out, "To", options->to.items, options->to.count) : r;
    r = r == MR_OK ? append_addresses(out, "Cc", options->cc.items, options->cc.count) : r;
    r = r == MR_OK ? append_subject(options, handouts, count, scratch, out) : r;
    r = r == MR_OK ? append_message_id(options, handouts, count, out) : r;
    r = r == MR_OK ? append_marks(handouts, count, out) : r;
    r = r == MR_OK ? mr_buf_append_text(out, "Auto-Submitted: auto-generated\r\n"
                                             "MIME-Version: 1.0\r\n"
                                             "Content-Type: text/plain; charset=UTF-8\r\n")
                   : r;
    mr_buf_clear(scratch);
    r = r == MR_OK ? append_text(options, handouts, count, scratch) : r;
    r = r == MR_OK ? append_canonical(mr_buf_bytes(scratch), canonical) : r;
    return r == MR_OK ? append_body(mr_buf_bytes(canonical), out) : r;
}

enum mr_status mr__smtp_compose(const struct mr_smtp_options *options,
                                struct mr_handout *const *handouts, uint32_t count,
                                uint64_t wall_ns, struct mr_buf *out)
{
    struct mr_buf scratch;
    struct mr_buf canonical;
    mr_buf_init(&scratch, MR_SMTP_MAIL_SIZE_MAX);
    mr_buf_init(&canonical, MR_SMTP_MAIL_SIZE_MAX);
    enum mr_status r =
        compose(options, handouts, count, wall_ns, &scratch, &canonical, out);
    mr_buf_release(&scratch);
    mr_buf_release(&canonical);
    return r;
}
