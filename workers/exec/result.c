#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "schemas/json_format.h"
#include "workers/exec/internal.h"

/* Exit codes with a meaning, from sysexits.h: EX_DATAERR and EX_TEMPFAIL. */
#define EXIT_OK 0
#define EXIT_DEAD 65
#define EXIT_RETRY 75

static struct mr_bytes trim(struct mr_bytes text)
{
    while (text.size > 0 && (text.data[0] == ' ' || (text.data[0] >= 9 && text.data[0] <= 13))) {
        text = mr_bytes(text.data + 1, text.size - 1);
    }
    while (text.size > 0 &&
           (text.data[text.size - 1] == ' ' ||
            (text.data[text.size - 1] >= 9 && text.data[text.size - 1] <= 13))) {
        text.size--;
    }
    return text;
}

/* Only what says that it is an event is tried as one: any other object is plain data. */
static bool looks_like_event(struct mr_bytes text)
{
    return text.size > 0 && text.data[0] == '{' &&
           memmem(text.data, text.size, "\"specversion\"", 13) != NULL;
}

static bool take_event(struct mr_bytes text, struct mr_event **ret_event)
{
    return looks_like_event(text) &&
           mr_json_decode_event(text, MR_EVENT_SIZE_MAX, ret_event, NULL) == MR_OK;
}

static void drop_emitted(struct mr_handout *h)
{
    for (uint32_t k = 0; k < h->answer.emitted_count; k++) {
        mr_event_unref(h->answer.emitted[k].event);
        mr_matches_release(&h->answer.emitted[k].matches);
    }
    mr_free(h->answer.emitted);
    h->answer.emitted = NULL;
    h->answer.emitted_count = 0;
}

/* One event, or one per line. @return whether all of @p text was that */
static bool take_events(struct mr_handout *h, struct mr_bytes text)
{
    while (text.size > 0) {
        struct mr_event *event;
        const uint8_t *newline = memchr(text.data, '\n', text.size);
        size_t size = newline == NULL ? text.size : (size_t)(newline - text.data);
        struct mr_bytes line = mr_bytes(text.data, size);
        bool whole = false;
        if (h->answer.emitted_count == 0 && take_event(text, &event)) {
            whole = true; /* one event over several lines, or the last line */
        } else if (trim(line).size > 0 && !take_event(trim(line), &event)) {
            drop_emitted(h);
            return false;
        } else if (trim(line).size == 0) {
            size_t used = size + (newline != NULL);
            text = mr_bytes(text.data + used, text.size - used);
            continue;
        }
        if (mr_handout_emit(h, event) != MR_OK) {
            drop_emitted(h);
            return false;
        }
        if (whole || newline == NULL) {
            return true;
        }
        text = mr_bytes(newline + 1, text.size - size - 1);
    }
    return h->answer.emitted_count > 0;
}

/* JSON is kept as it is, other text becomes a JSON string. */
static char *result_text(struct mr_bytes text)
{
    if (mr_json_is_value(text)) {
        return mr_strndup((const char *)text.data, text.size);
    }
    struct mr_buf buf;
    mr_buf_init(&buf, MR_RESPONSE_SIZE_MAX * 6 + 16);
    char *result = NULL;
    if (mr_buf_append_json(&buf, text) == MR_OK) {
        result = mr_buf_take_text(&buf);
    }
    mr_buf_release(&buf);
    return result;
}

static void take_output(struct mr__run *run)
{
    struct mr_handout *h = run->handout;
    struct mr_bytes text = trim(mr_buf_bytes(&run->out));
    if (run->out_cut) {
        mr_handout_set_error(h, mr_bytes_of("the output was larger than 1 MiB and is not kept"));
        return;
    }
    if (text.size > 0 && !(looks_like_event(text) && take_events(h, text))) {
        h->answer.result = result_text(text);
    }
}

void mr__exec_result(struct mr__run *run, const struct mr_child_end *end)
{
    struct mr_handout *h = run->handout;
    struct mr_answer *a = &h->answer;
    char ended[128];
    char note[160];
    char text[MR_ERROR_TEXT_MAX];
    a->exit_code = end->code;
    a->exit_signal = end->signal;
    mr_child_end_text(end, ended);
    if (end->code == EXIT_OK) {
        a->verdict = MR_VERDICT_OK;
        take_output(run);
        return;
    }
    if (end->code < 0) {
        a->verdict = MR_VERDICT_CRASH;
        a->suspects = run->overdue ? 0 : 1;
        a->rss_peak = end->rss_peak;
    } else {
        a->verdict = end->code == EXIT_DEAD ? MR_VERDICT_DEAD : MR_VERDICT_RETRY;
    }
    const char *why = run->overdue     ? "stopped, Millrace could not wait for it any longer: "
                      : run->cancelled ? "cancelled after its timeout: "
                                       : "";
    (void)snprintf(text, sizeof(text), "%sthe command %s%s%s%s", why, ended,
                   mr_limits_note(&run->target->command.limits, end, note),
                   run->err_tail.last[0] == '\0' ? "" : ": ", run->err_tail.last); /* may be cut */
    mr_handout_set_error(h, mr_bytes_of(text));
    a->stderr_tail = mr_tail_copy(&run->err_tail, 0);
}
