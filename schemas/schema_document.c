/* Owns documents and references: URIs, `$id`, anchors, JSON pointers, and the way to files. */
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/schema_internal.h"

#define DOCUMENTS_MAX 64u
#define URI_SIZE_MAX 2048u
#define VALUES_MAX 200000u
#define FILE_SCHEME "file://"

/* --- URIs ------------------------------------------------------------------------------------- */

static bool has_scheme(struct mr_bytes uri)
{
    for (size_t i = 0; i < uri.size; i++) {
        uint8_t b = uri.data[i];
        if (b == ':') {
            return i > 0;
        }
        if (b == '/' || b == '?' || b == '#') {
            return false;
        }
    }
    return false;
}

static size_t find_byte(struct mr_bytes text, size_t from, char byte)
{
    const uint8_t *found =
        from < text.size ? memchr(text.data + from, byte, text.size - from) : NULL;
    return found == NULL ? text.size : (size_t)(found - text.data);
}

/* Where the path of an absolute URI begins. */
static size_t path_begin(struct mr_bytes uri)
{
    size_t colon = find_byte(uri, 0, ':');
    bool has_authority =
        uri.size >= colon + 3 && uri.data[colon + 1] == '/' && uri.data[colon + 2] == '/';
    return has_authority ? find_byte(uri, colon + 3, '/')
                         : colon + 1 > uri.size ? uri.size : colon + 1;
}

/* The size of @p uri up to and with its last slash; nothing before its path. */
static size_t folder_size(struct mr_bytes uri)
{
    size_t begin = path_begin(uri);
    size_t size = find_byte(uri, 0, '?');
    while (size > begin && uri.data[size - 1] != '/') {
        size--;
    }
    return size;
}

/* Takes "." and ".." out of the path of the URI in @p uri, which begins at @p begin. */
static void drop_dots(struct mr_buf *uri, size_t begin)
{
    size_t to = begin;
    size_t at = begin;
    while (at < uri->size) {
        size_t end = find_byte(mr_buf_bytes(uri), at + 1, '/');
        struct mr_bytes segment = mr_bytes(uri->data + at, end - at);
        bool is_up = mr_bytes_equal(segment, MR_BYTES_LITERAL("/.."));
        if (is_up) {
            while (to > begin && uri->data[--to] != '/') {
            }
        } else if (!mr_bytes_equal(segment, MR_BYTES_LITERAL("/."))) {
            memmove(uri->data + to, segment.data, segment.size);
            to += segment.size;
        }
        at = end;
    }
    uri->size = to;
}

/* What @p reference, without a fragment, means at @p base (RFC 3986 section 5.2). */
static enum mr_status resolve_uri(struct mr_bytes base, struct mr_bytes reference,
                                  struct mr_buf *out)
{
    if (has_scheme(reference)) {
        return mr_buf_append_bytes(out, reference);
    }
    if (reference.size == 0) {
        return mr_buf_append_bytes(out, base);
    }
    size_t begin = path_begin(base);
    size_t keep = folder_size(base);
    if (mr_bytes_starts(reference, MR_BYTES_LITERAL("//"))) {
        keep = find_byte(base, 0, ':') + 1;
    } else if (reference.data[0] == '/') {
        keep = begin;
    }
    enum mr_status r = mr_buf_append(out, base.data, keep > base.size ? base.size : keep);
    r = r == MR_OK ? mr_buf_append_bytes(out, reference) : r;
    if (r == MR_OK && begin < out->size && out->data[begin] == '/') {
        drop_dots(out, begin);
    }
    return r;
}

/* --- documents -------------------------------------------------------------------------------- */

static enum mr_status find_draft(const struct mr__schema_maker *maker, struct mr__document *d)
{
    uint32_t at = mr__json_member(&d->tree, 0, MR_BYTES_LITERAL("$schema"));
    struct mr_bytes uri = d->tree.values[at].text;
    if (uri.size > 0 && uri.data[uri.size - 1] == '#') {
        uri.size--;
    }
    d->draft = MR__DRAFT_2020;
    if (at == 0 ||
        mr_bytes_equal(uri, MR_BYTES_LITERAL("https://json-schema.org/draft/2020-12/schema"))) {
        return MR_OK;
    }
    d->draft = MR__DRAFT_7;
    if (mr_bytes_equal(uri, MR_BYTES_LITERAL("http://json-schema.org/draft-07/schema")) ||
        mr_bytes_equal(uri, MR_BYTES_LITERAL("https://json-schema.org/draft-07/schema"))) {
        return MR_OK;
    }
    return mr_problem_set(maker->problem, MR_E_UNSUPPORTED,
                          "%s#/$schema: only draft-07 and 2020-12 are supported", d->path);
}

static enum mr_status add_resource(struct mr__schema_maker *maker, struct mr_bytes uri,
                                   uint32_t document, uint32_t node)
{
    struct mr_schema *s = maker->schema;
    void *items = s->resources;
    enum mr_status r = mr__grow(&items, s->resource_count, &s->resource_capacity,
                                sizeof(*s->resources));
    s->resources = items;
    char *copy = r == MR_OK ? mr_strndup((const char *)uri.data, uri.size) : NULL;
    if (copy == NULL) {
        return mr_problem_set(maker->problem, MR_E_NOMEM, "out of memory");
    }
    s->resources[s->resource_count++] =
        (struct mr__resource){.uri = copy, .document = document, .node = node};
    return MR_OK;
}

static enum mr_status read_document(struct mr__schema_maker *maker, struct mr__document *d,
                                    size_t size)
{
    struct mr_problem problem = {""};
    enum mr_status r = mr__json_tree_read(&d->tree, mr_bytes(d->text, size), VALUES_MAX, &problem);
    if (r != MR_OK) {
        return mr_problem_set(maker->problem, r, "%s: %s", d->path, problem.text);
    }
    d->node_of = mr_calloc(d->tree.count, sizeof(*d->node_of));
    return d->node_of == NULL ? mr_problem_set(maker->problem, MR_E_NOMEM, "out of memory")
                              : find_draft(maker, d);
}

enum mr_status mr__schema_add_document(struct mr__schema_maker *maker, const char *path, char *text,
                                       size_t size, uint32_t *ret_node)
{
    struct mr_schema *s = maker->schema;
    void *items = s->documents;
    enum mr_status r = s->document_count == DOCUMENTS_MAX
                           ? MR_E_TOO_BIG
                           : mr__grow(&items, s->document_count, &s->document_capacity,
                                      sizeof(*s->documents));
    s->documents = items;
    if (r != MR_OK) {
        mr_free(text);
        return mr_problem_set(maker->problem, r, "%s: %s", path,
                              r == MR_E_NOMEM ? "out of memory" : "more than 64 files");
    }
    uint32_t document = s->document_count++;
    struct mr__document *d = &s->documents[document];
    *d = (struct mr__document){.text = text, .path = mr_strdup(path)};
    if (d->path == NULL) {
        return mr_problem_set(maker->problem, MR_E_NOMEM, "out of memory");
    }
    r = read_document(maker, d, size);
    d->resource = s->resource_count;
    if (r == MR_OK) {
        struct mr_buf uri;
        mr_buf_init(&uri, URI_SIZE_MAX);
        r = mr_buf_printf(&uri, FILE_SCHEME "%s", path);
        r = r == MR_OK ? add_resource(maker, mr_buf_bytes(&uri), document, 0) : r;
        mr_buf_release(&uri);
    }
    r = r == MR_OK ? mr__schema_add_node(maker, document, 0, d->resource, ret_node) : r;
    if (r == MR_OK) {
        s->resources[s->documents[document].resource].node = *ret_node;
    }
    return r;
}

enum mr_status mr__schema_take_anchor(struct mr__schema_maker *maker, uint32_t at)
{
    struct mr_schema *s = maker->schema;
    const struct mr__node *node = &s->nodes[maker->node];
    struct mr_bytes name = s->documents[node->document].tree.values[at].text;
    if (name.size > 0 && name.data[0] == '#') {
        name = mr_bytes(name.data + 1, name.size - 1); /* the $id of draft-07 */
    }
    void *items = s->anchors;
    enum mr_status r =
        mr__grow(&items, s->anchor_count, &s->anchor_capacity, sizeof(*s->anchors));
    s->anchors = items;
    if (r != MR_OK) {
        return mr_problem_set(maker->problem, r, "out of memory");
    }
    s->anchors[s->anchor_count++] =
        (struct mr__anchor){.name = name, .resource = node->resource, .node = maker->node};
    return MR_OK;
}

enum mr_status mr__schema_take_id(struct mr__schema_maker *maker, uint32_t at)
{
    struct mr_schema *s = maker->schema;
    struct mr__node *node = &s->nodes[maker->node];
    const struct mr__document *d = &s->documents[node->document];
    struct mr_bytes id = d->tree.values[at].text;
    if (id.size > 1 && id.data[0] == '#' && d->draft == MR__DRAFT_7) {
        return mr__schema_take_anchor(maker, at);
    }
    if (id.size > 0 && id.data[id.size - 1] == '#') {
        id.size--;
    }
    if (find_byte(id, 0, '#') < id.size) {
        return mr__schema_refuse(maker, at, MR_E_INVALID, "wants a URI without a fragment");
    }
    struct mr_buf uri;
    mr_buf_init(&uri, URI_SIZE_MAX);
    enum mr_status r = resolve_uri(mr_bytes_of(s->resources[node->resource].uri), id, &uri);
    uint32_t resource = s->resource_count;
    r = r == MR_OK ? add_resource(maker, mr_buf_bytes(&uri), node->document, maker->node)
                   : mr__schema_refuse(maker, at, r, "is too long");
    mr_buf_release(&uri);
    if (r == MR_OK) {
        node->resource = resource;
    }
    return r;
}

/* --- references ------------------------------------------------------------------------------- */

static uint32_t find_resource(const struct mr_schema *s, struct mr_bytes uri)
{
    for (uint32_t i = 0; i < s->resource_count; i++) {
        if (mr_bytes_equal(mr_bytes_of(s->resources[i].uri), uri)) {
            return i;
        }
    }
    return MR__NODE_NONE;
}

static enum mr_status read_file(struct mr__schema_maker *maker, const char *path,
                                uint32_t *ret_resource)
{
    struct mr_schema *s = maker->schema;
    for (uint32_t i = 0; i < s->document_count; i++) {
        if (strcmp(s->documents[i].path, path) == 0) {
            *ret_resource = s->documents[i].resource;
            return MR_OK;
        }
    }
    char *text = NULL;
    size_t size = 0;
    enum mr_status r = maker->files == NULL
                           ? MR_E_NOT_FOUND
                           : maker->files->read(maker->files->context, path, &text, &size);
    uint32_t node;
    r = r == MR_OK ? mr__schema_add_document(maker, path, text, size, &node) : r;
    if (r == MR_OK) {
        *ret_resource = s->nodes[node].resource;
    }
    return r;
}

/* The file that @p uri means beside the document whose URI is @p base: both in one folder, or the
 * one below the other's. Tried as it is and with .json. */
static enum mr_status find_file(struct mr__schema_maker *maker, const struct mr__document *d,
                                struct mr_bytes base, struct mr_bytes uri, uint32_t *ret_resource)
{
    size_t folder = folder_size(base);
    if (uri.size <= folder || folder == 0 || memcmp(uri.data, base.data, folder) != 0) {
        return MR_E_NOT_FOUND;
    }
    struct mr_bytes rest = mr_bytes(uri.data + folder, uri.size - folder);
    const char *slash = strrchr(d->path, '/');
    struct mr_buf path;
    mr_buf_init(&path, URI_SIZE_MAX);
    size_t kept = slash == NULL ? 0 : (size_t)(slash - d->path) + 1;
    enum mr_status r = mr_buf_append(&path, d->path, kept);
    r = r == MR_OK ? mr_buf_append_bytes(&path, rest) : r;
    char *plain = r == MR_OK ? mr_buf_take_text(&path) : NULL;
    r = plain == NULL ? MR_E_NOMEM : mr_buf_printf(&path, "%s.json", plain);
    char *with = r == MR_OK ? mr_buf_take_text(&path) : NULL;
    r = with == NULL ? MR_E_NOMEM : read_file(maker, plain, ret_resource);
    r = r == MR_E_NOT_FOUND ? read_file(maker, with, ret_resource) : r;
    mr_free(plain);
    mr_free(with);
    mr_buf_release(&path);
    return r;
}

static enum mr_status find_target(struct mr__schema_maker *maker, uint32_t node,
                                  struct mr_bytes uri, uint32_t *ret_resource)
{
    const struct mr_schema *s = maker->schema;
    *ret_resource = find_resource(s, uri);
    if (*ret_resource != MR__NODE_NONE) {
        return MR_OK;
    }
    /* A document has two URIs: where it lies, and what its $id says. */
    const struct mr__document document = s->documents[s->nodes[node].document];
    enum mr_status r = MR_E_NOT_FOUND;
    for (uint32_t i = 0; i < s->resource_count && r == MR_E_NOT_FOUND; i++) {
        if (s->resources[i].document == s->nodes[node].document &&
            s->nodes[s->resources[i].node].at == 0) {
            r = find_file(maker, &document, mr_bytes_of(s->resources[i].uri), uri, ret_resource);
        }
    }
    return r;
}

static bool hex_digit(uint8_t b, uint8_t *ret_value)
{
    uint8_t low = b | 0x20;
    if (b >= '0' && b <= '9') {
        *ret_value = b - '0';
        return true;
    }
    *ret_value = (uint8_t)(low - 'a' + 10);
    return low >= 'a' && low <= 'f';
}

/* One segment of a pointer, percent and tilde escapes resolved. */
static enum mr_status read_segment(struct mr_bytes segment, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    uint8_t high;
    uint8_t low;
    for (size_t i = 0; i < segment.size && r == MR_OK; i++) {
        uint8_t b = segment.data[i];
        if (b == '%' && segment.size - i > 2 && hex_digit(segment.data[i + 1], &high) &&
            hex_digit(segment.data[i + 2], &low)) {
            b = (uint8_t)(high << 4 | low);
            i += 2;
        }
        r = mr_buf_append_byte(out, b);
    }
    size_t to = 0;
    for (size_t i = 0; i < out->size; i++) {
        uint8_t b = out->data[i];
        if (b == '~' && i + 1 < out->size && (out->data[i + 1] & 0xFE) == '0') {
            b = out->data[++i] == '0' ? '~' : '/';
        }
        out->data[to++] = b;
    }
    out->size = to;
    return r;
}

/* The value that @p pointer leads to from @p at, or MR__NODE_NONE. */
static uint32_t follow_pointer(const struct mr__json_tree *tree, uint32_t at,
                               struct mr_bytes pointer)
{
    struct mr_buf name;
    mr_buf_init(&name, URI_SIZE_MAX);
    for (size_t i = 0; i < pointer.size && at != MR__NODE_NONE;) {
        size_t end = find_byte(pointer, i + 1, '/');
        mr_buf_clear(&name);
        uint64_t index;
        if (read_segment(mr_bytes(pointer.data + i + 1, end - i - 1), &name) != MR_OK) {
            at = MR__NODE_NONE;
        } else if (tree->values[at].kind == MR__JSON_ARRAY &&
                   mr_parse_u64(mr_buf_bytes(&name), &index)) {
            at = tree->values[at].first;
            for (; index > 0 && at != 0; index--) {
                at = tree->values[at].next;
            }
            at = at == 0 ? MR__NODE_NONE : at;
        } else {
            at = mr__json_member(tree, at, mr_buf_bytes(&name));
            at = at == 0 ? MR__NODE_NONE : at;
        }
        i = end;
    }
    mr_buf_release(&name);
    return at;
}

/* The node that @p fragment means in @p resource, or MR__NODE_NONE. */
static enum mr_status find_node(struct mr__schema_maker *maker, uint32_t resource,
                                struct mr_bytes fragment, uint32_t *ret_node)
{
    const struct mr_schema *s = maker->schema;
    const struct mr__resource *in = &s->resources[resource];
    *ret_node = MR__NODE_NONE;
    if (fragment.size == 0) {
        *ret_node = in->node;
        return MR_OK;
    }
    if (fragment.data[0] == '/') {
        uint32_t at = follow_pointer(&s->documents[in->document].tree, s->nodes[in->node].at,
                                     fragment);
        return at == MR__NODE_NONE ? MR_OK
                                   : mr__schema_add_node(maker, in->document, at,
                                                         s->nodes[in->node].resource, ret_node);
    }
    for (uint32_t i = 0; i < s->anchor_count && *ret_node == MR__NODE_NONE; i++) {
        if (s->anchors[i].resource == s->nodes[in->node].resource &&
            mr_bytes_equal(s->anchors[i].name, fragment)) {
            *ret_node = s->anchors[i].node;
        }
    }
    return MR_OK;
}

enum mr_status mr__schema_resolve(struct mr__schema_maker *maker, uint32_t node, uint32_t at,
                                  uint32_t *ret_node)
{
    struct mr_schema *s = maker->schema;
    const struct mr__node *from = &s->nodes[node];
    struct mr_bytes reference = s->documents[from->document].tree.values[at].text;
    size_t hash = find_byte(reference, 0, '#');
    struct mr_bytes fragment = {0};
    if (hash < reference.size) {
        fragment = mr_bytes(reference.data + hash + 1, reference.size - hash - 1);
    }
    struct mr_buf uri;
    mr_buf_init(&uri, URI_SIZE_MAX);
    uint32_t resource = MR__NODE_NONE;
    enum mr_status r = resolve_uri(mr_bytes_of(s->resources[from->resource].uri),
                                   mr_bytes(reference.data, hash), &uri);
    r = r == MR_OK ? find_target(maker, node, mr_buf_bytes(&uri), &resource) : r;
    mr_buf_release(&uri);
    maker->node = node;
    if (r == MR_E_NOT_FOUND) {
        return mr__schema_refuse(maker, at, r, "leads to no document that is known, and no file");
    }
    return r == MR_OK ? find_node(maker, resource, fragment, ret_node) : r;
}
