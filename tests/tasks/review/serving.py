"""Serve the review page on a real port, in this process."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import uvicorn

from tasks.review.queue import ReviewSession
from tasks.review.server import RequestGuard, create_app, listen_locally

TOKEN = "t" * 43


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Served:
    """A served review page, with requests like those of a browser or an attacker."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request. Header names have underscores, and empty headers are omitted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {"Host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers={n: v for n, v in named.items() if v})
        response = connection.getresponse()
        answer = Answer(
            response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode("utf-8")
        )
        connection.close()
        return answer

    def get(self, page: str, **query: object) -> Answer:
        return self.ask("GET", f"/{TOKEN}/{page}?{urlencode(query)}")

    def post(self, page: str, sent: Mapping[str, Any], **headers: str) -> Answer:
        own = {"Origin": f"http://{self.host}", "Content_Type": "application/json", **headers}
        return self.ask("POST", f"/{TOKEN}/{page}", body=json.dumps(sent).encode(), **own)


@contextmanager
def served(session: ReviewSession) -> Iterator[Served]:
    listening = listen_locally(0)
    port = listening.getsockname()[1]
    app = RequestGuard(create_app(session), token=TOKEN, hosts={f"127.0.0.1:{port}", f"localhost:{port}"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Served(port)
    finally:
        server.should_exit = True
        thread.join()
