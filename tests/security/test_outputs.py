"""No command overwrites its input, or a file that it has not written itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from flows.evaluate import job_key
from flows.outputs import output_lock
from schemas.errors import InputError
from schemas.options import EvaluateOptions
from tasks.release import read_manifest
from tests.security.hostile import copy_release

ROWS = [
    {
        "query": f"who wrote book {i}",
        "pos": [f"Book {i} was written by writer {i}."],
        "neg": [f"Writer {i} wrote book {i}.", f"A river runs through town {i}.", f"Stone {i} is heavy."],
    }
    for i in range(12)
]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "io").mkdir()
    pq.write_table(pa.table({"text": ["one text", "one text", "another"]}), tmp_path / "io" / "kept.parquet")
    return tmp_path / "io" / "kept.parquet"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["counterfoil", *map(str, arguments)])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def contents(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file() and "home" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def test_inputs_are_not_overwritten(
    source: Path,
    table: Path,
    small_release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release = copy_release(small_release, tmp_path)
    (tmp_path / "link.jsonl").symlink_to(source)
    os.link(source, tmp_path / "hard.jsonl")
    before = contents(tmp_path)
    for arguments in (
        ("relabel", source, "--out", source),
        ("relabel", source, "--out", source, "--overwrite"),
        ("relabel", source, "--out", tmp_path / "x" / ".." / "train.jsonl"),
        ("relabel", source, "--out", tmp_path / "link.jsonl"),
        ("relabel", source, "--out", tmp_path / "hard.jsonl"),
        ("relabel", tmp_path / "link.jsonl", "--out", source),
        ("deduplicate", table, "--text", "text", "--out", table.parent),
        ("deduplicate", table, "--text", "text", "--out", table.parent, "--overwrite"),
        ("validate", release, "--out", release / "manifest.json"),
        ("validate", release, "--out", release / "new.jsonl"),
        ("validate", source, "--out", source),
        ("export", release, "--format", "cab", "--out", release / "README.md"),
        ("evaluate", release, "--model", "openai:x", "--judge", "divergence", "--out", release / "evals"),
    ):
        assert run(monkeypatch, *arguments) == 2, arguments
        assert contents(tmp_path) == before, arguments
    assert "is an input of this command" in capsys.readouterr().err


def test_results_of_other_jobs_are_not_overwritten(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean.jsonl"
    out.write_text("mine")
    assert run(monkeypatch, "relabel", source, "--out", out) == 2
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run(monkeypatch, "relabel", source, "--out", out, "--overwrite") == 0
    written = out.read_bytes()
    assert run(monkeypatch, "relabel", source, "--out", out) == 0
    assert out.read_bytes() == written
    assert run(monkeypatch, "relabel", source, "--out", out, "--mode", "filter") == 2
    with out.open("ab") as stream:
        stream.write(b"edited by hand\n")
    assert run(monkeypatch, "relabel", source, "--out", out) == 2
    assert out.read_bytes().endswith(b"edited by hand\n")


def test_relabelling_in_place_keeps_a_backup_and_the_whole_history(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = source.read_bytes()
    assert run(monkeypatch, "relabel", source, "--in-place", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["backup"]).read_bytes() == original
    assert source.read_bytes() != original
    history = tmp_path / "train.jsonl.label_history.parquet"
    first = pq.read_table(history).to_pylist()
    assert first
    cleaned = source.read_bytes()
    assert run(monkeypatch, "relabel", source, "--in-place") == 0
    assert (tmp_path / "train.jsonl.bak").read_bytes() == original
    assert (tmp_path / "train.jsonl.bak1").read_bytes() == cleaned
    assert pq.read_table(history).to_pylist()[: len(first)] == first


@pytest.mark.parametrize("option", ["--limit", "--sample"])
def test_trial_in_place_is_refused_because_it_would_delete_rows(
    source: Path,
    tmp_path: Path,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(tmp_path)
    assert run(monkeypatch, "relabel", source, "--in-place", option, 1) == 2
    assert contents(tmp_path) == before
    assert "would delete the other rows" in capsys.readouterr().err


def test_plan_writes_nothing_beside_the_input(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "clean.jsonl"
    out.write_text("mine")
    before = contents(tmp_path)
    for options in (
        ["--in-place"],
        ["--in-place", "--limit", 1],
        ["--out", out],
        ["--audit", 3, "--out", out],
    ):
        assert run(monkeypatch, "relabel", source, "--plan", *options) == 0
        assert contents(tmp_path) == before, options


def test_completed_sheet_and_side_files_are_not_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = source.read_bytes()
    assert run(monkeypatch, "relabel", source, "--in-place", "--audit", 4) == 0
    sheet = tmp_path / "train.jsonl.audit.csv"
    with sheet.open("a") as stream:
        stream.write("answers of people")
    cleaned = source.read_bytes()
    assert run(monkeypatch, "relabel", source, "--in-place", "--audit", 4) == 2
    assert sheet.read_text().endswith("answers of people")
    assert source.read_bytes() == cleaned != original
    assert run(monkeypatch, "relabel", source, "--in-place", "--audit", 4, "--overwrite") == 0
    aside = tmp_path / "clean.jsonl.unwritable.jsonl"
    aside.write_text("mine")
    assert run(monkeypatch, "relabel", source, "--out", tmp_path / "clean.jsonl") == 2
    assert aside.read_text() == "mine"


def test_foreign_file_in_place_of_a_history_is_not_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tmp_path / "clean.jsonl.label_history.parquet"
    history.write_bytes(b"something else")
    assert run(monkeypatch, "relabel", source, "--out", tmp_path / "clean.jsonl") == 2
    assert history.read_bytes() == b"something else"


def test_failed_in_place_run_leaves_the_file_and_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"query": "x"')
    assert run(monkeypatch, "relabel", broken, "--in-place") == 2
    assert {name for name in contents(tmp_path) if not name.startswith(".")} == {"broken.jsonl"}


@pytest.mark.parametrize("target", ["folder", "missing/under/file.txt/x", "pipe"])
def test_target_that_is_no_file_is_named(
    source: Path,
    tmp_path: Path,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "missing" / "under").mkdir(parents=True)
    (tmp_path / "missing" / "under" / "file.txt").write_text("")
    os.mkfifo(tmp_path / "pipe")
    place = tmp_path / target
    assert run(monkeypatch, "validate", source, "--out", place) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "next:" in error


def hold(place: Path, seconds: float, ready: Any) -> None:
    with output_lock(place):
        ready.set()
        time.sleep(seconds)


def test_two_runs_do_not_write_one_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean.jsonl"
    ready = multiprocessing.Event()
    other = multiprocessing.Process(target=hold, args=(out, 60.0, ready))
    other.start()
    try:
        assert ready.wait(30)
        assert run(monkeypatch, "relabel", source, "--out", out) == 2
        assert "another run is writing this output" in capsys.readouterr().err
    finally:
        other.kill()
        other.join()
    assert run(monkeypatch, "relabel", source, "--out", out) == 0  # the lock ended with the process
    assert not list(tmp_path.glob(".*.lock"))


def test_lock_of_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".x.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((InputError, OSError)), output_lock(tmp_path / "x"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_same_evaluation_may_run_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "faults.jsonl"
    assert run(monkeypatch, "validate", source, "--out", out) in (0, 3)
    assert run(monkeypatch, "validate", source, "--out", out) in (0, 3)
    shutil.rmtree(tmp_path / "home" / "outputs")
    assert run(monkeypatch, "validate", source, "--out", out) == 2


def test_folder_for_releases_is_checked_before_a_build(
    small_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = copy_release(small_release, tmp_path / "releases")
    question = pq.read_table(release / "data/questions").to_pylist()[0]
    (tmp_path / "file").write_text("mine")
    fix = ("fix", question["id"], "--text", question["template"], "--reason", "x", "--release", release)
    before = contents(tmp_path)
    for arguments in (("build", "quickstart"), ("refresh", "quickstart", "--no-send"), fix):
        for out, message in (
            (tmp_path / "file", "is not a folder"),
            (release, "is inside the release"),
            (release / "data" / "new", "is inside the release"),
        ):
            assert run(monkeypatch, *arguments, "--out", out) == 2, arguments
            assert message in capsys.readouterr().err, arguments
            assert contents(tmp_path) == before, arguments


def test_exported_reviews_replace_no_file(
    small_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, tasks = tmp_path / "sheet.csv", tmp_path / "tasks.json"
    export = ("review", small_release, "--export")
    assert run(monkeypatch, *export, sheet) == 0
    assert run(monkeypatch, *export, sheet) == 0
    filled = sheet.read_text().replace("question", "Question", 1)
    sheet.write_text(filled)
    assert run(monkeypatch, *export, sheet) == 2  # the work of a reviewer
    assert sheet.read_text() == filled
    assert "--overwrite" in capsys.readouterr().err
    assert run(monkeypatch, *export, sheet, "--overwrite") == 0
    (tmp_path / "tasks.setup.xml").write_text("mine")
    assert run(monkeypatch, *export, tasks, "--format", "label-studio") == 2
    assert not tasks.exists()
    for place in (small_release / "README.md", small_release / "new.csv"):
        assert run(monkeypatch, *export, place, "--format", "csv") == 2
        assert "which this command reads" in capsys.readouterr().err


def test_evaluations_of_other_options_stay(small_release: Path, tmp_path: Path) -> None:
    manifest = read_manifest(small_release)
    options = [
        EvaluateOptions(release=small_release, models=models, judges=("divergence",), samples=samples)
        for models in (("openai:a",), ("openai:b",), ("openai:a", "openai:b"))
        for samples in (2, 4)
    ]
    assert len({job_key(manifest, chosen) for chosen in options}) == len(options)
    free = options[0].model_copy(update={"free": ("openai:a",), "budget_usd": 3.0})
    assert job_key(manifest, free) == job_key(manifest, options[0])
