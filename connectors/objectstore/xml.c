#include "connectors/objectstore/xml.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static enum mr_xml_token fail(struct mr_xml *xml, const char *fault)
{
    xml->fault = fault;
    xml->at = xml->end;
    return MR_XML_FAULT;
}

static struct mr_bytes rest(const struct mr_xml *xml)
{
    return mr_bytes(xml->at, (size_t)(xml->end - xml->at));
}

/* Moves behind the next @p mark. @return false: there is none */
static bool skip_past(struct mr_xml *xml, struct mr_bytes mark)
{
    const uint8_t *found =
        xml->at == xml->end ? NULL
                            : memmem(xml->at, (size_t)(xml->end - xml->at), mark.data, mark.size);
    if (found == NULL) {
        return false;
    }
    xml->at = found + mark.size;
    return true;
}

void mr__xml_init(struct mr_xml *xml, struct mr_bytes document)
{
    const uint8_t *at = document.data == NULL ? (const uint8_t *)"" : document.data;
    *xml = (struct mr_xml){.at = at, .end = at + document.size};
    if (mr_bytes_starts(document, MR_BYTES_LITERAL("\xef\xbb\xbf"))) {
        xml->at += 3; /* a byte order mark */
    }
}

bool mr__xml_is(const struct mr_xml *xml, const char *name)
{
    return mr_bytes_equal(xml->name, mr_bytes_of(name));
}

static struct mr_bytes without_prefix(struct mr_bytes name)
{
    const uint8_t *colon = name.size == 0 ? NULL : memchr(name.data, ':', name.size);
    size_t cut = colon == NULL ? 0 : (size_t)(colon - name.data) + 1;
    return mr_bytes(name.data + cut, name.size - cut);
}

static struct mr_bytes take_name(struct mr_xml *xml)
{
    const uint8_t *start = xml->at;
    while (xml->at < xml->end && !is_blank(*xml->at) && *xml->at != '>' && *xml->at != '/' &&
           *xml->at != '<' && *xml->at != '=') {
        xml->at++;
    }
    return mr_bytes(start, (size_t)(xml->at - start));
}

/* Up to the ">" of a tag; attribute values may hold one. @return false: cut off, or a "<" */
static bool skip_attributes(struct mr_xml *xml, bool *ret_empty)
{
    uint8_t quote = 0;
    for (; xml->at < xml->end; xml->at++) {
        uint8_t c = *xml->at;
        if (quote != 0) {
            quote = c == quote ? 0 : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '<') {
            return false;
        } else if (c == '>') {
            *ret_empty = xml->at[-1] == '/';
            xml->at++;
            return true;
        }
    }
    return false;
}

static enum mr_xml_token take_open(struct mr_xml *xml)
{
    xml->at++;
    struct mr_bytes name = take_name(xml);
    bool is_empty = false;
    if (name.size == 0 || !skip_attributes(xml, &is_empty)) {
        return fail(xml, "a tag is not whole");
    }
    if (xml->depth == 0 && xml->had_root) {
        return fail(xml, "there are two documents");
    }
    if (xml->depth == MR_XML_DEPTH_MAX) {
        return fail(xml, "it is nested too deeply");
    }
    xml->had_root = true;
    xml->open[xml->depth++] = name;
    xml->name = without_prefix(name);
    xml->closes = is_empty;
    return MR_XML_OPEN;
}

static enum mr_xml_token take_close(struct mr_xml *xml)
{
    xml->at += 2;
    struct mr_bytes name = take_name(xml);
    while (xml->at < xml->end && is_blank(*xml->at)) {
        xml->at++;
    }
    if (xml->at == xml->end || *xml->at != '>') {
        return fail(xml, "an end tag is not whole");
    }
    xml->at++;
    if (xml->depth == 0 || !mr_bytes_equal(name, xml->open[xml->depth - 1])) {
        return fail(xml, "an end tag has no start tag");
    }
    xml->depth--;
    xml->name = without_prefix(name);
    return MR_XML_CLOSE;
}

static enum mr_xml_token take_text(struct mr_xml *xml)
{
    const uint8_t *start = xml->at;
    const uint8_t *open = memchr(start, '<', (size_t)(xml->end - start));
    xml->at = open == NULL ? xml->end : open;
    xml->text = mr_bytes(start, (size_t)(xml->at - start));
    xml->is_literal = false;
    return MR_XML_TEXT;
}

static enum mr_xml_token take_literal(struct mr_xml *xml)
{
    const uint8_t *start = xml->at + 9;
    xml->at = start;
    if (!skip_past(xml, MR_BYTES_LITERAL("]]>"))) {
        return fail(xml, "a CDATA section does not end");
    }
    xml->text = mr_bytes(start, (size_t)(xml->at - start) - 3);
    xml->is_literal = true;
    return MR_XML_TEXT;
}

static bool is_all_blank(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_blank(text.data[i])) {
            return false;
        }
    }
    return true;
}

enum mr_xml_token mr__xml_next(struct mr_xml *xml)
{
    if (xml->fault != NULL) {
        return MR_XML_FAULT;
    }
    if (xml->closes) {
        xml->closes = false;
        xml->depth--;
        return MR_XML_CLOSE;
    }
    while (xml->at < xml->end) {
        if (*xml->at != '<') {
            enum mr_xml_token token = take_text(xml);
            if (xml->depth > 0) {
                return token;
            }
            if (!is_all_blank(xml->text)) {
                return fail(xml, "it is no XML");
            }
        } else if (mr_bytes_starts(rest(xml), MR_BYTES_LITERAL("<?"))) {
            if (!skip_past(xml, MR_BYTES_LITERAL("?>"))) {
                return fail(xml, "a declaration does not end");
            }
        } else if (mr_bytes_starts(rest(xml), MR_BYTES_LITERAL("<!--"))) {
            if (!skip_past(xml, MR_BYTES_LITERAL("-->"))) {
                return fail(xml, "a comment does not end");
            }
        } else if (mr_bytes_starts(rest(xml), MR_BYTES_LITERAL("<![CDATA["))) {
            return xml->depth > 0 ? take_literal(xml) : fail(xml, "it is no XML");
        } else if (mr_bytes_starts(rest(xml), MR_BYTES_LITERAL("<!"))) {
            return fail(xml, "it has a document type");
        } else if (mr_bytes_starts(rest(xml), MR_BYTES_LITERAL("</"))) {
            return take_close(xml);
        } else {
            return take_open(xml);
        }
    }
    if (xml->depth > 0) {
        return fail(xml, "it is cut off");
    }
    return xml->had_root ? MR_XML_END : fail(xml, "it is empty");
}

/* --- text ------------------------------------------------------------------------------------- */

static enum mr_status append_character(struct mr_buf *out, uint32_t code)
{
    uint8_t bytes[4];
    size_t size = 1;
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return MR_E_INVALID;
    }
    if (code < 0x80) {
        bytes[0] = (uint8_t)code;
    } else if (code < 0x800) {
        bytes[0] = (uint8_t)(0xc0 | code >> 6);
        bytes[1] = (uint8_t)(0x80 | (code & 0x3f));
        size = 2;
    } else if (code < 0x10000) {
        bytes[0] = (uint8_t)(0xe0 | code >> 12);
        bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (uint8_t)(0x80 | (code & 0x3f));
        size = 3;
    } else {
        bytes[0] = (uint8_t)(0xf0 | code >> 18);
        bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        bytes[3] = (uint8_t)(0x80 | (code & 0x3f));
        size = 4;
    }
    return mr_buf_append(out, bytes, size);
}

/* #123 or #x1f, without the "&" and ";". */
static bool parse_number(struct mr_bytes text, uint32_t *ret_code)
{
    uint32_t code = 0;
    uint32_t base = text.size > 1 && (text.data[1] | 0x20) == 'x' ? 16 : 10;
    size_t from = base == 16 ? 2 : 1;
    if (text.size <= from || text.size > from + 7) {
        return false;
    }
    for (size_t i = from; i < text.size; i++) {
        uint8_t c = text.data[i];
        uint32_t d = c >= '0' && c <= '9' ? (uint32_t)c - '0' : ((uint32_t)c | 0x20) - 'a' + 10;
        bool is_digit = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
        if (!is_digit || d >= base) {
            return false;
        }
        code = code * base + d;
    }
    *ret_code = code;
    return true;
}

static enum mr_status append_entity(struct mr_buf *out, struct mr_bytes name)
{
    static const struct {
        const char *name;
        uint32_t code;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    uint32_t code = 0;
    if (name.size > 0 && name.data[0] == '#') {
        return parse_number(name, &code) ? append_character(out, code) : MR_E_INVALID;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(known); i++) {
        if (mr_bytes_equal(name, mr_bytes_of(known[i].name))) {
            return mr_buf_append_byte(out, (uint8_t)known[i].code);
        }
    }
    return MR_E_INVALID;
}

static enum mr_status append_text(struct mr_buf *out, struct mr_bytes text)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && text.size > 0) {
        const uint8_t *amp = memchr(text.data, '&', text.size);
        size_t plain = amp == NULL ? text.size : (size_t)(amp - text.data);
        r = mr_buf_append(out, text.data, plain);
        text = mr_bytes(text.data + plain, text.size - plain);
        if (r != MR_OK || text.size == 0) {
            break;
        }
        const uint8_t *semicolon = memchr(text.data, ';', text.size < 12 ? text.size : 12);
        if (semicolon == NULL) {
            return MR_E_INVALID;
        }
        size_t size = (size_t)(semicolon - text.data);
        r = append_entity(out, mr_bytes(text.data + 1, size - 1));
        text = mr_bytes(semicolon + 1, text.size - size - 1);
    }
    return r;
}

enum mr_status mr__xml_content(struct mr_xml *xml, struct mr_buf *out)
{
    uint32_t depth = xml->depth;
    enum mr_status r = MR_OK;
    while (r == MR_OK) {
        switch (mr__xml_next(xml)) {
        case MR_XML_TEXT:
            if (xml->depth == depth) {
                r = xml->is_literal ? mr_buf_append_bytes(out, xml->text)
                                    : append_text(out, xml->text);
            }
            break;
        case MR_XML_CLOSE:
            if (xml->depth < depth) {
                return MR_OK;
            }
            break;
        case MR_XML_OPEN:
            break;
        case MR_XML_END:
        case MR_XML_FAULT:
            return MR_E_INVALID;
        }
    }
    if (r == MR_E_INVALID) {
        (void)fail(xml, "it holds an entity nobody knows");
    }
    return r;
}
