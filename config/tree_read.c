/* Owns the way from libyaml's events to the tree. Anchors, aliases, tags and second documents are
 * refused, so a tree is never larger than its text (no "billion laughs"). Depth is a counter. */
#include "config/node.h"

#include <yaml.h>

struct reader {
    struct mr_tree *tree;
    struct mr_problem *problem;
    struct mr_node_place *place;
    struct mr_node *way[MR_CONFIG_DEPTH_MAX];
    uint32_t depth;
    uint16_t file;
    /* The key of a mapping whose value comes next; NULL: a key comes next. */
    const char *key;
    uint32_t key_line;
    uint32_t key_column;
    struct mr_node *root;
    bool had_document;
};

static enum mr_status refuse(struct reader *reader, yaml_mark_t mark, const char *text)
{
    reader->place->line = (uint32_t)mark.line + 1;
    reader->place->column = (uint32_t)mark.column + 1;
    return mr_problem_set(reader->problem, MR_E_INVALID, "%s", text);
}

static enum mr_status check_event(struct reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    bool tag_matters = false;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        tag_matters = true;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        tag_matters = true;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        tag_matters = true;
        break;
    case YAML_ALIAS_EVENT:
        return refuse(reader, event->start_mark,
                      "aliases (`*name`) are not allowed: write the value out");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        break;
    }
    if (anchor != NULL) {
        return refuse(reader, event->start_mark,
                      "anchors (`&name`) are not allowed: write the value out where it is used");
    }
    if (tag_matters && tag != NULL) {
        return refuse(reader, event->start_mark,
                      "tags (`!name`) are not allowed: what a value is follows from its setting");
    }
    return MR_OK;
}

/* A scalar where a mapping wants its next key. */
static enum mr_status take_key(struct reader *reader, const yaml_event_t *event)
{
    struct mr_bytes text = mr_bytes(event->data.scalar.value, event->data.scalar.length);
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL) {
        return refuse(reader, event->start_mark, "a key holds a NUL character");
    }
    if (text.size == 0) {
        return refuse(reader, event->start_mark, "a key is empty");
    }
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        mr_bytes_equal(text, MR_BYTES_LITERAL("<<"))) {
        return refuse(reader, event->start_mark,
                      "merge keys (`<<`) are not allowed: write the values out");
    }
    reader->key = mr__tree_text(reader->tree, text);
    reader->key_line = (uint32_t)event->start_mark.line + 1;
    reader->key_column = (uint32_t)event->start_mark.column + 1;
    return reader->key == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status add_node(struct reader *reader, const yaml_event_t *event,
                               enum mr_node_kind kind, struct mr_node **ret_node)
{
    if (reader->tree->node_count >= MR_CONFIG_NODES_MAX) {
        return refuse(reader, event->start_mark, "the configuration has too many values");
    }
    if (kind != MR_NODE_SCALAR && reader->depth == MR_CONFIG_DEPTH_MAX) {
        return refuse(reader, event->start_mark, "nested too deeply (32 levels are allowed)");
    }
    struct mr_node *node = mr__tree_node(reader->tree, kind);
    if (node == NULL) {
        return MR_E_NOMEM;
    }
    node->file = reader->file;
    node->line = (uint32_t)event->start_mark.line + 1;
    node->column = (uint32_t)event->start_mark.column + 1;
    if (reader->key != NULL) {
        node->key = reader->key;
        node->line = reader->key_line;
        node->column = reader->key_column;
        reader->key = NULL;
    }
    if (reader->depth == 0) {
        reader->root = node;
    } else {
        mr__node_add(reader->way[reader->depth - 1], node);
    }
    if (kind != MR_NODE_SCALAR) {
        reader->way[reader->depth++] = node;
    }
    *ret_node = node;
    return MR_OK;
}

static bool wants_key(const struct reader *reader)
{
    return reader->depth > 0 && reader->key == NULL &&
           reader->way[reader->depth - 1]->kind == MR_NODE_MAPPING;
}

static enum mr_status take_scalar(struct reader *reader, const yaml_event_t *event)
{
    if (wants_key(reader)) {
        return take_key(reader, event);
    }
    struct mr_bytes text = mr_bytes(event->data.scalar.value, event->data.scalar.length);
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL) {
        return refuse(reader, event->start_mark, "a value holds a NUL character");
    }
    struct mr_node *node;
    enum mr_status r = add_node(reader, event, MR_NODE_SCALAR, &node);
    if (r != MR_OK) {
        return r;
    }
    node->text = mr__tree_text(reader->tree, text);
    node->text_size = (uint32_t)text.size;
    node->flags = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? MR_NODE_PLAIN : 0;
    return node->text == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status take_event(struct reader *reader, const yaml_event_t *event)
{
    struct mr_node *node;
    enum mr_status r = check_event(reader, event);
    if (r != MR_OK) {
        return r;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        if (wants_key(reader)) {
            return refuse(reader, event->start_mark, "a key must be plain text");
        }
        return add_node(reader, event,
                        event->type == YAML_MAPPING_START_EVENT ? MR_NODE_MAPPING
                                                                : MR_NODE_SEQUENCE,
                        &node);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        reader->depth--;
        return MR_OK;
    case YAML_DOCUMENT_START_EVENT:
        if (reader->had_document) {
            return refuse(reader, event->start_mark,
                          "a second document (`---`) is not allowed: one file, one document");
        }
        reader->had_document = true;
        return MR_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_ALIAS_EVENT:
        break;
    }
    return MR_OK;
}

static enum mr_status refuse_syntax(struct reader *reader, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        return MR_E_NOMEM;
    }
    reader->place->line = (uint32_t)parser->problem_mark.line + 1;
    reader->place->column = (uint32_t)parser->problem_mark.column + 1;
    const char *hint = parser->problem != NULL && strstr(parser->problem, "cannot start any token")
                           ? " (a tab? indent with blanks)"
                           : "";
    return mr_problem_set(reader->problem, MR_E_INVALID, "not valid YAML: %s%s%s%s",
                          parser->problem == NULL ? "cannot be read" : parser->problem, hint,
                          parser->context == NULL ? "" : ", ",
                          parser->context == NULL ? "" : parser->context);
}

static enum mr_status read_events(struct reader *reader, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            return refuse_syntax(reader, parser);
        }
        bool at_end = event.type == YAML_STREAM_END_EVENT;
        enum mr_status r = take_event(reader, &event);
        yaml_event_delete(&event);
        if (r != MR_OK || at_end) {
            return r;
        }
    }
}

/* The place of the first byte that is no UTF-8, so that one can find it. */
static enum mr_status refuse_encoding(struct reader *reader, struct mr_bytes text)
{
    size_t line_at = 0;
    uint32_t line = 1;
    for (size_t i = 0; i <= text.size; i++) {
        if (i < text.size && text.data[i] != '\n') {
            continue;
        }
        if (!mr_bytes_is_utf8(mr_bytes(text.data + line_at, i - line_at))) {
            break;
        }
        line++;
        line_at = i + 1;
    }
    *reader->place = (struct mr_node_place){.line = line, .column = 1};
    return mr_problem_set(reader->problem, MR_E_INVALID, "the line is not valid UTF-8");
}

enum mr_status mr__tree_read(struct mr_tree *tree, uint16_t file, struct mr_bytes text,
                             struct mr_node **ret_root, struct mr_node_place *ret_place,
                             struct mr_problem *problem)
{
    struct reader reader = {.tree = tree, .problem = problem, .place = ret_place, .file = file};
    if (!mr_bytes_is_utf8(text)) {
        return refuse_encoding(&reader, text);
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return MR_E_NOMEM;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text.size == 0 ? (const uint8_t *)"" : text.data,
                                 text.size);
    enum mr_status r = read_events(&reader, &parser);
    yaml_parser_delete(&parser);
    if (r == MR_OK) {
        *ret_root = reader.root;
    }
    return r;
}
