#include "workers/meter.h"

#include "core/alloc.h"

void mr_meter_init(struct mr_meter *meter)
{
    *meter = (struct mr_meter){.count = 0};
    (void)pthread_mutex_init(&meter->mu, NULL); /* with standard attributes it cannot fail */
}

void mr_meter_release(struct mr_meter *meter)
{
    for (uint32_t i = 0; i < meter->count; i++) {
        mr_free(meter->rows[i].subscription_name);
        mr_free(meter->rows[i].worker_name);
    }
    mr_free(meter->rows);
    meter->rows = NULL;
    meter->count = 0;
    meter->capacity = 0;
    (void)pthread_mutex_destroy(&meter->mu); /* nobody holds it */
}

static bool is_before(const struct mr_usage *row, uint32_t target, uint32_t subscription)
{
    return row->target < target || (row->target == target && row->subscription < subscription);
}

/* The first row that is not before the pair. */
static uint32_t find(const struct mr_meter *meter, uint32_t target, uint32_t subscription)
{
    uint32_t low = 0;
    uint32_t high = meter->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (is_before(&meter->rows[middle], target, subscription)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct mr_usage *add(struct mr_meter *meter, uint32_t at, uint32_t target,
                            const char *worker, const struct mr_handout *h)
{
    if (meter->count == meter->capacity) {
        uint32_t capacity = meter->capacity == 0 ? 16 : meter->capacity * 2;
        struct mr_usage *grown = mr_realloc(meter->rows, capacity * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        meter->rows = grown;
        meter->capacity = capacity;
    }
    char *subscription_name = mr_strdup(h->name);
    char *worker_name = mr_strdup(worker);
    if (subscription_name == NULL || worker_name == NULL) {
        mr_free(subscription_name);
        mr_free(worker_name);
        return NULL;
    }
    memmove(&meter->rows[at + 1], &meter->rows[at], (meter->count - at) * sizeof(meter->rows[0]));
    meter->count++;
    meter->rows[at] = (struct mr_usage){.subscription = h->subscription,
                                        .target = target,
                                        .subscription_name = subscription_name,
                                        .worker_name = worker_name};
    return &meter->rows[at];
}

static void count_one(struct mr_meter *meter, uint32_t target, const char *worker,
                      const struct mr_handout *h)
{
    const struct mr_answer *a = &h->answer;
    uint32_t at = find(meter, target, h->subscription);
    bool known = at < meter->count && meter->rows[at].target == target &&
                 meter->rows[at].subscription == h->subscription;
    struct mr_usage *row = known ? &meter->rows[at] : add(meter, at, target, worker, h);
    if (row == NULL) {
        return;
    }
    /* The wall clock may have been set back meanwhile. */
    uint64_t busy =
        a->ended_wall_ns > a->started_wall_ns ? a->ended_wall_ns - a->started_wall_ns : 0;
    uint64_t units = busy / MR_METER_UNIT_NS + (busy % MR_METER_UNIT_NS != 0);
    row->invocations++;
    row->busy_ns += busy;
    row->busy_units += units == 0 ? 1 : units;
    row->bytes_in += mr_event_record(h->event).size;
    row->bytes_out += a->result == NULL ? 0 : strlen(a->result);
    for (uint32_t i = 0; i < a->emitted_count; i++) {
        row->bytes_out += mr_event_record(a->emitted[i].event).size;
    }
}

void mr_meter_count(struct mr_meter *meter, uint32_t target, const char *worker,
                    const struct mr_handout *first)
{
    pthread_mutex_lock(&meter->mu);
    for (const struct mr_op *op = &first->op; op != NULL; op = op->next) {
        const struct mr_handout *h = (const struct mr_handout *)op;
        if (h->answer.verdict != MR_VERDICT_REFUSED && h->answer.started_wall_ns != 0) {
            count_one(meter, target, worker, h);
        }
    }
    pthread_mutex_unlock(&meter->mu);
}

void mr_meter_each(struct mr_meter *meter, void (*fn)(void *context, const struct mr_usage *usage),
                   void *context)
{
    pthread_mutex_lock(&meter->mu);
    for (uint32_t i = 0; i < meter->count; i++) {
        fn(context, &meter->rows[i]);
    }
    pthread_mutex_unlock(&meter->mu);
}
