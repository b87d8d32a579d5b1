/* The tokens of CESQL (digest section 12.1). Private to router/. */
#ifndef MR_ROUTER_SQL_TOKEN_H
#define MR_ROUTER_SQL_TOKEN_H

#include "router/sql.h"

enum mr__token_kind {
    MR__TOKEN_END = 0,
    MR__TOKEN_INTEGER,
    MR__TOKEN_STRING,
    MR__TOKEN_NAME,
    MR__TOKEN_SIGN, /* one of + - * / % = != <> < <= > >= ( ) , : its op, or its byte */
    MR__TOKEN_AND,
    MR__TOKEN_OR,
    MR__TOKEN_XOR,
    MR__TOKEN_NOT,
    MR__TOKEN_LIKE,
    MR__TOKEN_EXISTS,
    MR__TOKEN_IN,
    MR__TOKEN_TRUE,
    MR__TOKEN_FALSE,
};

struct mr__token {
    enum mr__token_kind kind;
    uint8_t op;        /* SIGN: enum mr__sql_op, or 0 for a bracket or comma */
    uint16_t from;     /* in the source */
    struct mr_bytes text;
};

/** MR_E_INVALID with `at character N, at `…`: REASON`. @param at byte of the source */
enum mr_status mr__sql_refuse(const struct mr__sql_compiler *c, size_t at, const char *reason,
                              struct mr_problem *problem);
/** The next token; the compiler stands behind it then. */
MR_MUST_USE enum mr_status mr__sql_token(struct mr__sql_compiler *c, struct mr__token *token,
                                         struct mr_problem *problem);
/** The next token; the compiler stays where it is. */
MR_MUST_USE enum mr_status mr__sql_peek(struct mr__sql_compiler *c, struct mr__token *token,
                                        struct mr_problem *problem);
bool mr__sql_is_sign(const struct mr__token *token, char sign);
/** The end of the word at @p at, letters, digits and `_`: what a name could be. */
size_t mr__sql_word_end(struct mr_bytes source, size_t at);

#endif
