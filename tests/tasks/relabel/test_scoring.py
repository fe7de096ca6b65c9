"""Scores without a judgement: margins, ranks, dense mining and cross-encoders."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.models import ModelSettings
from tasks.relabel import relabel_file
from tasks.relabel.decisions import Policy, decide_by_rule
from tasks.relabel.mining import DensePool, Screen
from tasks.relabel.scoring import ScoreWindow, relabel_by_scores
from tests.servers.openai_server import OpenAIServer
from tests.tasks.relabel.test_file import settings, write_lines

__all__ = ["settings"]

SCORES = [0.99, 0.96, 0.94, 0.7, 0.1]


def outcomes(window: ScoreWindow, positive: float | None = 1.0) -> str:
    """Return `k` for kept, `r` for removed, `a` for abstained, per candidate with `SCORES`."""
    negatives = [make_passage(f"Loaf number {i}.", score=s) for i, s in enumerate([*SCORES, None])]
    row = make_set("when?", [make_passage("In 1848.", score=positive)], negatives)
    plans = decide_by_rule([row], Policy())
    (found,) = relabel_by_scores(plans, lambda q, p: p.score, window, Policy(), "score").rows
    return "".join(verdict.outcome[0] for verdict in found.verdicts)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (ScoreWindow(relative_margin=0.05), "rrkkka"),
        (ScoreWindow(absolute_margin=0.3), "rrrkka"),
        (ScoreWindow(relative_margin=0.05, absolute_margin=0.5), "rrrrka"),
        (ScoreWindow(max_score=0.95), "rrkkka"),
        (ScoreWindow(min_score=0.5), "kkkkra"),
        (ScoreWindow(ranks=(2, 4)), "rkkkra"),
        (ScoreWindow().or_default(), "rrkkka"),
    ],
)
def test_candidates_outside_the_window_are_removed(window: ScoreWindow, expected: str) -> None:
    assert outcomes(window) == expected


def test_a_margin_needs_the_score_of_the_positive() -> None:
    assert outcomes(ScoreWindow(relative_margin=0.05), None) == "aaaaaa"
    assert outcomes(ScoreWindow(max_score=0.95), None) == "rrkkka"


def test_margins_below_zero_and_ranks_are_checked() -> None:
    assert ScoreWindow(relative_margin=0.05).ceiling(-2.0) == pytest.approx(-2.1)
    assert ScoreWindow().ceiling(1.0) == math.inf
    for text in ("5", "0:3", "9:3", "a:b", "1:2:3"):
        with pytest.raises(InputError, match="range of ranks"):
            ScoreWindow.parse_ranks(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rerank:openai:m@http://127.0.0.1:8000/v1:0.5:0.1",
            ("rerank:openai:m@http://127.0.0.1:8000/v1", 0.5, 0.1),
        ),
        (
            "embedding:openai:m@http://localhost:8000:0.3",
            ("embedding:openai:m@http://localhost:8000", 0.3, 0.05),
        ),
        ("bm25:1:0", ("bm25", 1.0, 0.0)),
    ],
)
def test_screens_with_models_are_parsed_from_the_right(text: str, expected: tuple[str, float, float]) -> None:
    screen = Screen.parse(text)
    assert (screen.by, screen.margin, screen.check) == expected


@pytest.mark.parametrize("text", ["bm25", "bm25:2", "rerank:0.5", "other:0.5", "0.5", ""])
def test_screens_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a screen"):
        Screen.parse(text)


# --- dense mining -----------------------------------------------------------------------------------------


def directions(texts: Any, meter: Any = None) -> Any:
    """Embed texts such as "at 30" as the unit vector of that angle."""
    angles = np.radians([float(text.split()[-1]) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def mined(window: ScoreWindow, count: int = 3, positives: tuple[str, ...] = ("at 10",)) -> list[str]:
    pool = DensePool((make_passage(f"at {angle}") for angle in (50, 10, 5, 30, 20, 40, 180)), directions)
    row = make_set("at 0", [make_passage(text) for text in positives], [])
    pool.prepare([row.query, "at 7"])
    return [p.text for p in pool.nearest(row, count, window)]


def test_the_nearest_passages_below_the_ceiling_are_mined() -> None:
    assert mined(ScoreWindow()) == ["at 5", "at 20", "at 30"]
    assert mined(ScoreWindow(relative_margin=0.05)) == ["at 30", "at 40", "at 50"]
    assert mined(ScoreWindow(max_score=0.9, min_score=0.7)) == ["at 30", "at 40"]
    assert mined(ScoreWindow(ranks=(2, 3))) == ["at 20", "at 30"]
    assert mined(ScoreWindow(ranks=(2, 4), relative_margin=0.1)) == ["at 30", "at 40"]


def test_scores_of_several_queries_equal_those_of_one() -> None:
    pool = DensePool((make_passage(f"at {angle}") for angle in range(0, 180, 3)), directions)
    alone = pool.score("at 40", make_passage("at 60"))
    pool.prepare([f"at {angle}" for angle in range(30, 50)])
    assert alone == pytest.approx(math.cos(math.radians(20)), abs=1e-5)
    assert pool.score("at 40", make_passage("at 60")) == pytest.approx(alone, abs=2e-6)
    assert pool.rank("at 40", make_passage("at 42")) == 2
    assert pool.score("at 40", make_passage("elsewhere 9")) is None


# --- over HTTP --------------------------------------------------------------------------------------------

ROW = {"query": "at 0", "pos": ["at 10"], "neg": ["at 5", "at 20", "at 60", "at 179"]}


def cosine(query: str, passage: str) -> float | None:
    angle = math.radians(float(passage.split()[-1]) - float(query.split()[-1]))
    return None if passage == "at 179" else math.cos(angle)


def test_a_cross_encoder_decides_and_screens(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [ROW])
    with OpenAIServer(rerank=cosine) as server:
        score = f"rerank:{server.model()}"
        free: dict[str, Any] = {"settings": settings_with(settings, server.model())}
        planned = relabel_file(source, judges=[score], plan=True, **free)
        found = relabel_file(source, judges=[score], out=tmp_path / "out.jsonl", min_judged=0.7, **free)
        cost = found["report"]["cost"][server.model()]
        assert planned["calls"] == cost["calls"] == 1
        assert planned["tokens_in"] == cost["tokens_in"] > 0
        assert (found["filtered"], found["kept"], found["abstained"]) == (2, 1, 1)
        assert found["judged_by"] == [score]
        assert found["report"]["judged"]["abstentions"] == {"no_score": 1}
        (line,) = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert line["neg"] == ["at 60", "at 179"]
        screened = relabel_file(
            source, judges=["lexical"], screen=f"{score}:0.3:0", allow_abstentions=True, **free
        )
        assert screened["screened_out"] == 1


def test_embeddings_of_a_server_find_negatives_in_a_corpus(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"query": "at 0", "pos": ["at 10"], "neg": []}])
    corpus = write_lines(
        tmp_path / "corpus.jsonl", [{"_id": str(a), "text": f"at {a}"} for a in (10, 5, 30, 40, 90)]
    )
    with OpenAIServer(embeddings=lambda text: directions([text])[0].tolist()) as server:
        name = f"embedding:{server.model()}"
        options: dict[str, Any] = {
            "settings": settings_with(settings, server.model()),
            "judges": [name],
            "corpus": corpus,
            "mine": 2,
            "mine_from": "corpus",
            "mine_by": name,
        }
        planned = relabel_file(source, plan=True, **options)
        found = relabel_file(source, out=tmp_path / "out.jsonl", **options)
    assert planned["tokens_in"] >= 5  # the corpus has five passages
    assert found["kept"] == 2
    assert json.loads((tmp_path / "out.jsonl").read_text())["neg"] == ["at 30", "at 40"]


def settings_with(settings: ModelSettings, model: str) -> ModelSettings:
    return replace(settings, free=frozenset({model}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mine": 2, "mine_from": "corpus"}, "no corpus"),
        ({"mine": 2, "mine_by": "score"}, "cannot search"),
        ({"mine": 2, "mine_by": "word2vec"}, "not a score"),
        ({"strategy": "score"}, "uses one score"),
        ({"judges": ["lexical", "lexical"]}, "named twice"),
        ({"rule": "all:top/any:top"}, "no effect on the strategy two_stage"),
        ({"relative_margin": 0.1}, "limits on scores have no effect"),
        ({"judges": ["bm25"], "mode": "relabel"}, "promotes nothing"),
        ({"strategy": "score", "judges": ["lexical"]}, "not a score"),
        ({"strategy": "score", "judges": ["score"], "ranks": "9:1"}, "range of ranks"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path, settings: ModelSettings
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [ROW])
    with pytest.raises(InputError, match=message):
        relabel_file(source, settings=settings, **options)


def test_scores_of_the_file_filter_by_the_percentage_of_the_positive(
    tmp_path: Path, settings: ModelSettings
) -> None:
    record = {"query": "q", "pos": ["a"], "neg": ["b", "c"], "pos_scores": [10.0], "neg_scores": [9.6, 9.0]}
    source = write_lines(tmp_path / "in.jsonl", [record])
    found = relabel_file(source, settings=settings, judges=["score"], out=tmp_path / "out.jsonl")
    assert (found["filtered"], found["kept"]) == (1, 1)
    assert json.loads((tmp_path / "out.jsonl").read_text())["neg_scores"] == [9.0]


def test_bm25_decides_over_the_rows(tmp_path: Path, settings: ModelSettings) -> None:
    record = {
        "query": "ardmore lighthouse",
        "pos": ["The Ardmore lighthouse is old."],
        "neg": ["The Ardmore lighthouse is new.", "Bread is baked.", "A lighthouse."],
    }
    source = write_lines(tmp_path / "in.jsonl", [record])
    found = relabel_file(source, settings=settings, judges=["bm25"])
    assert found["filtered"] >= 1
    assert found["report"]["by_reason"]["score_too_close_to_positive"] >= 1


SOFT: dict[str, Any] = {
    "flagembedding": {"query": "q", "pos": ["a"], "neg": ["b", "c"], "pos_scores": [1], "neg_scores": [2, 3]},
    "tevatron": {
        "query_id": "1",
        "query": "q",
        "positive_passages": [{"docid": "x", "title": "", "text": "a"}],
        "negative_passages": [{"docid": n, "title": "", "text": n} for n in "bc"],
    },
    "rlhn": {
        "query_id": "1",
        "query": "q",
        "positive_passages": [{"docid": "x", "title": "", "text": "a"}],
        "negative_passages": [{"docid": n, "title": "", "text": n} for n in "bc"],
        "subset": "s",
    },
    "rankllm": {
        "query": {"text": "q", "qid": "1"},
        "candidates": [
            {"docid": n, "score": 9.0 - i, "doc": {"contents": n}, "label": int(n == "a")}
            for i, n in enumerate("abc")
        ],
    },
    "n-tuple": {"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": "c", "scores": [7, 8, 9]},
    "labeled-list": {"query": "q", "docs": ["a", "b", "c"], "labels": [1, 0, 0]},
    "labeled-pair": [{"sentence1": "q", "sentence2": n, "label": int(n == "a")} for n in "abc"],
}


def numbers_in(value: Any) -> list[float]:
    """Return all numbers of a record, except hard labels beside scores."""
    if isinstance(value, dict):
        return [
            n for key, v in value.items() if key != "label" or "score" not in value for n in numbers_in(v)
        ]
    if isinstance(value, list):
        return [n for part in value for n in numbers_in(part)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("container", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", SOFT)
def test_every_format_with_a_field_gets_soft_labels_in_place(
    name: str, container: str, tmp_path: Path, settings: ModelSettings
) -> None:
    records = SOFT[name] if isinstance(SOFT[name], list) else [SOFT[name]]
    source = write_lines(tmp_path / "in.jsonl", records)
    if container == "parquet":
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "in.parquet")
        source = tmp_path / "in.parquet"
    near = {"q": 0.0, "a": 10.0, "b": 60.0, "c": 80.0}
    with OpenAIServer(embeddings=lambda text: directions([f"at {near[text]}"])[0].tolist()) as server:
        out = tmp_path / f"out.{container}"
        relabel_file(
            source,
            format=name,
            settings=settings_with(settings, server.model()),
            judges=[f"embedding:{server.model()}"],
            soft_labels=True,
            out=out,
        )
    rows = (
        pq.read_table(out).to_pylist()
        if container == "parquet"
        else [json.loads(line) for line in out.read_text().splitlines()]
    )
    assert numbers_in(rows) == pytest.approx([0.984808, 0.5, 0.173648], abs=2e-5)
