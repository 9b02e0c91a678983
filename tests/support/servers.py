"""A web server on the loopback that does what bad networks and bad servers do."""

import hashlib
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = ("AKIAHIDDEN", "HIDDENSECRET")  # with which the tests speak to S3: no message holds them


class Server(ThreadingHTTPServer):
    """files: path -> bytes. plan: path -> what happens to the next requests of it, one after the other; the last stays. Words of:

    ok | cut N (closes after N bytes of what it promised) | status N | no-range | no-if-range | no-length | no-tag | wrong (other bytes)
    | shift (a range other than the asked one) | no-total (a range without the size of the whole) | late N (N tenths of a second)
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.plan: dict[str, list[str]] = defaultdict(lambda: ["ok"])
        self.requests: list[tuple[str, dict]] = []  # path, headers
        self.bytes = 0  # of bodies
        self.at_once = self.most_at_once = 0
        self.location = ""  # of redirects
        self.together: threading.Barrier | None = None  # every request waits here
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, content: bytes, *plan: str) -> bytes:
        self.files["/" + name] = content
        self.plan["/" + name] = list(plan) or ["ok"]
        return content

    def ranges(self, name: str) -> list[str]:
        """The Range header of every request of a file, "" where there was none."""
        return [headers.get("Range", "") for path, headers in self.requests if path == "/" + name]

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        with server.lock:
            server.requests.append((self.path, dict(self.headers)))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            plan = server.plan[self.path]
            words = (plan.pop(0) if len(plan) > 1 else plan[0]).split()
        try:
            if server.together:
                server.together.wait()
            self._answer(set(words), int(words[-1]) if words[-1].isdecimal() else 0)
        finally:
            with server.lock:
                server.at_once -= 1

    def _answer(self, words: set[str], number: int):
        content = self.server.files.get(self.path)
        if "late" in words:
            time.sleep(number / 10)
        if "status" in words or content is None:
            self._head(number if "status" in words else 404, {"Content-Length": "0", "Location": self.server.location})
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("If-Match", tag) != tag:
            self._head(412, {"Content-Length": "0"})
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        same = "no-if-range" in words or self.headers.get("If-Range", tag) == tag
        partial = "Range" in self.headers and "no-range" not in words and same
        if partial and start >= len(content):
            self._head(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:] if partial else content
        headers = {"Content-Length": str(len(body)), "ETag": tag}
        if partial:
            whole = "*" if "no-total" in words else len(content)
            headers["Content-Range"] = f"bytes {start + ('shift' in words)}-{len(content) - 1}/{whole}"
        for word, name in (("no-length", "Content-Length"), ("no-tag", "ETag")):
            if word in words:
                del headers[name]
        self._head(206 if partial else 200, headers)
        if "wrong" in words:
            body = bytes(255 - byte for byte in body)
        body = body[:number] if "cut" in words else body
        self.wfile.write(body)
        with self.server.lock:
            self.server.bytes += len(body)

    def _head(self, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        """Quiet."""


@contextmanager
def serving(kind=Server):
    """A Server, or another kind of one, in a thread of its own."""
    server = kind()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
