/* Output for people: a table whose columns are as wide as they must be, and colours. Cells are
 * cleaned of control bytes, so that nothing from outside can move the cursor. */
#ifndef MR_MILLRACE_TABLE_H
#define MR_MILLRACE_TABLE_H

#include "millrace/client.h"

#define MR_TABLE_COLUMNS_MAX 16u

struct mr_table {
    uint32_t columns;
    char **cells; /* owned, each owned; rows of `columns`, the first is the head */
    uint32_t count;
    size_t widths[MR_TABLE_COLUMNS_MAX]; /* as printed so far */
    bool head_printed;
    bool failed; /* memory was short */
};

/** @param head names of the columns, ended by NULL */
void mr_table_init(struct mr_table *table, const char *const *head);
/** The next cell; numbers are set right by mr_table_print(). */
void mr_table_cell(struct mr_table *table, const char *text);
/** Prints the rows and forgets them, so that a table of any length can be printed in parts: the
 * head stands before the first alone, and columns only grow. */
void mr_table_print(struct mr_table *table, const struct mr_cli *cli);
void mr_table_release(struct mr_table *table);

enum mr_colour {
    MR_COLOUR_BOLD = 1,
    MR_COLOUR_FAINT = 2,
    MR_COLOUR_RED = 31,
    MR_COLOUR_GREEN = 32,
    MR_COLOUR_YELLOW = 33,
};

/** Writes @p text, cleaned, in @p colour when cli->colour. */
void mr_print_colour(const struct mr_cli *cli, enum mr_colour colour, const char *text);
/** The colour of a delivery's state or a verdict. */
enum mr_colour mr_colour_of(const char *word);
/** @p text cleaned into a static-size copy and written. */
void mr_print_clean(const struct mr_cli *cli, const char *text);
/** Ends a line with those of @p names that the event, as JSON, has. */
void mr_print_attributes(const struct mr_cli *cli, const cJSON *event, const char *const *names,
                         size_t count);

#endif
