"""The worker that ../conformance.py asks for, with this library.
Arguments: how many deliveries at once (1), then words out of `turn`, `raw` and `batch`."""
import sys

import millrace


def handle(event, ctx):
    kind = event["type"].rsplit(".", 1)[-1]
    if kind == "retry":
        raise millrace.Retry("busy", after=2.5)
    if kind == "drop":
        raise millrace.Drop("not for us")
    if kind == "dead":
        raise millrace.Dead("never")
    if kind == "emit":
        for number in (1, 2):
            ctx.emit({"id": "child-%d" % number, "source": "/worker", "type": "conformance.child"})
    elif kind == "echo":
        return event["data"]
    elif kind == "size":
        return len(ctx.data)
    elif kind == "heartbeat":
        ctx.heartbeat({"done": 0.5})
    elif kind == "wait":
        while not ctx.cancelled:
            pass
        raise millrace.Retry("cancelled")
    return None


def handle_batch(batch):
    for ctx in batch:
        kind = ctx.event["type"].rsplit(".", 1)[-1]
        if kind == "fail":
            raise RuntimeError("all of it")
        try:
            result = handle(ctx.event, ctx)
        except millrace.Retry as verdict:
            ctx.retry(verdict.error, verdict.after)
        except millrace.Drop as verdict:
            ctx.drop(verdict.error)
        except millrace.Dead as verdict:
            ctx.dead(verdict.error)
        else:
            if result is not None:
                ctx.ok(result)


run = millrace.run_batch if "batch" in sys.argv else millrace.run
run(handle_batch if "batch" in sys.argv else handle,
    concurrency=int(sys.argv[1]) if len(sys.argv) > 1 else 1,
    threads=False if "turn" in sys.argv else None, raw="raw" in sys.argv, version="1.0")
