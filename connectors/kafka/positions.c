#include "connectors/kafka/positions.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "core/alloc.h"

#define OFFSET_MAX 9007199254740992.0 /* 2^53: what a JSON number holds exactly */

void mr__kafka_positions_release(struct mr_kafka_positions *positions)
{
    for (uint32_t i = 0; i < positions->count; i++) {
        mr_free(positions->items[i]->topic);
        mr_free(positions->items[i]);
    }
    mr_free(positions->items);
    *positions = (struct mr_kafka_positions){0};
}

static int compare(const struct mr_kafka_partition *p, const char *topic, int32_t number)
{
    int order = strcmp(p->topic, topic);
    if (order != 0) {
        return order;
    }
    return p->number < number ? -1 : p->number > number;
}

/* The index where it is or belongs. */
static uint32_t search(const struct mr_kafka_positions *positions, const char *topic,
                       int32_t number)
{
    uint32_t low = 0;
    uint32_t high = positions->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(positions->items[middle], topic, number) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct mr_kafka_partition *mr__kafka_positions_find(struct mr_kafka_positions *positions,
                                                    const char *topic, int32_t number)
{
    struct mr_kafka_partition *last = positions->last; /* records come in runs */
    if (last != NULL && last->number == number && strcmp(last->topic, topic) == 0) {
        return last;
    }
    uint32_t at = search(positions, topic, number);
    if (at == positions->count || compare(positions->items[at], topic, number) != 0) {
        return NULL;
    }
    positions->last = positions->items[at];
    return positions->items[at];
}

static bool reserve(struct mr_kafka_positions *positions)
{
    if (positions->count < positions->capacity) {
        return true;
    }
    uint32_t capacity = positions->capacity == 0 ? 16 : positions->capacity * 2;
    struct mr_kafka_partition **items =
        mr_realloc(positions->items, capacity * sizeof(struct mr_kafka_partition *));
    if (items == NULL) {
        return false;
    }
    positions->items = items;
    positions->capacity = capacity;
    return true;
}

struct mr_kafka_partition *mr__kafka_positions_add(struct mr_kafka_positions *positions,
                                                   const char *topic, int32_t number)
{
    struct mr_kafka_partition *p = mr__kafka_positions_find(positions, topic, number);
    if (p != NULL) {
        return p;
    }
    if (!reserve(positions)) {
        return NULL;
    }
    p = mr_calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->topic = mr_strdup(topic);
    if (p->topic == NULL) {
        mr_free(p);
        return NULL;
    }
    p->number = number;
    p->next = p->submitted = p->logged = p->committed = MR_KAFKA_NONE;
    uint32_t at = search(positions, topic, number);
    memmove(&positions->items[at + 1], &positions->items[at],
            (positions->count - at) * sizeof(struct mr_kafka_partition *));
    positions->items[at] = p;
    positions->count++;
    return p;
}

/* --- the text --------------------------------------------------------------------------------- */

static bool differs(const cJSON *json, const char *name, const char *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);
    return cJSON_IsString(item) && value != NULL && strcmp(item->valuestring, value) != 0;
}

static enum mr_status load_topic(struct mr_kafka_positions *positions, const cJSON *topic,
                                 struct mr_problem *problem)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, topic)
    {
        uint64_t number;
        if (!mr_parse_u64(mr_bytes_of(item->string), &number) || number > INT32_MAX ||
            !cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > OFFSET_MAX) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "the position in the log is not {\"topic\":{\"0\":1}}");
        }
        struct mr_kafka_partition *p =
            mr__kafka_positions_add(positions, topic->string, (int32_t)number);
        if (p == NULL) {
            return mr_problem_set(problem, MR_E_NOMEM, "no memory for the positions");
        }
        int64_t offset = (int64_t)item->valuedouble;
        p->logged = offset > p->logged ? offset : p->logged;
    }
    return MR_OK;
}

enum mr_status mr__kafka_positions_load(struct mr_kafka_positions *positions, const char *cursor,
                                        const char *cluster, const char *group,
                                        struct mr_problem *problem)
{
    cJSON *json = cJSON_Parse(cursor);
    const cJSON *topics = cJSON_GetObjectItemCaseSensitive(json, "topics");
    enum mr_status r = MR_OK;
    if (!cJSON_IsObject(topics)) {
        r = mr_problem_set(problem, MR_E_INVALID, "the position in the log is no JSON of ours");
    } else if (differs(json, "cluster", cluster) || differs(json, "group", group)) {
        r = MR_E_CONFLICT;
    }
    const cJSON *topic = r == MR_OK ? topics->child : NULL;
    for (; topic != NULL && r == MR_OK; topic = topic->next) {
        r = load_topic(positions, topic, problem);
    }
    cJSON_Delete(json);
    return r;
}

static int64_t position_of(const struct mr_kafka_partition *p)
{
    return p->submitted != MR_KAFKA_NONE ? p->submitted : p->logged;
}

/* Appends the decimal number; printf costs more than all the rest of a cursor. */
static enum mr_status append_number(struct mr_buf *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return mr_buf_append(out, digits + at, sizeof(digits) - at);
}

static enum mr_status append_partition(struct mr_buf *out, const struct mr_kafka_partition *p,
                                       bool first)
{
    enum mr_status r = mr_buf_append_text(out, first ? "\"" : ",\"");
    if (r == MR_OK) {
        r = append_number(out, (uint64_t)p->number);
    }
    if (r == MR_OK) {
        r = mr_buf_append(out, "\":", 2);
    }
    return r == MR_OK ? append_number(out, (uint64_t)position_of(p)) : r;
}

enum mr_status mr__kafka_positions_write(const struct mr_kafka_positions *positions,
                                         const char *cluster, const char *group,
                                         struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    r = mr_buf_append_byte(out, '{');
    if (r == MR_OK && cluster != NULL) {
        r = mr_buf_append_text(out, "\"cluster\":");
        r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(cluster)) : r;
        r = r == MR_OK ? mr_buf_append_byte(out, ',') : r;
    }
    r = r == MR_OK ? mr_buf_append_text(out, "\"group\":") : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(group)) : r;
    r = r == MR_OK ? mr_buf_append_text(out, ",\"topics\":{") : r;
    const char *topic = NULL;
    for (uint32_t i = 0; i < positions->count && r == MR_OK; i++) {
        const struct mr_kafka_partition *p = positions->items[i];
        if (position_of(p) == MR_KAFKA_NONE) {
            continue;
        }
        bool first = topic == NULL || strcmp(topic, p->topic) != 0;
        if (first) {
            r = topic == NULL ? MR_OK : mr_buf_append_text(out, "},");
            r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(p->topic)) : r;
            r = r == MR_OK ? mr_buf_append_text(out, ":{") : r;
            topic = p->topic;
        }
        r = r == MR_OK ? append_partition(out, p, first) : r;
    }
    return r == MR_OK ? mr_buf_append_text(out, topic == NULL ? "}}" : "}}}") : r;
}
