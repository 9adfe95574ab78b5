"""A server that is told what becomes of studies."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers with these statuses, one after another; `None`: not at all, until it is left."""

    def __init__(self, *statuses: int | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.got, self.left = list(statuses), list[tuple[str, dict[str, Any]]](), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/services/T0/secret-in-path?token=hidden"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = server.statuses.pop(0) if server.statuses else 200
        if status is None:
            server.left.wait()
            return
        if status == 200:
            server.got.append((self.path, body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(*statuses: int | None) -> Iterator[Server]:
    server = Server(*statuses)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.left.set()
        server.shutdown()
        server.server_close()
        thread.join()
