/* The operators of the dialect `data`. */
#include <stdio.h>
#include <stdlib.h>

#include "router/filter.h"

#define EXACT_INTEGER_MAX 9007199254740992.0 /* from here on cJSON has rounded */

/* Where a clause goes and what it is called, for refusals. */
struct target {
    struct mr__compiler *compiler;
    struct mr__spot spot;
    const char *operator;
    const char *path;
    uint32_t attr;
};

static enum mr_status refuse(const struct target *t, const char *reason,
                             struct mr_problem *problem)
{
    char behind[MR_DATA_PATH_SIZE_MAX + 16];
    (void)snprintf(behind, sizeof(behind), "%s.%s", t->operator, t->path); /* only shown */
    return mr__filter_refuse(t->compiler, t->spot, behind, MR_E_INVALID, reason, problem);
}

/* The text of a scalar. A number that cJSON may have rounded has none. */
static bool text_of(const cJSON *item, char *room, size_t size, struct mr_bytes *ret_text)
{
    if (cJSON_IsString(item)) {
        *ret_text = mr_bytes_of(item->valuestring);
        return true;
    }
    if (cJSON_IsBool(item)) {
        *ret_text = cJSON_IsTrue(item) ? MR_BYTES_LITERAL("true") : MR_BYTES_LITERAL("false");
        return true;
    }
    if (!cJSON_IsNumber(item) || item->valuedouble <= -EXACT_INTEGER_MAX ||
        item->valuedouble >= EXACT_INTEGER_MAX ||
        item->valuedouble != (double)(int64_t)item->valuedouble) {
        return false;
    }
    (void)snprintf(room, size, "%lld", (long long)item->valuedouble); /* at most 17 characters */
    *ret_text = mr_bytes_of(room);
    return true;
}

static enum mr_status add_text(const struct target *t, enum mr__op op, const cJSON *item,
                               struct mr_problem *problem)
{
    char room[32];
    struct mr_bytes text;
    if (!text_of(item, room, sizeof(room), &text)) {
        return refuse(t, cJSON_IsNumber(item)
                             ? "is a number that must be written in double quotes, to the digit"
                             : "must be a string, a number, true or false", problem);
    }
    if (text.size == 0 && op != MR__EXACT) {
        return refuse(t, "must not be empty", problem);
    }
    if (op == MR__CIDR && !mr__network_is(text)) {
        return refuse(t, "must be a network such as 10.0.0.0/8 or 2001:db8::/32", problem);
    }
    if (op == MR__EXISTS && !mr_bytes_equal(text, MR_BYTES_LITERAL("true")) &&
        !mr_bytes_equal(text, MR_BYTES_LITERAL("false"))) {
        return refuse(t, "must be true or false", problem);
    }
    return mr__filter_add_clause(t->compiler, op, t->attr, t->spot, text, problem);
}

/* Opens a group for the clauses of one path; they count from 0. */
static enum mr_status open_group(struct target *t, enum mr__kind kind, int count,
                                 struct mr_problem *problem)
{
    enum mr_status r = mr__filter_add_group(t->compiler, kind, t->spot, count, problem);
    t->spot = (struct mr__spot){.group = (uint16_t)(t->compiler->group_count - 1)};
    return r;
}

static void close_group(const struct target *t)
{
    t->compiler->groups[t->spot.group].clause_end = (uint16_t)t->compiler->clause_count;
}

static enum mr_status add_in(struct target t, const cJSON *item, struct mr_problem *problem)
{
    if (!cJSON_IsArray(item) || item->child == NULL) {
        return refuse(&t, "must be a list of values", problem);
    }
    enum mr_status r = open_group(&t, MR__IN, cJSON_GetArraySize(item), problem);
    for (const cJSON *value = item->child; value != NULL && r == MR_OK; value = value->next) {
        struct target one = t;
        r = add_text(&one, MR__EXACT, value, problem);
        t.spot.index++;
    }
    if (r == MR_OK) {
        close_group(&t);
    }
    return r;
}

static enum mr_status add_bound(const struct target *t, const cJSON *item,
                                struct mr_problem *problem)
{
    static const struct {
        const char *name;
        enum mr__op op;
    } bounds[] = {
        {"gt", MR__ABOVE}, {"gte", MR__FROM}, {"lt", MR__BELOW}, {"lte", MR__UPTO}};
    char room[32];
    struct mr_bytes text;
    for (const cJSON *before = item->prev; before->next != NULL; before = before->prev) {
        if (strcmp(before->string, item->string) == 0) {
            return refuse(t, "has a bound twice", problem);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bounds); i++) {
        if (strcmp(item->string, bounds[i].name) != 0) {
            continue;
        }
        bool decimal = cJSON_IsNumber(item) && snprintf(room, sizeof(room), "%.15g",
                                                        item->valuedouble) > 0 &&
                       strtod(room, NULL) == item->valuedouble;
        if (decimal && !text_of(item, room, sizeof(room), &text)) {
            text = mr_bytes_of(room);
        } else if (!text_of(item, room, sizeof(room), &text)) {
            return refuse(t, "has a bound that must be written in double quotes, to the digit",
                          problem);
        }
        if (!mr_decimal_is(text)) {
            return refuse(t, "has a bound that is no number", problem);
        }
        return mr__filter_add_clause(t->compiler, bounds[i].op, t->attr, t->spot, text, problem);
    }
    return refuse(t, "has an unknown bound; there are gt, gte, lt, lte", problem);
}

static enum mr_status add_range(struct target t, const cJSON *item, struct mr_problem *problem)
{
    if (!cJSON_IsObject(item) || item->child == NULL) {
        return refuse(&t, "must be an object with one or more of gt, gte, lt, lte", problem);
    }
    int count = cJSON_GetArraySize(item);
    enum mr_status r = count > 1 ? open_group(&t, MR__EACH, count, problem) : MR_OK;
    for (const cJSON *bound = item->child; bound != NULL && r == MR_OK; bound = bound->next) {
        r = add_bound(&t, bound, problem);
        t.spot.index = (uint16_t)(t.spot.index + (count > 1));
    }
    if (r == MR_OK && count > 1) {
        close_group(&t);
    }
    return r;
}

static enum mr_status add_path(struct target t, int op, const cJSON *item,
                               struct mr_problem *problem)
{
    struct mr_bytes path = mr_bytes_of(item->string);
    uint32_t place;
    if (!mr__path_is_legal(path)) {
        return refuse(&t, "names no place: a path is names with dots between, as order.shop",
                      problem);
    }
    for (const cJSON *before = item->prev; before->next != NULL; before = before->prev) {
        if (strcmp(before->string, item->string) == 0) {
            return refuse(&t, "stands there twice", problem);
        }
    }
    enum mr_status r = mr__paths_add(&t.compiler->names->paths, path, &place);
    if (r != MR_OK) {
        return r == MR_E_TOO_BIG ? refuse(&t, "is one place in data too many: there may be 1024",
                                          problem)
                                 : r;
    }
    t.attr = place | MR__IN_DATA;
    if (op < 0) {
        return add_in(t, item, problem);
    }
    return op == MR__ABOVE ? add_range(t, item, problem)
                           : add_text(&t, (enum mr__op)op, item, problem);
}

enum mr_status mr__filter_compile_data(struct mr__compiler *c, struct mr__spot spot,
                                       const cJSON *item, struct mr_problem *problem)
{
    static const struct {
        const char *name;
        int op; /* enum mr__op; ABOVE: a range; -1: `in` */
    } operators[] = {
        {"exact", MR__EXACT}, {"prefix", MR__PREFIX}, {"suffix", MR__SUFFIX}, {"in", -1},
        {"range", MR__ABOVE}, {"exists", MR__EXISTS}, {"cidr", MR__CIDR},
    };
    size_t i = 0;
    while (i < MR_ARRAY_COUNT(operators) && strcmp(item->string, operators[i].name) != 0) {
        i++;
    }
    if (i == MR_ARRAY_COUNT(operators)) {
        return MR_E_NOT_FOUND;
    }
    struct target t = {.compiler = c, .spot = spot, .operator = operators[i].name, .path = ""};
    int count = cJSON_IsObject(item) ? cJSON_GetArraySize(item) : 0;
    if (count == 0) {
        return mr__filter_refuse(c, spot, t.operator, MR_E_INVALID,
                                 "must be an object of paths, as {\"order.shop\": …}", problem);
    }
    enum mr_status r = count > 1 ? open_group(&t, MR__EACH, count, problem) : MR_OK;
    for (const cJSON *path = item->child; path != NULL && r == MR_OK; path = path->next) {
        t.path = path->string;
        r = add_path(t, operators[i].op, path, problem);
        t.spot.index = (uint16_t)(t.spot.index + (count > 1));
    }
    if (r == MR_OK && count > 1) {
        close_group(&t);
    }
    return r;
}
