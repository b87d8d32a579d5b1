"""The worker that ../conformance.py asks for, with this library.
Arguments: how many deliveries at once (1), then words out of `turn` and `raw`."""
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


millrace.run(handle, concurrency=int(sys.argv[1]) if len(sys.argv) > 1 else 1,
             threads=False if "turn" in sys.argv else None, raw="raw" in sys.argv, version="1.0")
