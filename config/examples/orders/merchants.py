#!/usr/bin/env python3
"""merchants.py [PORT] - stands for the merchants on 127.0.0.1:9000, or 9666 for the one that is down.

merchants.py --yaml [PORT DOWN_PORT]: the file merchants.yaml, a sink and a subscription for each.
"""
import http.server
import sys

PORT, DOWN_PORT = 9000, 9666
COUNT, DOWN = 1000, "m0666"


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024  # they all call at once
    daemon_threads = True


class Merchant(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("%s got %s" % (self.path[1:], self.headers["ce-id"]), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def write(port, down_port):
    names = ["m%04d" % n for n in range(COUNT)]
    print("# Written by merchants.py --yaml.\nsinks:")
    for name in names:
        print("  %s: {http: {url: \"http://127.0.0.1:%s/%s\"}}"
              % (name, down_port if name == DOWN else port, name))
    print("subscriptions:")
    for name in names:
        print("  %s: {source: orders, to: %s, order_by: subject}" % (name, name))


if sys.argv[1:2] == ["--yaml"]:
    write(*(sys.argv[2:] or (PORT, DOWN_PORT)))
else:
    Server(("127.0.0.1", int((sys.argv + [PORT])[1])), Merchant).serve_forever()
