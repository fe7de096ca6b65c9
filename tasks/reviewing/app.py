"""The review page's server. Pages show no judge before the reviewer has decided; the one thing that can be
written is an event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import Field

from schemas.errors import InputError
from schemas.ids import file_hash
from schemas.tables import Row
from tasks.reviewing.desk import Desk, Submission
from tasks.reviewing.differences import plain
from tasks.reviewing.events import reviewer_name
from tasks.reviewing.queue import Filters
from tasks.reviewing.screens import Place, address, group_address, group_page, queue_page

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

ASSETS = {"review.css": "text/css", "review.js": "text/javascript"}
FOR_GOOD = {"cache-control": "private, max-age=31536000, immutable"}


class Rewording(Row):
    """What the page sends while a reviewer writes."""

    id: str = Field(max_length=2_000)
    template: str


Where = Annotated[Place, Query()]


def create_app(desk: Desk) -> FastAPI:
    """All routes, relative to wherever `Guard` mounts them."""
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
