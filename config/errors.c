/* Owns the list of errors of a load. */
#include "config/loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/logger.h"

enum mr_status mr__report_at(struct mr_loader *loader, const char *file, uint32_t line,
                             uint32_t column, const char *text)
{
    struct mr_config_errors *errors = loader->errors;
    if (errors->count == MR_CONFIG_ERRORS_MAX) {
        errors->more = true;
        return MR_OK;
    }
    if (errors->items == NULL) {
        errors->items = mr_calloc(MR_CONFIG_ERRORS_MAX, sizeof(*errors->items));
        if (errors->items == NULL) {
            return MR_E_NOMEM;
        }
    }
    char clean[MR_ERROR_TEXT_MAX];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(text));
    struct mr_config_error error = {
        .file = mr_strdup(file), .line = line, .column = column, .text = mr_strdup(clean)};
    if (error.file == NULL || error.text == NULL) {
        mr_free(error.file);
        mr_free(error.text);
        return MR_E_NOMEM;
    }
    errors->items[errors->count++] = error;
    return MR_OK;
}

enum mr_status mr__report(struct mr_loader *loader, const struct mr_node *node, const char *format,
                          ...)
{
    if (loader->errors->count == MR_CONFIG_ERRORS_MAX) {
        loader->errors->more = true;
        return MR_OK;
    }
    char text[MR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0) {
        text[0] = '\0';
    }
    if (node == NULL) {
        return mr__report_at(loader, loader->tree.file_count == 0 ? "" : loader->tree.files[0], 0,
                             0, text);
    }
    return mr__report_at(loader, loader->tree.files[node->file], node->line, node->column, text);
}

const char *mr__shown(const struct mr_node *place, const char *text)
{
    bool is_reference = place != NULL && place->kind == MR_NODE_SCALAR &&
                        (place->flags & MR_NODE_REFERENCE) != 0;
    return is_reference ? place->text : text;
}

static int compare_errors(const void *a, const void *b)
{
    const struct mr_config_error *left = a;
    const struct mr_config_error *right = b;
    int order = strcmp(left->file, right->file);
    if (order == 0) {
        order = (left->line > right->line) - (left->line < right->line);
    }
    if (order == 0) {
        order = (left->column > right->column) - (left->column < right->column);
    }
    return order == 0 ? strcmp(left->text, right->text) : order;
}

void mr__errors_sort(struct mr_config_errors *errors)
{
    if (errors->count > 1) {
        qsort(errors->items, errors->count, sizeof(*errors->items), compare_errors);
    }
}

void mr_config_errors_release(struct mr_config_errors *errors)
{
    if (errors != NULL) {
        for (uint32_t i = 0; i < errors->count; i++) {
            mr_free(errors->items[i].file);
            mr_free(errors->items[i].text);
        }
        mr_free(errors->items);
        *errors = (struct mr_config_errors){0};
    }
}
