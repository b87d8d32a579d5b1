/* The tokens of CESQL, and refusals with their place. */
#include "core/logger.h"
#include "router/sql_token.h"

/* --- refusals -------------------------------------------------------------------------------- */

enum mr_status mr__sql_refuse(const struct mr__sql_compiler *c, size_t at, const char *reason,
                              struct mr_problem *problem)
{
    size_t character = 1;
    for (size_t i = 0; i < at; i++) {
        character += (c->source.data[i] & 0xC0) != 0x80;
    }
    size_t size = c->source.size - at;
    if (size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "at character %zu, at the end: %s", character,
                              reason);
    }
    char clean[24];
    mr_text_clean(clean, sizeof(clean), mr_bytes(c->source.data + at, size));
    return mr_problem_set(problem, MR_E_INVALID, "at character %zu, at `%s`: %s", character, clean,
                          reason);
}

/* --- tokens ---------------------------------------------------------------------------------- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

size_t mr__sql_word_end(struct mr_bytes source, size_t at)
{
    while (at < source.size &&
           (is_letter(source.data[at]) || is_digit(source.data[at]) || source.data[at] == '_')) {
        at++;
    }
    return at;
}

static enum mr__token_kind kind_of_word(struct mr_bytes word)
{
    static const struct {
        const char *word;
        enum mr__token_kind kind;
    } keywords[] = {
        {"and", MR__TOKEN_AND},   {"or", MR__TOKEN_OR},         {"xor", MR__TOKEN_XOR},
        {"not", MR__TOKEN_NOT},   {"like", MR__TOKEN_LIKE},     {"exists", MR__TOKEN_EXISTS},
        {"in", MR__TOKEN_IN},     {"true", MR__TOKEN_TRUE},     {"false", MR__TOKEN_FALSE},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(keywords); i++) {
        if (mr_bytes_equal_nocase(word, mr_bytes_of(keywords[i].word))) {
            return keywords[i].kind;
        }
    }
    for (size_t i = 0; i < word.size; i++) {
        if (!is_digit(word.data[i])) {
            return MR__TOKEN_NAME;
        }
    }
    return MR__TOKEN_INTEGER;
}

/* The end of the literal that the quote at @p at opens, or 0. */
static size_t string_end(struct mr_bytes source, size_t at)
{
    uint8_t quote = source.data[at];
    for (size_t i = at + 1; i < source.size; i++) {
        if (source.data[i] == '\\') {
            i++;
        } else if (source.data[i] == quote) {
            if (i + 1 == source.size || source.data[i + 1] != quote) {
                return i + 1;
            }
            i++; /* doubled: it stands for one */
        }
    }
    return 0;
}

/* The sign at @p at; its size, 0 when there is none. */
static size_t read_sign(struct mr_bytes source, size_t at, uint8_t *ret_op)
{
    static const struct {
        char text[3];
        uint8_t op;
    } signs[] = {
        {"!=", MR__SQL_OP_UNEQUAL},       {"<>", MR__SQL_OP_UNEQUAL},
        {"<=", MR__SQL_OP_LESS_EQUAL},    {">=", MR__SQL_OP_GREATER_EQUAL},
        {"=", MR__SQL_OP_EQUAL},          {"<", MR__SQL_OP_LESS},
        {">", MR__SQL_OP_GREATER},        {"+", MR__SQL_OP_ADD},
        {"-", MR__SQL_OP_SUBTRACT},       {"*", MR__SQL_OP_MULTIPLY},
        {"/", MR__SQL_OP_DIVIDE},         {"%", MR__SQL_OP_REMAINDER},
        {"(", 0},                         {")", 0},
        {",", 0},
    };
    struct mr_bytes rest = mr_bytes(source.data + at, source.size - at);
    for (size_t i = 0; i < MR_ARRAY_COUNT(signs); i++) {
        struct mr_bytes text = mr_bytes_of(signs[i].text);
        if (mr_bytes_starts(rest, text)) {
            *ret_op = signs[i].op;
            return text.size;
        }
    }
    return 0;
}

enum mr_status mr__sql_token(struct mr__sql_compiler *c, struct mr__token *token,
                             struct mr_problem *problem)
{
    struct mr_bytes s = c->source;
    size_t at = c->at;
    while (at < s.size && memchr(" \t\r\n", s.data[at], 4) != NULL) {
        at++;
    }
    *token = (struct mr__token){.kind = MR__TOKEN_END, .from = (uint16_t)at};
    size_t end = at;
    if (at == s.size) {
        c->at = at;
        return MR_OK;
    }
    uint8_t b = s.data[at];
    bool is_signed = (b == '+' || b == '-') && at + 1 < s.size && is_digit(s.data[at + 1]);
    if (is_signed) {
        for (end = at + 1; end < s.size && is_digit(s.data[end]); end++) {
        }
        token->kind = MR__TOKEN_INTEGER;
    } else if (is_letter(b) || is_digit(b)) {
        end = mr__sql_word_end(s, at);
        token->kind = kind_of_word(mr_bytes(s.data + at, end - at));
    } else if (b == '\'' || b == '"') {
        end = string_end(s, at);
        token->kind = MR__TOKEN_STRING;
        if (end == 0) {
            return mr__sql_refuse(c, at, "the closing quote is missing", problem);
        }
    } else {
        token->kind = MR__TOKEN_SIGN;
        end = at + read_sign(s, at, &token->op);
        if (end == at) {
            return mr__sql_refuse(c, at, b == '.' ? "a dot has no meaning here; data is matched "
                                                    "by the dialect data"
                                                  : "this character has no meaning here",
                                  problem);
        }
    }
    token->text = mr_bytes(s.data + at, end - at);
    c->at = end;
    return MR_OK;
}

enum mr_status mr__sql_peek(struct mr__sql_compiler *c, struct mr__token *token,
                            struct mr_problem *problem)
{
    size_t at = c->at;
    enum mr_status r = mr__sql_token(c, token, problem);
    c->at = at;
    return r;
}

bool mr__sql_is_sign(const struct mr__token *token, char sign)
{
    return token->kind == MR__TOKEN_SIGN && token->text.size == 1 && token->text.data[0] == sign;
}
