#include "router/data.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"
#include "router/json.h"

#define NO_PLACE UINT32_MAX
#define FIRST_CAPACITY 16u

/* --- places ---------------------------------------------------------------------------------- */

void mr__paths_init(struct mr__paths *paths)
{
    *paths = (struct mr__paths){0};
    mr_buf_init(&paths->texts, (size_t)MR_DATA_PATHS_MAX * MR_DATA_PATH_SIZE_MAX);
}

void mr__paths_release(struct mr__paths *paths)
{
    mr_free(paths->places);
    mr_free(paths->slots);
    mr_buf_release(&paths->texts);
    mr__paths_init(paths);
}

static struct mr_bytes take_segment(struct mr_bytes *path)
{
    const uint8_t *dot = path->size == 0 ? NULL : memchr(path->data, '.', path->size);
    size_t size = dot == NULL ? path->size : (size_t)(dot - path->data);
    struct mr_bytes segment = mr_bytes(path->data, size);
    *path = dot == NULL ? mr_bytes(NULL, 0) : mr_bytes(dot + 1, path->size - size - 1);
    return segment;
}

bool mr__path_is_legal(struct mr_bytes path)
{
    uint32_t depth = 0;
    if (path.size == 0 || path.size > MR_DATA_PATH_SIZE_MAX) {
        return false;
    }
    do {
        if (take_segment(&path).size == 0) {
            return false;
        }
        depth++;
    } while (path.data != NULL);
    return depth <= MR_DATA_PATH_DEPTH_MAX;
}

/* Of every name in the data of every event: no calls, and only as good as a table needs. */
static uint32_t slot_hash(uint32_t parent, struct mr_bytes segment)
{
    uint64_t h = MR_HASH_BEGIN + parent;
    for (size_t i = 0; i < segment.size; i++) {
        h = mr_hash_step(h, segment.data[i]);
    }
    return (uint32_t)(h ^ h >> 32);
}

static struct mr_bytes segment_of(const struct mr__paths *paths, uint32_t place)
{
    const struct mr__place *p = &paths->places[place];
    return mr_bytes(paths->texts.data + p->text_at, p->text_size);
}

static uint32_t find_place(const struct mr__paths *paths, uint32_t parent, struct mr_bytes segment)
{
    uint32_t mask = paths->slot_capacity - 1;
    for (uint32_t at = slot_hash(parent, segment) & mask; paths->slots[at] != 0;
         at = (at + 1) & mask) {
        uint32_t place = paths->slots[at] - 1;
        if (paths->places[place].parent == parent &&
            mr_bytes_equal(segment_of(paths, place), segment)) {
            return place;
        }
    }
    return NO_PLACE;
}

static void put_slot(struct mr__paths *paths, uint32_t place)
{
    uint32_t mask = paths->slot_capacity - 1;
    uint32_t at = slot_hash(paths->places[place].parent, segment_of(paths, place)) & mask;
    while (paths->slots[at] != 0) {
        at = (at + 1) & mask;
    }
    paths->slots[at] = place + 1;
}

/* Room for one place more, and for the root before the first. */
static enum mr_status grow(struct mr__paths *paths)
{
    uint32_t capacity = paths->slot_capacity;
    if ((paths->count + 1) * 2 <= capacity) {
        return MR_OK;
    }
    capacity = capacity == 0 ? FIRST_CAPACITY : capacity * 2;
    struct mr__place *places = mr_realloc(paths->places, capacity / 2 * sizeof(*places));
    paths->places = places == NULL ? paths->places : places;
    uint32_t *slots = places == NULL ? NULL : mr_calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return MR_E_NOMEM;
    }
    mr_free(paths->slots);
    paths->slots = slots;
    paths->slot_capacity = capacity;
    if (paths->count == 0) {
        paths->places[paths->count++] = (struct mr__place){.parent = NO_PLACE, .has_more = true};
    }
    for (uint32_t i = 1; i < paths->count; i++) {
        put_slot(paths, i);
    }
    return MR_OK;
}

static enum mr_status add_place(struct mr__paths *paths, uint32_t parent, struct mr_bytes segment,
                                uint32_t *ret_place)
{
    if (paths->count > MR_DATA_PATHS_MAX) {
        return MR_E_TOO_BIG;
    }
    size_t at = paths->texts.size;
    enum mr_status r = grow(paths);
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&paths->texts, segment);
    }
    if (r == MR_OK) {
        paths->places[paths->count] = (struct mr__place){
            .parent = parent, .text_at = (uint32_t)at, .text_size = (uint16_t)segment.size};
        paths->places[parent].has_more = true;
        *ret_place = paths->count++;
        put_slot(paths, *ret_place);
    }
    return r;
}

enum mr_status mr__paths_add(struct mr__paths *paths, struct mr_bytes path, uint32_t *ret_place)
{
    MR_ASSERT(mr__path_is_legal(path));
    enum mr_status r = grow(paths);
    uint32_t place = 0;
    while (r == MR_OK && path.data != NULL) {
        struct mr_bytes segment = take_segment(&path);
        uint32_t parent = place;
        place = find_place(paths, parent, segment);
        if (place == NO_PLACE) {
            r = add_place(paths, parent, segment, &place);
        }
    }
    if (r == MR_OK) {
        paths->wanted_count += !paths->places[place].wanted;
        paths->places[place].wanted = true;
        *ret_place = place;
    }
    return r;
}

enum mr_status mr__paths_text(const struct mr__paths *paths, uint32_t place, struct mr_buf *out)
{
    uint32_t way[MR_DATA_PATH_DEPTH_MAX];
    size_t depth = 0;
    for (; place != 0; place = paths->places[place].parent) {
        MR_ASSERT(depth < MR_ARRAY_COUNT(way));
        way[depth++] = place;
    }
    enum mr_status r = MR_OK;
    while (depth > 0 && r == MR_OK) {
        r = mr_buf_append_bytes(out, segment_of(paths, way[--depth]));
        if (r == MR_OK && depth > 0) {
            r = mr_buf_append_byte(out, '.');
        }
    }
    return r;
}

/* --- reading --------------------------------------------------------------------------------- */

void mr__reading_init(struct mr__reading *reading)
{
    reading->data = NULL;
    reading->texts = NULL;
    reading->texts_used = 0;
    reading->texts_capacity = 0;
    reading->near_used = 0;
    reading->done = false;
    reading->failures = 0;
    reading->status = MR_OK;
}

void mr__reading_release(struct mr__reading *reading)
{
    if (reading->data != reading->near) {
        mr_free(reading->data);
    }
    mr_free(reading->texts);
}

/* Where unescaped text goes: @p size bytes, of which the caller may leave some. */
static uint8_t *take_room(struct mr__reading *reading, size_t size, size_t rest)
{
    if (size <= sizeof(reading->near_text) - reading->near_used) {
        return reading->near_text + reading->near_used;
    }
    if (reading->texts == NULL) { /* what follows in the text cannot become longer */
        reading->texts = mr_alloc(size + rest);
        reading->texts_capacity = reading->texts == NULL ? 0 : size + rest;
    }
    if (reading->texts == NULL) {
        reading->status = MR_E_NOMEM;
        return NULL;
    }
    MR_ASSERT(size <= reading->texts_capacity - reading->texts_used);
    return reading->texts + reading->texts_used;
}

static void read_string(struct mr__reading *reading, struct mr_bytes raw, size_t rest,
                        struct mr__datum *datum)
{
    datum->kind = MR__DATUM_STRING;
    datum->text = raw;
    if (raw.size == 0 || memchr(raw.data, '\\', raw.size) == NULL) {
        return;
    }
    datum->kind = MR__DATUM_BAD;
    datum->text = mr_bytes(NULL, 0);
    uint8_t *to = take_room(reading, raw.size, rest);
    if (to == NULL) {
        return;
    }
    struct mr__cursor c = {raw.data, raw.data + raw.size};
    size_t size = 0;
    while (c.at < c.end) {
        uint8_t bytes[4];
        size_t n = mr__cursor_char(&c, bytes); /* never more than it was written in */
        if (n == 0) {
            return;
        }
        memcpy(to + size, bytes, n);
        size += n;
    }
    datum->kind = MR__DATUM_STRING;
    datum->text = mr_bytes(to, size);
    if (to == reading->near_text + reading->near_used) {
        reading->near_used += size;
    } else {
        reading->texts_used += size;
    }
}

static bool read_word(struct mr__cursor *c, struct mr__datum *datum)
{
    struct mr_bytes word = mr__cursor_word(c);
    if (word.size == 0) {
        return false;
    }
    datum->text = word;
    if (word.data[0] == '-' || (word.data[0] >= '0' && word.data[0] <= '9')) {
        datum->kind = MR__DATUM_NUMBER;
    } else if (word.data[0] == 'n') {
        datum->kind = MR__DATUM_NULL;
        datum->text = mr_bytes(NULL, 0);
    } else {
        datum->kind = MR__DATUM_BOOLEAN;
    }
    return true;
}

/* An object or array that is being read. */
struct level {
    uint32_t place;
    uint32_t index; /* of the next element; UINT32_MAX: an object */
};

struct walk {
    struct mr__reading *reading;
    const struct mr__paths *paths;
    struct mr__cursor cursor;
    uint32_t wanted; /* values still to be found */
    uint32_t depth;
    struct level levels[MR_DATA_PATH_DEPTH_MAX + 1];
};

/* The value at the cursor belongs to @p place: noted unless there was one before, then entered or
 * passed. */
static bool take_value(struct walk *w, uint32_t place)
{
    struct mr__cursor *c = &w->cursor;
    const struct mr__place *p = &w->paths->places[place];
    struct mr__datum *datum = &w->reading->data[place];
    mr__cursor_blanks(c);
    if (datum->kind != MR__DATUM_NONE || c->at == c->end) {
        return mr__cursor_skip(c);
    }
    w->wanted -= p->wanted;
    if (*c->at == '{' || *c->at == '[') {
        bool object = *c->at == '{';
        datum->kind = object ? MR__DATUM_OBJECT : MR__DATUM_ARRAY;
        if (!p->has_more) {
            return mr__cursor_skip(c);
        }
        MR_ASSERT(w->depth < MR_ARRAY_COUNT(w->levels));
        w->levels[w->depth++] = (struct level){place, object ? UINT32_MAX : 0};
        c->at++;
        return true;
    }
    if (*c->at == '"') {
        struct mr_bytes raw;
        if (!mr__cursor_string(c, &raw)) {
            return false;
        }
        if (p->wanted) {
            read_string(w->reading, raw, (size_t)(c->end - c->at), datum);
        } else {
            datum->kind = MR__DATUM_STRING;
        }
        return w->reading->status == MR_OK;
    }
    return read_word(c, datum);
}

static uint32_t find_member(const struct walk *w, uint32_t parent, struct mr_bytes raw)
{
    if (raw.size == 0 || memchr(raw.data, '\\', raw.size) == NULL) {
        return raw.size > MR_DATA_PATH_SIZE_MAX ? NO_PLACE : find_place(w->paths, parent, raw);
    }
    uint8_t name[MR_DATA_PATH_SIZE_MAX];
    size_t size = 0;
    struct mr__cursor c = {raw.data, raw.data + raw.size};
    while (c.at < c.end) {
        uint8_t bytes[4];
        size_t n = mr__cursor_char(&c, bytes);
        if (n == 0 || n > sizeof(name) - size) {
            return NO_PLACE;
        }
        memcpy(name + size, bytes, n);
        size += n;
    }
    return find_place(w->paths, parent, mr_bytes(name, size));
}

static uint32_t find_element(const struct walk *w, uint32_t parent, uint32_t index)
{
    uint8_t digits[10];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (uint8_t)('0' + index % 10);
        index /= 10;
    } while (index > 0);
    return find_place(w->paths, parent, mr_bytes(digits + at, sizeof(digits) - at));
}

/* The next member or element of the innermost level, or its end. */
static bool step(struct walk *w)
{
    struct level *level = &w->levels[w->depth - 1];
    struct mr__cursor *c = &w->cursor;
    bool object = level->index == UINT32_MAX;
    uint32_t place;
    (void)mr__cursor_byte(c, ','); /* none before the first, and behind the last */
    if (mr__cursor_byte(c, object ? '}' : ']')) {
        w->depth--;
        return true;
    }
    if (object) {
        struct mr_bytes raw;
        if (!mr__cursor_string(c, &raw) || !mr__cursor_byte(c, ':')) {
            return false;
        }
        place = find_member(w, level->place, raw);
    } else {
        place = find_element(w, level->place, level->index++);
    }
    return place == NO_PLACE ? mr__cursor_skip(c) : take_value(w, place);
}

void mr__reading_fill(struct mr__reading *reading, const struct mr__paths *paths,
                      struct mr_bytes json)
{
    MR_ASSERT(paths->count > 0);
    reading->done = true;
    reading->data = paths->count <= MR__DATA_NEAR
                        ? reading->near
                        : mr_alloc(paths->count * sizeof(*reading->data));
    if (reading->data == NULL) {
        reading->status = MR_E_NOMEM;
        return;
    }
    memset(reading->data, 0, paths->count * sizeof(*reading->data));
    struct walk w = {
        .reading = reading,
        .paths = paths,
        .cursor = {json.data, json.data + json.size},
        .wanted = paths->wanted_count,
    };
    bool good = json.size > 0 && take_value(&w, 0);
    while (good && w.depth > 0 && w.wanted > 0) {
        good = step(&w);
    }
}
