"""The vectors of a corpus are made once, counted once, and shared by workers and by later runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.release import CostMeter
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.models import ModelSettings
from tasks.relabel import job as relabelling_job
from tasks.relabel import mining, relabel_file
from tasks.relabel.mining import DensePool, PassagePool
from tests.servers.openai_server import OpenAIServer
from tests.tasks.relabel.test_file import settings, write_lines
from tests.tasks.relabel.test_scoring import directions
from tests.workers import send_to_workers

__all__ = ["settings"]

CORPUS = [10, *range(30, 130, 5)]


@pytest.fixture
def job(tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Yield the options of a job of four parts that mines with a server's embeddings."""
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 3)
    rows = [{"query": f"row {i} at 0", "pos": ["at 10"], "neg": []} for i in range(12)]
    corpus = [{"_id": str(angle), "text": f"at {angle}"} for angle in CORPUS]
    with OpenAIServer(embeddings=lambda text: directions([text])[0].tolist()) as server:
        name = f"embedding:{server.model()}"
        yield {
            "input": write_lines(tmp_path / "in.jsonl", rows),
            "settings": replace(settings, free=frozenset({server.model()})),
            "corpus": write_lines(tmp_path / "corpus.jsonl", corpus),
            "mine": 2,
            "mine_by": name,
            "judges": [name],
            "server": server,
        }


def run(job: dict[str, Any], out: Path | None = None, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the cost of a run, and the texts that its server received."""
    server = job["server"]
    before = len(server.other_requests)
    found = relabel_file(out=out, **{k: v for k, v in job.items() if k != "server"}, **options)
    received = server.other_requests[before:]
    texts = [text for request in received for text in request.body["input"]]
    return found["report"]["cost"][server.model()] | {"requests": len(received)}, texts


@pytest.mark.parametrize("with_result", [True, False])
def test_the_corpus_is_in_the_cost_with_and_without_workers(
    job: dict[str, Any], tmp_path: Path, with_result: bool
) -> None:
    alone, texts = run(job, tmp_path / "alone.jsonl" if with_result else None)
    shared, _ = run(job, tmp_path / "shared.jsonl" if with_result else None, run_parts=send_to_workers)
    assert alone["calls"] == alone["requests"]
    assert [texts.count(f"at {angle}") for angle in CORPUS[10:]] == [1] * (len(CORPUS) - 10)
    assert shared == alone


def test_the_plan_counts_about_the_same_texts(job: dict[str, Any]) -> None:
    planned = relabel_file(plan=True, **{k: v for k, v in job.items() if k != "server"})
    cost, _ = run(job)
    assert 0.5 * cost["tokens_in"] <= planned["tokens_in"] <= cost["tokens_in"]


def test_a_stopped_run_does_not_embed_the_corpus_again(job: dict[str, Any], tmp_path: Path) -> None:
    whole, _ = run(job, tmp_path / "whole.jsonl")

    def stop(work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        yield from (work(part) for part in list(parts)[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, tmp_path / "out.jsonl", run_parts=stop)
    resumed, texts = run(job, tmp_path / "out.jsonl")
    assert not any(f"at {angle}" in texts for angle in CORPUS[10:])
    assert resumed["calls"] == whole["calls"] > resumed["requests"]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob(".out.jsonl.parts"))


def test_an_index_that_was_cut_off_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "EMBEDDED_AT_ONCE", 4)
    asked: list[str] = []

    def embed(texts: Any, meter: CostMeter | None) -> Any:
        if len(asked) >= 8 and len(asked) < 100:
            asked.extend(["stop"] * 100)
            raise KeyboardInterrupt
        asked.extend(texts)
        meter and meter.add("m", 1, 4, 0.5)
        return directions(texts)

    passages = [make_passage(f"at {angle}") for angle in range(0, 180, 13)]
    with pytest.raises(KeyboardInterrupt):
        DensePool(passages, embed, tmp_path)
    with (tmp_path / "vectors.f32").open("ab") as stream:
        stream.write(b"half a vector")
    pool = DensePool(passages, embed, tmp_path)
    assert [text for text in asked if text != "stop"] == [p.text for p in passages]
    assert [(c.calls, c.cost_usd) for c in pool.index_costs] == [(4, 2.0)]
    row = make_set("at 40", [make_passage("at 41")], [])
    fresh = DensePool(passages, directions)
    assert pool.nearest(row, 5) == fresh.nearest(row, 5) != []


def test_parts_that_run_at_once_have_scores_of_their_own() -> None:
    texts = [f"{word} stone" for word in ("river", "bread", "cloud", "music")]
    for pool in (
        PassagePool(map(make_passage, texts)),
        DensePool(map(make_passage, ["at 1", "at 50"]), directions),
    ):
        meters = [CostMeter("relabel"), CostMeter("relabel")]
        first, second = (pool.for_part(meter) for meter in meters)
        queries = ("river", "bread") if len(pool._texts) == 4 else ("at 0", "at 60")
        passage = next(iter(pool._passages.values()))
        first.prepare(queries)
        alone = first.score(queries[0], passage)
        second.prepare(queries[1:])
        second.score(queries[1], passage)
        assert first._last_query != second._last_query or len(pool._texts) == 2
        assert first.score(queries[0], passage) == alone
