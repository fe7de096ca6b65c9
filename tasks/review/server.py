"""The review page's server. Pages show no judge before the reviewer has decided; the one thing that can be
written is an event."""

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
from tasks.review.pages import PageAddress, address, group_address, group_page, plain, queue_page
from tasks.review.queue import Filters, ReviewSession, Submission

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


ASSETS = {"review.css": "text/css", "review.js": "text/javascript"}
FOR_GOOD = {"cache-control": "private, max-age=31536000, immutable"}


class Rewording(Row):
    """What the page sends while a reviewer writes."""

    id: str = Field(max_length=2_000)
    template: str


Where = Annotated[PageAddress, Query()]


def create_app(desk: ReviewSession) -> FastAPI:
    """All routes, relative to wherever `RequestGuard` mounts them."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    assets = desk.data_dir / "review"
    templates = page_environment(assets)

    def page(name: str, **values: Any) -> HTMLResponse:
        values = {"benchmark": desk.material.benchmark, "version": desk.material.version, **values}
        return HTMLResponse(templates.get_template(f"{name}.html").render(values))

    @app.get("/")
    def start() -> Response:
        if len(desk.named) == 1:
            return RedirectResponse(address("queue", desk.named[0], Filters()), 303)
        return page("start", reviewers=desk.known_reviewers())

    @app.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            return JSONResponse({"error": "there is no such file"}, 404)
        return FileResponse(assets / name, media_type=ASSETS[name], headers=FOR_GOOD)

    @app.get("/queue")
    def queue(where: Where) -> Response:
        return page("queue", **queue_page(desk, where))

    @app.get("/next")
    def first(where: Where) -> Response:
        reviewer, filters = reviewer_name(where.reviewer), where.filters
        found = desk.turn(reviewer).select(filters)
        to = group_address(reviewer, filters, found[0] if found else None)
        return RedirectResponse(to or address("queue", reviewer, filters), 303)

    @app.get("/group")
    def group(where: Where) -> Response:
        return page("group", **group_page(desk, where))

    @app.get("/text")
    def text(question: str, answer: str) -> Response:
        for response in desk.material.responses.of(question):
            if response.id == answer:
                return JSONResponse({"text": plain(response.text)})
        return JSONResponse({"error": "there is no such answer"}, 404)

    @app.post("/check")
    def check(sent: Rewording) -> Response:
        wording = desk.check(sent.id, sent.template)
        variants = [{"value": v.value, "text": plain(v.text)} for v in wording.variants]
        return JSONResponse({"fault": wording.fault, "hint": wording.hint, "variants": variants})

    @app.post("/act")
    def act(sent: Submission) -> Response:
        event = desk.record(sent)
        return JSONResponse({"saved": event.id, "number": event.number})

    @app.exception_handler(InputError)
    def refused(request: Request, error: InputError) -> Response:
        if request.method == "POST":
            return JSONResponse({"error": error.message, "hint": error.hint}, 422)
        return HTMLResponse(
            templates.get_template("refused.html").render(message=error.message, benchmark=""), 404
        )

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refused(request, InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    @app.exception_handler(OSError)
    def not_saved(request: Request, error: OSError) -> Response:
        return JSONResponse({"error": f"the reviews cannot be read or written: {error.strerror}"}, 507)

    return app


def page_environment(folder: Path) -> SandboxedEnvironment:
    """Sandboxed, strict about names, escaping everything. What hides in a text is named, except in what is
    escaped by hand (`|e`): values that the browser sends back.

    `asset` gives an asset's address: another one where its content is another.
    """
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,
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


# Who may talk to the page: this machine, under its own name, with the token, and writing only from the page.
#
# A page in another tab can send requests to 127.0.0.1. It does not know the token; it cannot set `Origin`,
# nor
# send JSON without being asked first; and under a name that it made to resolve here (DNS rebinding) it sends
# another `Host`.


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


class RequestGuard:
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


# Serving the review page on this machine only, under an address that nobody can guess.


LOOPBACK = "127.0.0.1"


def serve(desk: ReviewSession, *, token: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted. `announce` is called with the address once connections are accepted."""
    import uvicorn

    pass
    pass

    listening = listen(port)
    host = f"{LOOPBACK}:{listening.getsockname()[1]}"
    app = RequestGuard(create_app(desk), token=token, hosts={host, host.replace(LOOPBACK, "localhost")})
    # The access log would hold the token.
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=2
    )
    announce(f"http://{host}/{token}/")
    uvicorn.Server(config).run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """A socket that accepts connections from this machine; port 0: any that is free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", hint="name another with --port, or 0 for any"
        ) from error
    return listening


def keep_token(path: Path) -> str:
    """The token of this workspace, made on first use and readable by its owner alone. It stays, so that a
    page that is open in a browser goes on working when the server is started again."""
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
