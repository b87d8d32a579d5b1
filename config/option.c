/* Owns blocks of settings: their defaults and their end. */
#include "config/option.h"

#include "config/loader.h"
#include "config/option_value.h"
#include "core/alloc.h"
#include "core/assert.h"

static void release_field(const struct mr_option *row, void *field)
{
    switch (row->type) {
    case MR_OPTION_STRING:
    case MR_OPTION_PATH:
    case MR_OPTION_JSON:
        mr__wipe_free(*(char **)field); /* may have held a reference */
        *(char **)field = NULL;
        break;
    case MR_OPTION_SECRET:
        mr_secret_destroy(*(struct mr_secret **)field);
        *(struct mr_secret **)field = NULL;
        break;
    case MR_OPTION_URL:
        mr_url_destroy(*(struct mr_url **)field);
        *(struct mr_url **)field = NULL;
        break;
    case MR_OPTION_STRINGS:
        mr__strings_release(field);
        break;
    case MR_OPTION_PAIRS:
        mr__strings_release(&((struct mr_pairs *)field)->keys);
        mr__strings_release(&((struct mr_pairs *)field)->values);
        break;
    case MR_OPTION_BLOCK:
        mr_options_release(row->block, field);
        break;
    case MR_OPTION_BOOL:
        *(bool *)field = false;
        break;
    case MR_OPTION_INT:
        *(int64_t *)field = 0;
        break;
    case MR_OPTION_SIZE:
    case MR_OPTION_DURATION:
        *(uint64_t *)field = 0;
        break;
    case MR_OPTION_RATE:
        *(struct mr_rate *)field = (struct mr_rate){0};
        break;
    case MR_OPTION_ENUM:
        *(int *)field = 0;
        break;
    case MR_OPTION_TYPE_MAX:
        MR_ASSERT(row->type != MR_OPTION_TYPE_MAX);
    }
}

void mr_options_release(const struct mr_option *table, void *block)
{
    if (table == NULL || block == NULL) {
        return;
    }
    for (const struct mr_option *row = table; row->name != NULL; row++) {
        release_field(row, (uint8_t *)block + row->at);
    }
}

/* The default of a list: "a" or "[a, b]". */
static enum mr_status default_strings(const char *text, struct mr_strings *to)
{
    size_t size = strlen(text);
    bool is_list = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    const char *p = is_list ? text + 1 : text;
    const char *end = is_list ? text + size - 1 : text + size;
    while (p < end) {
        const char *comma = is_list ? memchr(p, ',', (size_t)(end - p)) : NULL;
        const char *stop = comma == NULL ? end : comma;
        while (p < stop && *p == ' ') {
            p++;
        }
        char *item = mr_strndup(p, (size_t)(stop - p));
        enum mr_status r = item == NULL ? MR_E_NOMEM : mr__strings_add(to, item);
        mr_free(item);
        if (r != MR_OK) {
            return r;
        }
        p = comma == NULL ? end : comma + 1;
    }
    return MR_OK;
}

enum mr_status mr__option_default(const struct mr_option *row, void *block, const char *folder)
{
    void *field = (uint8_t *)block + row->at;
    if (row->type == MR_OPTION_BLOCK) {
        for (const struct mr_option *inner = row->block; inner->name != NULL; inner++) {
            enum mr_status r = mr__option_default(inner, field, folder);
            if (r != MR_OK) {
                return r;
            }
        }
        return MR_OK;
    }
    if (row->default_text == NULL) {
        return MR_OK;
    }
    if (row->type == MR_OPTION_STRINGS) {
        return default_strings(row->default_text, field);
    }
    if (row->type == MR_OPTION_JSON) {
        char **to = field;
        *to = mr_strdup(row->default_text);
        return *to == NULL ? MR_E_NOMEM : MR_OK;
    }
    MR_ASSERT(row->type != MR_OPTION_PAIRS);
    struct mr_problem problem;
    enum mr_status r = mr__option_set(row, field, row->default_text, folder, &problem);
    MR_ASSERT(r == MR_OK || r == MR_E_NOMEM); /* a wrong default is our bug */
    return r;
}

enum mr_status mr_options_defaults(const struct mr_option *table, void *block)
{
    for (const struct mr_option *row = table; row->name != NULL; row++) {
        enum mr_status r = mr__option_default(row, block, NULL);
        if (r != MR_OK) {
            return r; /* what is set already is the caller's to release */
        }
    }
    return MR_OK;
}
