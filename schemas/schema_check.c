/* Owns the check of data. A frame is one schema applied to one value; its ops are tried in order,
 * and an op that needs another schema asks for a frame on top and goes on with what that said.
 *
 * What `unevaluated…` asks for: every member or element that a schema was applied to with success
 * is noted in a log. A frame that fails takes its notes back, so behind the start of a frame stand
 * those of the schemas that hold, at its own value and below. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/decimal.h"
#include "schemas/schema_internal.h"

#define FRAMES_MAX 1024u /* twice what the depth of JSON and a few references take */
#define NOTES_MAX 1000000u
#define TEXT_SHOWN_MAX 80

enum outcome {
    FAILS = 0,
    HOLDS,
    DESCENDS, /* the frame asked for is pushed; the op is called again with what came of it */
};

enum said { /* about the frame that the op asked for */
    SAID_NOTHING = 0,
    SAID_NO,
    SAID_YES,
};

struct frame {
    uint32_t node;
    uint32_t value;
    uint32_t op;     /* the next to try, from the first of the node */
    uint32_t notes;  /* the length of the log when it began */
    /* Of the op under way, zero when it begins: */
    uint32_t cursor; /* a child of the value, or a place in a list */
    uint32_t part;   /* what of the cursor's is under way */
    uint32_t count;
    bool asked;
    bool hit;
};

struct check {
    const struct mr_schema *schema;
    struct mr__json_tree tree;
    uint64_t steps; /* left */
    uint32_t depth;
    struct frame *frames;  /* owned */
    uint32_t *scratch;     /* owned; of expressions */
    uint64_t *hashes;      /* owned; NULL until uniqueItems wants them */
    uint32_t *slots;       /* owned; likewise */
    uint32_t *notes;       /* owned; values */
    uint32_t note_count;
    uint32_t note_capacity;
    uint32_t *marks; /* owned; by value: the round in which it was found in the notes */
    uint32_t round;
    enum mr_status status; /* memory is short, or it takes too much */
    uint32_t ask_node;
    uint32_t ask_value;
    /* The last refusal. */
    uint32_t failed_node;
    uint32_t failed_op; /* UINT32_MAX: the schema false */
    uint32_t failed_value;
};

static const struct mr__json_value *value_of(const struct check *c, const struct frame *f)
{
    return &c->tree.values[f->value];
}

static bool spend(struct check *c, uint64_t steps)
{
    if (c->steps <= steps) {
        c->steps = 0;
        c->status = MR_E_TOO_BIG;
        return false;
    }
    c->steps -= steps;
    return true;
}

static enum outcome ask(struct check *c, struct frame *f, uint32_t node, uint32_t value)
{
    f->asked = true;
    c->ask_node = node;
    c->ask_value = value;
    return DESCENDS;
}

static void note(struct check *c, uint32_t value)
{
    if (!c->schema->tracks || c->status != MR_OK) {
        return;
    }
    if (c->note_count == c->note_capacity) {
        uint32_t capacity = c->note_capacity == 0 ? 64 : c->note_capacity * 2;
        uint32_t *notes = capacity > NOTES_MAX
                              ? NULL
                              : mr_realloc(c->notes, (size_t)capacity * sizeof(*notes));
        if (notes == NULL) {
            c->status = capacity > NOTES_MAX ? MR_E_TOO_BIG : MR_E_NOMEM;
            return;
        }
        c->notes = notes;
        c->note_capacity = capacity;
    }
    c->notes[c->note_count++] = value;
}

static bool matches(struct check *c, uint32_t regex, struct mr_bytes text)
{
    bool found = mr_regex_search(c->schema->regexes[regex], text, c->scratch, &c->steps);
    if (c->steps == 0) {
        c->status = MR_E_TOO_BIG;
    }
    return found;
}

/* --- keywords that look at the value alone ---------------------------------------------------- */

static bool check_type(uint8_t kind, struct mr_bytes text, uint32_t bits)
{
    return (bits >> kind & 1) != 0 || ((bits & MR__TYPE_INTEGER) != 0 &&
                                       kind == MR__JSON_NUMBER && mr_decimal_is_integer(text));
}

static bool check_equal(struct check *c, const struct frame *f, const struct mr__op *op)
{
    const struct mr__node *node = &c->schema->nodes[f->node];
    const struct mr__json_tree *tree = &c->schema->documents[node->document].tree;
    bool is_list = op->kind == MR__OP_ENUM;
    uint32_t at = is_list ? tree->values[op->at].first : op->at;
    while (at != 0) {
        if (mr__json_equal(tree, at, &c->tree, f->value, &c->steps)) {
            return true;
        }
        if (!spend(c, 1)) {
            return false;
        }
        at = is_list ? tree->values[at].next : 0;
    }
    return false;
}

static bool check_number(const struct mr__op *op, struct mr_bytes text, struct mr_bytes bound)
{
    if (op->kind == MR__OP_MULTIPLE_OF) {
        return mr_decimal_is_multiple(text, bound);
    }
    int order = mr_decimal_compare(text, bound);
    return op->kind == MR__OP_MAXIMUM   ? order <= 0
           : op->kind == MR__OP_BELOW   ? order < 0
           : op->kind == MR__OP_MINIMUM ? order >= 0
                                        : order > 0;
}

static uint32_t count_characters(struct mr_bytes text)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += (text.data[i] & 0xC0) != 0x80;
    }
    return count;
}

static bool check_required(struct check *c, uint32_t object, const struct mr__json_tree *tree,
                           uint32_t list)
{
    for (uint32_t at = tree->values[list].first; at != 0; at = tree->values[at].next) {
        if (!spend(c, 1 + c->tree.values[object].count) ||
            mr__json_member(&c->tree, object, tree->values[at].text) == 0) {
            return false;
        }
    }
    return true;
}

static bool check_dependent_required(struct check *c, uint32_t object,
                                     const struct mr__json_tree *tree, uint32_t mapping)
{
    for (uint32_t name = tree->values[mapping].first; name != 0;) {
        uint32_t list = tree->values[name].next;
        bool applies = spend(c, 1 + c->tree.values[object].count) &&
                       tree->values[list].kind == MR__JSON_ARRAY &&
                       mr__json_member(&c->tree, object, tree->values[name].text) != 0;
        if (applies && !check_required(c, object, tree, list)) {
            return false;
        }
        name = tree->values[list].next;
    }
    return true;
}

static bool check_unique(struct check *c, uint32_t array)
{
    uint32_t count = c->tree.values[array].count;
    if (count < 2) {
        return true;
    }
    if (c->hashes == NULL) {
        c->hashes = mr_calloc(c->tree.count, sizeof(*c->hashes));
        c->slots = mr_calloc((size_t)c->tree.count * 2, sizeof(*c->slots));
        if (c->hashes == NULL || c->slots == NULL) {
            c->status = MR_E_NOMEM;
            return false;
        }
        mr__json_hash(&c->tree, c->hashes);
    }
    uint32_t capacity = count * 2; /* at most twice the values of the whole */
    memset(c->slots, 0, capacity * sizeof(*c->slots));
    for (uint32_t at = c->tree.values[array].first; at != 0; at = c->tree.values[at].next) {
        uint32_t slot = (uint32_t)(c->hashes[at] % capacity);
        for (; c->slots[slot] != 0; slot = (slot + 1) % capacity) {
            uint32_t other = c->slots[slot];
            if (!spend(c, 1) || (c->hashes[other] == c->hashes[at] &&
                                 mr__json_equal(&c->tree, at, &c->tree, other, &c->steps))) {
                return false;
            }
        }
        c->slots[slot] = at;
    }
    return spend(c, count);
}

/* Keywords without schemas in them: whether @p op holds. One for another kind of value does. */
static bool check_alone(struct check *c, const struct frame *f, const struct mr__op *op)
{
    const struct mr__json_value *v = value_of(c, f);
    const struct mr__json_tree *tree =
        &c->schema->documents[c->schema->nodes[f->node].document].tree;
    bool is_object = v->kind == MR__JSON_OBJECT;
    bool is_array = v->kind == MR__JSON_ARRAY;
    bool is_string = v->kind == MR__JSON_STRING;
    switch (op->kind) {
    case MR__OP_TYPE:
        return check_type(v->kind, v->text, op->a);
    case MR__OP_CONST:
    case MR__OP_ENUM:
        return check_equal(c, f, op);
    case MR__OP_MULTIPLE_OF:
    case MR__OP_MAXIMUM:
    case MR__OP_BELOW:
    case MR__OP_MINIMUM:
    case MR__OP_ABOVE:
        return v->kind != MR__JSON_NUMBER ||
               check_number(op, v->text, tree->values[op->at].text);
    case MR__OP_MAX_LENGTH:
        return !is_string || count_characters(v->text) <= op->a;
    case MR__OP_MIN_LENGTH:
        return !is_string || count_characters(v->text) >= op->a;
    case MR__OP_MAX_ITEMS:
        return !is_array || v->count <= op->a;
    case MR__OP_MIN_ITEMS:
        return !is_array || v->count >= op->a;
    case MR__OP_MAX_PROPERTIES:
        return !is_object || v->count <= op->a;
    case MR__OP_MIN_PROPERTIES:
        return !is_object || v->count >= op->a;
    case MR__OP_PATTERN:
        return !is_string || matches(c, op->a, v->text);
    case MR__OP_REQUIRED:
        return !is_object || check_required(c, f->value, tree, op->at);
    case MR__OP_DEPENDENT_REQUIRED:
        return !is_object || check_dependent_required(c, f->value, tree, op->at);
    case MR__OP_UNIQUE:
        return !is_array || check_unique(c, f->value);
    default:
        MR_ASSERT(false);
        return false;
    }
}

/* --- keywords with schemas in them ------------------------------------------------------------ */

/* Members and names. A cursor stands on a name; parts: 0 the named schema, then one for each
 * expression, then the rest. */
static enum outcome step_members(struct check *c, struct frame *f, const struct mr__op *op,
                                 enum said said)
{
    const struct mr_schema *s = c->schema;
    const struct mr__members *m = &s->members[op->a];
    if (said == SAID_NO) {
        return FAILS;
    }
    if (said == SAID_NOTHING) {
        f->cursor = value_of(c, f)->first;
    }
    while (f->cursor != 0) {
        struct mr_bytes name = c->tree.values[f->cursor].text;
        uint32_t value = c->tree.values[f->cursor].next;
        if (f->part == 0) {
            f->part++;
            uint32_t low = 0;
            uint32_t high = m->named_count;
            while (low < high) {
                uint32_t middle = low + (high - low) / 2;
                const struct mr__entry *entry = &s->entries[m->named_first + middle];
                int order = mr_bytes_compare(name, entry->name);
                if (order == 0) {
                    f->hit = true;
                    return ask(c, f, entry->node, value);
                }
                low = order > 0 ? middle + 1 : low;
                high = order > 0 ? high : middle;
            }
        }
        while (f->part <= m->pattern_count) {
            const struct mr__entry *entry = &s->entries[m->pattern_first + f->part++ - 1];
            if (matches(c, entry->regex, name)) {
                f->hit = true;
                return ask(c, f, entry->node, value);
            }
        }
        if (f->part++ == m->pattern_count + 1 && !f->hit && m->rest != MR__NODE_NONE) {
            f->hit = true;
            return ask(c, f, m->rest, value);
        }
        if (f->hit) {
            note(c, value);
        }
        f->hit = false;
        f->part = 0;
        f->cursor = c->tree.values[value].next;
        if (!spend(c, 1)) {
            return FAILS;
        }
    }
    return HOLDS;
}

static enum outcome step_names(struct check *c, struct frame *f, const struct mr__op *op,
                               enum said said)
{
    if (said == SAID_NO) {
        return FAILS;
    }
    uint32_t value = said == SAID_NOTHING ? 0 : c->tree.values[f->cursor].next;
    f->cursor = value == 0 ? value_of(c, f)->first : c->tree.values[value].next;
    return f->cursor == 0 ? HOLDS : ask(c, f, op->a, f->cursor);
}

static enum outcome step_items(struct check *c, struct frame *f, const struct mr__op *op,
                               enum said said)
{
    if (said == SAID_NO) {
        return FAILS;
    }
    if (said == SAID_YES) {
        note(c, f->cursor);
    }
    f->cursor = said == SAID_NOTHING ? value_of(c, f)->first : c->tree.values[f->cursor].next;
    uint32_t node = f->count < op->b ? c->schema->list[op->a + f->count] : op->c;
    f->count++;
    return f->cursor == 0 || node == MR__NODE_NONE ? HOLDS : ask(c, f, node, f->cursor);
}

static enum outcome step_contains(struct check *c, struct frame *f, const struct mr__op *op,
                                  enum said said)
{
    if (said == SAID_YES) {
        f->count++;
        note(c, f->cursor);
    }
    f->cursor = said == SAID_NOTHING ? value_of(c, f)->first : c->tree.values[f->cursor].next;
    if (f->cursor != 0) {
        return ask(c, f, op->a, f->cursor);
    }
    return f->count >= op->b && f->count <= op->c ? HOLDS : FAILS;
}

static enum outcome step_dependent(struct check *c, struct frame *f, const struct mr__op *op,
                                   enum said said)
{
    if (said == SAID_NO) {
        return FAILS;
    }
    while (f->cursor < op->b) {
        const struct mr__entry *entry = &c->schema->entries[op->a + f->cursor++];
        if (!spend(c, 1 + value_of(c, f)->count)) {
            return FAILS;
        }
        if (mr__json_member(&c->tree, f->value, entry->name) != 0) {
            return ask(c, f, entry->node, f->value);
        }
    }
    return HOLDS;
}

/* allOf, anyOf and oneOf. With notes to take, no branch of an anyOf is left out. */
static enum outcome step_list(struct check *c, struct frame *f, const struct mr__op *op,
                              enum said said)
{
    f->count += said == SAID_YES;
    bool is_all = op->kind == MR__OP_ALL;
    bool is_any = op->kind == MR__OP_ANY;
    if (is_all && said == SAID_NO) {
        return FAILS;
    }
    if (is_any && f->count == 1 && !c->schema->tracks) {
        return HOLDS;
    }
    if (op->kind == MR__OP_ONE && f->count > 1) {
        return FAILS;
    }
    if (f->cursor < op->b) {
        return ask(c, f, c->schema->list[op->a + f->cursor++], f->value);
    }
    return is_all || (is_any ? f->count > 0 : f->count == 1) ? HOLDS : FAILS;
}

static enum outcome step_if(struct check *c, struct frame *f, const struct mr__op *op,
                            enum said said)
{
    if (said == SAID_NOTHING) {
        return ask(c, f, op->a, f->value);
    }
    if (f->part++ > 0) {
        return said == SAID_YES ? HOLDS : FAILS;
    }
    uint32_t node = said == SAID_YES ? op->b : op->c;
    return node == MR__NODE_NONE ? HOLDS : ask(c, f, node, f->value);
}

/* Marks what the notes of this frame hold, for the round that begins. */
static bool mark_notes(struct check *c, const struct frame *f)
{
    if (c->marks == NULL) {
        c->marks = mr_calloc(c->tree.count, sizeof(*c->marks));
        if (c->marks == NULL) {
            c->status = MR_E_NOMEM;
            return false;
        }
    }
    c->round++;
    for (uint32_t i = f->notes; i < c->note_count; i++) {
        c->marks[c->notes[i]] = c->round;
    }
    return spend(c, c->note_count - f->notes);
}

static enum outcome step_unevaluated(struct check *c, struct frame *f, const struct mr__op *op,
                                     enum said said)
{
    bool members = op->kind == MR__OP_UNEVALUATED_PROPERTIES;
    if (said == SAID_NO) {
        return FAILS;
    }
    if (said == SAID_YES) {
        note(c, f->part);
    } else {
        f->cursor = value_of(c, f)->first;
    }
    if ((said == SAID_NOTHING || c->round != f->count) && !mark_notes(c, f)) {
        return FAILS;
    }
    f->count = c->round; /* frames on top may begin rounds of their own */
    while (f->cursor != 0) {
        uint32_t value = members ? c->tree.values[f->cursor].next : f->cursor;
        f->cursor = c->tree.values[value].next;
        if (!spend(c, 1)) {
            return FAILS;
        }
        if (c->marks[value] != c->round) {
            f->part = value;
            return ask(c, f, op->a, value);
        }
    }
    return HOLDS;
}

static enum outcome step_op(struct check *c, struct frame *f, const struct mr__op *op,
                            enum said said)
{
    bool is_object = value_of(c, f)->kind == MR__JSON_OBJECT;
    bool is_array = value_of(c, f)->kind == MR__JSON_ARRAY;
    switch (op->kind) {
    case MR__OP_MEMBERS:
        return is_object ? step_members(c, f, op, said) : HOLDS;
    case MR__OP_NAMES:
        return is_object ? step_names(c, f, op, said) : HOLDS;
    case MR__OP_DEPENDENT_SCHEMAS:
        return is_object ? step_dependent(c, f, op, said) : HOLDS;
    case MR__OP_ITEMS:
        return is_array ? step_items(c, f, op, said) : HOLDS;
    case MR__OP_CONTAINS:
        return is_array ? step_contains(c, f, op, said) : HOLDS;
    case MR__OP_UNEVALUATED_PROPERTIES:
        return is_object ? step_unevaluated(c, f, op, said) : HOLDS;
    case MR__OP_UNEVALUATED_ITEMS:
        return is_array ? step_unevaluated(c, f, op, said) : HOLDS;
    case MR__OP_REF:
    case MR__OP_NOT: {
        bool wanted = op->kind == MR__OP_REF;
        return said == SAID_NOTHING ? ask(c, f, op->a, f->value)
                                    : (said == SAID_YES) == wanted ? HOLDS : FAILS;
    }
    case MR__OP_ALL:
    case MR__OP_ANY:
    case MR__OP_ONE:
        return step_list(c, f, op, said);
    case MR__OP_IF:
        return step_if(c, f, op, said);
    default:
        return check_alone(c, f, op) ? HOLDS : FAILS;
    }
}

/* --- the run ---------------------------------------------------------------------------------- */

static void push(struct check *c, uint32_t node, uint32_t value)
{
    if (c->depth == FRAMES_MAX) {
        c->status = MR_E_TOO_BIG;
        return;
    }
    c->frames[c->depth++] =
        (struct frame){.node = node, .value = value, .notes = c->note_count};
}

/* A failure that is only that of a schema asked for is that one's, and noted already. */
static void remember(struct check *c, const struct frame *f, uint32_t op, enum said said)
{
    uint8_t kind = op == UINT32_MAX ? MR__OP_TYPE : c->schema->ops[op].kind;
    bool own = said != SAID_NO || kind == MR__OP_ANY || kind == MR__OP_ONE ||
               kind == MR__OP_CONTAINS;
    if (own) {
        c->failed_node = f->node;
        c->failed_op = op;
        c->failed_value = f->value;
    }
}

/* Whether the whole holds; status says when there is no answer. */
static bool run(struct check *c)
{
    enum said said = SAID_NOTHING;
    push(c, 0, 0);
    while (c->depth > 0 && c->status == MR_OK) {
        struct frame *f = &c->frames[c->depth - 1];
        const struct mr__node *node = &c->schema->nodes[f->node];
        enum outcome outcome = node->is_false ? FAILS : HOLDS;
        uint32_t failed = UINT32_MAX;
        while (f->op < node->op_count && c->status == MR_OK && spend(c, 1)) {
            failed = node->op_first + f->op;
            outcome = step_op(c, f, &c->schema->ops[failed], f->asked ? said : SAID_NOTHING);
            if (outcome != HOLDS) {
                break;
            }
            f->op++;
            f->cursor = f->part = f->count = 0;
            f->asked = f->hit = false;
        }
        if (c->status != MR_OK) {
            break;
        }
        if (outcome == DESCENDS) {
            push(c, c->ask_node, c->ask_value);
            continue;
        }
        if (outcome == FAILS) {
            remember(c, f, failed, f->asked ? said : SAID_NOTHING);
            c->note_count = f->notes;
        }
        said = outcome == HOLDS ? SAID_YES : SAID_NO;
        c->depth--;
    }
    return said == SAID_YES;
}

/* --- what is said of it ----------------------------------------------------------------------- */

static enum mr_status append_value(const struct mr__json_value *value, struct mr_buf *out)
{
    struct mr_bytes text = value->text;
    bool is_long = text.size > TEXT_SHOWN_MAX;
    if (is_long) {
        text.size = TEXT_SHOWN_MAX;
        while (text.size > 0 && (text.data[text.size] & 0xC0) == 0x80) {
            text.size--;
        }
    }
    enum mr_status r = value->kind == MR__JSON_STRING ? mr_buf_append_json(out, text)
                                                      : mr_buf_append_bytes(out, text);
    return r == MR_OK && is_long ? mr_buf_append_text(out, "…") : r;
}

/* `order.json#/properties/total/minimum wants 0, the data has -1 at /total`. */
static enum mr_status tell(const struct check *c, struct mr_problem *problem)
{
    const struct mr__node *node = &c->schema->nodes[c->failed_node];
    const struct mr__json_tree *tree = &c->schema->documents[node->document].tree;
    uint32_t at = c->failed_op == UINT32_MAX ? node->at : c->schema->ops[c->failed_op].at;
    struct mr_buf text;
    mr_buf_init(&text, 4 * MR_KIB);
    enum mr_status r = mr__schema_place(c->schema, node->document, at, &text);
    r = r == MR_OK ? mr_buf_append_text(&text, " wants ") : r;
    r = r == MR_OK && c->failed_op == UINT32_MAX ? mr_buf_append_text(&text, "nothing here") : r;
    r = r == MR_OK && c->failed_op != UINT32_MAX ? append_value(&tree->values[at], &text) : r;
    r = r == MR_OK ? mr_buf_append_text(&text, ", the data has ") : r;
    r = r == MR_OK ? append_value(&c->tree.values[c->failed_value], &text) : r;
    r = r == MR_OK ? mr_buf_append_text(&text, c->failed_value == 0 ? "" : " at ") : r;
    r = r == MR_OK ? mr__json_pointer(&c->tree, c->failed_value, &text) : r;
    (void)r; /* what did not fit is left out */
    (void)mr_problem_set(problem, MR_E_INVALID, "%.*s", (int)text.size,
                         text.data == NULL ? "" : (const char *)text.data);
    mr_buf_release(&text);
    return MR_E_INVALID;
}

enum mr_status mr_schema_check(const struct mr_schema *schema, struct mr_bytes data,
                               struct mr_problem *problem)
{
    struct check c = {.schema = schema, .steps = MR_SCHEMA_STEPS_MAX};
    enum mr_status r = mr__json_tree_read(&c.tree, data, MR_SCHEMA_VALUES_MAX, problem);
    if (r != MR_OK) {
        return r;
    }
    c.frames = mr_alloc(FRAMES_MAX * sizeof(*c.frames));
    c.scratch = mr_alloc((size_t)schema->scratch * sizeof(*c.scratch));
    c.status = c.frames == NULL || c.scratch == NULL ? MR_E_NOMEM : MR_OK;
    bool holds = c.status == MR_OK && run(&c);
    r = c.status;
    if (r == MR_E_NOMEM) {
        (void)mr_problem_set(problem, r, "out of memory");
    } else if (r != MR_OK) {
        (void)mr_problem_set(problem, r, "the data would take too long to check");
    } else if (!holds) {
        r = tell(&c, problem);
    }
    void *const blocks[] = {c.frames, c.scratch, c.hashes, c.slots, c.notes, c.marks};
    for (size_t i = 0; i < MR_ARRAY_COUNT(blocks); i++) {
        mr_free(blocks[i]);
    }
    mr__json_tree_release(&c.tree);
    return r;
}
