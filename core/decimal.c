/* Numbers as JSON writes them, taken as text: an id of twenty digits and an amount of money keep
 * every digit. */
#include "core/decimal.h"

#include "core/hash.h"

#define EXPONENT_MAX 1000000000

struct decimal {
    bool negative;
    bool zero;
    int64_t exponent;       /* the value is 0.DIGITS times ten to this */
    struct mr_bytes digits; /* from the first that is not 0; a point may stand between */
};

static size_t digits_end(struct mr_bytes text, size_t at)
{
    while (at < text.size && text.data[at] >= '0' && text.data[at] <= '9') {
        at++;
    }
    return at;
}

static bool parse_exponent(struct mr_bytes text, int64_t *ret_value)
{
    bool is_signed = text.size > 0 && (text.data[0] == '-' || text.data[0] == '+');
    int64_t value = 0;
    if (text.size == (size_t)is_signed || digits_end(text, is_signed) != text.size) {
        return false;
    }
    for (size_t i = is_signed; i < text.size; i++) {
        value = value * 10 + (text.data[i] - '0');
        value = value > EXPONENT_MAX ? EXPONENT_MAX : value;
    }
    *ret_value = is_signed && text.data[0] == '-' ? -value : value;
    return true;
}

static bool parse_decimal(struct mr_bytes text, struct decimal *d)
{
    *d = (struct decimal){.negative = text.size > 0 && text.data[0] == '-'};
    size_t from = d->negative;
    size_t point = digits_end(text, from);
    size_t end = point;
    if (point == from) {
        return false;
    }
    if (point < text.size && text.data[point] == '.') {
        end = digits_end(text, point + 1);
        if (end == point + 1) {
            return false;
        }
    }
    int64_t exponent = 0;
    if (end < text.size &&
        ((text.data[end] | 0x20) != 'e' ||
         !parse_exponent(mr_bytes(text.data + end + 1, text.size - end - 1), &exponent))) {
        return false;
    }
    size_t first = from;
    while (first < end && (text.data[first] == '0' || text.data[first] == '.')) {
        first++;
    }
    d->zero = first == end;
    d->digits = mr_bytes(text.data + first, end - first);
    d->exponent = exponent + (first < point ? (int64_t)(point - first)
                                            : -(int64_t)(first - point - 1));
    return true;
}

/* The next digit, 0 behind the last. */
static uint8_t next_digit(struct mr_bytes *digits)
{
    if (digits->size > 0 && digits->data[0] == '.') {
        *digits = mr_bytes(digits->data + 1, digits->size - 1);
    }
    if (digits->size == 0) {
        return '0';
    }
    uint8_t digit = digits->data[0];
    *digits = mr_bytes(digits->data + 1, digits->size - 1);
    return digit;
}

bool mr_decimal_is(struct mr_bytes text)
{
    struct decimal d;
    return parse_decimal(text, &d);
}

int mr_decimal_compare(struct mr_bytes a, struct mr_bytes b)
{
    struct decimal left;
    struct decimal right;
    if (!parse_decimal(a, &left) || !parse_decimal(b, &right)) {
        return mr_bytes_compare(a, b); /* the caller asked mr_decimal_is() */
    }
    if (left.zero || right.zero) {
        int sign_left = left.zero ? 0 : left.negative ? -1 : 1;
        int sign_right = right.zero ? 0 : right.negative ? -1 : 1;
        return sign_left - sign_right;
    }
    int sign = left.negative ? -1 : 1;
    if (left.negative != right.negative) {
        return sign;
    }
    if (left.exponent != right.exponent) {
        return left.exponent > right.exponent ? sign : -sign;
    }
    while (left.digits.size > 0 || right.digits.size > 0) {
        uint8_t x = next_digit(&left.digits);
        uint8_t y = next_digit(&right.digits);
        if (x != y) {
            return x > y ? sign : -sign;
        }
    }
    return 0;
}

/* Digits without the zeros behind the last other one. */
static size_t significant(const struct decimal *d)
{
    size_t size = d->digits.size;
    while (size > 0 && (d->digits.data[size - 1] == '0' || d->digits.data[size - 1] == '.')) {
        size--;
    }
    return size;
}

/* How many of the first @p size bytes of @p digits are digits. */
static int64_t count_digits(struct mr_bytes digits, size_t size)
{
    bool point = memchr(digits.data, '.', size) != NULL;
    return (int64_t)(size - point);
}

/* Of a number other than zero: the power of ten that its last significant digit stands for. */
static int64_t last_exponent(const struct decimal *d)
{
    return d->exponent - count_digits(d->digits, significant(d));
}

bool mr_decimal_is_integer(struct mr_bytes text)
{
    struct decimal d;
    return parse_decimal(text, &d) && (d.zero || last_exponent(&d) >= 0);
}

bool mr_decimal_count(struct mr_bytes text, uint32_t *ret_count)
{
    struct decimal d;
    if (!mr_decimal_is_integer(text) || !parse_decimal(text, &d) || (d.negative && !d.zero)) {
        return false;
    }
    uint64_t value = 0;
    for (int64_t i = d.zero ? 0 : d.exponent; i > 0 && value < UINT32_MAX; i--) {
        value = value * 10 + (uint64_t)(next_digit(&d.digits) - '0');
    }
    *ret_count = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
    return true;
}

uint64_t mr_decimal_hash(struct mr_bytes text)
{
    struct decimal d;
    if (!parse_decimal(text, &d) || d.zero) {
        return 0;
    }
    uint64_t h = MR_HASH_BEGIN;
    size_t size = significant(&d);
    for (size_t i = 0; i < size; i++) {
        h = d.digits.data[i] == '.' ? h : mr_hash_step(h, d.digits.data[i]);
    }
    return mr_hash_end(h) ^ mr_hash_u64((uint64_t)d.exponent * 2 + d.negative);
}

bool mr_decimal_is_divisor(struct mr_bytes text)
{
    struct decimal d;
    return parse_decimal(text, &d) && !d.zero && !d.negative &&
           count_digits(d.digits, significant(&d)) <= MR_DECIMAL_DIVISOR_DIGITS;
}

static uint64_t multiply_modulo(uint64_t a, uint64_t b, uint64_t modulus)
{
    uint64_t product = 0;
    for (; b > 0; b >>= 1) { /* modulus < 10^18: doubling does not overflow */
        product = (b & 1) != 0 ? (product + a) % modulus : product;
        a = a * 2 % modulus;
    }
    return product;
}

bool mr_decimal_is_multiple(struct mr_bytes text, struct mr_bytes divisor)
{
    struct decimal d;
    struct decimal by;
    if (!parse_decimal(text, &d) || !parse_decimal(divisor, &by) || by.zero) {
        return false;
    }
    if (d.zero) {
        return true;
    }
    /* Both as integers without zeros at the end, times ten to their exponents. */
    int64_t shift = last_exponent(&d) - last_exponent(&by);
    if (shift < 0) {
        return false;
    }
    uint64_t modulus = 0;
    for (size_t i = 0, size = significant(&by); i < size; i++) {
        uint8_t digit = by.digits.data[i];
        modulus = digit == '.' ? modulus : modulus * 10 + (uint64_t)(digit - '0');
    }
    uint64_t rest = 0;
    for (size_t i = 0, size = significant(&d); i < size; i++) {
        uint8_t digit = d.digits.data[i];
        rest = digit == '.' ? rest : (rest * 10 + (uint64_t)(digit - '0')) % modulus;
    }
    uint64_t factor = 10 % modulus;
    for (; shift > 0 && rest != 0; shift >>= 1) {
        rest = (shift & 1) != 0 ? multiply_modulo(rest, factor, modulus) : rest;
        factor = multiply_modulo(factor, factor, modulus);
    }
    return rest % modulus == 0;
}
