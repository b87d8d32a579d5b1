#include "router/index.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"
#include "router/internal.h"

#define STEP_LENGTHS 64u /* up to here every length has its own bit */
#define LENGTH_UNIT 16u
#define LENGTH_MAX 1024u
#define FIRST_CAPACITY 64u
#define COST_NONE UINT64_MAX /* no necessary condition */
#define CHILD_IS_GROUP 0x10000u

/* --- keys ---------------------------------------------------------------------------------- */

static uint32_t indexed_length(uint32_t size)
{
    uint32_t rounded = size <= STEP_LENGTHS ? size : size & ~(LENGTH_UNIT - 1);
    return rounded > LENGTH_MAX ? LENGTH_MAX : rounded;
}

static uint32_t bit_of_length(uint32_t length)
{
    uint32_t bit = length <= STEP_LENGTHS
                       ? length - 1
                       : STEP_LENGTHS - 1 + (length - STEP_LENGTHS) / LENGTH_UNIT;
    MR_ASSERT(bit < MR__LENGTHS);
    return bit;
}

static uint32_t length_of_bit(uint32_t bit)
{
    return bit < STEP_LENGTHS ? bit + 1 : STEP_LENGTHS + (bit - STEP_LENGTHS + 1) * LENGTH_UNIT;
}

/* The finaliser of MurmurHash3 (public domain constants), here because every look-up needs it. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

static uint64_t salt_of(uint32_t attr, enum mr__op op)
{
    return ((uint64_t)attr * MR__OP_KEYS + (uint64_t)op + 1) * 0x9e3779b97f4a7c15ull;
}

static uint64_t key_of(uint64_t salt, uint64_t text_hash)
{
    uint64_t key = mix(salt ^ text_hash);
    return key == 0 ? 1 : key;
}

static bool has_key(const struct mr__clause *clause)
{
    return clause->op < MR__OP_KEYS;
}

static uint64_t key_of_clause(const struct mr__program *program, const struct mr__clause *clause)
{
    struct mr_bytes value = mr__clause_value(program, clause);
    uint64_t h = MR_HASH_BEGIN;
    uint32_t length = clause->op == MR__EXACT ? clause->value_size
                                              : indexed_length(clause->value_size);
    for (uint32_t i = 0; i < length; i++) {
        h = mr_hash_step(h, value.data[clause->op == MR__SUFFIX ? value.size - 1 - i : i]);
    }
    return key_of(salt_of(clause->attr, (enum mr__op)clause->op), h);
}

/* --- the table ----------------------------------------------------------------------------- */

static struct mr__slot *find_slot(const struct mr__table *table, uint64_t key)
{
    MR_ASSERT(table->capacity > 0);
    uint32_t mask = table->capacity - 1;
    uint32_t at = (uint32_t)key & mask;
    while (table->slots[at].key != key && table->slots[at].key != 0) {
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

static enum mr_status grow_table(struct mr__table *table)
{
    struct mr__table grown = {.count = table->count};
    if (table->capacity > UINT32_MAX / 4) {
        return MR_E_NOMEM;
    }
    grown.capacity = table->capacity == 0 ? FIRST_CAPACITY : table->capacity * 2;
    grown.slots = mr_calloc(grown.capacity, sizeof(*grown.slots));
    if (grown.slots == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].key != 0) {
            *find_slot(&grown, table->slots[i].key) = table->slots[i];
        }
    }
    mr_free(table->slots);
    *table = grown;
    return MR_OK;
}

/* Counts one more entry under @p key. */
static enum mr_status count_key(struct mr__table *table, uint64_t key)
{
    if ((table->count + 1) * 2 > table->capacity) {
        enum mr_status r = grow_table(table);
        if (r != MR_OK) {
            return r;
        }
    }
    struct mr__slot *slot = find_slot(table, key);
    if (slot->key == 0) {
        slot->key = key;
        table->count++;
    }
    slot->count++;
    return MR_OK;
}

/* --- the choice of a condition ------------------------------------------------------------- */

struct build {
    struct mr__index *index;
    const struct mr__rule *rules;
    uint32_t rule_count;
    struct mr__table seen;  /* every condition of every rule, with its count */
    uint32_t *source_seen;  /* owned; rules that list a source */
    uint64_t *keys;         /* owned; chosen, in order of rule… */
    uint32_t *key_rules;    /* owned; …and whose they are */
    uint32_t key_count;
    uint32_t key_capacity;
    uint32_t source_total;
    /* Of the rule at hand, by group: */
    uint64_t cost[MR__GROUPS_MAX];
    uint32_t best[MR__GROUPS_MAX]; /* clause, or CHILD_IS_GROUP | group */
    bool wanted[MR__GROUPS_MAX];
};

/* A member of a group costs @p cost: any needs all its members' entries, the others one. */
static void merge_cost(struct build *b, const struct mr__program *p, uint32_t group, uint64_t cost,
                       uint32_t child)
{
    uint64_t *mine = &b->cost[group];
    if (mr__group_is_any(&p->groups[group])) {
        *mine = *mine == COST_NONE || cost == COST_NONE ? COST_NONE : *mine + cost;
    } else if (cost < *mine) {
        *mine = cost;
        b->best[group] = child;
    }
}

/* The cost is how many entries share the key; between equals exact, then prefix, then suffix. */
static uint64_t cost_rule(struct build *b, const struct mr__program *p)
{
    for (uint32_t g = 0; g < p->group_count; g++) {
        b->cost[g] = mr__group_is_any(&p->groups[g]) ? 0 : COST_NONE;
    }
    for (uint32_t c = 0; c < (uint32_t)p->clause_count + p->hint_count; c++) {
        const struct mr__clause *clause = &p->clauses[c];
        if (has_key(clause)) {
            uint64_t shared = find_slot(&b->seen, key_of_clause(p, clause))->count;
            merge_cost(b, p, clause->group, shared * 4 + clause->op, c);
        } else if (!clause->hinted) { /* hinted: its hints are a member in its place */
            merge_cost(b, p, clause->group, COST_NONE, c);
        }
    }
    /* Members have greater numbers than their group, so backwards is inside out. */
    for (uint32_t g = p->group_count - 1u; g > 0; g--) {
        uint64_t cost = p->groups[g].kind == MR__NOT ? COST_NONE : b->cost[g];
        merge_cost(b, p, p->groups[g].parent, cost, CHILD_IS_GROUP | g);
    }
    return b->cost[0];
}

static uint64_t cost_sources(const struct build *b, const struct mr__rule *rule)
{
    if (rule->sources == NULL) {
        return COST_NONE;
    }
    uint64_t cost = 0;
    for (uint32_t i = 0; i < rule->source_count; i++) {
        cost += (uint64_t)b->source_seen[rule->sources[i]] * 4 + MR__OP_KEYS;
    }
    return cost;
}

static enum mr_status choose_key(struct build *b, uint32_t rule, const struct mr__clause *clause)
{
    if (b->key_count == b->key_capacity) {
        uint32_t capacity = b->key_capacity == 0 ? FIRST_CAPACITY : b->key_capacity * 2;
        uint64_t *keys = mr_realloc(b->keys, capacity * sizeof(*keys));
        b->keys = keys == NULL ? b->keys : keys;
        uint32_t *owners =
            keys == NULL ? NULL : mr_realloc(b->key_rules, capacity * sizeof(*owners));
        if (owners == NULL) {
            return MR_E_NOMEM;
        }
        b->key_rules = owners;
        b->key_capacity = capacity;
    }
    const struct mr__program *p = b->rules[rule].program;
    uint64_t key = key_of_clause(p, clause);
    enum mr_status r = count_key(&b->index->table, key);
    if (r != MR_OK) {
        return r;
    }
    b->keys[b->key_count] = key;
    b->key_rules[b->key_count] = rule;
    b->key_count++;
    bool in_data = (clause->attr & MR__IN_DATA) != 0;
    struct mr__attr_keys *attr = in_data ? &b->index->places[clause->attr & ~MR__IN_DATA]
                                         : &b->index->attrs[clause->attr];
    b->index->looks_into_data = b->index->looks_into_data || in_data;
    if (clause->op == MR__EXACT) {
        attr->exact = true;
        attr->exact_max =
            clause->value_size > attr->exact_max ? clause->value_size : attr->exact_max;
    } else {
        uint32_t bit = bit_of_length(indexed_length(clause->value_size));
        uint64_t *bits = clause->op == MR__PREFIX ? attr->prefix : attr->suffix;
        bits[bit / 64] |= 1ull << (bit % 64);
    }
    return MR_OK;
}

/* Enters the rule under the conditions that cost_rule() found cheapest. */
static enum mr_status choose_clauses(struct build *b, uint32_t rule)
{
    const struct mr__program *p = b->rules[rule].program;
    b->wanted[0] = true;
    for (uint32_t g = 1; g < p->group_count; g++) {
        uint32_t parent = p->groups[g].parent;
        b->wanted[g] = b->wanted[parent] && (mr__group_is_any(&p->groups[parent]) ||
                                             b->best[parent] == (CHILD_IS_GROUP | g));
    }
    for (uint32_t c = 0; c < (uint32_t)p->clause_count + p->hint_count; c++) {
        uint32_t group = p->clauses[c].group;
        if (has_key(&p->clauses[c]) && b->wanted[group] &&
            (mr__group_is_any(&p->groups[group]) || b->best[group] == c)) {
            enum mr_status r = choose_key(b, rule, &p->clauses[c]);
            if (r != MR_OK) {
                return r;
            }
        }
    }
    return MR_OK;
}

static enum mr_status choose(struct build *b, uint32_t rule)
{
    struct mr__index *index = b->index;
    const struct mr__rule *r = &b->rules[rule];
    uint64_t by_filter = cost_rule(b, r->program);
    uint64_t by_sources = cost_sources(b, r);
    if (by_filter == COST_NONE && by_sources == COST_NONE) {
        index->residual[index->residual_count++] = rule;
        return MR_OK;
    }
    if (by_filter <= by_sources) {
        return choose_clauses(b, rule);
    }
    for (uint32_t i = 0; i < r->source_count; i++) {
        index->source_first[r->sources[i] + 1]++;
    }
    b->source_total += r->source_count;
    return MR_OK;
}

/* --- building, in passes ------------------------------------------------------------------- */

static enum mr_status count_conditions(struct build *b)
{
    for (uint32_t i = 0; i < b->rule_count; i++) {
        const struct mr__rule *rule = &b->rules[i];
        const struct mr__program *p = rule->program;
        if (!mr__rule_is_indexed(rule)) {
            continue;
        }
        for (uint32_t c = 0; c < (uint32_t)p->clause_count + p->hint_count; c++) {
            enum mr_status r = has_key(&p->clauses[c])
                                   ? count_key(&b->seen, key_of_clause(p, &p->clauses[c]))
                                   : MR_OK;
            if (r != MR_OK) {
                return r;
            }
        }
        for (uint32_t s = 0; s < rule->source_count; s++) {
            MR_ASSERT(rule->sources[s] < b->index->source_count);
            b->source_seen[rule->sources[s]]++;
        }
    }
    return MR_OK;
}

/* Entries go where their key's run begins; `first` serves as the fill mark meanwhile. */
static enum mr_status fill_entries(struct build *b)
{
    struct mr__index *index = b->index;
    index->entries = mr_calloc(b->key_count, sizeof(*index->entries));
    if (index->entries == NULL) {
        return MR_E_NOMEM;
    }
    uint32_t total = 0;
    for (uint32_t i = 0; i < index->table.capacity; i++) {
        index->table.slots[i].first = total;
        total += index->table.slots[i].count;
    }
    MR_ASSERT(total == b->key_count);
    for (uint32_t i = 0; i < b->key_count; i++) {
        struct mr__slot *slot = find_slot(&index->table, b->keys[i]);
        index->entries[slot->first++] = b->key_rules[i];
    }
    for (uint32_t i = 0; i < index->table.capacity; i++) {
        index->table.slots[i].first -= index->table.slots[i].count;
    }
    return MR_OK;
}

static enum mr_status fill_sources(struct build *b, const bool *by_source)
{
    struct mr__index *index = b->index;
    for (uint32_t s = 0; s < index->source_count; s++) {
        index->source_first[s + 1] += index->source_first[s];
    }
    MR_ASSERT(index->source_first[index->source_count] == b->source_total);
    index->source_entries = mr_calloc(b->source_total, sizeof(*index->source_entries));
    if (index->source_entries == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(b->source_seen, index->source_first, index->source_count * sizeof(*b->source_seen));
    for (uint32_t i = 0; i < b->rule_count; i++) {
        const struct mr__rule *rule = &b->rules[i];
        for (uint32_t s = 0; by_source[i] && s < rule->source_count; s++) {
            index->source_entries[b->source_seen[rule->sources[s]]++] = i;
        }
    }
    return MR_OK;
}

static enum mr_status run_build(struct build *b)
{
    struct mr__index *index = b->index;
    MR_CLEANUP(mr_free_p) bool *by_source = mr_calloc(b->rule_count, sizeof(*by_source));
    b->source_seen = mr_calloc(index->source_count, sizeof(*b->source_seen));
    index->source_first = mr_calloc((size_t)index->source_count + 1, sizeof(uint32_t));
    index->attrs = mr_calloc(index->attr_count, sizeof(*index->attrs));
    index->places = mr_calloc(index->place_count, sizeof(*index->places));
    index->residual = mr_calloc(b->rule_count, sizeof(*index->residual));
    if (by_source == NULL || b->source_seen == NULL || index->source_first == NULL ||
        index->attrs == NULL || index->places == NULL || index->residual == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = count_conditions(b);
    for (uint32_t i = 0; i < b->rule_count && r == MR_OK; i++) {
        if (mr__rule_is_indexed(&b->rules[i])) {
            uint32_t before = b->source_total;
            r = choose(b, i);
            by_source[i] = b->source_total > before;
        }
    }
    if (r == MR_OK) {
        r = fill_entries(b);
    }
    if (r == MR_OK) {
        r = fill_sources(b, by_source);
    }
    return r;
}

enum mr_status mr__index_build(struct mr__index *index, const struct mr__rule *rules,
                               uint32_t rule_count, const struct mr__names *names,
                               uint32_t source_count)
{
    *index = (struct mr__index){
        .attr_count = names->count,
        .place_count = names->paths.count,
        .source_count = source_count,
    };
    struct build *b = mr_calloc(1, sizeof(*b));
    if (b == NULL) {
        return MR_E_NOMEM;
    }
    b->index = index;
    b->rules = rules;
    b->rule_count = rule_count;
    enum mr_status r = run_build(b);
    mr_free(b->seen.slots);
    mr_free(b->source_seen);
    mr_free(b->keys);
    mr_free(b->key_rules);
    mr_free(b);
    if (r != MR_OK) {
        mr__index_release(index);
    }
    return r;
}

void mr__index_release(struct mr__index *index)
{
    mr_free(index->attrs);
    mr_free(index->places);
    mr_free(index->table.slots);
    mr_free(index->entries);
    mr_free(index->source_first);
    mr_free(index->source_entries);
    mr_free(index->residual);
    *index = (struct mr__index){0};
}

/* --- looking up ---------------------------------------------------------------------------- */

struct find {
    const struct mr__index *index;
    mr__candidates_fn fn;
    void *context;
};

static enum mr_status visit_key(const struct find *f, uint64_t key)
{
    const struct mr__slot *slot = find_slot(&f->index->table, key);
    return slot->key == 0 ? MR_OK
                          : f->fn(f->context, f->index->entries + slot->first, slot->count);
}

/* Hashes @p value from its beginning (or, for suffixes, its end) and asks at every used length. */
static enum mr_status visit_lengths(const struct find *f, const uint64_t used[2], uint64_t salt,
                                    struct mr_bytes value, bool backwards)
{
    uint64_t h = MR_HASH_BEGIN;
    size_t done = 0;
    for (uint32_t word = 0; word < 2; word++) {
        for (uint64_t bits = used[word]; bits != 0; bits &= bits - 1) {
            uint32_t length = length_of_bit(word * 64 + (uint32_t)__builtin_ctzll(bits));
            if (length > value.size) {
                return MR_OK;
            }
            for (; done < length; done++) {
                h = mr_hash_step(h, value.data[backwards ? value.size - 1 - done : done]);
            }
            enum mr_status r = visit_key(f, key_of(salt, h));
            if (r != MR_OK) {
                return r;
            }
        }
    }
    return MR_OK;
}

/* @param attr as in a clause */
static enum mr_status visit_value(const struct find *f, const struct mr__attr_keys *keys,
                                  uint32_t attr, struct mr_bytes value)
{
    enum mr_status r = MR_OK;
    if (keys->exact && value.size <= keys->exact_max) {
        uint64_t h = MR_HASH_BEGIN;
        for (size_t i = 0; i < value.size; i++) {
            h = mr_hash_step(h, value.data[i]);
        }
        r = visit_key(f, key_of(salt_of(attr, MR__EXACT), h));
    }
    if (r == MR_OK && (keys->prefix[0] | keys->prefix[1]) != 0) {
        r = visit_lengths(f, keys->prefix, salt_of(attr, MR__PREFIX), value, false);
    }
    if (r == MR_OK && (keys->suffix[0] | keys->suffix[1]) != 0) {
        r = visit_lengths(f, keys->suffix, salt_of(attr, MR__SUFFIX), value, true);
    }
    return r;
}

static enum mr_status visit_data(const struct find *f, const struct mr__view *view)
{
    const struct mr__datum *data = mr__view_data(view);
    enum mr_status r = data == NULL ? view->reading->status : MR_OK;
    for (uint32_t i = 0; data != NULL && i < f->index->place_count && r == MR_OK; i++) {
        if (data[i].text.data != NULL) {
            r = visit_value(f, &f->index->places[i], i | MR__IN_DATA, data[i].text);
        }
    }
    return r;
}

enum mr_status mr__index_find(const struct mr__index *index, const struct mr__view *view,
                              uint32_t source, mr__candidates_fn fn, void *context)
{
    struct find f = {.index = index, .fn = fn, .context = context};
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < view->count && r == MR_OK; i++) {
        MR_ASSERT(view->ids[i] < index->attr_count);
        r = visit_value(&f, &index->attrs[view->ids[i]], view->ids[i], view->values[i]);
    }
    if (r == MR_OK && index->looks_into_data) {
        r = visit_data(&f, view);
    }
    if (r == MR_OK && source < index->source_count) {
        uint32_t first = index->source_first[source];
        uint32_t count = index->source_first[source + 1] - first;
        if (count > 0) {
            r = fn(context, index->source_entries + first, count);
        }
    }
    if (r == MR_OK && index->residual_count > 0) {
        r = fn(context, index->residual, index->residual_count);
    }
    return r;
}
