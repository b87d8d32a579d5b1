/* Owns the settings that the design names and this release does not have: accepting one silently
 * would be a promise, and calling it unknown would send the user looking for a misspelling. */
#include "config/loader.h"

struct later {
    const char *level;
    const char *name;
};

/* Levels: the places of config/tables.c; "*" is every source, worker, sink and subscription. */
static const struct later later_names[] = {
    {"top", "admin"},
    {"top", "redact"},
    {"top", "tenants"},
    {"top", "deploy"},
    {"top", "egress"},
    {"top", "traces"},
    {"top", "otlp"},
    {"top", "engine"},
    {"top", "mirror"},
    {"top", "tls"},
    {"top", "transforms"},
    {"log", "engine"},
    {"source", "shard_by"},
    {"worker", "sandbox"},
    {"worker", "versions"},
    {"sink", "bus"},
    {"subscription", "dead_on"},
    {"subscription", "not_before"},
    {"subscription", "rename"},
    {"subscription", "retry_on"},
    {"subscription", "start"},
    {"subscription", "tenant_concurrency"},
    {"subscription", "validate"},
    {"subscription", "dedupe"},
    {"source", "rate"},
    {"*", "redact"},
    {"*", "tenant"},
};

bool mr__is_later(const char *level, const char *name)
{
    bool is_entry = strcmp(level, "source") == 0 || strcmp(level, "worker") == 0 ||
                    strcmp(level, "sink") == 0 || strcmp(level, "subscription") == 0;
    for (size_t i = 0; i < MR_ARRAY_COUNT(later_names); i++) {
        const struct later *later = &later_names[i];
        if (strcmp(later->name, name) == 0 &&
            (strcmp(later->level, level) == 0 || (is_entry && strcmp(later->level, "*") == 0))) {
            return true;
        }
    }
    return false;
}
