#!/usr/bin/env python3
"""pager.py [PORT] - stands for a paging service on 127.0.0.1:9000: says what it is asked to page."""
import http.server
import json
import sys


class Pager(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("PAGE %s %s: %s" % (self.headers["ce-type"].rsplit(".", 1)[1], self.headers["ce-subject"],
                                  alert.get("annotations", {}).get("summary", "")), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int((sys.argv + ["9000"])[1])), Pager).serve_forever()
