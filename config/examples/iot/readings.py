#!/usr/bin/env python3
"""Looks at readings and emits a result for each: it enters the bus, and a subscription takes it on.

The result is stored together with the end of the delivery: there is one for each reading, in order.
"""
import millrace

HOT = 80


def handle(event, ctx):
    reading = event.get("data")
    if not isinstance(reading, dict):
        raise millrace.Dead("a reading is an object such as {\"celsius\":21.5}, not %r" % (reading,))
    ctx.emit({"specversion": "1.0", "id": ctx.delivery, "source": "/readings", "type": "com.example.reading",
              "subject": event["subject"], "data": {"hot": reading.get("celsius", 0) > HOT, "reading": reading}})


millrace.run(handle)
