#include "millrace/client.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/un.h>

#include "core/alloc.h"
#include "core/assert.h"

#define ANSWER_SIZE_MAX (320u * MR_MIB)
#define LINE_SIZE_MAX (16u * MR_MIB)
#define SOCKET_NAME "millrace.sock"

struct mr_client {
    struct mr_cli *cli; /* borrowed */
    CURL *curl;         /* owned */
    char *data_dir;     /* owned; for messages */
    char *socket_path;  /* owned */
};

/* --- finding the instance --------------------------------------------------------------------- */

static int find_data_dir(struct mr_cli *cli, char **ret_data_dir)
{
    const char *path = mr_cli_config_path(cli);
    if (cli->data_dir == NULL && path != NULL) {
        return mr_cli_data_dir(cli, path, ret_data_dir);
    }
    *ret_data_dir = mr_strdup(cli->data_dir != NULL ? cli->data_dir : "./data");
    return *ret_data_dir == NULL ? mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory") : MR_EXIT_OK;
}

static enum mr_status make_socket_path(struct mr_client *client)
{
    struct mr_buf path;
    mr_buf_init(&path, 16 * MR_KIB);
    bool ok = mr_buf_printf(&path, "%s/" SOCKET_NAME, client->data_dir) == MR_OK;
    client->socket_path = ok ? mr_buf_take_text(&path) : NULL;
    mr_buf_release(&path);
    return client->socket_path == NULL ? MR_E_NOMEM : MR_OK;
}

int mr_client_open(struct mr_cli *cli, struct mr_client **ret_client)
{
    struct mr_client *client = mr_calloc(1, sizeof(*client));
    if (client == NULL) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory");
    }
    client->cli = cli;
    int code = find_data_dir(cli, &client->data_dir);
    if (code == MR_EXIT_OK) {
        client->curl = curl_easy_init();
        if (client->curl == NULL || make_socket_path(client) != MR_OK) {
            code = mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory");
        }
    }
    if (code != MR_EXIT_OK) {
        mr_client_close(client);
        return code;
    }
    *ret_client = client;
    return MR_EXIT_OK;
}

void mr_client_close(struct mr_client *client)
{
    if (client == NULL) {
        return;
    }
    curl_easy_cleanup(client->curl);
    mr_free(client->data_dir);
    mr_free(client->socket_path);
    mr_free(client);
}

/* --- paths ------------------------------------------------------------------------------------ */

static void put(struct mr_path *path, const char *text)
{
    if (path->status == MR_OK) {
        path->status = mr_buf_append_text(&path->buf, text);
    }
}

static void put_encoded(struct mr_path *path, const char *text)
{
    for (const char *c = text; *c != '\0' && path->status == MR_OK; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL;
        path->status = plain ? mr_buf_append_byte(&path->buf, (uint8_t)*c)
                             : mr_buf_printf(&path->buf, "%%%02X", (unsigned)(uint8_t)*c);
    }
}

void mr_path_init(struct mr_path *path, const char *prefix, const char *name, const char *verb)
{
    *path = (struct mr_path){.status = MR_OK};
    mr_buf_init(&path->buf, MR_MIB);
    put(path, "http://localhost");
    put(path, prefix);
    if (name != NULL) {
        put_encoded(path, name);
    }
    if (verb != NULL) {
        put(path, verb);
    }
}

void mr_path_query(struct mr_path *path, const char *name, const char *value)
{
    if (value == NULL) {
        return;
    }
    put(path, path->has_query ? "&" : "?");
    path->has_query = true;
    put(path, name);
    put(path, "=");
    put_encoded(path, value);
}

void mr_path_query_u64(struct mr_path *path, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value); /* at most 20 digits */
    mr_path_query(path, name, text);
}

/* --- requests --------------------------------------------------------------------------------- */

struct answer {
    struct mr_client *client;
    struct mr_buf body; /* all of it, or the line begun */
    bool (*line)(void *context, struct mr_bytes text); /* NULL: not by lines */
    void *context;
    bool enough;   /* line() said so */
    bool too_big;
};

static size_t take_bytes(char *data, size_t size, size_t count, void *context)
{
    struct answer *answer = context;
    long status = 0;
    (void)curl_easy_getinfo(answer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (mr_buf_append(&answer->body, data, size * count) != MR_OK) {
        answer->too_big = true;
        return 0;
    }
    if (answer->line == NULL || status >= 300) {
        return size * count;
    }
    size_t begin = 0;
    for (size_t i = 0; i < answer->body.size && !answer->enough; i++) {
        if (answer->body.data[i] == '\n') {
            struct mr_bytes line = mr_bytes(answer->body.data + begin, i - begin);
            answer->enough = line.size > 0 && !answer->line(answer->context, line);
            begin = i + 1;
        }
    }
    memmove(answer->body.data, answer->body.data + begin, answer->body.size - begin);
    answer->body.size -= begin;
    return answer->enough ? 0 : size * count;
}

static int exit_code_of(long status)
{
    switch (status) {
    case 404:
        return MR_EXIT_NOTHING;
    case 400:
    case 413:
    case 415:
        return MR_EXIT_DATA;
    default:
        return MR_EXIT_FAILED;
    }
}

/* Says what a refusal's JSON body tells. */
static int fail_with_answer(struct mr_client *client, long status, const struct mr_buf *body)
{
    cJSON *json = cJSON_ParseWithLength((const char *)body->data, body->size);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    int code = exit_code_of(status);
    if (cJSON_IsString(error)) {
        (void)mr_cli_fail(client->cli, code, "%s", error->valuestring);
    } else {
        (void)mr_cli_fail(client->cli, code, "the instance answered %ld", status);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "errors"))
    {
        if (cJSON_IsString(item)) {
            fprintf(client->cli->err, "  %s\n", item->valuestring);
        }
    }
    cJSON_Delete(json);
    return code;
}

static int fail_with_curl(struct mr_client *client, CURLcode result)
{
    /* No instance can have a socket whose path does not fit an address. */
    bool too_long = strlen(client->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path);
    if (result == CURLE_COULDNT_CONNECT || too_long) {
        return mr_cli_fail(client->cli, MR_EXIT_NO_INSTANCE,
                           "no running instance: nobody listens at %s/" SOCKET_NAME,
                           client->data_dir);
    }
    return mr_cli_fail(client->cli, MR_EXIT_FAILED, "the instance at %s: %s", client->data_dir,
                       curl_easy_strerror(result));
}

static bool set_options(struct mr_client *client, const struct mr_path *path, struct answer *answer)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    return curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket_path) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_URL, (const char *)path->buf.data) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK && /* an id may be ".." */
           curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer) == CURLE_OK;
}

/* @param body NULL: a GET */
static int perform(struct mr_client *client, struct mr_path *path, const char *content_type,
                   const struct mr_bytes *body, struct answer *answer)
{
    CURL *curl = client->curl;
    struct curl_slist *headers = NULL;
    if (path->status == MR_OK) {
        path->status = mr_buf_append_byte(&path->buf, 0);
    }
    bool set = path->status == MR_OK && set_options(client, path, answer);
    if (set && body != NULL) {
        char type[128];
        (void)snprintf(type, sizeof(type), "Content-Type: %.100s", content_type); /* a literal */
        headers = curl_slist_append(curl_slist_append(NULL, "Expect:"), type);
        set = headers != NULL && curl_easy_setopt(curl, CURLOPT_POST, 1L) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->size) ==
                  CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               body->size == 0 ? "" : (const char *)body->data) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    }
    int code = MR_EXIT_OK;
    if (!set) {
        code = mr_cli_fail(client->cli, MR_EXIT_FAILED, "the request could not be made");
    } else {
        CURLcode result = curl_easy_perform(curl);
        long status = 0;
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status); /* 0 then */
        if (answer->too_big) {
            code = mr_cli_fail(client->cli, MR_EXIT_FAILED, "the answer is too large");
        } else if (result != CURLE_OK && !answer->enough) {
            code = fail_with_curl(client, result);
        } else if (status >= 300) {
            code = fail_with_answer(client, status, &answer->body);
        }
    }
    curl_slist_free_all(headers);
    mr_buf_release(&path->buf);
    return code;
}

static int perform_whole(struct mr_client *client, struct mr_path *path, const char *content_type,
                         const struct mr_bytes *body, struct mr_buf *ret_body)
{
    struct answer answer = {.client = client};
    mr_buf_init(&answer.body, ANSWER_SIZE_MAX);
    int code = perform(client, path, content_type, body, &answer);
    if (code != MR_EXIT_OK) {
        mr_buf_release(&answer.body);
    }
    *ret_body = answer.body;
    return code;
}

int mr_client_get(struct mr_client *client, struct mr_path *path, struct mr_buf *ret_body)
{
    return perform_whole(client, path, NULL, NULL, ret_body);
}

int mr_client_post(struct mr_client *client, struct mr_path *path, const char *content_type,
                   struct mr_bytes body, struct mr_buf *ret_body)
{
    return perform_whole(client, path, content_type, &body, ret_body);
}

int mr_client_lines(struct mr_client *client, struct mr_path *path,
                    bool (*line)(void *context, struct mr_bytes text), void *context)
{
    struct answer answer = {.client = client, .line = line, .context = context};
    mr_buf_init(&answer.body, LINE_SIZE_MAX);
    int code = perform(client, path, NULL, NULL, &answer);
    mr_buf_release(&answer.body);
    return code;
}

/* --- JSON ------------------------------------------------------------------------------------- */

/* The end of the value at @p at: the place of the comma or bracket behind it. */
static size_t value_end(struct mr_bytes body, size_t at)
{
    size_t depth = 0;
    bool in_text = false;
    for (; at < body.size; at++) {
        uint8_t c = body.data[at];
        if (in_text) {
            at += c == '\\';
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']' || c == ',') && depth == 0) {
            return at;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return at < body.size ? at : body.size;
}

/* Where the array of member @p key begins, behind its bracket; 0: there is none. */
static size_t find_array(struct mr_bytes body, const char *key)
{
    size_t at = 1;
    while (at < body.size) {
        size_t end = value_end(body, at); /* "key":value */
        struct mr_bytes member = mr_bytes(body.data + at, end - at);
        size_t size = strlen(key);
        if (member.size > size + 4 && member.data[0] == '"' &&
            memcmp(member.data + 1, key, size) == 0 &&
            memcmp(member.data + 1 + size, "\":[", 3) == 0) {
            return at + size + 4;
        }
        at = end + 1;
    }
    return 0;
}

bool mr_json_next_item(struct mr_bytes body, const char *key, size_t *at,
                       struct mr_bytes *ret_item)
{
    if (*at == 0) {
        *at = find_array(body, key);
        if (*at == 0) {
            *at = body.size;
        }
    }
    if (*at >= body.size || body.data[*at] == ']') {
        *at = body.size;
        return false;
    }
    size_t end = value_end(body, *at);
    *ret_item = mr_bytes(body.data + *at, end - *at);
    *at = end < body.size && body.data[end] == ',' ? end + 1 : body.size;
    return true;
}

const char *mr_json_text(const cJSON *object, const char *name, char number[32])
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    if (cJSON_IsString(member)) {
        return member->valuestring;
    }
    if (cJSON_IsNumber(member)) {
        bool whole = member->valuedouble > -9e15 && member->valuedouble < 9e15 &&
                     member->valuedouble == (double)(int64_t)member->valuedouble;
        if (whole) {
            (void)snprintf(number, 32, "%" PRId64, (int64_t)member->valuedouble); /* 17 digits */
        } else {
            double shown = member->valuedouble > 9e15 ? 9e15 : member->valuedouble;
            (void)snprintf(number, 32, "%.3f", shown < -9e15 ? -9e15 : shown); /* 21 places */
        }
        return number;
    }
    return cJSON_IsTrue(member) ? "yes" : cJSON_IsFalse(member) ? "no" : "";
}

double mr_json_number(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(member) ? member->valuedouble : 0;
}
