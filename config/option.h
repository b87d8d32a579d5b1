/* Option tables: one static const row per setting. The same row parses the YAML, prints --help
 * and docs/reference/config.md, and feeds the JSON Schema; a test fails when the docs drift.
 *
 * A block of settings is a plain struct; a row says where its field lies. Nothing is silently
 * corrected: an unknown key, a bad value or one out of range is an error with its place. */
#ifndef MR_CONFIG_OPTION_H
#define MR_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/problem.h"
#include "core/secret.h"

enum mr_option_type {
    MR_OPTION_STRING = 0, /* char *                    owned, NULL when not set and no default */
    MR_OPTION_SECRET,     /* struct mr_secret *        owned; never printed */
    MR_OPTION_URL,        /* struct mr_url *           owned */
    MR_OPTION_PATH,       /* char *                    owned; absolute, from the file's folder */
    MR_OPTION_BOOL,       /* bool */
    MR_OPTION_INT,        /* int64_t                   min..max */
    MR_OPTION_SIZE,       /* uint64_t bytes            512, 64KiB, 1MiB, 2GiB; kB MB GB decimal */
    MR_OPTION_DURATION,   /* uint64_t nanoseconds      200ms, 1s, 1m30s, 6h, 7d; 0 = off */
    MR_OPTION_RATE,       /* struct mr_rate            100/s, 5/m, 1000/h */
    MR_OPTION_ENUM,       /* int                       index into the row's words */
    MR_OPTION_STRINGS,    /* struct mr_strings         a list, or one string */
    MR_OPTION_PAIRS,      /* struct mr_pairs           a mapping of strings */
    MR_OPTION_BLOCK,      /* embedded struct           the row's own table */
    MR_OPTION_JSON,       /* char *                    owned; the YAML below as JSON text */
    MR_OPTION_TYPE_MAX,
};

enum mr_option_flags {
    MR_OPTION_REQUIRED = 1,
    MR_OPTION_STARTUP = 2, /* a reload that changes it is refused by name; else it takes effect */
    MR_OPTION_TEXTUAL = 4, /* JSON: every scalar below is a string (7 is "7", no is "no") */
};

struct mr_strings {
    char **items; /* owned, each owned */
    uint32_t count;
};

struct mr_pairs {
    struct mr_strings keys;
    struct mr_strings values;
};

struct mr_rate {
    uint64_t count;  /* 0 = no limit */
    uint64_t per_ns;
};

/* A URL taken apart. The password is a secret; `text` has no user information in it. */
struct mr_url {
    char *text;   /* scheme://host[:port]/path?query */
    char *scheme; /* lower case */
    char *host;   /* without brackets */
    char *path;   /* with the query; "" when there is none */
    char *user;   /* NULL when none; percent-decoded */
    struct mr_secret *password; /* NULL when none; percent-decoded */
    uint16_t port;              /* 0 when none */
};

struct mr_option {
    const char *name;
    enum mr_option_type type;
    size_t at;                /* offsetof in the block's struct */
    const char *default_text; /* as a user would write it; NULL: zero/NULL/false */
    int64_t min;              /* INT; SIZE and DURATION in bytes and ns; 0,0 = unbounded */
    int64_t max;
    const char *const *words;      /* ENUM: NULL-terminated */
    const struct mr_option *block; /* BLOCK: its table */
    unsigned flags;
    const char *unit; /* for the reference; NULL when there is none */
    const char *help; /* one sentence */
};

/* A table ends with a row whose name is NULL. */
#define MR_OPTION_END {.name = NULL}

/** Frees every owned field of @p block and zeroes it. NULL-safe fields. @thread owner */
void mr_options_release(const struct mr_option *table, void *block);

/** Sets every default of @p table in the zeroed @p block. @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_options_defaults(const struct mr_option *table, void *block);

/** Parsers of single values, shared with the command line. */
bool mr_parse_duration(const char *text, uint64_t *ret_ns);
bool mr_parse_size(const char *text, uint64_t *ret_bytes);
bool mr_parse_rate(const char *text, struct mr_rate *ret_rate);
/** Appends as a user would write it: 90s -> "1m30s". */
MR_MUST_USE enum mr_status mr_format_duration(uint64_t ns, struct mr_buf *out);
MR_MUST_USE enum mr_status mr_parse_url(struct mr_bytes text, struct mr_url **ret_url,
                                        struct mr_problem *problem);
void mr_url_destroy(struct mr_url *url);

/** The word of @p words nearest to @p word (edit distance at most 3 and less than half), or NULL:
 * "unknown key `fliter`, did you mean `filter`?". */
const char *mr_nearest_word(const char *word, const char *const *words, uint32_t count);

#endif
