#!/usr/bin/env python3
"""Pages somebody about an alert. Put your provider's call where the print is."""
import millrace


def handle(event, ctx):
    alert = event.get("data") or {}
    if "summary" not in alert:
        raise millrace.Dead("an alert needs a summary")
    print("PAGE %s: %s (attempt %d)" % (event.get("subject"), alert["summary"], ctx.attempt))
    return {"paged": True}


millrace.run(handle)
