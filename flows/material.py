"""Read the material of a refresh, and add the topics that the generator makes of it to the vocabulary."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from flows import engine as steps
from flows.prepare import PreparedBuild
from schemas.errors import InputError, Problems
from schemas.notes import MaterialNotes
from schemas.recipe import MaterialSource, Recipe
from tasks.files.material import MAX_BYTES, MaterialItem, parse_feed, read_material, unique_items
from tasks.files.vocabulary import input_path
from tasks.material import SUPERDOMAIN, topics_as_taxonomy
from tasks.publish.fetching import fetch_dataset
from tasks.release.references import HubRef
from tasks.run.store import write_bytes
from tasks.text.printable import printable

FETCH_S = 30.0
"""Seconds in which a feed must arrive."""
READ_BYTES = 1 << 16
"""Bytes of a feed that are read at once."""


def read_sources(recipe: Recipe, hub_cache: Path) -> list[MaterialItem]:
    """Return the items of all sources, without repetitions.

    Raises:
        InputError: If a source cannot be read. All of them are named.
    """
    problems, items = Problems(), []
    for number, source in enumerate(recipe.refresh.material):
        with problems.collect():
            try:
                items += read_source(source, hub_cache)
            except InputError as error:
                place = f"refresh.material.{number}: {error.place or source.path}"
                raise InputError(error.message, place=place, hint=error.hint) from None
    problems.refuse()
    return unique_items(items)


def read_source(source: MaterialSource, hub_cache: Path) -> list[MaterialItem]:
    """Return the first items of a source: an address, a dataset of the Hub, or a file."""
    if "://" in source.path:
        if source.format not in ("auto", "feed"):
            raise InputError("an address must be that of a feed", hint="save other material to a file")
        return parse_feed(fetch_feed(source.path), source.path)[: source.items]
    is_dataset = HubRef.of(source.path) is not None
    path = fetch_dataset(source.path, hub_cache) if is_dataset else input_path(source.path)
    return read_material(path, source.path, format=source.format, column=source.column, limit=source.items)


def fetch_feed(address: str) -> bytes:
    """Download a feed. Redirects are not followed.

    Raises:
        InputError: If the address is not http or https, holds a password, does not answer, or sends more than
            `MAX_BYTES`.
    """
    if not _is_address(address):
        raise InputError("the address of a feed begins with http:// or https://, without a password")
    with _Download(address) as download:
        return download.content()


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port  # raises an error for a number that is no port
    except ValueError:
        return False
    is_open = not (parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and is_open


class _Download:
    """A download in a thread, so that a server that sends a byte now and then cannot delay it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._done: Future[bytes] = Future()
        self._stopped = Event()

    def __enter__(self) -> _Download:
        Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def content(self) -> bytes:
        """Return the content. Raise `InputError` if it cannot be read, is too large, or takes too long."""
        try:
            return self._done.result(FETCH_S)
        except TimeoutError:
            raise InputError(
                f"the feed did not arrive within {FETCH_S:g} seconds", place=self._address
            ) from None
        except (HTTPException, OSError, ValueError) as error:
            reason = printable(str(getattr(error, "reason", error)) or type(error).__name__, 200)
            raise InputError(f"the feed cannot be read: {reason}", place=self._address) from None

    def _run(self) -> None:
        try:
            self._done.set_result(self._fetch())
        except Exception as error:  # raised again by `content`
            self._done.set_exception(error)

    def _fetch(self) -> bytes:
        opener = OpenerDirector()
        for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
            opener.add_handler(handler)
        # Only handlers of http and https are installed.
        request = Request(self._address, headers={"User-Agent": "counterfoil"})  # noqa: S310
        with opener.open(request, timeout=FETCH_S) as answer:
            if answer.status != 200:
                target = printable(answer.headers.get("Location") or "", 200)
                raise InputError(
                    f"the feed answers with status {answer.status}",
                    place=self._address,
                    hint=f"it names another address: {target}" if target else None,
                )
            content = bytearray()
            while not self._stopped.is_set() and (block := answer.read1(READ_BYTES)):
                content += block
                if len(content) > MAX_BYTES:
                    raise InputError(f"the feed is larger than {MAX_BYTES >> 20} MiB", place=self._address)
            return bytes(content)


def add_material(prepared: PreparedBuild, items: list[MaterialItem]) -> PreparedBuild:
    """Let the generator make topics of the items, and return the build with these in its vocabulary.

    Raises:
        InputError: If no item gives a topic.
    """
    context = prepared.context
    step = steps.material(context, items=[item.model_dump(mode="json") for item in items])
    notes = step.read_notes(MaterialNotes)
    topics = notes.topics
    if not topics:
        reasons = ", ".join(f"{n} × {reason.replace('_', ' ')}" for reason, n in notes.left_out.items())
        raise InputError(
            f"none of {len(items)} items of the material gave a usable topic ({reasons})",
            place="refresh.material",
            hint="give other material, or another model as `models.generator`",
        )
    place = Path(context.run_dir) / f"material-{step.key[:16]}.yaml"
    write_bytes(place, topics_as_taxonomy(topics).encode())
    workspace = prepared.workspace.with_files({f"taxonomy/{SUPERDOMAIN}.yaml": place})
    named = context.recipe.superdomains
    recipe = context.recipe.model_copy(update={"superdomains": (*named, SUPERDOMAIN) if named else named})
    context = context.model_copy(update={"recipe": recipe, "data_dir": str(workspace.vocabulary)})
    return replace(prepared, workspace=workspace, context=context, material=step)
