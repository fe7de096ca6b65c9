"""Hostile folders, feeds, names and texts: nothing outside is touched, and no key is recorded."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows import material
from flows.cli import cli
from flows.cli.printing import print_json
from flows.material import fetch_feed
from flows.options import read_options
from flows.prune import run_prune
from flows.scaffold import _listed
from schemas.errors import CounterfoilError, InputError, MachineError, PublishError
from schemas.options import PruneOptions, RelabelOptions, ShowOptions
from schemas.recipe import Recipe
from schemas.secrets import find_secret
from tasks.files.material import parse_feed
from tasks.files.tables import read_csv_rows, write_csv
from tasks.files.vocabulary import input_path
from tasks.files.yaml import parse_yaml
from tasks.publish import hub as hub_module
from tasks.publish.hub import Hub
from tasks.report.cells import CellCounts, write_cells
from tests.security.guards import guarded

DAY = 86_400
ESCAPE = "\x1b]0;owned\x07\x1b[2J"

# --- prune ------------------------------------------------------------------------------------------------


def write_old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    then = time.time() - 90 * DAY
    os.utime(path, (then, then))
    return path


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


LAYOUTS: dict[str, Callable[[Path, Path], Any]] = {
    "organisation": lambda home, out: link(home / "cache/hub/org", out),
    "name": lambda home, out: link(home / "cache/hub/org/name", out / "a"),
    "commit": lambda home, out: link(home / "cache/hub/org/name/commit", out / "a/b"),
    "manifest": lambda home, out: link(
        home / "cache/hub/org/name/c/manifest.json", out / "a/b/manifest.json"
    ),
    "copy": lambda home, out: link(home / "cache/remote/key", out),
    "copy of nothing": lambda home, out: link(home / "cache/remote/key", out / "nothing"),
    "all copies": lambda home, out: link(home / "cache/remote", out),
    "all downloads": lambda home, out: link(home / "cache/hub", out.parent),
    "cache folder": lambda home, out: (write_old(out / "answers.sqlite"), link(home / "cache", out)),
    "run": lambda home, out: link(home / "runs/run", out),
    "all runs": lambda home, out: link(home / "runs", out),
    "inside a run": lambda home, out: (write_old(home / "runs/run/x"), link(home / "runs/run/link", out)),
    "lock to a file": lambda home, out: (
        write_old(home / "runs/run/x"),
        link(home / "runs/run/.lock", out / "keep"),
    ),
    "lock to nothing": lambda home, out: (
        write_old(home / "runs/run/x"),
        link(home / "runs/run/.lock", out / "new"),
    ),
    "lock is a folder": lambda home, out: write_old(home / "runs/run/.lock/x"),
    "lock is a pipe": lambda home, out: (write_old(home / "runs/run/x"), pipe(home / "runs/run/.lock")),
    "answers": lambda home, out: link(home / "cache/answers.sqlite", out / "keep"),
    "answers are a folder": lambda home, out: link(home / "cache/answers.sqlite", out),
    "name with dots": lambda home, out: write_old(home / "runs/..name/x"),
    "name with a line break": lambda home, out: write_old(home / "runs/a\nb\x1b[2J/x"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prune_removes_nothing_outside(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    kept = [write_old(outside / "a/b/manifest.json"), write_old(outside / "keep")]
    monkeypatch.setenv("COUNTERFOIL_HOME", str(home))
    LAYOUTS[layout](home, outside)
    before = sorted(outside.rglob("*"))
    with guarded(home):
        done = run_prune(PruneOptions(older_than="30d"))
    assert all(path.is_file() for path in kept)
    assert sorted(outside.rglob("*")) == before
    links = [entry["path"] for entry in done["left_out"]]
    assert all(path.startswith(str(home)) for path in [*links, *done["removed"]])


def test_prune_names_the_links_that_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    write_old(tmp_path / "disk/run/x")
    write_old(tmp_path / "home/runs/own/x")
    link(tmp_path / "home/runs/linked", tmp_path / "disk/run")
    done = run_prune(PruneOptions(older_than="30d"))
    assert [Path(path).name for path in done["removed"]] == ["own"]
    assert [Path(entry["path"]).name for entry in done["left_out"]] == ["linked"]


# --- secrets ----------------------------------------------------------------------------------------------

SECRET = "planted-1234567-value"
SECRETS: dict[str, Any] = {
    "name of the key": {"api_key": SECRET},
    "header": {"extra_headers": {"Authorization": SECRET}},
    "dashes": {"headers": {"X-Api-Key": SECRET}},
    "list": {"servers": [{"token": SECRET}]},
    "bearer": {"header": f"Bearer {SECRET}"},
    "form": {"note": "sk-" + "a1B2" * 8},
    "form of the Hub": {"note": "hf_" + "a1B2" * 8},
    "token of a page": {"jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"},
    "private key": {"pem": "-----BEGIN RSA PRIVATE KEY-----\nabc"},
    "address": {"proxy": f"http://me:{SECRET}@localhost:9/"},
    "Azure search": {
        "data_sources": [{"parameters": {"authentication": {"type": "api_key", "key": SECRET}}}]
    },
    "cloud": {"aws_secret_access_key": SECRET},
    "value of a variable": {"note": "x planted-in-the-environment x"},
    "name is the secret": {"sk-" + "a1B2" * 8: 1},
    "password": {"db": {"password": SECRET}},
    "cookie": {"cookie": SECRET},
}
HARMLESS: tuple[Any, ...] = (
    {"chat_template_kwargs": {"enable_thinking": False}}, {"stop_token": "</s>"}, {"stop_token_ids": [1, 2]},
    {"prompt_cache_key": "study-1"}, {"max_tokens": 3}, {"tokenizer": "/models/x"}, {"user": "me"},
    {"provider": {"order": ["a", "b"]}}, {"logit_bias": {"50256": -100}}, {"skip_special_tokens": True},
    {"authentication_type": "none"}, {"metadata": {"study": "keys and tokens"}}, {"top_k": 20}, {},
)  # fmt: skip


def secrets_in(content: Any) -> set[str]:
    """Return every text of a value that is secret in these tests."""
    text = json.dumps(content)
    return {s for s in (SECRET, "a1B2a1B2", "eyJzdWIiOiIxIn0", "planted-in-the-env", "abc") if s in text}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_refused_where_they_would_be_recorded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "planted-in-the-environment")
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    body, model = SECRETS[kind], "openai:m@http://localhost:9/v1"
    recipe = {
        "name": "wrong",
        "attributes": ["gender"],
        "models": {"targets": [model], "options": {model: {"extra_body": body}}},
        "families": {"open": {"questions": 2}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "set.jsonl").write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n')
    relabel = ["relabel", str(tmp_path / "set.jsonl"), "--judge", model, "--free", model]
    for arguments in (
        ["plan", str(tmp_path / "recipe.yaml"), "--json"],
        [*relabel, "--extra-body", json.dumps(body)],
        ["audit-judge", model, "--free", model, "--extra-body", json.dumps(body)],
    ):
        done = CliRunner().invoke(cli, arguments)
        said = f"{done.output} {done.stderr} {done.exception!r}"
        assert done.exit_code, arguments
        assert "looks like a key or a password" in said, said
        assert not [secret for secret in secrets_in(body) if secret != "abc" and secret in said]
    recorded = b"".join(p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert not [secret for secret in secrets_in(body) if secret.encode() in recorded]


@pytest.mark.parametrize("body", HARMLESS, ids=str)
def test_ordinary_fields_are_no_secrets(body: Any) -> None:
    assert find_secret(body) is None
    given = {"input": Path("x"), "judges": ("openai:m",), "extra_body": body}
    assert RelabelOptions.model_validate(given).extra_body == json.dumps(body, sort_keys=True)


@pytest.mark.parametrize("engine", [{"hf_token": SECRET}, {"download_dir": "sk-" + "a1B2" * 8}])
def test_engine_options_hold_no_secrets(engine: dict[str, Any]) -> None:
    text = yaml.safe_dump({"models": {"targets": ["vllm:/m"], "engine": engine}})
    with pytest.raises(InputError) as refused:
        parse_yaml(text, Recipe, place="recipe.yaml")
    assert "looks like a key" in str(refused.value)
    assert not [secret for secret in secrets_in(engine) if secret in str(refused.value)]


@pytest.mark.parametrize("value", ["sk-" + "a1B2" * 8, f"http://me:{SECRET}@host/"])
@pytest.mark.parametrize("place", ["extra_body", "temperature", "max_tokens", "reasoning"])
def test_errors_do_not_repeat_secrets(place: str, value: str) -> None:
    options = {"openai:m": {place: value}}
    text = yaml.safe_dump({"models": {"targets": ["openai:m"], "options": options}})
    with pytest.raises(InputError) as refused:
        parse_yaml(text, Recipe, place="recipe.yaml")
    assert value not in str(refused.value)


# --- feeds ------------------------------------------------------------------------------------------------

FEED = b"<rss><channel><item><title>One</title></item></channel></rss>"


@contextmanager
def answering(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve every connection with raw bytes. Yield the address of the server."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65_536)
                    send(connection)
                except OSError:
                    return  # the client has closed the connection

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/feed"


def raw(content: bytes, head: bytes = b"", status: bytes = b"200 OK") -> Callable[[socket.socket], None]:
    lines = b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n"
    return lambda connection: connection.sendall(lines + content)


def forever(part: bytes, pause_s: float = 0.0, start: bytes = b"") -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(part)
            time.sleep(pause_s)

    return send


OK = b"HTTP/1.1 200 OK\r\n\r\n"
FEEDS: dict[str, Callable[[socket.socket], None]] = {
    "endless body": forever(b"x" * 65_536, start=OK),
    "a byte now and then": forever(b"<", 0.05, OK),
    "a byte of the header now and then": forever(b"H", 0.05),
    "endless continue": forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "endless headers": forever(b"X: y\r\n", 0.0, b"HTTP/1.1 200 OK\r\n"),
    "long header": raw(FEED, b"X: " + b"y" * 100_000 + b"\r\n"),
    "no status": lambda connection: connection.sendall(b"\x00\xff garbage\r\n\r\n"),
    "nothing": lambda connection: None,
    "broken chunks": raw(b"zz\r\nabc", b"Transfer-Encoding: chunked\r\n"),
    "endless chunk": raw(b"ffffffffffffffff\r\nabc", b"Transfer-Encoding: chunked\r\n"),
    "negative length": raw(b"", b"Content-Length: -5\r\n"),
    "short body": raw(b"<rss>", b"Content-Length: 500\r\n"),
    "redirect to this computer": raw(b"", b"Location: http://127.0.0.1:22/\r\n", b"302 Found"),
    "redirect to a file": raw(b"", b"Location: file:///etc/passwd\r\n", b"301 Moved"),
    "redirect to the cloud": raw(b"", b"Location: http://169.254.169.254/latest\x1b[2J\r\n", b"307 Other"),
    "gzip": raw(gzip.compress(b"\0" * (64 << 20)), b"Content-Encoding: gzip\r\n"),
    "password wanted": raw(b"", b"WWW-Authenticate: Basic\r\n", b"401 Unauthorized"),
}


@pytest.mark.parametrize("kind", FEEDS)
def test_feed_of_a_hostile_server_is_refused_in_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "FETCH_S", 0.5)
    with answering(FEEDS[kind]) as address:
        port = int(address.split(":")[2].split("/")[0])
        with guarded(hosts=frozenset({("127.0.0.1", port)})) as guard, pytest.raises(InputError) as refused:
            parse_feed(fetch_feed(address), address)
    assert str(refused.value).isprintable() or "\n" in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert {found for found in guard.connections if found[1] != port} == set()


ADDRESSES = (
    "file:///etc/passwd", "ftp://host/feed", "http://me:secret@host/feed", "gopher://host", "http:///feed",
    "http://host\r\nX: y/feed", "http://[::1/feed", "http://host:99999/feed", "http://\x00/feed", "https://",
    "http://host/a b",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_odd_addresses_of_feeds_are_refused(address: str) -> None:
    with guarded() as guard, pytest.raises((InputError, PermissionError)) as refused:
        fetch_feed(address)
    assert not isinstance(refused.value, PermissionError) or " " in address
    assert guard.connections == []


LAUGHS = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
XML: dict[str, bytes] = {
    "entities": f"{LAUGHS}<rss><channel><item><title>&b;</title></item></channel></rss>".encode(),
    "file": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><title>&x;</title></item></rss>',
    "parameter entity": b'<!DOCTYPE r [<!ENTITY % x SYSTEM "http://h/x.dtd"> %x;]><rss/>',
    "deep": b"<a>" * 50_000,
    "other encoding": b'<?xml version="1.0" encoding="utf-7"?><rss/>',
    "NUL": b"<rss>\0</rss>",
    "unknown entity": b"<rss><item><title>&nbsp;</title></item></rss>",
    "half a tag": b"<rss><item",
    "no XML": b"{}",
}


@pytest.mark.parametrize("kind", XML)
def test_hostile_xml_is_refused(kind: str) -> None:
    with guarded() as guard, pytest.raises(InputError):
        parse_feed(XML[kind], "feed")
    assert (guard.connections, guard.writes) == ([], [])


def test_texts_of_a_feed_do_not_act() -> None:
    text = "\u009b31m\u202e&amp;lt;script&amp;gt;alert(1)&lt;script&gt;x&lt;/script&gt;"
    feed = f"<rss><item><title>{text}</title><link>http://h/\u009b2J\u202e</link></item></rss>"
    (item,) = parse_feed(feed.encode(), "feed")
    assert all(part.isprintable() for part in (item.title, item.text, item.source))
    assert "<script>" not in item.text


def test_text_of_many_brackets_is_read_in_one_pass() -> None:
    """With a search to the next bracket for every one of them, this takes minutes."""
    item = f"<item><title>{'&lt;' * 4_000}</title></item>"
    began = time.process_time()
    assert len(parse_feed(f"<rss>{item * 200}</rss>".encode(), "feed")) == 200
    assert time.process_time() - began < 20


# --- names ------------------------------------------------------------------------------------------------

NAMES = ("../../x", "/etc/x", "a/../../b", "..", "x\ny", ESCAPE, "con:x", "\u202egnp.exe", "-rf", "a" * 5_000)


def check_refused_or_done(arguments: tuple[str, ...], *folders: Path) -> None:
    with guarded(*folders) as guard:
        done = CliRunner().invoke(cli, list(arguments))
    error = done.exception
    assert error is None or isinstance(error, (SystemExit, CounterfoilError)), (arguments, repr(error))
    assert "\x1b" not in f"{done.output}{done.stderr}", arguments
    assert guard.connections == []


def test_hostile_name_of_a_family_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("../../x", f"{ESCAPE}\u202e"):
        check_refused_or_done(("preview", "quickstart", "--family", name), tmp_path)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_of_options_lead_nowhere(
    name: str, small_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "a/b/work"
    work.mkdir(parents=True)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(home))
    monkeypatch.chdir(work)
    for arguments in (
        ("init", "--name", name),
        ("init", "attribute", "--name", name),
        ("init", "--attributes", name, "--out", "x.yaml"),
        ("translate", "quickstart", "--to", name, "--model", "openai:m"),
        ("export", str(small_release), "--format", name),
        ("compare", str(small_release), "--language", name),
        ("show", name),
        ("verify", name),
        ("prune", "--older-than", name),
    ):
        check_refused_or_done(arguments, home, work)
    assert {p.name for p in tmp_path.iterdir()} <= {"home", "a", "small"}
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b"]


@pytest.mark.parametrize("path", ["x\0y", "a" * 300, "a/" * 4_000, "\udcff" * 200 + "x" * 60])
def test_text_that_cannot_be_a_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"NUL|too long|not UTF-8"):
        read_options(ShowOptions, {"place": path})
    with pytest.raises(InputError, match=r"NUL|too long|not UTF-8"):
        input_path(path)


TEXTS = (
    'x", "y', 'a"b,c', "a\nb: c", "#x", "[a", "a: b", "", "null", "1", "!!python/object:os.system", ESCAPE,
    "\u202e", "tab\there", "- a", "*a", "%x", "x\\", '"', "'", "日本語", "{a: b}", "x # y", "\u2028", "~",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_of_a_new_recipe_read_back_as_they_are(text: str) -> None:
    assert yaml.safe_load(f"key: {_listed([text, 'next'])}     # comment")["key"] == [text, "next"]


# --- tables and JSON --------------------------------------------------------------------------------------

FORMULAS = (
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x",
    '=cmd|"/c calc"!A0', "=HYPERLINK(1)",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_cells_are_no_formulas(text: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", ["a", "b"], [{"a": text, "b": "b"}])
    content = (tmp_path / "x.csv").read_bytes().decode("utf-8-sig")
    (_, (cell, _)) = csv.reader(io.StringIO(content, newline=""))
    assert cell == f"'{text}"
    ((_, row),) = read_csv_rows(tmp_path / "x.csv", escaped=True)
    assert row["a"] == text
    counts = write_cells([CellCounts("open", "gender", text, 1, 1, 1, 1)])
    assert next(csv.reader(io.StringIO(counts.split("\n", 1)[1])))[2] == f"'{text.strip()}"


@pytest.mark.parametrize("text", ["\u009b31m", "\u202e", "\u2028", "\x7f", "\ud800", ESCAPE, "\u2066x"])
def test_printed_json_does_not_act(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": text, text: 1})
    shown = capsys.readouterr().out
    assert shown.rstrip("\n").isprintable()
    assert json.loads(shown) == {"text": text, text: 1}


# --- downloads --------------------------------------------------------------------------------------------


class Entry:
    def __init__(self, path: str, size: int) -> None:
        self.path, self.size, self.blob_id = path, size, "0"


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ([Entry("x.parquet", 1 << 60)], MachineError, "of the disk are free"),
        ([Entry(f"{n}", 0) for n in range(3)], PublishError, "has 3 files; at most 2"),
    ],
)
def test_download_that_does_not_fit_is_refused_before_it_begins(
    entries: list[Entry], error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_FILES", 2)
    monkeypatch.setattr(Hub, "_list", lambda self, repo, revision: entries)
    with guarded() as guard, pytest.raises(error, match=words):
        Hub(token="none", endpoint="http://127.0.0.1:9").download("org/name", "0" * 40, tmp_path)
    assert guard.connections == []
