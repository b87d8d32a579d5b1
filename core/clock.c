#include "core/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/hash.h"

static uint64_t boot_id;

static void read_boot_id(void)
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (n > 0) {
            boot_id = mr_hash(text, (size_t)n);
            return;
        }
    }
    boot_id = 1; /* no /proc: every start counts as the same boot, ages then follow BOOTTIME */
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    if (clock_gettime(id, &ts) != 0) {
        return 0;
    }
    return (uint64_t)ts.tv_sec * MR_SECOND + (uint64_t)ts.tv_nsec;
}

struct mr_now mr_clock_now(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, read_boot_id); /* cannot fail with a valid control */
    return (struct mr_now){
        .mono_ns = read_clock(CLOCK_BOOTTIME),
        .wall_ns = read_clock(CLOCK_REALTIME),
        .boot_id = boot_id,
    };
}

uint64_t mr_clock_mono_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

/* Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
int64_t mr_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

void mr_civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *ret_day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *ret_month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *ret_year = yoe + era * 400 + (*ret_month <= 2);
}

const char *mr_time_format(uint64_t wall_ns, char text[MR_TIME_TEXT_SIZE])
{
    uint64_t seconds = wall_ns / MR_SECOND;
    int64_t year;
    unsigned month;
    unsigned day;
    mr_civil_from_days((int64_t)(seconds / 86400), &year, &month, &day);
    unsigned rest = (unsigned)(seconds % 86400);
    (void)snprintf(text, MR_TIME_TEXT_SIZE, "%04d-%02u-%02uT%02u:%02u:%02u.%03uZ", (int)year, month,
                   day, rest / 3600, rest / 60 % 60, rest % 60,
                   (unsigned)(wall_ns % MR_SECOND / MR_MS)); /* always fits */
    return text;
}

static bool take_digits(struct mr_bytes *text, size_t count, unsigned *ret)
{
    if (text->size < count) {
        return false;
    }
    unsigned value = 0;
    for (size_t i = 0; i < count; i++) {
        if (text->data[i] < '0' || text->data[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text->data[i] - '0');
    }
    *text = mr_bytes(text->data + count, text->size - count);
    *ret = value;
    return true;
}

static bool take_char(struct mr_bytes *text, char c)
{
    if (text->size == 0 || text->data[0] != (uint8_t)c) {
        return false;
    }
    *text = mr_bytes(text->data + 1, text->size - 1);
    return true;
}

/* Either case, letters only: folding punctuation would take a CR for a '-'. */
static bool take_letter(struct mr_bytes *text, char lower, char upper)
{
    return take_char(text, lower) || take_char(text, upper);
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_fraction(struct mr_bytes *text, unsigned *ret_ns)
{
    unsigned ns = 0;
    unsigned scale = 100000000;
    size_t n = 0;
    while (n < text->size && text->data[n] >= '0' && text->data[n] <= '9') {
        ns += (unsigned)(text->data[n] - '0') * scale;
        scale /= 10;
        n++;
    }
    *text = mr_bytes(text->data + n, text->size - n);
    *ret_ns = ns;
    return n > 0;
}

bool mr_time_parse(struct mr_bytes text, int64_t *ret_ns)
{
    unsigned year, month, day, hour, minute, second, ns = 0, zone_hour = 0, zone_minute = 0;
    if (!take_digits(&text, 4, &year) || !take_char(&text, '-') || !take_digits(&text, 2, &month) ||
        !take_char(&text, '-') || !take_digits(&text, 2, &day) ||
        !take_letter(&text, 't', 'T') || !take_digits(&text, 2, &hour)) {
        return false;
    }
    if (!take_char(&text, ':') || !take_digits(&text, 2, &minute) || !take_char(&text, ':') ||
        !take_digits(&text, 2, &second)) {
        return false;
    }
    if (text.size > 0 && text.data[0] == '.') {
        text = mr_bytes(text.data + 1, text.size - 1);
        if (!take_fraction(&text, &ns)) {
            return false;
        }
    }
    int zone_sign = 1;
    if (!take_letter(&text, 'z', 'Z')) {
        if (text.size == 0 || (text.data[0] != '+' && text.data[0] != '-')) {
            return false;
        }
        zone_sign = text.data[0] == '-' ? -1 : 1;
        text = mr_bytes(text.data + 1, text.size - 1);
        if (!take_digits(&text, 2, &zone_hour) || !take_char(&text, ':') ||
            !take_digits(&text, 2, &zone_minute)) {
            return false;
        }
    }
    if (text.size != 0 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) ||
        hour > 23 || minute > 59 || second > 60 || zone_hour > 23 || zone_minute > 59) {
        return false;
    }
    int64_t offset_s = zone_sign * (int64_t)(zone_hour * 3600 + zone_minute * 60);
    int64_t seconds = mr_days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 +
                      (second == 60 ? 59 : second) - offset_s;
    if (second == 60 && ((seconds % 86400) + 86400) % 86400 != 86399) {
        return false;
    }
    if (ret_ns != NULL) {
        int64_t total;
        if (__builtin_mul_overflow(seconds, (int64_t)MR_SECOND, &total) ||
            __builtin_add_overflow(total, (int64_t)ns, &total)) {
            total = seconds < 0 ? INT64_MIN : INT64_MAX;
        }
        *ret_ns = total;
    }
    return true;
}
