"""A model server whose errors repeat the key of the request, as badly configured servers do.

    with EchoingServer(answer, refuses=0.05, fails=0.2, seed=3) as server:
        ...
        server.echoed     # number of errors with the key

The share `refuses` of the requests ends with status 400, which is final. The share `fails` ends with an error
that is retried. The place and the form of the key vary: the message, another field, a page, a header or the
reason phrase. It is plain, URL-encoded, escaped, in base64 or cut off.
"""

from __future__ import annotations

import base64
import html
import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.servers.openai_server import OpenAIServer

WRAPPINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda key: quote(key, safe=""),
    html.escape,
    lambda key: json.dumps({"Authorization": key}),
    lambda key: repr({"Authorization": key}),
    lambda key: base64.b64encode(key.encode()).decode(),
    lambda key: base64.b64encode(f"api:{key}".encode()).decode(),
    lambda key: f"{key[:14]}...",
)


class EchoingServer(OpenAIServer):
    """A server that repeats keys. The module describes it."""

    def __init__(self, answer: Any, *, refuses: float, fails: float, seed: int, **more: Any) -> None:
        super().__init__(answer, **more)
        self.echoed = 0
        self._refuses, self._fails, self._seed, self._number = refuses, fails, seed, 0

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chance = random.Random(f"{self._seed}/{self._number}")
        self._number += 1
        luck = chance.random()
        if luck >= self._refuses + self._fails:
            return await super()._chat(request)
        self.echoed += 1
        status = 400 if luck < self._refuses else chance.choice([500, 502, 503, 429, 200])
        header = request.headers.get("Authorization", "")
        key = chance.choice([header, header.removeprefix("Bearer ")])
        return _echo(chance, status, chance.choice(WRAPPINGS)(key))


def _echo(chance: random.Random, status: int, told: str) -> web.Response:
    page = f"<html><title>{told}</title><body>Your headers: {told}</body></html>"
    error = {"message": f"wrong: {told}", "type": told, "param": told, "code": told}
    ways: list[web.Response] = [
        web.Response(status=status, text=page, content_type="text/html"),
        web.json_response({"error": error}, status=status),
        web.json_response({"error": told}, status=status),
        web.json_response({"detail": [{"msg": told, "input": told}]}, status=status),
        web.Response(status=status, text=told, headers={"X-Request": told, "WWW-Authenticate": told}),
        web.Response(status=status, reason=told.replace("\n", " "), text=""),
    ]
    return chance.choice(ways)
