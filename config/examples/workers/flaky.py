"""Fails twice with a reason, then succeeds: watch it with `millrace trace ID`."""
import millrace


def handle(event, ctx):
    if ctx.attempt < 3:
        raise millrace.Retry("attempt %d was no good" % ctx.attempt, after=0.5)


millrace.run(handle)
