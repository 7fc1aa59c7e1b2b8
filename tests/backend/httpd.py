# SPDX-License-Identifier: BSD-3-Clause
"""A web server for one file. It answers requests for ranges, because the curl plugin sends them."""

import contextlib
import http.server
import re
import threading


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content = b""

    def log_message(self, *_):
        pass

    def _head(self, status, length, extra=()):
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        for name, value in extra:
            self.send_header(name, value)
        self.end_headers()

    def do_HEAD(self):
        self._head(200, len(self.content))

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted:
            self._head(200, len(self.content))
            self.wfile.write(self.content)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(self.content) - 1)
        part = self.content[first:last + 1]
        self._head(206, len(part), [("Content-Range", f"bytes {first}-{last}/{len(self.content)}")])
        self.wfile.write(part)


@contextlib.contextmanager
def serve(content):
    """Serve `content` on loopback; yields the URL."""
    handler = type("Handler", (_Handler,), {"content": content})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/disk.img"
        finally:
            server.shutdown()
            thread.join()
