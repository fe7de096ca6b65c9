"""Who may talk to the page: this machine, under its own name, with the token, and writing only from the page.

A page in another tab can send requests to 127.0.0.1. It does not know the token; it cannot set `Origin`, nor
send JSON without being asked first; and under a name that it made to resolve here (DNS rebinding) it sends
another `Host`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
UNLESS_SAID = {b"cache-control": b"no-store"}
LARGEST_BODY = 1_000_000


class Guard:
    """Lets through what belongs here, and sets the headers of every answer. The token is the first part of
    the path; what is behind it sees it as where the page is mounted."""

    def __init__(self, app: App, *, token: str, hosts: Collection[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refuse(send, *refusal)
            return
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host") not in self._hosts:
            return 421, "This page is served under 127.0.0.1 only."
        token = scope["path"].lstrip("/").split("/", 1)[0]
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return 403, "Open the address that `counterfoil review` has printed: its token is missing here."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get(b"origin") != f"http://{headers[b'host']}":
            return 403, "Only the page itself may write."
        if headers.get(b"content-type", "").split(";")[0].strip() != "application/json":
            return 415, "Only JSON is read here."
        length = headers.get(b"content-length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return 413, "That is too much."
        return None


async def _refuse(send: Send, status: int, text: str) -> None:
    guarded = _with_headers(send)
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await guarded({"type": "http.response.start", "status": status, "headers": headers})
    await guarded({"type": "http.response.body", "body": text.encode()})


def _with_headers(send: Send) -> Send:
    async def guarded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name: value for name, value in message["headers"] if name not in HEADERS}
            message = {**message, "headers": [*{**UNLESS_SAID, **own, **HEADERS}.items()]}
        await send(message)

    return guarded
