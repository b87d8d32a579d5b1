/* Owns the option reference: every table as Markdown. */
#include "config/option_value.h"
#include "config/tables.h"
#include "core/alloc.h"

#define PREFIX_MAX 96u

static const char *const type_words[MR_OPTION_TYPE_MAX] = {
    [MR_OPTION_STRING] = "text",       [MR_OPTION_SECRET] = "secret",
    [MR_OPTION_URL] = "URL",           [MR_OPTION_PATH] = "path",
    [MR_OPTION_BOOL] = "true or false", [MR_OPTION_INT] = "number",
    [MR_OPTION_SIZE] = "size",         [MR_OPTION_DURATION] = "duration",
    [MR_OPTION_RATE] = "rate",         [MR_OPTION_ENUM] = "word",
    [MR_OPTION_STRINGS] = "text or list", [MR_OPTION_PAIRS] = "mapping of texts",
    [MR_OPTION_BLOCK] = "mapping",     [MR_OPTION_JSON] = "any value",
};

/* A cell: the bar would end it. */
static enum mr_status write_cell(const char *text, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    for (; *text != '\0' && r == MR_OK; text++) {
        if (*text == '|') {
            r = mr_buf_append_byte(out, '\\');
        }
        if (r == MR_OK) {
            r = mr_buf_append_byte(out, (uint8_t)*text);
        }
    }
    return r;
}

static enum mr_status write_type(const struct mr_option *row, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    if (row->type == MR_OPTION_ENUM) {
        for (size_t i = 0; row->words[i] != NULL && r == MR_OK; i++) {
            r = mr_buf_printf(out, "%s`%s`", i == 0 ? "" : ", ", row->words[i]);
        }
        return r;
    }
    r = mr_buf_append_text(out, row->unit != NULL ? row->unit : type_words[row->type]);
    if (r == MR_OK && (row->min != 0 || row->max != 0)) {
        char low[48];
        char high[48];
        mr__option_bound(row, row->min, low);
        mr__option_bound(row, row->max, high);
        r = row->max == 0 ? mr_buf_printf(out, ", at least %s", low)
                          : mr_buf_printf(out, ", %s to %s", low, high);
    }
    return r;
}

static enum mr_status write_row(const struct mr_option *row, const char *prefix,
                                struct mr_buf *out)
{
    enum mr_status r = mr_buf_printf(out, "| `%s%s` | ", prefix, row->name);
    if (r == MR_OK) {
        r = write_type(row, out);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, " | ");
    }
    if (r == MR_OK && (row->flags & MR_OPTION_REQUIRED) != 0) {
        r = mr_buf_append_text(out, "required");
    } else if (r == MR_OK && row->default_text != NULL) {
        r = mr_buf_printf(out, "`%s`", row->default_text);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, " | ");
    }
    if (r == MR_OK) {
        r = write_cell(row->help == NULL ? "" : row->help, out);
    }
    if (r == MR_OK && (row->flags & MR_OPTION_STARTUP) != 0) {
        r = mr_buf_append_text(out, " Takes effect at a start.");
    }
    return r == MR_OK ? mr_buf_append_text(out, " |\n") : r;
}

/* Recurses into blocks of tables, which are ours and three deep. */
static enum mr_status write_rows(const struct mr_option *table, const char *prefix,
                                 struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    for (const struct mr_option *row = table; row->name != NULL && r == MR_OK; row++) {
        r = write_row(row, prefix, out);
        if (r == MR_OK && row->block != NULL) {
            struct mr_buf inner;
            mr_buf_init(&inner, PREFIX_MAX);
            r = mr_buf_printf(&inner, row->type == MR_OPTION_BLOCK ? "%s%s." : "%s%s[].", prefix,
                              row->name);
            char *text = r == MR_OK ? mr_buf_take_text(&inner) : NULL;
            if (text != NULL) {
                r = write_rows(row->block, text, out);
            } else if (r == MR_OK) {
                r = MR_E_NOMEM;
            }
            mr_free(text);
            mr_buf_release(&inner);
        }
    }
    return r;
}

static enum mr_status write_table(const struct mr_option *table, struct mr_buf *out)
{
    if (table->name == NULL) {
        return mr_buf_append_text(out, "No settings.\n\n");
    }
    enum mr_status r = mr_buf_append_text(out, "| setting | value | default | meaning |\n"
                                               "| --- | --- | --- | --- |\n");
    if (r == MR_OK) {
        r = write_rows(table, "", out);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
}

static enum mr_status write_section(const struct mr_config_kinds *kinds,
                                    enum mr_section_index index, struct mr_buf *out)
{
    const struct mr_section *section = &mr__sections[index];
    const struct mr_config_kind *kind = mr__section_kinds(kinds, index);
    enum mr_status r = mr_buf_printf(out, "## `%s`\n\n%s ", section->name, section->help);
    if (r == MR_OK) {
        r = mr_buf_printf(out,
                          kind == NULL ? "Each entry is `NAME: {…}` with:\n\n"
                                       : "Each entry is `NAME: {KIND: {…}, …}`: exactly one kind "
                                         "from below, and beside it:\n\n");
    }
    if (r == MR_OK) {
        r = write_table(section->common, out);
    }
    for (; kind != NULL && kind->name != NULL && r == MR_OK; kind++) {
        r = mr_buf_printf(out, "### %s `%s`\n\n", section->level, kind->name);
        if (r == MR_OK) {
            r = write_table(mr__kind_options(kind), out);
        }
    }
    return r;
}

enum mr_status mr_config_reference(const struct mr_config_kinds *kinds, struct mr_buf *out)
{
    static const char head[] =
        "# Configuration reference\n\n"
        "Generated from the option tables of the program; do not edit.\n\n"
        "One YAML (or JSON) file, or a folder of `*.yaml`, `*.yml` and `*.json` files merged by "
        "name. Durations are written `200ms`, `30s`, `1m30s`, `6h`, `7d`; sizes `512`, `64KiB`, "
        "`1MiB`, `2GiB`, decimal `kB`, `MB`, `GB`; rates `100/s`, `5/m`, `1000/h`. Texts, URLs, "
        "paths and secrets may hold `${env:NAME}` and `${file:PATH}`; `$${` stands for `${`. "
        "Relative paths start at the file's folder.\n\n"
        "## Top level\n\n";
    enum mr_status r = mr_buf_append_text(out, head);
    if (r == MR_OK) {
        r = write_table(mr__top_table, out);
    }
    for (size_t i = 0; i < MR_SECTION_MAX && r == MR_OK; i++) {
        r = write_section(kinds, (enum mr_section_index)i, out);
    }
    return r;
}
