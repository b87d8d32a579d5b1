"""The smallest worker: says what it got, and all is well."""
import millrace


def handle(event, ctx):
    print(ctx.delivery, event["type"], event.get("subject", "-"))  # goes to Millrace's log
    return {"seen": event["id"]}  # the result data, for on_success


millrace.run(handle)
