"""Cross-encoders score passages over HTTP, at either route, and their answers are not trusted."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BudgetError, InputError, ModelError
from tasks.models import run_async
from tasks.models.rerank import BATCH, read_scores, score_pairs
from tasks.models.settings import ModelSettings
from tests.conftest import DATA
from tests.servers.openai_server import OpenAIServer


def settings(tmp_path: Path, **changes: Any) -> ModelSettings:
    return ModelSettings(DATA, tmp_path / "run", tmp_path / "cache.sqlite", **changes)


def by_length(query: str, passage: str) -> float | None:
    return None if passage == "unscored" else len(query) + len(passage) / 1000


@pytest.mark.parametrize("routes", [("score",), ("rerank",), ("score", "rerank")])
def test_passages_are_scored_in_batches_per_query_at_either_route(
    routes: tuple[str, ...], tmp_path: Path
) -> None:
    pairs = [("ab" if i % 2 else "abc", "x" * i) for i in range(2 * BATCH + 6)] + [("ab", "unscored")]
    with OpenAIServer(rerank=by_length, rerank_routes=routes) as server:
        name = server.model()
        found = run_async(score_pairs(name, pairs, settings(tmp_path, free=frozenset({name}))))
        scored = [r for r in server.other_requests if r.path.rpartition("/")[2] in routes[:1]]
    assert found == [by_length(*pair) for pair in pairs]
    assert len(scored) == 4


def test_a_server_without_scores_is_reported(tmp_path: Path) -> None:
    with OpenAIServer("hello") as server:
        name = server.model()
        with pytest.raises(ModelError, match="gave no scores"):
            run_async(score_pairs(name, [("a", "b")], settings(tmp_path, free=frozenset({name}))))


def test_scores_stay_within_the_budget(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {test-model: {input: 1000.0, output: 0, source: here, as_of: '2026-01-01'}}")
    with OpenAIServer(rerank=by_length) as server:
        own = settings(tmp_path, budget_usd=0.01, prices_path=prices)
        with pytest.raises(BudgetError, match="may cost"):
            run_async(score_pairs(server.model(), [("a", "b " * 99)], own))
        assert not server.other_requests
    with pytest.raises(InputError, match="scores no passages"):
        run_async(score_pairs("replay:a.parquet", [("a", "b")], settings(tmp_path)))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        {"data": "x"},
        {"data": [{"index": 2, "score": 1}, {"index": -1, "score": 1}, {"index": True, "score": 1}]},
        {"results": [{"index": 0, "relevance_score": "1"}, {"index": 1, "relevance_score": float("nan")}]},
        [{"index": 0, "score": 1}, {"index": 0, "score": 2}, 7],
    ],
)
def test_invalid_scores_are_left_out(answer: object) -> None:
    assert read_scores(answer, 2) == {}


def test_nested_scores_are_read() -> None:
    assert read_scores([{"index": 1, "score": [0.5]}, {"index": 0, "score": 2}], 2) == {1: 0.5, 0: 2.0}
