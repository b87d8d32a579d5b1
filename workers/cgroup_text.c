#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/limits.h"
#include "workers/cgroup_internal.h"

#define CPU_PERIOD_US 100000u /* the kernel's own default */

static const struct {
    unsigned bit;
    const char *name;
} controllers_known[] = {
    {MR_CGROUP_MEMORY, "memory"}, {MR_CGROUP_PIDS, "pids"}, {MR_CGROUP_CPU, "cpu"}};

/* Takes what is before the first @p end, or all, off @p text. */
static struct mr_bytes take_until(struct mr_bytes *text, uint8_t end)
{
    const uint8_t *at = text->size == 0 ? NULL : memchr(text->data, end, text->size);
    size_t size = at == NULL ? text->size : (size_t)(at - text->data);
    struct mr_bytes part = mr_bytes(text->data, size);
    size_t used = size + (at != NULL);
    *text = mr_bytes(text->data + used, text->size - used);
    return part;
}

bool mr__cgroup_own(struct mr_bytes text, struct mr_bytes *ret_path)
{
    while (text.size > 0) {
        struct mr_bytes line = take_until(&text, '\n');
        struct mr_bytes prefix = MR_BYTES_LITERAL("0::/");
        if (mr_bytes_starts(line, prefix)) {
            *ret_path = mr_bytes(line.data + 3, line.size - 3);
            return true;
        }
    }
    return false;
}

bool mr__cgroup_is_v1(struct mr_bytes text, const char *controller)
{
    while (text.size > 0) {
        struct mr_bytes line = take_until(&text, '\n');
        (void)take_until(&line, ':'); /* the hierarchy's number */
        struct mr_bytes names = take_until(&line, ':');
        while (names.size > 0) {
            if (mr_bytes_equal(take_until(&names, ','), mr_bytes_of(controller))) {
                return true;
            }
        }
    }
    return false;
}

static bool is_octal(uint8_t c)
{
    return c >= '0' && c <= '7';
}

/* Adds @p part with its escapes ("\040") undone. */
static bool add_path(char folder[PATH_MAX], size_t *size, struct mr_bytes part)
{
    for (size_t i = 0; i < part.size; i++) {
        const uint8_t *p = part.data + i;
        char c = (char)*p;
        if (c == '\\' && i + 3 < part.size && is_octal(p[1]) && is_octal(p[2]) && is_octal(p[3])) {
            c = (char)(((p[1] - '0') & 3) * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
            i += 3;
        }
        if (*size + 1 >= PATH_MAX || c == '\0') {
            return false;
        }
        folder[(*size)++] = c;
    }
    folder[*size] = '\0';
    return true;
}

/* "36 35 0:31 ROOT MOUNT OPTIONS [TAGS…] - cgroup2 SOURCE OPTIONS" */
static bool read_mount(struct mr_bytes line, struct mr_bytes *ret_root, struct mr_bytes *ret_mount)
{
    struct mr_bytes fields[5];
    for (size_t i = 0; i < 5; i++) {
        fields[i] = take_until(&line, ' ');
    }
    while (line.size > 0 && !mr_bytes_equal(take_until(&line, ' '), MR_BYTES_LITERAL("-"))) {
    }
    *ret_root = fields[3];
    *ret_mount = fields[4];
    return mr_bytes_equal(take_until(&line, ' '), MR_BYTES_LITERAL("cgroup2"));
}

enum mr_status mr__cgroup_folder(struct mr_bytes text, struct mr_bytes own,
                                 char ret_folder[PATH_MAX])
{
    while (text.size > 0) {
        struct mr_bytes root;
        struct mr_bytes mount;
        if (!read_mount(take_until(&text, '\n'), &root, &mount)) {
            continue;
        }
        root.size = root.size == 1 ? 0 : root.size; /* "/": all of it */
        struct mr_bytes below = mr_bytes(own.data + root.size, own.size - root.size);
        if (!mr_bytes_starts(own, root) || (below.size > 0 && below.data[0] != '/') ||
            (own.size >= 3 && memcmp(own.data, "/..", 3) == 0)) {
            continue; /* it shows another part, or our group is outside of our namespace */
        }
        below.size = below.size == 1 ? 0 : below.size;
        char folder[PATH_MAX] = "";
        size_t size = 0;
        if (!add_path(folder, &size, mount) || !add_path(folder, &size, below)) {
            return MR_E_TOO_BIG;
        }
        memcpy(ret_folder, folder, size + 1);
        return MR_OK;
    }
    return MR_E_NOT_FOUND;
}

bool mr__cgroup_has(struct mr_bytes text, const char *word)
{
    struct mr_bytes line = take_until(&text, '\n');
    while (line.size > 0) {
        if (mr_bytes_equal(take_until(&line, ' '), mr_bytes_of(word))) {
            return true;
        }
    }
    return false;
}

uint64_t mr__cgroup_value(struct mr_bytes text, const char *key)
{
    uint64_t value = 0;
    while (text.size > 0) {
        struct mr_bytes line = take_until(&text, '\n');
        if (mr_bytes_equal(take_until(&line, ' '), mr_bytes_of(key))) {
            return mr_parse_u64(line, &value) ? value : 0;
        }
    }
    return 0;
}

const char *mr__cgroup_cpu_text(uint32_t cpus_milli, char text[48])
{
    uint64_t quota = (uint64_t)cpus_milli * CPU_PERIOD_US / 1000;
    (void)snprintf(text, 48, "%" PRIu64 " %u", quota, CPU_PERIOD_US); /* fits */
    return text;
}

const char *mr__cgroup_switch_text(unsigned controllers, char sign, char text[48])
{
    size_t size = 0;
    text[0] = '\0';
    for (size_t i = 0; i < MR_ARRAY_COUNT(controllers_known); i++) {
        if ((controllers & controllers_known[i].bit) != 0) {
            int n = snprintf(text + size, 48 - size, "%s%c%s", size == 0 ? "" : " ", sign,
                             controllers_known[i].name);
            size += (size_t)n; /* all of them are 18 bytes */
        }
    }
    return text;
}

unsigned mr__cgroup_missing(unsigned controllers, struct mr_bytes text)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(controllers_known); i++) {
        if (mr__cgroup_has(text, controllers_known[i].name)) {
            controllers &= ~controllers_known[i].bit;
        }
    }
    return controllers;
}

const char *mr__cgroup_name(unsigned controllers)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(controllers_known); i++) {
        if ((controllers & controllers_known[i].bit) != 0) {
            return controllers_known[i].name;
        }
    }
    return "";
}
