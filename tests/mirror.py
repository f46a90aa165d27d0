"""A local HTTP server with configurable faults, for tests of downloads."""

import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mirror:
    """Serves the files below a folder; `answers` overrides the response to a path, and `asked` lists all requests.

    otherwise: the response to all other paths. tls: the context of a server with TLS. intercepts: that of a proxy which
    answers CONNECT with `proxy_status` and then speaks TLS itself.
    """

    def __init__(self, folder: Path, *, otherwise=None, tls=None, intercepts=None) -> None:
        self.folder = folder
        self.answers: dict[str, list] = {}
        self.otherwise = otherwise or serve
        self.proxy_status = 200
        self.asked: list[tuple[str, str | None]] = []
        self.together = self.most_together = 0
        self.slow = 0.0
        self.lock = threading.Lock()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.do_GET(body=False)

            def do_GET(self, body=True):
                path = self.path.lstrip("/")
                with mirror.lock:
                    mirror.asked.append((path, self.headers.get("Range")))
                    mirror.together += 1
                    mirror.most_together = max(mirror.together, mirror.most_together)
                try:
                    time.sleep(mirror.slow)
                    answers = mirror.answers.get(path)
                    answer = (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else mirror.otherwise
                    answer(self, mirror.folder / path, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with mirror.lock:
                        mirror.together -= 1

            def do_CONNECT(self):
                self.send_response(mirror.proxy_status if intercepts else 405)
                self.end_headers()
                self.close_connection = True
                if intercepts and mirror.proxy_status == 200:
                    inner = intercepts.wrap_socket(self.connection, server_side=True)
                    type("Inner", (Handler,), {})(inner, self.client_address, self.server)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                # a client that does not trust the certificate ends the connection
                if not isinstance(sys.exc_info()[1], OSError):
                    super().handle_error(request, client_address)

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            # in the connection's own thread
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def port(self) -> int:
        return self.server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def asks(self, path: str) -> list:
        """List the Range headers of all requests for a path; None: a request without one."""
        return [requested for name, requested in self.asked if name == path]


@contextmanager
def running(folder: Path, **options):
    mirror = Mirror(folder, **options)
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        mirror.server.shutdown()
        mirror.server.server_close()
        thread.join()


def send(handler, status, data=b"", length=None, headers=()):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


# ---- responses


def serve(handler, file, body=True):
    """Respond correctly, with support for ranges."""
    if file.is_dir():
        return send(handler, 200, (file / "index.html").read_bytes(), headers=[("Content-Type", "text/html")])
    if not file.is_file():
        return send(handler, 404)
    data, wanted = file.read_bytes(), handler.headers.get("Range")
    if not body:
        return send(handler, 200, length=len(data))
    if not wanted:
        return send(handler, 200, data)
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    if start >= len(data):
        return send(handler, 416)
    return send(handler, 206, data[start:], headers=[("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")])


def status(code):
    return lambda handler, file, body=True: send(handler, code)


def cut(after):
    """Announce the correct length, but close the connection after some bytes."""

    def answer(handler, file, body=True):
        data, wanted = file.read_bytes(), handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        headers = [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")] if wanted else []
        send(handler, 206 if wanted else 200, data[start : start + after], len(data) - start, headers)
        handler.close_connection = True

    return answer


def short(size):
    """Send only the beginning, with a matching Content-Length."""
    return lambda handler, file, body=True: send(handler, 200, file.read_bytes()[:size])


def wrong(handler, file, body=True):
    """Send other bytes of the same length."""
    send(handler, 200, bytes(byte ^ 1 for byte in file.read_bytes()))


def endless(handler, file, body=True):
    """Continue to send after the end of the file."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(file.read_bytes())
    while True:
        handler.wfile.write(b"\0" * 65536)


def no_ranges(handler, file, body=True):
    """Ignore ranges: always send the whole file."""
    send(handler, 200, file.read_bytes())


def silent(handler, file, body=True):
    """Send the first bytes, then nothing more."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(file.stat().st_size))
    handler.end_headers()
    handler.wfile.write(file.read_bytes()[:10])
    handler.wfile.flush()
    time.sleep(600)
