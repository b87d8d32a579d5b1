/* Every bound of Millrace, with its unit and reason. A setting may lower or raise a DEFAULT up to
 * its MAX; the others are fixed. CloudEvents 1.0 section 1.4 asks for 64 KiB events at least. */
#ifndef MR_CORE_LIMITS_H
#define MR_CORE_LIMITS_H

#define MR_KIB 1024u
#define MR_MIB (1024u * 1024u)

/* Events. CloudEvents asks intermediaries for at least 64 KiB. */
#define MR_EVENT_SIZE_DEFAULT (1u * MR_MIB)
#define MR_EVENT_SIZE_MAX (3u * MR_MIB) /* an event and its records must fit one log group */
#define MR_EVENT_ATTRS_SIZE_MAX (64u * MR_KIB)
#define MR_EVENT_ATTRS_MAX 64u
#define MR_ATTR_NAME_SIZE_MAX 64u
#define MR_BATCH_EVENTS_MAX 1000u
#define MR_BATCH_SIZE_MAX (8u * MR_MIB)
#define MR_JSON_DEPTH_MAX 128u

/* Configuration. */
#define MR_CONFIG_SIZE_MAX (8u * MR_MIB) /* 10 000 subscriptions are about 2 MiB */
#define MR_CONFIG_DEPTH_MAX 32u
#define MR_CONFIG_ERRORS_MAX 100u
#define MR_NAME_SIZE_MAX 64u
#define MR_SUBSCRIPTIONS_MAX 100000u
#define MR_TARGETS_MAX 4096u
#define MR_LIMITS_MAX 4096u /* named ones, which subscriptions share */
#define MR_FANOUTS_MAX 1000u
#define MR_FANOUT_MEMBERS_MAX 1000u /* of one; what tells of all of them must fit an event */
#define MR_SOURCES_MAX 16384u /* ten thousand timers are a few MiB */
#define MR_FILTER_DEPTH_MAX 16u
#define MR_FILTER_NODES_MAX 1000u
#define MR_SQL_SIZE_MAX (4u * MR_KIB) /* of one expression */
#define MR_SQL_DEPTH_MAX 64u          /* operators and brackets open at once */
#define MR_SQL_STEPS_MAX 1024u        /* of one program */
#define MR_SQL_STACK_MAX 128u         /* values held at once: mostly arguments of one function */
#define MR_SQL_TEXT_MAX (64u * MR_KIB) /* bytes that functions may make in one evaluation */
#define MR_SCHEMA_STEPS_MAX 20000000u /* of one check of data: a tenth of a second or so */
#define MR_SCHEMA_VALUES_MAX 200000u  /* in data that is checked: 10 MiB while it is */
#define MR_DATA_PATH_SIZE_MAX 256u
#define MR_DATA_PATH_DEPTH_MAX 16u
#define MR_DATA_PATHS_MAX 1024u /* places in data that one configuration may look at */

/* Deliveries. */
#define MR_HOPS_MAX_DEFAULT 16u
#define MR_READ_MEMORY (32u * MR_MIB) /* for all that is read from the log for who is behind */
#define MR_DELIVERY_SIZE 512u /* memory of one that waits, its lane included; mostly less */
#define MR_RETRY_STEPS_MAX 64u
#define MR_DEDUPE_KEYS_MAX 10000000u /* of one source */
#define MR_DEDUPE_KEYS_SURE 1000u /* of one source, when all together are too many */
#define MR_DEDUPE_KEY_COST 48u /* bytes of state that one key is counted with */
#define MR_SHARES_MAX 8u /* targets of a subscription */
#define MR_PRIORITY_MAX 9u
#define MR_PRIORITY_VALUES_MAX 64u
#define MR_LANE_CONCURRENCY_MAX 256u
#define MR_RATES_MAX 4u         /* windows of one rate limit */
#define MR_RATE_COUNT_MAX 1000000u
#define MR_ERROR_TEXT_MAX 512u   /* of one attempt, after control bytes are stripped */
#define MR_STDERR_TAIL_MAX 4096u /* last bytes of a worker's stderr kept with an attempt */
#define MR_FANOUTS_OPEN_MAX 100000u /* events whose fan-out is not over; a few hundred bytes each */
#define MR_FANOUT_RESULT_SIZE_MAX (4u * MR_KIB)    /* kept of one member of a fan-out, */
#define MR_FANOUT_RESULTS_SIZE_MAX (256u * MR_KIB) /* and of all of them */
#define MR_EMITTED_MAX 100u      /* events one verdict may emit */

/* Transforms in jq. */
#define MR_JQ_PROGRAM_SIZE_MAX (64u * MR_KIB)
#define MR_JQ_TIMEOUT_DEFAULT_MS 100u /* of processor time, for one event */
#define MR_JQ_TIMEOUT_MIN_MS 10u      /* the kernel counts it in ticks of 4 ms or so */
#define MR_JQ_TIMEOUT_MAX_MS 10000u
#define MR_JQ_MEMORY_MAX (128u * MR_MIB) /* of one helper: 16 bytes a value, and copies of them */
#define MR_JQ_QUEUE_SIZE_MAX (16u * MR_MIB) /* events of one source that wait for its program */

/* Workers and HTTP. */
#define MR_FRAME_SIZE_MAX (8u * MR_MIB) /* one line of the worker protocol, base64 data included */
#define MR_RESPONSE_SIZE_MAX (1u * MR_MIB)
#define MR_HTTP_HEADER_SIZE_MAX (32u * MR_KIB)
#define MR_HTTP_CONNECTIONS_MAX 4096u
#define MR_INSTANCES_MAX 1024u

#endif
