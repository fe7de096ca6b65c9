"""Parts on workers give the bytes of one process, and a finished part is not relabelled again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.errors import InputError
from tasks.files import retrieval
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, read_candidate_sets
from tasks.files.retrieval_rows import read_flagembedding
from tasks.models import ModelSettings
from tasks.relabel import file as relabelling_file
from tasks.relabel import job as relabelling_job
from tasks.relabel import relabel_file
from tasks.relabel.stored_parts import Parts
from tasks.relabel.survey import Survey
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.workers import send_to_workers

WORDS = ("river", "stone", "bread", "cloud", "music", "paper", "glass", "horse", "ocean", "tower")


def text(number: int, index: int) -> str:
    picked = [WORDS[(number * 7 + index * 3 + step * step) % len(WORDS)] for step in range(6)]
    return f"{' '.join(picked)} {number} {index}"


def write_rows(path: Path, count: int) -> Path:
    """Write rows whose last one has no negatives, and where a positive is a negative of the next row."""
    lines = []
    for number in range(count):
        negatives = [text(number, index) for index in range(1, 4)]
        if number:
            negatives.append(text(number - 1, 0))
        record = {
            "query": f"{WORDS[number % len(WORDS)]} {number}",
            "pos": [text(number, 0)],
            "neg": negatives,
        }
        lines.append(json.dumps(record | ({"neg": []} if number == count - 1 else {})))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judge_answer(messages: Messages, body: Body) -> Any:
    """Quote the start of every third passage, and rank spans as they are shown."""
    schema = body["response_format"]["json_schema"]["name"]
    asked = messages[-1]["content"]
    if schema == "RankingAnswer":
        return {"ranking": list(range(1, asked.count("<evidence id=") + 1))}
    passage = asked.split("<passage id=")[1].split(">\n", 1)[1].split("\n</passage")[0]
    return {"evidence": passage[:12] if sum(passage.encode()) % 3 == 0 else "NO_ANSWER"}


@pytest.fixture
def settings(tmp_path: Path) -> ModelSettings:
    return ModelSettings(
        data_dir=DATA, run_dir=tmp_path / "run", cache_path=tmp_path / "cache.sqlite", budget_usd=50.0
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 5)


def relabelled(path: Path, out: Path, settings: ModelSettings, **options: Any) -> tuple[Any, list[bytes]]:
    out.parent.mkdir()
    result = relabel_file(path, settings=settings, out=out, **options)
    return result, [file.read_bytes() for file in sorted(out.parent.iterdir()) if file.is_file()]


@pytest.mark.parametrize(
    "options",
    [{}, {"mine": 2, "screen": "bm25:0.5:0.2", "audit": 4}, {"limit": 13}, {"sample": 12, "seed": 3}],
    ids=["plain", "mine", "limit", "sample"],
)
def test_workers_give_the_bytes_of_one_process(
    tmp_path: Path, settings: ModelSettings, options: dict[str, Any]
) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    alone = relabelled(path, tmp_path / "alone" / "out.jsonl", settings, **options)
    shared = relabelled(
        path, tmp_path / "shared" / "out.jsonl", settings, run_parts=send_to_workers, **options
    )
    assert shared == alone
    assert alone[0]["rows"] == options.get("limit", options.get("sample", 23))
    assert len(alone[1]) == 4 if "audit" in options else 3


def test_workers_ask_a_model_the_same_calls(tmp_path: Path, settings: ModelSettings) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    results = []
    for name, run_parts in (("alone", None), ("shared", send_to_workers)):
        own = ModelSettings(DATA, tmp_path / f"run-{name}", tmp_path / f"{name}.sqlite", 50.0)
        with OpenAIServer(judge_answer) as server:
            judge = server.model()
            own = ModelSettings(
                DATA, own.run_dir, own.cache_path, 50.0, free=frozenset({judge}), limits=settings.limits
            )
            result, files = relabelled(
                path, tmp_path / name / "out.jsonl", own, judges=(judge,), run_parts=run_parts
            )
            asked = sorted(json.dumps(r.body["messages"]) for r in server.requests)
        text = json.dumps(result).replace(judge, "JUDGE")
        results.append((text, [f.replace(judge.encode(), b"JUDGE") for f in files[:1]], asked))
    assert results[0] == results[1]
    assert len(results[0][2]) > 80


def test_without_a_result_the_report_is_the_same(tmp_path: Path, settings: ModelSettings) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    alone = relabel_file(path, settings=settings)
    assert relabel_file(path, settings=settings, run_parts=send_to_workers) == alone
    assert not list(settings.run_dir.glob(".relabel-*"))


def test_a_stopped_run_hands_out_only_the_rest(tmp_path: Path, settings: ModelSettings) -> None:
    path, out = write_rows(tmp_path / "in.jsonl", 23), tmp_path / "shared" / "out.jsonl"
    alone = relabelled(path, tmp_path / "alone" / "out.jsonl", settings)
    handed_out: list[int] = []

    def stop_after_two(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        for count, part in enumerate(parts):
            if count == 2:
                raise KeyboardInterrupt
            yield job(part)

    def count_parts(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        for part in parts:
            handed_out.append(part[2])
            yield job(part)

    with pytest.raises(KeyboardInterrupt):
        relabelled(path, out, settings, run_parts=stop_after_two)
    result = relabel_file(path, settings=settings, out=out, run_parts=count_parts)
    assert handed_out == [2, 3, 4]
    assert (result, out.read_bytes()) == (alone[0], (tmp_path / "alone" / "out.jsonl").read_bytes())


@pytest.mark.parametrize("run_parts", [None, send_to_workers], ids=["alone", "workers"])
@pytest.mark.parametrize("repeated", [False, True], ids=["distinct", "repeated"])
def test_a_restart_reads_neither_the_survey_nor_finished_rows_again(
    run_parts: Any, repeated: bool, tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_rows(tmp_path / "in.jsonl", 23), tmp_path / "out.jsonl"
    if repeated:
        path.write_text(path.read_text() + path.read_text())
    alone = relabel_file(path, settings=settings, out=tmp_path / "alone.jsonl")
    built: list[Any] = []
    read = read_flagembedding

    def stop_after_three(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        for count, part in enumerate(parts):
            if count == 3:
                raise KeyboardInterrupt
            yield job(part)

    with pytest.raises(KeyboardInterrupt):
        relabel_file(path, settings=settings, out=out, run_parts=stop_after_three)
    monkeypatch.setattr(Survey, "_add", lambda *_: pytest.fail("the file was surveyed again"))
    monkeypatch.setattr(retrieval, "read_flagembedding", lambda r: built.append(r) or read(r))
    assert relabel_file(path, settings=settings, out=out, run_parts=run_parts) == alone
    assert len(built) == (46 if repeated else 23 - 15)
    assert out.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert not list(tmp_path.glob(".*.parts"))


def test_a_stop_during_the_survey_starts_it_again(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_rows(tmp_path / "in.jsonl", 23), tmp_path / "out.jsonl"
    alone = relabel_file(path, settings=settings, out=tmp_path / "alone.jsonl")
    add, seen = Survey._add, []

    def stop(survey: Survey, row: Any) -> None:
        seen.append(row)
        if len(seen) == 9:
            survey.positives.hashes()
            raise KeyboardInterrupt
        add(survey, row)

    monkeypatch.setattr(Survey, "_add", stop)
    with pytest.raises(KeyboardInterrupt):
        relabel_file(path, settings=settings, out=out)
    assert relabel_file(path, settings=settings, out=out) == alone
    assert out.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


def test_an_unreadable_row_leaves_no_parts(tmp_path: Path, settings: ModelSettings) -> None:
    path = write_rows(tmp_path / "in.jsonl", 3)
    path.write_text(path.read_text() + "broken\n")
    with pytest.raises(InputError, match="not a JSON line"):
        relabel_file(path, settings=settings, out=tmp_path / "out.jsonl")
    assert not list(tmp_path.glob(".*.parts"))


def test_a_worker_that_was_lost_leaves_its_finished_part(tmp_path: Path, settings: ModelSettings) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    alone = relabelled(path, tmp_path / "alone" / "out.jsonl", settings)

    def twice(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        for part in parts:
            first = job(part)
            assert orjson.dumps(job(part)[1]) == orjson.dumps(first[1])
            yield first

    assert relabelled(path, tmp_path / "shared" / "out.jsonl", settings, run_parts=twice) == alone


def test_all_rows_of_the_input_reach_a_worker(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    source = Source(path, "flagembedding")
    rows = list(read_candidate_sets(source, BadRows()))
    parts = Parts(tmp_path / "parts", "key")
    parts.hand_out(3, rows)
    assert parts.take(3) == rows


def test_the_sheet_of_many_parts_holds_few_lines_in_memory(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    relabel_file(path, settings=settings, out=tmp_path / "whole.jsonl", audit=7)
    sheet = (tmp_path / "whole.jsonl.audit.csv").read_bytes()
    answered = tmp_path / "answered.csv"
    lines = sheet.decode("utf-8-sig").splitlines()
    answered.write_text("\n".join([lines[0], *(f"{line}yes" for line in lines[1:])]), encoding="utf-8")
    agreement = relabel_file(path, settings=settings, audited=answered)["audit"]
    held: list[int] = []
    add = relabelling_file.Totals.add

    def count(total: Any, summary: Any) -> None:
        add(total, summary)
        held.append(len(total.lines))

    monkeypatch.setattr(relabelling_file.Totals, "add", count)
    monkeypatch.setattr(relabelling_file, "SPARE_LINES", 0)
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 1)
    relabel_file(path, settings=settings, out=tmp_path / "parts.jsonl", audit=7)
    assert (tmp_path / "parts.jsonl.audit.csv").read_bytes() == sheet
    assert max(held) <= 14
    assert relabel_file(path, settings=settings, audited=answered)["audit"] == agreement
    assert agreement["n"] == 7


def test_the_next_part_begins_while_the_last_calls_of_a_part_are_under_way(
    tmp_path: Path, settings: ModelSettings
) -> None:
    path = write_rows(tmp_path / "in.jsonl", 23)
    results = []
    for name, at_once in (("one", 1), ("two", 2)):
        with OpenAIServer(judge_answer, latency_s=0.02) as server:
            model = server.model()
            own = ModelSettings(
                DATA, tmp_path / f"run-{name}", tmp_path / f"{name}.sqlite", 50.0, free=frozenset({model})
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(relabelling_file, "PARTS_AT_ONCE", at_once)
                found = relabel_file(
                    path, settings=own, judges=(model,), out=tmp_path / f"{name}.jsonl", max_in_flight=3
                )
            assert server.peak_in_flight <= 3
            order = [part_of(request.body["messages"][-1]["content"]) for request in server.requests]
            results.append((json.dumps(found).replace(model, "JUDGE"), order))
    assert results[0][0] == results[1][0]
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert results[0][1] == sorted(results[0][1])
    assert results[1][1] != sorted(results[1][1])


def part_of(text: str) -> int:
    """Return the part of a request: the number of its row, five rows each."""
    query = text.split("<query id=")[1].split(">\n", 1)[1].split("\n</query")[0]
    return int(query.split()[-1]) // 5
