#include "connectors/options.h"

#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"

#define BLOCK_DEPTH_MAX 8u

static bool copy_text(char **text)
{
    if (*text == NULL) {
        return true;
    }
    *text = mr_strdup(*text);
    return *text != NULL;
}

static bool copy_secret(struct mr_secret **secret)
{
    if (*secret == NULL) {
        return true;
    }
    *secret = mr_secret_create(mr_secret_use(*secret));
    return *secret != NULL;
}

static bool copy_url(struct mr_url **url)
{
    if (*url == NULL) {
        return true;
    }
    struct mr_url from = **url;
    struct mr_url *to = mr_calloc(1, sizeof(*to));
    *url = to;
    if (to == NULL) {
        return false;
    }
    to->port = from.port;
    to->text = mr_strdup(from.text);
    to->scheme = mr_strdup(from.scheme);
    to->host = mr_strdup(from.host);
    to->path = mr_strdup(from.path);
    to->user = mr_strdup(from.user);
    to->password = from.password;
    bool whole = copy_secret(&to->password);
    return whole && (to->text != NULL) == (from.text != NULL) &&
           (to->scheme != NULL) == (from.scheme != NULL) &&
           (to->host != NULL) == (from.host != NULL) &&
           (to->path != NULL) == (from.path != NULL) && (to->user != NULL) == (from.user != NULL);
}

static bool copy_strings(struct mr_strings *strings)
{
    struct mr_strings from = *strings;
    *strings = (struct mr_strings){0};
    if (from.count == 0) {
        return true;
    }
    strings->items = mr_calloc(from.count, sizeof(*strings->items));
    if (strings->items == NULL) {
        return false;
    }
    strings->count = from.count;
    for (uint32_t i = 0; i < from.count; i++) {
        strings->items[i] = mr_strdup(from.items[i]);
        if (strings->items[i] == NULL && from.items[i] != NULL) {
            return false;
        }
    }
    return true;
}

/* Replaces the borrowed pointers of one field by copies; what fails is left NULL or partly made,
 * never borrowed, so that a release is safe. */
static bool copy_field(const struct mr_option *row, void *field)
{
    switch (row->type) {
    case MR_OPTION_STRING:
    case MR_OPTION_PATH:
    case MR_OPTION_JSON:
        return copy_text(field);
    case MR_OPTION_SECRET:
        return copy_secret(field);
    case MR_OPTION_URL:
        return copy_url(field);
    case MR_OPTION_STRINGS:
        return copy_strings(field);
    case MR_OPTION_PAIRS: {
        struct mr_pairs *pairs = field;
        bool keys = copy_strings(&pairs->keys);
        return copy_strings(&pairs->values) && keys;
    }
    case MR_OPTION_BOOL:
    case MR_OPTION_INT:
    case MR_OPTION_SIZE:
    case MR_OPTION_DURATION:
    case MR_OPTION_RATE:
    case MR_OPTION_ENUM:
        return true;
    case MR_OPTION_BLOCK:
    case MR_OPTION_TYPE_MAX:
        break;
    }
    MR_ASSERT(!"a block is walked by its caller");
    return false;
}

enum mr_status mr__options_copy(const struct mr_option *table, size_t size, const void *from,
                                void *to)
{
    struct {
        const struct mr_option *row;
        uint8_t *base;
    } stack[BLOCK_DEPTH_MAX];
    uint32_t depth = 1;
    bool whole = true;
    memcpy(to, from, size);
    stack[0].row = table;
    stack[0].base = to;
    /* Every field is visited, also after a failure: none may stay borrowed. */
    while (depth > 0) {
        const struct mr_option *row = stack[depth - 1].row;
        if (row->name == NULL) {
            depth--;
            continue;
        }
        uint8_t *field = stack[depth - 1].base + row->at;
        stack[depth - 1].row++;
        if (row->type == MR_OPTION_BLOCK) {
            MR_ASSERT(depth < BLOCK_DEPTH_MAX);
            stack[depth].row = row->block;
            stack[depth].base = field;
            depth++;
        } else if (!copy_field(row, field)) {
            whole = false;
        }
    }
    if (!whole) {
        mr_options_release(table, to);
        return MR_E_NOMEM;
    }
    return MR_OK;
}
