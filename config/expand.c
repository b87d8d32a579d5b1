/* Owns references in values: ${env:NAME}, ${file:PATH}, and $${ for the two characters. What they
 * stand for is never put into a message. */
#include "config/loader.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "config/redact.h"
#include "core/alloc.h"
#include "core/io.h"

#define REFERENCE_SIZE_MAX (64u * MR_KIB) /* of what one file holds */
#define NAME_SHOWN_MAX 128

void mr__wipe_free(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        mr_free(text);
    }
}

char *mr__path_absolute(const char *folder, const char *path)
{
    struct mr_buf buf;
    mr_buf_init(&buf, SIZE_MAX / 2);
    enum mr_status r = MR_OK;
    const char *parts[2] = {path[0] == '/' ? "" : folder, path};
    for (size_t i = 0; i < 2; i++) {
        const char *p = parts[i];
        while (*p != '\0' && r == MR_OK) {
            size_t n = strcspn(p, "/");
            if (n > 0 && !(n == 1 && *p == '.')) {
                r = mr_buf_append_byte(&buf, '/');
                if (r == MR_OK) {
                    r = mr_buf_append(&buf, p, n);
                }
            }
            p += n + (p[n] == '/');
        }
    }
    if (r == MR_OK && buf.size == 0) {
        r = mr_buf_append_byte(&buf, '/');
    }
    char *text = r == MR_OK ? mr_buf_take_text(&buf) : NULL;
    mr_buf_release(&buf);
    return text;
}

static bool is_variable_name(const char *name)
{
    if (*name == '\0' || strchr("0123456789", *name) != NULL) {
        return false;
    }
    return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")] ==
           '\0';
}

static enum mr_status append_variable(const char *name, struct mr_buf *out,
                                      struct mr_problem *problem)
{
    if (!is_variable_name(name)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`${env:%.*s}` is no reference: a variable's name is letters, digits "
                              "and `_`",
                              NAME_SHOWN_MAX, name);
    }
    const char *value = getenv(name);
    if (value == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the environment variable %.*s of `${env:%.*s}` is not set",
                              NAME_SHOWN_MAX, name, NAME_SHOWN_MAX, name);
    }
    if (!mr_bytes_is_utf8(mr_bytes_of(value))) {
        return mr_problem_set(problem, MR_E_INVALID, "the environment variable %.*s is not text",
                              NAME_SHOWN_MAX, name);
    }
    return mr_buf_append_text(out, value);
}

static enum mr_status read_file(const char *path, struct mr_buf *out, const char **ret_reason)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        *ret_reason = "is not there, or may not be read";
        return MR_E_INVALID;
    }
    if (!S_ISREG(info.st_mode)) {
        *ret_reason = "is no regular file"; /* a pipe would make the load wait for ever */
        return MR_E_INVALID;
    }
    char *text = NULL;
    size_t size = 0;
    enum mr_status r = mr_file_read(path, REFERENCE_SIZE_MAX, &text, &size);
    if (r != MR_OK) {
        *ret_reason = r == MR_E_TOO_BIG ? "is larger than 64KiB" : mr_status_text(r);
        return r == MR_E_NOMEM ? r : MR_E_INVALID;
    }
    if (memchr(text, 0, size) != NULL || !mr_bytes_is_utf8(mr_bytes(text, size))) {
        *ret_reason = "is not text";
        r = MR_E_INVALID;
    } else {
        /* Editors end a file with a newline that nobody means as part of a password. */
        size_t kept = size;
        if (kept > 0 && text[kept - 1] == '\n') {
            kept--;
            kept -= kept > 0 && text[kept - 1] == '\r';
        }
        r = mr_buf_append(out, text, kept);
    }
    explicit_bzero(text, size);
    mr_free(text);
    return r;
}

static enum mr_status append_file(const char *name, const char *folder, struct mr_buf *out,
                                  struct mr_problem *problem)
{
    char *path = mr__path_absolute(folder, name);
    if (path == NULL) {
        return MR_E_NOMEM;
    }
    const char *reason = "has no name";
    enum mr_status r = *name == '\0' ? MR_E_INVALID : read_file(path, out, &reason);
    if (r == MR_E_INVALID) {
        r = mr_problem_set(problem, r, "the file of `${file:%.*s}` %s", NAME_SHOWN_MAX, name,
                           reason);
    }
    mr_free(path);
    return r;
}

/* @p inside: what stands between the braces. */
static enum mr_status append_reference(struct mr_bytes inside, const char *folder,
                                       struct mr_buf *out, struct mr_problem *problem)
{
    char *text = mr_strndup((const char *)inside.data, inside.size);
    if (text == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r;
    if (strncmp(text, "env:", 4) == 0) {
        r = append_variable(text + 4, out, problem);
    } else if (strncmp(text, "file:", 5) == 0) {
        r = append_file(text + 5, folder, out, problem);
    } else {
        r = mr_problem_set(problem, MR_E_INVALID,
                           "`${%.*s}` is no reference: write `${env:NAME}` or `${file:PATH}`, or "
                           "`$${` for the two characters themselves",
                           NAME_SHOWN_MAX, text);
    }
    mr_free(text);
    return r;
}

static enum mr_status expand_into(struct mr_bytes text, const char *folder, struct mr_buf *out,
                                  bool *had, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    size_t at = 0;
    while (at < text.size && r == MR_OK) {
        struct mr_bytes rest = mr_bytes(text.data + at, text.size - at);
        if (mr_bytes_starts(rest, MR_BYTES_LITERAL("$${"))) {
            r = mr_buf_append_text(out, "${");
            at += 3;
        } else if (mr_bytes_starts(rest, MR_BYTES_LITERAL("${"))) {
            size_t n = mr__reference_size(rest);
            if (n == 0) {
                return mr_problem_set(problem, MR_E_INVALID,
                                      "a reference `${` is not closed with `}`; write `$${` for "
                                      "the two characters themselves");
            }
            *had = true;
            r = append_reference(mr_bytes(rest.data + 2, n - 3), folder, out, problem);
            at += n;
        } else {
            r = mr_buf_append_byte(out, text.data[at]);
            at++;
        }
    }
    return r;
}

enum mr_status mr__expand(struct mr_bytes text, const char *folder, char **ret_text, bool *ret_had,
                          struct mr_problem *problem)
{
    struct mr_buf buf;
    bool had = false;
    mr_buf_init(&buf, MR_CONFIG_SIZE_MAX);
    enum mr_status r = mr_buf_reserve(&buf, text.size + 1);
    if (r == MR_OK) {
        r = expand_into(text, folder, &buf, &had, problem);
    }
    if (r == MR_OK) {
        char *expanded = mr_buf_take_text(&buf);
        if (expanded == NULL) {
            r = MR_E_NOMEM;
        } else {
            *ret_text = expanded;
            *ret_had = had;
        }
    }
    if (buf.size > 0) {
        explicit_bzero(buf.data, buf.size);
    }
    mr_buf_release(&buf);
    return r == MR_E_TOO_BIG
               ? mr_problem_set(problem, MR_E_INVALID, "what the references stand for is too large")
               : r;
}
