#include "connectors/tls.h"

enum mr_status mr__tls_check(const char *tls_ca, const char *tls_cert, const char *tls_key,
                             const char *scheme, struct mr_problem *problem)
{
    if (scheme != NULL && (tls_ca != NULL || tls_cert != NULL || tls_key != NULL)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "tls_ca, tls_cert and tls_key want an %s:// url", scheme);
    }
    if ((tls_cert == NULL) != (tls_key == NULL)) {
        return mr_problem_set(problem, MR_E_INVALID, "tls_cert and tls_key go together");
    }
    return MR_OK;
}
