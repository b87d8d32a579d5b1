/* Option `adapter` of the sources that take raw messages from a broker (kafka, amqp, mqtt) and of
 * objectstore: what a message is that is no CloudEvent. "none", the default, leaves it to the
 * source's own wrapping.
 *
 * A source takes part in three steps: an int field in its options, the row MR_ADAPTER_ROW(struct,
 * field) in its table, and where its binding says MR_E_NOT_CLOUDEVENT and the field is not 0, one
 * call of mr__adapting_add() instead of its wrap call. `via: kafka | amqp | mqtt` of the
 * objectstore source is that source with this option set to "s3"; it finds the row by its name. */
#ifndef MR_CONNECTORS_ADAPTING_H
#define MR_CONNECTORS_ADAPTING_H

#include "bus/ports.h"
#include "config/option.h"
#include "schemas/adapter.h"

#define MR_ADAPTING_NONE 0 /* index of the first word */

extern const char *const mr__adapting_words[]; /* "none", "s3", "oss", …, NULL-terminated */

#define MR_ADAPTER_ROW(S, field)                                                                   \
    {                                                                                              \
        .name = "adapter", .type = MR_OPTION_ENUM, .at = offsetof(struct S, field),                \
        .default_text = "none", .words = mr__adapting_words,                                       \
        .help = "What a message is that is no CloudEvent: none wraps it, s3 and the others make "  \
                "one event of each record they find in it."                                        \
    }

/** The adapter behind a word that is not MR_ADAPTING_NONE. */
enum mr_adapter mr__adapting_adapter(int word);

/** One raw message through the adapter into @p batch: its events (0..n, all or none), or, when the
 * adapter refuses it, one ingest dead letter with the reason. Either way the message is dealt with
 * and may be acknowledged once the batch is durable.
 * @param input all but `type` and `paths` must be set; size_max is that of an event
 * @param id of the dead letter; what the broker calls the message
 * @param[out] ret_rejected whether it became a dead letter; may be NULL
 * @return MR_E_NOMEM only: @p batch is as before */
MR_MUST_USE enum mr_status mr__adapting_add(int word, const struct mr_adapt_input *input,
                                            struct mr_bytes id, struct mr_batch *batch,
                                            bool *ret_rejected);

#endif
