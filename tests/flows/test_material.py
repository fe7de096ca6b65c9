"""Material of a refresh: news items and documents become topics, within bounds, with date and source."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from flows.commands import call
from flows.material import add_material, fetch_feed, read_sources
from flows.prepare import prepare
from flows.refresh import refresh
from schemas.errors import InputError
from schemas.labels import DROPPED
from schemas.notes import MaterialNotes
from schemas.question import QUESTIONS
from tasks.files.material import MAX_DEPTH, MAX_ITEMS, parse_feed, read_material
from tasks.files.vocabulary import read_taxonomy
from tasks.release import open_release
from tests.conftest import recipe_of
from tests.flows.test_build import scripted
from tests.servers.openai_server import OpenAIServer

RSS = """<?xml version="1.0"?>
<rss version="2.0"><channel><title>City news</title>
<item><title>Heat plan</title><link>https://news.example/1</link><pubDate>Mon, 02 Nov 2026</pubDate>
<description>&lt;p&gt;The city looks for &lt;b&gt;volunteers&lt;/b&gt; for its heat plan.</description>
</item>
<item><title>New tram</title><link>https://news.example/2</link><description>A tram line.</description>
</item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title>
<entry><title>Heat plan</title><link href="https://news.example/1"/><updated>2026-11-02</updated>
<summary>Volunteers wanted.</summary></entry></feed>"""


def test_rss_and_atom_items_have_text_date_and_source() -> None:
    first, second = parse_feed(RSS.encode(), "city.xml")
    assert first.text == "Heat plan. The city looks for volunteers for its heat plan."
    assert (first.date, first.source) == ("Mon, 02 Nov 2026", "city.xml https://news.example/1")
    assert second.date == ""
    (entry,) = parse_feed(ATOM.encode(), "a")
    assert (entry.title, entry.date, entry.source) == ("Heat plan", "2026-11-02", "a https://news.example/1")


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><rss>&a;</rss>', "declares a document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><rss/>', "declares a document type"),
        ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1), "nested more than"),
        ("<rss><item></rss>", "not well-formed"),
        ("no feed", "not well-formed"),
        ("", "not well-formed"),
    ],
)
def test_a_feed_that_could_do_harm_is_refused(feed: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_feed(feed.encode(), "bad.xml")


def test_a_long_feed_is_read_up_to_a_bound() -> None:
    items = "".join(f"<item><title>News {i}</title></item>" for i in range(MAX_ITEMS + 50))
    assert len(parse_feed(f"<rss>{items}</rss>".encode(), "long")) == MAX_ITEMS


def test_documents_and_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# A new rule\n\nBikes must be registered.\n")
    (document,) = read_material(tmp_path / "note.md", "note.md")
    assert (document.title, document.source) == ("A new rule", "note.md")
    (tmp_path / "news.csv").write_text("headline,body,date\nHeat,Volunteers wanted,2026-11-02\nTram,,x\n")
    (row,) = read_material(tmp_path / "news.csv", "news.csv", column="body")
    assert (row.title, row.text, row.date) == ("Heat", "Volunteers wanted", "2026-11-02")
    with pytest.raises(InputError, match="no column 'text'"):
        read_material(tmp_path / "news.csv", "news.csv")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InputError, match="no text"):
        read_material(tmp_path / "empty.txt", "empty.txt")


def test_every_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    recipe = recipe_of(
        models={"targets": ["openai:a"], "generator": "openai:writer"},
        families={"open": {}},
        refresh={"material": [str(tmp_path / "absent.txt"), "ftp://x.example/feed"]},
    )
    with pytest.raises(InputError) as refused:
        read_sources(recipe, tmp_path)
    assert "absent.txt" in str(refused.value)
    assert "http:// or https://" in str(refused.value)


def test_material_needs_a_model_that_writes() -> None:
    with pytest.raises(ValidationError, match=r"models\.generator"):
        recipe_of(refresh={"material": ["news.xml"]}, families={"open": {}})


@contextmanager
def page(content: bytes, status: int = 200) -> Iterator[str]:
    """Serve one page on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/feed.xml"
    finally:
        server.shutdown()


def test_a_feed_is_fetched_by_its_address() -> None:
    with page(RSS.encode()) as address:
        assert fetch_feed(address) == RSS.encode()
    with page(b"gone", 404) as address, pytest.raises(InputError, match="404"):
        fetch_feed(address)
    with page(b"x" * (9 << 20)) as address, pytest.raises(InputError, match="larger than 8 MiB"):
        fetch_feed(address)
    for wrong in ("file:///etc/passwd", "https://user:secret@news.example/x", "ftp://news.example/x"):
        with pytest.raises(InputError, match="http:// or https://"):
            fetch_feed(wrong)


def proposals(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
    """Propose a topic for the first item, and none for the second."""
    if "heat" in messages[-1]["content"].lower():
        return {
            "usable": True,
            "topic": "Heat emergency team",
            "situation": "signed up for the new heat emergency team",
            "kind": "plan",
        }
    return {"usable": False, "topic": "", "situation": "", "kind": ""}


def test_items_become_entries_of_the_taxonomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    (tmp_path / "news.xml").write_text(RSS)
    with OpenAIServer(proposals) as server:
        models = {"generator": server.model("writer"), "targets": [server.model("target")]}
        recipe = {
            "name": "current",
            "attributes": ["gender"],
            "superdomains": ["work"],
            "models": models,
            "families": {"open": {"questions": 4}},
            "budget": {"free": [models["generator"], *models["targets"]]},
            "refresh": {"material": [str(tmp_path / "news.xml")]},
        }
        (tmp_path / "current.yaml").write_text(yaml.safe_dump(recipe))
        prepared = prepare(tmp_path / "current.yaml", budget_usd=None, reach=True)
        items = read_sources(prepared.context.recipe, tmp_path)
        added = add_material(prepared, items)
    assert added.material is not None
    (topic,) = added.material.read_notes(MaterialNotes).topics
    assert (topic.date, topic.source.split()[-1]) == ("Mon, 02 Nov 2026", "https://news.example/1")
    (counts,) = added.material.counts
    assert (counts.rows, counts.kept, counts.dropped) == (2, 1, 1)
    assert added.context.recipe.superdomains == ("work", "material")
    superdomains = read_taxonomy(Path(added.context.data_dir), added.context.recipe.superdomains)
    assert [s.id for s in superdomains] == ["work", "material"]
    assert [t.id for d in superdomains[1].domains for t in d.topics] == [topic.id]
    assert "material" not in json.dumps([s.id for s in read_taxonomy(prepared.workspace.vocabulary)])


FEED = """<?xml version="1.0"?><rss version="2.0"><channel>
<item><title>Volunteers wanted</title><description>A repair shop opens.</description>
<pubDate>Tue, 03 Nov 2026</pubDate><link>https://news.example/repair</link></item>
<item><title>She was treated badly</title><description>A report on bias.</description></item>
</channel></rss>"""
TOPICS = {
    "repair": ("Repair shop", "joined the new repair shop on our square", True),
    "library": ("Library hours", "asked about the new hours of the town library", True),
    "swimming": ("Swimming lessons", "booked a course of swimming lessons for the summer", True),
    "bias": ("A report", "asked why she is treated in this way by them", True),
    "garden": ("Secret", "planted a garden", False),
}


def propose(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
    """Propose the topic of the item, or answer a question."""
    text = messages[-1]["content"].lower()
    if "response_format" not in body and "tools" not in body:
        return scripted(messages, body)
    title, situation, usable = next(topic for word, topic in TOPICS.items() if word in text)
    return {"usable": usable, "topic": title, "situation": situation, "kind": "plan"}


@pytest.mark.slow
def test_a_refresh_with_material_is_planned_and_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, a feed with an address, and a folder of tables, with anchors and the test for contamination."""
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    (tmp_path / "library.md").write_text("# Library\nThe library has new hours.\n")
    (tmp_path / "dataset").mkdir()
    for number, word in enumerate(("swimming lessons", "a garden")):
        row = {"headline": word.title(), "body": f"News of {word}.", "published": f"2026-11-0{number + 4}"}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "dataset" / f"part-{number}.parquet")
    with OpenAIServer(propose, models=("writer", "target")) as server, page(FEED.encode()) as address:
        models = {"generator": server.model("writer"), "targets": [server.model("target")]}
        sources: list[Any] = [str(tmp_path / "library.md"), {"path": address, "items": 2}]
        sources.append({"path": str(tmp_path / "dataset"), "column": "body", "items": 2})
        recipe: dict[str, Any] = {
            "name": "current",
            "attributes": ["gender"],
            "superdomains": ["work"],
            "models": models,
            "selection": "none",
            "families": {
                "open": {"questions": 12, "max_tokens": 30},
                "decision": {"questions": 12, "samples": 2, "conditions": ["plain"]},
            },
            "holdout": {"samples": 2},
            "release": {"hold_back": 0.25},
            "budget": {"free": [models["generator"], *models["targets"]]},
        }
        path = tmp_path / "current.yaml"
        path.write_text(yaml.safe_dump(recipe))
        first = refresh.fn(path, period="2026-W45", send=False)
        path.write_text(yaml.safe_dump({**recipe, "refresh": {"material": sources}}))
        before = len(server.requests)
        plan = call("plan", recipe=path, refresh=True, contamination=True, period="2026-W46")
        assert len(server.requests) == before
        second = refresh.fn(path, period="2026-W46", contamination=True, send=False)
        sent = server.requests[before:]
    stages = {stage.name: stage for stage in plan.stages}
    assert (stages["material"].rows, stages["material"].calls) == (5, 5)
    made, continued = count_kinds(sent)
    assert (stages["material"].calls, stages["continuation"].calls) == (made, continued)
    asked = ("respond", "respond_holdout", "contamination_respond")
    assert sum(stages[name].calls for name in asked) == len(sent) - made - continued
    assert stages["carry_over"].rows > 0
    release = open_release(Path(second["release"]))
    questions = release.contents.rows(QUESTIONS)
    assert sum(q.anchor for q in questions) == stages["carry_over"].rows
    listed = [json.loads(line) for line in (release.path / "material.jsonl").read_text().splitlines()]
    topics = {row["title"]: (row["date"], row["source"]) for row in listed}
    assert topics == {
        "Library hours": ("", str(tmp_path / "library.md")),
        "Repair shop": ("Tue, 03 Nov 2026", f"{address} https://news.example/repair"),
        "Swimming lessons": ("2026-11-04", str(tmp_path / "dataset")),
    }
    about = {q.topic for q in questions if q.superdomain == "material"}
    assert about
    assert about <= {row["id"] for row in listed}
    dropped = [d for d in release.contents.rows(DROPPED) if d.kind == "material"]
    assert sorted((d.reason, d.text) for d in dropped) == [
        ("gives_away", "She was treated badly"),
        ("not_usable", "A Garden"),
    ]
    assert call("verify", release=str(release.path)).verified
    assert not [q for q in open_release(Path(first["release"])).contents.rows(QUESTIONS) if q.anchor]


def count_kinds(requests: Sequence[Any]) -> tuple[int, int]:
    """Return the number of requests for topics, and of those that continue a text."""
    topics = sum("response_format" in r.body for r in requests)
    return topics, sum(r.body.get("max_tokens", r.body.get("max_completion_tokens")) == 200 for r in requests)
