/* /livez and /readyz: answered at once on the listener's thread. The pulse thread asks the bus on
 * behalf of /livez, only when somebody asks us, so an idle process stays idle. */
#include "admin/internal.h"
#include "core/clock.h"

#define PULSE_MAX_NS (5 * MR_SECOND) /* a bus that has not answered for so long is not alive */

static void touch(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)argument;
    (void)bus;
    (void)now;
}

static void *run_pulse(void *argument)
{
    struct mr_admin *admin = argument;
    struct mr__pulse *pulse = &admin->pulse;
    (void)pthread_mutex_lock(&pulse->mu);
    while (!pulse->stopping) {
        if (!pulse->wanted) {
            (void)pthread_cond_wait(&pulse->wanted_cond, &pulse->mu);
            continue;
        }
        pulse->wanted = false;
        (void)pthread_mutex_unlock(&pulse->mu);
        /* MR_E_CLOSED is an answer too: the engine is stopping in good order. */
        (void)admin->host->ops->call(admin->host, touch, NULL);
        (void)pthread_mutex_lock(&pulse->mu);
        pulse->asked_mono_ns = 0;
    }
    (void)pthread_mutex_unlock(&pulse->mu);
    return NULL;
}

enum mr_status mr__pulse_start(struct mr_admin *admin)
{
    struct mr__pulse *pulse = &admin->pulse;
    (void)pthread_mutex_init(&pulse->mu, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&pulse->wanted_cond, NULL);
    if (pthread_create(&pulse->thread, NULL, run_pulse, admin) != 0) {
        return MR_E_UNAVAILABLE;
    }
    pulse->started = true;
    return MR_OK;
}

void mr__pulse_stop(struct mr_admin *admin)
{
    struct mr__pulse *pulse = &admin->pulse;
    if (!pulse->started) {
        return;
    }
    (void)pthread_mutex_lock(&pulse->mu);
    pulse->stopping = true;
    (void)pthread_cond_signal(&pulse->wanted_cond);
    (void)pthread_mutex_unlock(&pulse->mu);
    (void)pthread_join(pulse->thread, NULL);
    (void)pthread_cond_destroy(&pulse->wanted_cond);
    (void)pthread_mutex_destroy(&pulse->mu);
    pulse->started = false;
}

void mr__get_livez(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__pulse *pulse = &admin->pulse;
    uint64_t now_ns = mr_clock_mono_ns();
    (void)pthread_mutex_lock(&pulse->mu);
    bool alive = pulse->asked_mono_ns == 0 || now_ns - pulse->asked_mono_ns <= PULSE_MAX_NS;
    if (pulse->asked_mono_ns == 0) {
        pulse->asked_mono_ns = now_ns;
        pulse->wanted = true;
        (void)pthread_cond_signal(&pulse->wanted_cond);
    }
    (void)pthread_mutex_unlock(&pulse->mu);
    mr__answer_text(call, alive ? 200 : 503, "text/plain; charset=utf-8",
                    alive ? MR_BYTES_LITERAL("ok\n")
                          : MR_BYTES_LITERAL("the bus has not answered for more than 5 s\n"));
}

void mr__get_readyz(struct mr_admin *admin, struct mr__call *call)
{
    char why_not[MR_ERROR_TEXT_MAX] = "";
    bool ready = admin->host->ops->is_ready(admin->host, why_not, sizeof(why_not));
    struct mr_buf text;
    mr_buf_init(&text, sizeof(why_not) + 2);
    if (ready || mr_buf_printf(&text, "%s\n", why_not) != MR_OK) {
        mr__answer_text(call, ready ? 200 : 503, "text/plain; charset=utf-8",
                        ready ? MR_BYTES_LITERAL("ready\n") : MR_BYTES_LITERAL("not ready\n"));
    } else {
        mr__answer_text(call, 503, "text/plain; charset=utf-8", mr_buf_bytes(&text));
    }
    mr_buf_release(&text);
}
