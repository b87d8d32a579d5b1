#!/usr/bin/env python3
"""A worker: one function. Orders over 1000 are refused, "flaky" ones succeed the second time."""
import millrace


def handle(event, context):
    order = event.get("data") or {}
    if order.get("amount", 0) > 1000:
        raise millrace.Dead("amount %s is over the limit of 1000" % order["amount"])
    if order.get("flaky") and context.attempt < 2:
        raise millrace.Retry("the payment service did not answer")


millrace.run(handle)
