"""A stranger offers a release, a model server and a retrieval file. A person uses them with every command."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.security.hostile import aim_at, copy_release
from tests.servers.openai_server import OpenAIServer

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
SECRETS = {"HF_TOKEN": "hf_" + "s" * 37, "OPENAI_API_KEY": "sk-" + "t" * 40, "MY_SECRET": "u" * 40}
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture
def stranger() -> Iterator[OpenAIServer]:
    with OpenAIServer(ESCAPE + '{"better": [], "worse": [') as running:
        yield running


@pytest.fixture
def mine() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def run(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    environment |= {"COUNTERFOIL_HOME": str(home / "home"), "HF_HUB_OFFLINE": "1", **SECRETS}
    return subprocess.run(
        [COUNTERFOIL, *map(str, arguments)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def snapshot(*folders: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_nothing_reaches_the_stranger(
    small_release: Path, stranger: OpenAIServer, mine: OpenAIServer, tmp_path: Path
) -> None:
    downloaded, person = tmp_path / "downloaded", tmp_path / "person"
    person.mkdir()
    address = stranger.url.removesuffix("/v1")
    release = aim_at(copy_release(small_release, downloaded), address, "MY_SECRET")
    table = release / "data" / "questions" / "test-00000-of-00001.parquet"
    question = pq.read_table(table).to_pylist()[0]
    training = downloaded / "train.jsonl"
    row = {
        "query": f"who {ESCAPE} wrote it",
        "pos": ["She wrote it."],
        "neg": ["It was written by her.", "x"],
    }
    training.write_text("".join(json.dumps(row | {"id": f"../../{i}"}) + "\n" for i in range(5)))
    texts = person / "texts.jsonl"
    texts.write_text("".join(json.dumps({"template": f"text {i}"}) + "\n" for i in range(3)))
    before, outside = snapshot(downloaded), snapshot(small_release)
    model = mine.model("mine")
    free = ("--free", model)
    corrected = question["template"].replace(".", " today.", 1)
    expected: list[tuple[tuple[object, ...], set[int]]] = [
        (("verify", release), {0}),
        (("show", release), {0}),
        (("validate", release), {0, 3}),
        (("diff", release, release), {0}),
        (("evaluate", release, "--model", model, *free), {2}),
        (("evaluate", release, "--model", model, "--judge", "divergence", *free, "--out", "ev"), {0, 5}),
        (("rejudge", release, "--judge", "divergence", "--out", "re"), {0}),
        (("deduplicate", texts, "--text", "template", "--against", release, "--out", "dd"), {0}),
        (("relabel", training, "--out", "clean.jsonl"), {0}),
        (
            (
                "fix",
                question["id"],
                "--text",
                corrected,
                "--reason",
                "x",
                "--release",
                release,
                "--out",
                "fixed",
            ),
            {0, 2, 3},
        ),
    ]
    for arguments, codes in expected:
        done = run(person, *arguments)
        shown = done.stdout + done.stderr
        assert done.returncode in codes, (arguments, done.returncode, shown[-2000:])
        assert "Traceback" not in shown, (arguments, shown[-2000:])
        assert not any(secret in shown for secret in SECRETS.values()), arguments
        assert "\x1b]0;" not in shown, arguments
        assert stranger.requests == [], arguments
        assert snapshot(downloaded) == before, arguments
    assert snapshot(small_release) == outside
    assert mine.requests, "the person's own model was asked"
    assert {p.name for p in tmp_path.iterdir()} <= {"downloaded", "person"}
    assert not [p for p in person.rglob("*") if p.is_symlink()]
    written = snapshot(person)
    assert not any(s.encode() in content for content in written.values() for s in SECRETS.values())


def test_chosen_judge_of_a_stranger_gets_no_secret(
    small_release: Path, stranger: OpenAIServer, tmp_path: Path
) -> None:
    """The person names the stranger's judge. It gets the answers, and no variable but the usual one."""
    address = stranger.url.removesuffix("/v1")
    release = aim_at(copy_release(small_release, tmp_path / "downloaded"), address, "MY_SECRET")
    judge = f"openai:stranger@{stranger.url}"
    done = run(tmp_path, "rejudge", release, "--judge", judge, "--free", judge, "--out", "re")
    assert done.returncode in (0, 5), done.stderr
    assert "Traceback" not in done.stderr
    sent = json.dumps([[dict(request.headers), request.body] for request in stranger.requests])
    assert stranger.requests
    assert SECRETS["MY_SECRET"] not in sent
    assert SECRETS["HF_TOKEN"] not in sent


@pytest.mark.slow
def test_endless_answers_end(tmp_path: Path, small_release: Path) -> None:
    """An answer of gigabytes is a failure of the call, not of the program."""
    assert len(gzip.compress(b"x" * (1 << 20))) < 2_000  # such a body is easy to make
    long: Any = "x" * (9 << 20)
    with OpenAIServer(long) as server:
        judge = server.model("long")
        done = run(tmp_path, "rejudge", small_release, "--judge", judge, "--free", judge, "--out", "re")
    assert done.returncode in (0, 5), done.stderr
    assert "Traceback" not in done.stderr
