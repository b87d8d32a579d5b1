/* A pull parser for the XML of object stores: elements and text, nothing else that XML can do. No
 * document type, no entities but the five and numbers, no recursion, no memory; attributes and
 * comments are skipped, name spaces cut off. Pure; never reads behind the text. */
#ifndef MR_CONNECTORS_OBJECTSTORE_XML_H
#define MR_CONNECTORS_OBJECTSTORE_XML_H

#include <stdbool.h>

#include "core/bytes.h"

#define MR_XML_DEPTH_MAX 16u

enum mr_xml_token {
    MR_XML_END = 0, /* of a whole document */
    MR_XML_FAULT,   /* ill-formed, or cut off; xml->fault says what */
    MR_XML_OPEN,    /* xml->name */
    MR_XML_CLOSE,   /* xml->name */
    MR_XML_TEXT,    /* xml->text, still with its entities; may come in pieces */
};

struct mr_xml {
    const uint8_t *at; /* borrowed */
    const uint8_t *end;
    uint32_t depth;
    bool had_root;
    bool closes;          /* <a/>: the end tag follows without a byte */
    bool is_literal;      /* xml->text is CDATA */
    struct mr_bytes name; /* without its prefix; borrowed */
    struct mr_bytes text;
    struct mr_bytes open[MR_XML_DEPTH_MAX]; /* names with their prefixes */
    const char *fault;    /* static */
};

void mr__xml_init(struct mr_xml *xml, struct mr_bytes document);
enum mr_xml_token mr__xml_next(struct mr_xml *xml);
bool mr__xml_is(const struct mr_xml *xml, const char *name);

/** After MR_XML_OPEN: all text up to the end tag of this element, decoded, appended to @p out;
 * elements within are walked over. @return MR_E_INVALID (xml->fault), MR_E_TOO_BIG, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__xml_content(struct mr_xml *xml, struct mr_buf *out);

#endif
