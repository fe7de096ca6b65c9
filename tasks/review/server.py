"""Serve the review page.

Pages show judgements only after the reviewer has decided. Review events are the only thing that can be
written.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import Field

from schemas.errors import InputError
from schemas.tables import Row, file_hash
from tasks.review.events import reviewer_name
from tasks.review.pages import PageQuery, group_page, group_url, name_hidden, page_url, queue_page
from tasks.review.queue import Filters, ReviewSession, Submission

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


ASSETS = {"review.css": "text/css", "review.js": "text/javascript"}
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


class Rewording(Row):
    """A new wording that the page sends for validation while the reviewer types."""

    id: str = Field(max_length=2_000)
    template: str


QueryString = Annotated[PageQuery, Query()]


def create_app(session: ReviewSession) -> FastAPI:
    """Return the app with all routes, relative to the mount path of `RequestGuard`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    assets = session.data_dir / "review"
    templates = page_environment(assets)

    def page(name: str, **values: Any) -> HTMLResponse:
        values = {"benchmark": session.subjects.benchmark, "version": session.subjects.version, **values}
        return HTMLResponse(templates.get_template(f"{name}.html").render(values))

    @app.get("/")
    def start() -> Response:
        if len(session.named_reviewers) == 1:
            return RedirectResponse(page_url("queue", session.named_reviewers[0], Filters()), 303)
        return page("start", reviewers=session.known_reviewers())

    @app.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            return JSONResponse({"error": "unknown file"}, 404)
        return FileResponse(assets / name, media_type=ASSETS[name], headers=IMMUTABLE)

    @app.get("/queue")
    def queue(query: QueryString) -> Response:
        return page("queue", **queue_page(session, query))

    @app.get("/next")
    def first(query: QueryString) -> Response:
        reviewer, filters = reviewer_name(query.reviewer), query.filters
        selected = session.queue_of(reviewer).select(filters)
        url = group_url(reviewer, filters, selected[0] if selected else None)
        return RedirectResponse(url or page_url("queue", reviewer, filters), 303)

    @app.get("/group")
    def group(query: QueryString) -> Response:
        return page("group", **group_page(session, query))

    @app.get("/text")
    def text(question: str, answer: str) -> Response:
        for response in session.subjects.responses.rows_of(question):
            if response.id == answer:
                return JSONResponse({"text": name_hidden(response.text)})
        return JSONResponse({"error": "unknown answer"}, 404)

    @app.post("/check")
    def check(sent: Rewording) -> Response:
        wording = session.check_wording(sent.id, sent.template)
        variants = [{"value": v.value, "text": name_hidden(v.text)} for v in wording.variants]
        return JSONResponse({"fault": wording.fault, "hint": wording.hint, "variants": variants})

    @app.post("/act")
    def act(sent: Submission) -> Response:
        event = session.record(sent)
        return JSONResponse({"saved": event.id, "number": event.number})

    @app.exception_handler(InputError)
    def refused(request: Request, error: InputError) -> Response:
        if request.method == "POST":
            return JSONResponse({"error": error.message, "hint": error.hint}, 422)
        return HTMLResponse(
            templates.get_template("refused.html").render(message=error.message, benchmark=""), 404
        )

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refused(request, InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    @app.exception_handler(OSError)
    def not_saved(request: Request, error: OSError) -> Response:
        return JSONResponse({"error": f"the reviews cannot be read or written: {error.strerror}"}, 507)

    return app


def page_environment(folder: Path) -> SandboxedEnvironment:
    """Return the template environment: sandboxed, strict, with automatic escaping.

    Invisible characters in values are replaced by their names, except in values escaped by hand (`|e`), which
    the browser sends back. The filter `asset` adds a content hash to the URL of an asset.
    """
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: name_hidden(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda n: f"{n:,}",
        fixed=lambda x: "–" if x is None else f"{x:.2f}".replace("-", "−"),
        words=lambda name: str(name).replace("_", " "),
        sentence=lambda text: text[:1].upper() + text[1:],
        asset=lambda name: f"assets/{name}?v={file_hash(folder / name)[:12]}",
    )
    return environment


# Access control. Only this machine may connect, under its own name and with the token. Only the page itself
# may write.
#
# A page in another tab can send requests to 127.0.0.1. It does not know the token, cannot set `Origin`, and
# cannot send JSON without a preflight request. If it resolves its own name to 127.0.0.1 (DNS rebinding),
# `Host` differs.


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY = "; ".join(
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
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
DEFAULT_HEADERS = {b"cache-control": b"no-store"}
LARGEST_BODY = 1_000_000


class RequestGuard:
    """Rejects foreign requests and sets the security headers of every response.

    The token is the first part of the path. The app behind the guard sees it as its mount path.
    """

    def __init__(self, app: App, *, token: str, hosts: Collection[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refuse(send, *refusal)
            return
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, _add_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host") not in self._hosts:
            return 421, "This page is only available at 127.0.0.1."
        token = scope["path"].lstrip("/").split("/", 1)[0]
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return 403, "The address has no valid token. Open the address that `counterfoil review` printed."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get(b"origin") != f"http://{headers[b'host']}":
            return 403, "Only the review page may write."
        if headers.get(b"content-type", "").split(";")[0].strip() != "application/json":
            return 415, "Only JSON is accepted."
        length = headers.get(b"content-length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return 413, "The request is too large."
        return None


async def _refuse(send: Send, status: int, text: str) -> None:
    guarded = _add_headers(send)
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await guarded({"type": "http.response.start", "status": status, "headers": headers})
    await guarded({"type": "http.response.body", "body": text.encode()})


def _add_headers(send: Send) -> Send:
    async def guarded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name: value for name, value in message["headers"] if name not in HEADERS}
            message = {**message, "headers": [*{**DEFAULT_HEADERS, **own, **HEADERS}.items()]}
        await send(message)

    return guarded


# Serving on the loopback interface under an unguessable address.


LOOPBACK = "127.0.0.1"


def serve_reviews(session: ReviewSession, *, token: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve the review page until interrupted.

    Args:
        session: The review session.
        token: First part of the path.
        port: Port, or 0 for any free port.
        announce: Called with the address when connections are accepted.
    """
    import uvicorn

    listener = listen_locally(port)
    host = f"{LOOPBACK}:{listener.getsockname()[1]}"
    app = RequestGuard(create_app(session), token=token, hosts={host, host.replace(LOOPBACK, "localhost")})
    # The access log would hold the token.
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=2
    )
    announce(f"http://{host}/{token}/")
    uvicorn.Server(config).run(sockets=[listener])


def listen_locally(port: int) -> socket.socket:
    """Return a listening socket on the loopback interface. Port 0 selects a free port.

    Raises:
        InputError: If the port is not available.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(
            f"port {port} is not available: {error.strerror}", hint="choose another with --port, or 0 for any"
        ) from error
    return listening


def keep_token(path: Path) -> str:
    """Return the token of this workspace, and create it on first use.

    The file is readable by its owner only. The token stays the same, so that an open page keeps working after
    a restart of the server.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text(encoding="ascii").strip()
        if len(token) >= 32:
            return token
        path.unlink()
        return keep_token(path)
    token = secrets.token_urlsafe(32)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(token)
    return token
