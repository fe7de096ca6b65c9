"""Serve the releases of a workspace over HTTP, read-only and on the loopback interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

LOOPBACK = "127.0.0.1"
RELEASES_URL = "COUNTERFOIL_RELEASES_URL"
"""Environment variable with the address of the served releases, for flow runs in other processes."""


class _Handler(SimpleHTTPRequestHandler):
    """Answer GET and HEAD. Requests with a foreign `Host` and links out of the folder are refused."""

    def send_head(self) -> Any:
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        if not Path(self.translate_path(self.path)).resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    """A server without messages about closed connections."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection."""


@contextmanager
def serve_releases(releases: Path) -> Iterator[str]:
    """Serve a folder while the block runs, and yield its address. The port is a free one."""
    releases.mkdir(parents=True, exist_ok=True)
    server = _Server((LOOPBACK, 0), partial(_Handler, directory=str(releases)))
    Thread(target=server.serve_forever, daemon=True, name="releases").start()
    address = f"http://{LOOPBACK}:{server.server_address[1]}"
    before = os.environ.get(RELEASES_URL)
    os.environ[RELEASES_URL] = address
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        os.environ.pop(RELEASES_URL)
        if before is not None:
            os.environ[RELEASES_URL] = before


def report_url(release: Path) -> str:
    """Return the address of the report of a release: over HTTP if `counterfoil serve` serves it."""
    report = (release / "report.html").resolve()
    if address := os.environ.get(RELEASES_URL):
        return f"{address}/{quote('/'.join(report.parts[-3:]))}"
    return report.as_uri()
