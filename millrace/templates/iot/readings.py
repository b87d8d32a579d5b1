#!/usr/bin/env python3
"""Keeps readings, and emits an alarm event for a hot one: it enters the bus and is routed."""
import millrace

LIMIT = 80.0


def handle(event, ctx):
    data = event.get("data")
    value = data.get("celsius") if isinstance(data, dict) else data
    try:
        celsius = float(value)
    except (TypeError, ValueError):
        raise millrace.Dead("not a temperature: %r" % (value,))
    with open("readings.csv", "a") as out:
        out.write("%s,%s,%g\n" % (event.get("time", ""), event.get("subject", ""), celsius))
    if celsius > LIMIT:
        ctx.emit({"specversion": "1.0", "id": event["id"] + "-alarm", "source": "/readings",
                  "type": "com.example.alarm", "subject": event.get("subject", "?"),
                  "data": {"celsius": celsius, "limit": LIMIT}})


millrace.run(handle)
