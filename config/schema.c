/* Owns the JSON Schema (draft-07) of the configuration, for editors: every table as properties. */
#include <inttypes.h>

#include "config/tables.h"

#define NAME_PATTERN "^[A-Za-z0-9_.-]{1,64}$"
#define TEXT "{\"type\":\"string\"}"

/* Appends to @p out until something fails; the first failure stays. */
struct writer {
    struct mr_buf *out;
    enum mr_status status;
};

static void put(struct writer *writer, const char *text)
{
    if (writer->status == MR_OK) {
        writer->status = mr_buf_append_text(writer->out, text);
    }
}

static void put_string(struct writer *writer, const char *text)
{
    if (writer->status == MR_OK) {
        writer->status = mr_buf_append_json(writer->out, mr_bytes_of(text));
    }
}

static void put_help(struct writer *writer, const struct mr_option *row)
{
    if (row->help != NULL) {
        put(writer, ",\"description\":");
        put_string(writer, row->help);
    }
    if (row->default_text != NULL) {
        put(writer, ",\"default\":");
        bool is_bare = row->type == MR_OPTION_INT || row->type == MR_OPTION_BOOL;
        if (is_bare) {
            put(writer, row->default_text);
        } else {
            put_string(writer, row->default_text);
        }
    }
}

static void put_int(struct writer *writer, const struct mr_option *row)
{
    put(writer, "\"type\":\"integer\"");
    if (writer->status == MR_OK && (row->min != 0 || row->max != 0)) {
        writer->status = mr_buf_printf(writer->out, ",\"minimum\":%" PRId64, row->min);
    }
    if (writer->status == MR_OK && row->max != 0) {
        writer->status = mr_buf_printf(writer->out, ",\"maximum\":%" PRId64, row->max);
    }
}

static void put_enum(struct writer *writer, const struct mr_option *row)
{
    put(writer, "\"enum\":[");
    for (size_t i = 0; row->words[i] != NULL; i++) {
        put(writer, i == 0 ? "" : ",");
        put_string(writer, row->words[i]);
    }
    put(writer, "]");
}

static void put_properties(struct writer *writer, const struct mr_option *table);

static void put_required(struct writer *writer, const struct mr_option *table)
{
    bool is_first = true;
    for (const struct mr_option *row = table; row->name != NULL; row++) {
        if ((row->flags & MR_OPTION_REQUIRED) != 0) {
            put(writer, is_first ? ",\"required\":[" : ",");
            put_string(writer, row->name);
            is_first = false;
        }
    }
    put(writer, is_first ? "" : "]");
}

/* The keywords of a mapping that takes exactly @p table. */
static void put_block(struct writer *writer, const struct mr_option *table)
{
    put(writer, "\"type\":[\"object\",\"null\"],\"additionalProperties\":false,\"properties\":{");
    put_properties(writer, table);
    put(writer, "}");
    put_required(writer, table);
}

static void put_type(struct writer *writer, const struct mr_option *row)
{
    switch (row->type) {
    case MR_OPTION_STRING:
        if (row->block != NULL) {
            put(writer, "\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{");
            put_block(writer, row->block);
            put(writer, "}}]");
            break;
        }
        put(writer, "\"type\":\"string\"");
        break;
    case MR_OPTION_SECRET:
    case MR_OPTION_URL:
    case MR_OPTION_PATH:
        put(writer, "\"type\":\"string\"");
        break;
    case MR_OPTION_BOOL:
        put(writer, "\"type\":\"boolean\"");
        break;
    case MR_OPTION_INT:
        put_int(writer, row);
        break;
    case MR_OPTION_SIZE:
        put(writer, "\"type\":[\"string\",\"integer\"],\"minimum\":0,"
                    "\"pattern\":\"^[0-9]+(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$\"");
        break;
    case MR_OPTION_DURATION:
        put(writer, "\"type\":[\"string\",\"integer\"],\"maximum\":0,\"minimum\":0,"
                    "\"pattern\":\"^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"
                    "([0-9]+us)?([0-9]+ns)?)$\"");
        break;
    case MR_OPTION_RATE:
        put(writer, "\"type\":\"string\",\"pattern\":\"^[1-9][0-9]*/[smh]$\"");
        break;
    case MR_OPTION_ENUM:
        put_enum(writer, row);
        break;
    case MR_OPTION_STRINGS:
        put(writer, "\"anyOf\":[" TEXT ",{\"type\":\"array\",\"items\":" TEXT "}]");
        break;
    case MR_OPTION_PAIRS:
        put(writer, "\"type\":\"object\",\"additionalProperties\":"
                    "{\"type\":[\"string\",\"number\",\"boolean\"]}");
        break;
    case MR_OPTION_BLOCK:
        put_block(writer, row->block);
        break;
    case MR_OPTION_JSON:
        put(writer, (row->flags & MR_OPTION_TEXTUAL) != 0 ? "\"type\":[\"object\",\"array\"]"
                                                          : "\"title\":\"any value\"");
        break;
    case MR_OPTION_TYPE_MAX:
        break;
    }
}

/* Recurses into blocks of tables, which are ours and three deep. */
static void put_properties(struct writer *writer, const struct mr_option *table)
{
    for (const struct mr_option *row = table; row->name != NULL; row++) {
        put(writer, row == table ? "" : ",");
        put_string(writer, row->name);
        put(writer, ":{");
        put_type(writer, row);
        put_help(writer, row);
        put(writer, "}");
    }
}

static void put_kinds(struct writer *writer, const struct mr_config_kind *kinds)
{
    for (const struct mr_config_kind *kind = kinds; kind->name != NULL; kind++) {
        put(writer, ",");
        put_string(writer, kind->name);
        put(writer, ":{");
        put_block(writer, mr__kind_options(kind));
        put(writer, "}");
    }
}

static void put_entry(struct writer *writer, const struct mr_section *section,
                      const struct mr_config_kind *kinds)
{
    put(writer, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    put_properties(writer, section->common);
    if (kinds != NULL) {
        put_kinds(writer, kinds);
    }
    put(writer, "}");
    put_required(writer, section->common);
    if (kinds != NULL && kinds->name != NULL) {
        put(writer, ",\"oneOf\":[");
        for (const struct mr_config_kind *kind = kinds; kind->name != NULL; kind++) {
            put(writer, kind == kinds ? "{\"required\":[" : ",{\"required\":[");
            put_string(writer, kind->name);
            put(writer, "]}");
        }
        put(writer, "]");
    }
    put(writer, "}");
}

enum mr_status mr_config_schema(const struct mr_config_kinds *kinds, struct mr_buf *out)
{
    struct writer writer = {.out = out};
    put(&writer, "{\"$schema\":\"http://json-schema.org/draft-07/schema#\","
                 "\"title\":\"Millrace configuration\",\"type\":[\"object\",\"null\"],"
                 "\"additionalProperties\":false,\"properties\":{");
    put_properties(&writer, mr__top_table);
    for (size_t i = 0; i < MR_SECTION_MAX; i++) {
        const struct mr_section *section = &mr__sections[i];
        put(&writer, ",");
        put_string(&writer, section->name);
        put(&writer, ":{\"type\":[\"object\",\"null\"],\"description\":");
        put_string(&writer, section->help);
        put(&writer, ",\"propertyNames\":{\"pattern\":\"" NAME_PATTERN "\"},"
                     "\"additionalProperties\":");
        put_entry(&writer, section, mr__section_kinds(kinds, (enum mr_section_index)i));
        put(&writer, "}");
    }
    put(&writer, "}}\n");
    return writer.status;
}
