/* Regular expressions that take linear time: the subset of ECMA-262 (with the u flag) that a set of
 * states can decide, as JSON Schema recommends it, and nothing beyond.
 *
 * Taken: characters, `.`, classes, \d \w \s and their opposites, ^ $ \b \B, groups (also named and
 * (?:…)), alternatives, * + ? {n} {n,} {n,m}, lazy forms. Refused when compiled: looking around,
 * referring back, \p{…}, unknown escapes. Text is read by characters, not bytes.
 *
 * A run costs at most (characters of the text) x (instructions) steps, whatever the expression. */
#ifndef MR_SCHEMAS_REGEX_H
#define MR_SCHEMAS_REGEX_H

#include "core/bytes.h"
#include "core/problem.h"

struct mr_regex;

/** @param pattern UTF-8
 * @return MR_E_INVALID, MR_E_UNSUPPORTED, MR_E_TOO_BIG with the reason and its place; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_regex_create(struct mr_bytes pattern, struct mr_regex **ret_regex,
                                           struct mr_problem *problem);
void mr_regex_destroy(struct mr_regex *regex);

/** Numbers of uint32_t that a run wants to work in. */
uint32_t mr_regex_scratch(const struct mr_regex *regex);
/** Whether @p regex matches anywhere in @p text (UTF-8).
 * @param scratch mr_regex_scratch() numbers of any value
 * @param steps how many steps are left; counted down. At 0 the answer is false
 * @thread any, each with a scratch of its own */
bool mr_regex_search(const struct mr_regex *regex, struct mr_bytes text, uint32_t *scratch,
                     uint64_t *steps);

#endif
