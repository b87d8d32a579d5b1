/* Owns filters as a configuration has them: their shape, and where in the file a wrong one is. */
#include "config/builder.h"

static const struct mr_node *find_item(const struct mr_node *list, const char **path)
{
    uint64_t index = 0;
    size_t digits = **path == '[' ? strspn(*path + 1, "0123456789") : 0;
    if (digits > 0 && mr_parse_u64(mr_bytes(*path + 1, digits), &index)) {
        *path += digits + 2;
    }
    const struct mr_node *item = list->first;
    for (; item != NULL && index > 0; index--) {
        item = item->next;
    }
    return item;
}

/* A problem of a filter begins with its path, `filter.all[1].sql at character 5 …`: the node that
 * this leads to, as far as it does. A list of one shows no index. */
static const struct mr_node *find_culprit(const struct mr_node *filter, const char *problem)
{
    const char *path = strncmp(problem, "filter", 6) == 0 ? problem + 6 : "";
    const struct mr_node *at = filter;
    for (;;) {
        const struct mr_node *next = NULL;
        if (at->kind == MR_NODE_SEQUENCE && (*path == '[' || *path == '.')) {
            next = find_item(at, &path);
        } else if (at->kind == MR_NODE_MAPPING && *path == '.') {
            for (next = at->first; next != NULL; next = next->next) {
                size_t size = strlen(next->key); /* of a place in data, with dots */
                if (strncmp(path + 1, next->key, size) == 0 &&
                    strchr(".[ ", path[1 + size]) != NULL) {
                    path += 1 + size;
                    break;
                }
            }
        }
        if (next == NULL) {
            return at;
        }
        at = next;
    }
}

static enum mr_status check_filter(struct mr_loader *loader, const struct mr_node *node,
                                   const char *key, const char *json)
{
    struct mr_problem problem = {.text = ""};
    if (node == NULL || loader->kinds->check_filter == NULL) {
        return MR_OK;
    }
    enum mr_status r = loader->kinds->check_filter(mr_bytes_of(json), &problem);
    if (r == MR_OK || r == MR_E_NOMEM) {
        return r;
    }
    bool named = strncmp(problem.text, "filter", 6) == 0;
    return mr__report(loader, find_culprit(node, problem.text), "%s%s", named ? key : "",
                      problem.text + (named ? 6 : 0));
}

enum mr_status mr__build_filter(struct mr_loader *loader, const struct mr_node *entry,
                                const char *key, const char *json, char **ret_json)
{
    const struct mr_node *node = mr__node_child(entry, key);
    bool is_one = node != NULL && node->kind == MR_NODE_MAPPING;
    if (node != NULL && node->kind == MR_NODE_SCALAR) {
        return mr__report(loader, node,
                          "%s wants a mapping such as {exact: {type: com.example.order}}, or a "
                          "list of such",
                          key);
    }
    for (const struct mr_node *item = is_one || node == NULL ? NULL : node->first; item != NULL;
         item = item->next) {
        if (item->kind != MR_NODE_MAPPING) {
            return mr__report(loader, item, "%s: an item of the list is no mapping", key);
        }
    }
    struct mr_buf buf;
    mr_buf_init(&buf, SIZE_MAX / 2);
    enum mr_status r = mr_buf_printf(&buf, "%s", is_one ? "[" : "");
    if (r == MR_OK) {
        r = mr_buf_append_text(&buf, json == NULL ? "[]" : json);
    }
    if (r == MR_OK && is_one) {
        r = mr_buf_append_byte(&buf, ']');
    }
    if (r == MR_OK) {
        *ret_json = mr_buf_take_text(&buf);
        r = *ret_json == NULL ? MR_E_NOMEM : MR_OK;
    }
    mr_buf_release(&buf);
    return r == MR_OK ? check_filter(loader, node, key, *ret_json) : r;
}
