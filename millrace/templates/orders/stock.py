#!/usr/bin/env python3
"""Counts stock down. An order of nothing can never be handled: it becomes a dead letter."""
import millrace


def handle(event, ctx):
    order = event.get("data") or {}
    quantity = order.get("quantity", 0)
    if not isinstance(quantity, int) or quantity < 1:
        raise millrace.Dead("an order needs a quantity of at least 1")
    print("shop %s: %d x %s" % (event.get("subject"), quantity, order.get("item", "?")))
    return {"reserved": quantity}


millrace.run(handle)
