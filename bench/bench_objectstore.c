/* The bare client of a measurement: libcurl alone, with its own signing, doing what the connector
 * does with the server and nothing else.
 *
 *     bench_objectstore put PORT BUCKET COUNT       PUTs of 1 KiB, 64 at once
 *     bench_objectstore receive PORT QUEUE COUNT    2 polls of ten, one batch delete for each
 *
 * Prints CLOCK_MONOTONIC of the first and last answer and the processor time it took as one JSON
 * line. */
#include "bench/util.h"

#include <curl/curl.h>
#include <string.h>

#define NAME "bench_objectstore"
#define SLOTS_MAX 64
#define ANSWER_SIZE 131072

struct slot {
    CURL *easy;
    char url[256];
    char request[16384];
    char answer[ANSWER_SIZE];
    size_t size;
    bool deletes;
};

static struct slot slots[SLOTS_MAX];
static CURLM *multi;
static char body[BENCH_EVENT_SIZE];
static unsigned port;
static const char *name;
static uint64_t wanted;
static uint64_t begun;
static uint64_t done;
static uint64_t first_ns;

static size_t take(char *data, size_t one, size_t size, void *context)
{
    struct slot *slot = context;
    (void)one;
    if (slot->size + size >= ANSWER_SIZE) {
        bench_die(NAME, "an answer is too large");
    }
    memcpy(slot->answer + slot->size, data, size);
    slot->size += size;
    slot->answer[slot->size] = '\0';
    return size;
}

static void start(struct slot *slot)
{
    slot->size = 0;
    slot->answer[0] = '\0';
    curl_easy_setopt(slot->easy, CURLOPT_URL, slot->url);
    if (curl_multi_add_handle(multi, slot->easy) != CURLM_OK) {
        bench_die(NAME, "no memory");
    }
}

static bool put_next(struct slot *slot)
{
    if (begun == wanted) {
        return false;
    }
    snprintf(slot->url, sizeof(slot->url), "http://127.0.0.1:%u/%s/bare/%llu.json", port, name,
             (unsigned long long)begun++);
    start(slot);
    return true;
}

static void call(struct slot *slot, const char *target)
{
    static char type[] = "content-type: application/x-amz-json-1.0";
    static char receive[] = "x-amz-target: AmazonSQS.ReceiveMessage";
    static char drop[] = "x-amz-target: AmazonSQS.DeleteMessageBatch";
    static struct curl_slist to_receive = {.data = receive};
    static struct curl_slist to_drop = {.data = drop};
    static struct curl_slist json_receive;
    static struct curl_slist json_drop;
    json_receive = (struct curl_slist){.data = type, .next = &to_receive};
    json_drop = (struct curl_slist){.data = type, .next = &to_drop};
    slot->deletes = strcmp(target, "DeleteMessageBatch") == 0;
    curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->deletes ? &json_drop : &json_receive);
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->request);
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(slot->request));
    snprintf(slot->url, sizeof(slot->url), "http://127.0.0.1:%u/", port);
    start(slot);
}

static void receive(struct slot *slot)
{
    snprintf(slot->request, sizeof(slot->request),
             "{\"QueueUrl\":\"http://127.0.0.1:%u/000000000000/%s\",\"MaxNumberOfMessages\":10,"
             "\"WaitTimeSeconds\":20,\"VisibilityTimeout\":60}",
             port, name);
    call(slot, "ReceiveMessage");
}

/* The delete of everything in the answer. @return how many messages there were */
static unsigned make_delete(struct slot *slot)
{
    unsigned count = 0;
    size_t n = (size_t)snprintf(slot->request, sizeof(slot->request),
                                "{\"QueueUrl\":\"http://127.0.0.1:%u/000000000000/%s\","
                                "\"Entries\":[",
                                port, name);
    for (const char *at = slot->answer; (at = strstr(at, "\"ReceiptHandle\":\"")) != NULL;) {
        at += 17;
        n += (size_t)snprintf(slot->request + n, sizeof(slot->request) - n,
                              "%s{\"Id\":\"%u\",\"ReceiptHandle\":\"%.*s\"}", count == 0 ? "" : ",",
                              count, (int)strcspn(at, "\""), at);
        count++;
    }
    (void)snprintf(slot->request + n, sizeof(slot->request) - n, "]}");
    return count;
}

static void finished(struct slot *slot, bool puts)
{
    long status = 0;
    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        fprintf(stderr, "%.300s\n", slot->answer);
        bench_die(NAME, "the server refuses");
    }
    first_ns = first_ns == 0 ? bench_now_ns() : first_ns;
    if (puts) {
        done++;
        (void)put_next(slot);
    } else if (slot->deletes) {
        receive(slot);
    } else {
        unsigned count = make_delete(slot);
        done += count;
        if (count == 0) {
            receive(slot);
        } else {
            call(slot, "DeleteMessageBatch");
        }
    }
}

static void turn(bool puts)
{
    int running = 0;
    int left = 0;
    curl_multi_perform(multi, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left)) != NULL;) {
        struct slot *slot = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
        if (m->data.result != CURLE_OK) {
            bench_die(NAME, curl_easy_strerror(m->data.result));
        }
        curl_multi_remove_handle(multi, slot->easy);
        finished(slot, puts);
    }
    if (done < wanted) {
        curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
}

static void make_slot(struct slot *slot, bool puts)
{
    static char hash[] = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    static char type[] = "content-type: application/json";
    static struct curl_slist second = {.data = type};
    static struct curl_slist first = {.data = hash, .next = &second};
    slot->easy = curl_easy_init();
    if (slot->easy == NULL) {
        bench_die(NAME, "no memory");
    }
    curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot);
    curl_easy_setopt(slot->easy, CURLOPT_USERPWD, "minioadmin:minioadmin");
    curl_easy_setopt(slot->easy, CURLOPT_AWS_SIGV4,
                     puts ? "aws:amz:us-east-1:s3" : "aws:amz:us-east-1:sqs");
    if (puts) {
        curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, &first);
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long)sizeof(body));
        curl_easy_setopt(slot->easy, CURLOPT_CUSTOMREQUEST, "PUT");
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        bench_die(NAME, "usage: put|receive PORT NAME COUNT");
    }
    bool puts = strcmp(argv[1], "put") == 0;
    port = (unsigned)strtoul(argv[2], NULL, 10);
    name = argv[3];
    wanted = strtoull(argv[4], NULL, 10);
    memset(body, 'x', sizeof(body));
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    for (unsigned i = 0; i < (puts ? SLOTS_MAX : 2); i++) {
        make_slot(&slots[i], puts);
        if (puts) {
            (void)put_next(&slots[i]);
        } else {
            receive(&slots[i]);
        }
    }
    while (done < wanted) {
        turn(puts);
    }
    bench_print_times(first_ns, bench_now_ns());
    return 0;
}
