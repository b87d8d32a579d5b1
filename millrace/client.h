/* Talking to a running instance through its socket, and the paths of its API. A client belongs to
 * one verb of the command line; what goes wrong is said on cli->err and comes back as the exit code
 * that fits. */
#ifndef MR_MILLRACE_CLIENT_H
#define MR_MILLRACE_CLIENT_H

#include <cjson/cJSON.h>

#include "millrace/cli.h"

struct mr_client;

/** Finds the instance by -c, --data-dir, the configuration here, or ./data; contacts nobody yet.
 * @return MR_EXIT_OK, or what the verb should end with (it was said why) */
int mr_client_open(struct mr_cli *cli, struct mr_client **ret_client);
void mr_client_close(struct mr_client *client);

/* A path with its query, built piece by piece; errors stick and are said by the call. */
struct mr_path {
    struct mr_buf buf;
    bool has_query;
    enum mr_status status;
};
/** @param prefix written as it is  @param name percent-encoded, or NULL  @param verb as it is, or
 * NULL */
void mr_path_init(struct mr_path *path, const char *prefix, const char *name, const char *verb);
/** Adds name=value, percent-encoded; nothing when @p value is NULL. */
void mr_path_query(struct mr_path *path, const char *name, const char *value);
void mr_path_query_u64(struct mr_path *path, const char *name, uint64_t value);

/** One request. @p path is released here; @p body empty: none.
 * @param[out] ret_body the answer to a 2xx; release it with mr_buf_release(); empty otherwise
 * @return MR_EXIT_OK for a 2xx; else the code that fits, and the reason was written to cli->err */
int mr_client_get(struct mr_client *client, struct mr_path *path, struct mr_buf *ret_body);
int mr_client_post(struct mr_client *client, struct mr_path *path, const char *content_type,
                   struct mr_bytes body, struct mr_buf *ret_body);
/** A GET whose answer is read line by line until @p line returns false or the instance ends it. */
int mr_client_lines(struct mr_client *client, struct mr_path *path,
                    bool (*line)(void *context, struct mr_bytes text), void *context);

/** Steps through the elements of the array called @p key in the JSON object @p body, as they stand:
 * set *@p at to 0 first. @return false after the last */
bool mr_json_next_item(struct mr_bytes body, const char *key, size_t *at,
                       struct mr_bytes *ret_item);

/** The member @p name of @p object as text for people: "" when absent or null. Numbers and booleans
 * are written into @p number. */
const char *mr_json_text(const cJSON *object, const char *name, char number[32]);
double mr_json_number(const cJSON *object, const char *name);

#endif
