#include "connectors/await.h"

#include "core/alloc.h"

void mr_await_release(struct mr_await *await)
{
    mr_free(MR_TAKE(await->subscription));
    mr_free(MR_TAKE(await->name));
    mr_free(MR_TAKE(await->error));
    mr_free(MR_TAKE(await->result));
}
