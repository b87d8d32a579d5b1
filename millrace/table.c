#include "millrace/table.h"

#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define CELL_SIZE_MAX 200u

void mr_table_init(struct mr_table *table, const char *const *head)
{
    *table = (struct mr_table){0};
    while (head[table->columns] != NULL) {
        table->columns++;
    }
    MR_ASSERT(table->columns <= MR_TABLE_COLUMNS_MAX);
    for (uint32_t i = 0; i < table->columns; i++) {
        mr_table_cell(table, head[i]);
    }
}

void mr_table_release(struct mr_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        mr_free(table->cells[i]);
    }
    mr_free(table->cells);
    *table = (struct mr_table){0};
}

void mr_table_cell(struct mr_table *table, const char *text)
{
    char **grown = mr_realloc(table->cells, (table->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        table->failed = true;
        return;
    }
    table->cells = grown;
    char clean[CELL_SIZE_MAX];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(text));
    grown[table->count] = mr_strdup(clean);
    if (grown[table->count] == NULL) {
        table->failed = true;
        return;
    }
    table->count++;
}

/* Characters, not bytes: continuation bytes of UTF-8 take no place. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xC0u) != 0x80u;
    }
    return width;
}

static bool is_number(const char *text)
{
    return *text != '\0' && strspn(text, "0123456789.") == strlen(text);
}

/* A column of numbers stands right. */
static bool is_number_column(const struct mr_table *table, uint32_t column)
{
    bool any = false;
    for (uint32_t i = table->columns + column; i < table->count; i += table->columns) {
        if (table->cells[i][0] != '\0' && !is_number(table->cells[i])) {
            return false;
        }
        any = any || table->cells[i][0] != '\0';
    }
    return any;
}

static void print_cell(const struct mr_table *table, const struct mr_cli *cli, uint32_t i,
                       bool right)
{
    uint32_t c = i % table->columns;
    size_t pad = table->widths[c] - width_of(table->cells[i]);
    bool last = c + 1 == table->columns;
    if (right) {
        fprintf(cli->out, "%*s", (int)pad, "");
    }
    if (i < table->columns) {
        mr_print_colour(cli, MR_COLOUR_BOLD, table->cells[i]);
    } else {
        fprintf(cli->out, "%s", table->cells[i]);
    }
    if (!right && !last) {
        fprintf(cli->out, "%*s", (int)pad, "");
    }
    fputs(last ? "\n" : "  ", cli->out);
}

void mr_table_print(struct mr_table *table, const struct mr_cli *cli)
{
    bool right[MR_TABLE_COLUMNS_MAX] = {false};
    for (uint32_t i = 0; i < table->count; i++) {
        size_t width = width_of(table->cells[i]);
        if (width > table->widths[i % table->columns]) {
            table->widths[i % table->columns] = width;
        }
    }
    for (uint32_t c = 0; c < table->columns; c++) {
        right[c] = is_number_column(table, c);
    }
    for (uint32_t i = table->head_printed ? table->columns : 0; i < table->count; i++) {
        print_cell(table, cli, i, right[i % table->columns]);
    }
    if (table->failed) {
        fputs("(not all of it: out of memory)\n", cli->out);
    }
    table->head_printed = true;
    while (table->count > table->columns) {
        mr_free(table->cells[--table->count]);
    }
}

void mr_print_clean(const struct mr_cli *cli, const char *text)
{
    char clean[8192];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(text));
    fputs(clean, cli->out);
}

void mr_print_colour(const struct mr_cli *cli, enum mr_colour colour, const char *text)
{
    if (cli->colour) {
        fprintf(cli->out, "\033[%dm", (int)colour);
    }
    mr_print_clean(cli, text);
    if (cli->colour) {
        fputs("\033[0m", cli->out);
    }
}

enum mr_colour mr_colour_of(const char *word)
{
    static const char *const good[] = {"done", "ok", "active"};
    static const char *const bad[] = {"dead", "lost", "crash", "down", "timeout"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (strcmp(word, good[i]) == 0) {
            return MR_COLOUR_GREEN;
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (strcmp(word, bad[i]) == 0) {
            return MR_COLOUR_RED;
        }
    }
    return MR_COLOUR_YELLOW;
}

void mr_print_attributes(const struct mr_cli *cli, const cJSON *event, const char *const *names,
                         size_t count)
{
    char number[32];
    for (size_t i = 0; i < count; i++) {
        const char *text = mr_json_text(event, names[i], number);
        if (text[0] != '\0') {
            fputs("  ", cli->out);
            mr_print_clean(cli, text);
        }
    }
    fputc('\n', cli->out);
}
