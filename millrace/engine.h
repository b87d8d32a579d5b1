/* The engine: the bus core on its thread, the log's writer, reader, background and keeper threads,
 * and the instances of sources and targets, wired together. It holds no rules: those are the
 * bus's. */
#ifndef MR_MILLRACE_ENGINE_H
#define MR_MILLRACE_ENGINE_H

#include "admin/admin.h"
#include "config/config.h"

struct mr_engine;

/** The kinds of connectors and workers of this build, for mr_config_load(). Static. */
const struct mr_config_kinds *mr_engine_kinds(void);

/** Takes the data directory for itself; nothing flows yet. @p config: ownership moves, also
 * on failure. @return MR_E_LOCKED (another process runs here), MR_E_INVALID, … with the problem */
MR_MUST_USE enum mr_status mr_engine_create(struct mr_config *config, const char *config_path,
                                            struct mr_engine **ret_engine,
                                            struct mr_problem *problem);
/** Starts the listeners, which say how far it is, opens the log, and starts targets, then sources.
 * @return MR_E_CLOSED: a stop was requested while the log was read; it is as it was */
MR_MUST_USE enum mr_status mr_engine_start(struct mr_engine *engine, struct mr_problem *problem);
/** Runs the core on the calling thread until a stop is requested and done: sources stop, what is in
 * flight drains (at most config->drain), the log is synced. @return 0; 1 when the log is faulty */
int mr_engine_run(struct mr_engine *engine);
/** Asks for a stop; a second time: at once. Async-signal-safe and thread-safe. */
void mr_engine_request_stop(struct mr_engine *engine);
/** Asks for a reload (SIGHUP). Async-signal-safe. */
void mr_engine_request_reload(struct mr_engine *engine);
/** Before start: the engine asks itself for a stop when every source is at its end for good and
 * every delivery is settled. Without a source that ends, that is never. */
void mr_engine_stop_when_done(struct mr_engine *engine);
/** The ingest port that was bound; 0 when `listen: off`. After start. */
uint16_t mr_engine_port(const struct mr_engine *engine);
void mr_engine_destroy(struct mr_engine *engine);

#endif
