"""A local HTTP server that misbehaves as it is told, for tests of what fetches."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mirror:
    """Serves files below a folder, or what `answers` says of a path; `asked` keeps every request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, list] = {}
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
                    answer = (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else serve
                    answer(self, mirror.folder / path, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with mirror.lock:
                        mirror.together -= 1

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def asks(self, path: str) -> list:
        """The ranges asked for a path; None: the whole."""
        return [wanted for name, wanted in self.asked if name == path]


@contextmanager
def running(folder: Path):
    mirror = Mirror(folder)
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


# ---- answers


def serve(handler, file, body=True):
    """What a good server does, ranges included."""
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
    """Says the whole length and hangs up after some bytes of what was asked for."""

    def answer(handler, file, body=True):
        data, wanted = file.read_bytes(), handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        headers = [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")] if wanted else []
        send(handler, 206 if wanted else 200, data[start : start + after], len(data) - start, headers)
        handler.close_connection = True

    return answer


def short(size):
    """Serves only the beginning, and says that it is all."""
    return lambda handler, file, body=True: send(handler, 200, file.read_bytes()[:size])


def wrong(handler, file, body=True):
    """Something else of the same length."""
    send(handler, 200, bytes(byte ^ 1 for byte in file.read_bytes()))


def endless(handler, file, body=True):
    """Goes on after the end of the file."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(file.read_bytes())
    while True:
        handler.wfile.write(b"\0" * 65536)


def no_ranges(handler, file, body=True):
    """Does not know of ranges: always the whole."""
    send(handler, 200, file.read_bytes())


def silent(handler, file, body=True):
    """Begins, and says no more."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(file.stat().st_size))
    handler.end_headers()
    handler.wfile.write(file.read_bytes()[:10])
    handler.wfile.flush()
    time.sleep(600)
