"""A model writes negatives, and the judges decide on each."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError, ModelError
from schemas.labels import CandidateSet, Passage
from tasks.models import ModelSettings
from tasks.relabel.file import relabel_file
from tasks.relabel.written import check_source, is_written, source_warning
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages, OpenAIServer

ROWS = 4
WORDS = ("river", "town", "hill", "lake", "road", "bridge", "tower", "market", "harbour", "valley", "island")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    rows = [
        {"query": f"capital of country {i}", "pos": [f"The capital is town {i}."], "neg": [f"Rivers of {i}."]}
        for i in range(ROWS)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def play(messages: Messages, body: Body) -> str:
    """Write two passages, one of which answers the query. Grade passages that name a capital as answers."""
    text = str(messages[-1]["content"])
    if "passages" in text and "different passages" in text:
        number = text.split("country ")[1].split()[0].strip("<>")
        return json.dumps(
            {"passages": [f"The capital is town {number}, of course.", f"Hills near {number}."]}
        )
    return json.dumps({"grade": 3 if "The capital" in text else 0})


def relabel(source: Path, server: OpenAIServer, tmp_path: Path, **options: Any) -> dict[str, Any]:
    judge, writer = server.model("qwen3-8b"), server.model("llama-3-8b")
    settings = ModelSettings(
        DATA, tmp_path / "run", tmp_path / "cache.sqlite", free=frozenset({judge, writer})
    )
    options = {"strategy": "graded", "judges": [judge], "write": 2, "writer": writer} | options
    return relabel_file(source, settings=settings, out=tmp_path / "clean.jsonl", **options)


def test_only_written_negatives_that_the_judges_keep_are_added(source: Path, tmp_path: Path) -> None:
    with OpenAIServer(play) as server:
        found = relabel(source, server, tmp_path)
    written = found["report"]["written"]
    counts = {name: written[name] for name in ("asked", "received", "kept", "answers_query", "failed")}
    assert counts == {"asked": 8, "received": 8, "kept": 4, "answers_query": 4, "failed": 0}
    share = written["generated_false_negatives"]
    assert (share["value"], share["n"]) == (0.5, 8)
    assert share["low"] < 0.5 < share["high"]
    assert written["bm25_rank"]["n"] == 4
    assert "arXiv 2504.21015" in written["warning"]
    assert written["source_check"]["value"] is None
    assert "not measured" in written["source_check"]["reason"]
    rows = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text().splitlines()]
    assert [row["neg"] for row in rows] == [[f"Rivers of {i}.", f"Hills near {i}."] for i in range(ROWS)]


def test_a_writer_that_writes_nothing_stops_the_run(source: Path, tmp_path: Path) -> None:
    with (
        OpenAIServer(
            lambda m, b: '{"passages": []}' if "different" in str(m[-1]) else '{"grade": 0}'
        ) as server,
        pytest.raises(ModelError, match="wrote none of the 8 negatives"),
    ):
        relabel(source, server, tmp_path)
    assert not (tmp_path / "clean.jsonl").exists()


@pytest.mark.parametrize(
    ("judge", "writer", "words"),
    [
        ("qwen3-8b", None, "needs a model that writes"),
        (None, "llama-3-8b", "need a model as judge"),
        ("qwen3-8b", "qwen3-32b", "the same family"),
    ],
)
def test_a_judge_of_another_family_is_required(
    source: Path, tmp_path: Path, judge: str | None, writer: str | None, words: str
) -> None:
    with OpenAIServer(play) as server:
        judges = [server.model(judge)] if judge else ["lexical"]
        with pytest.raises(InputError, match=words):
            relabel(source, server, tmp_path, judges=judges, writer=writer and server.model(writer))
        assert server.requests == []


def test_the_plan_counts_the_writer(source: Path, tmp_path: Path) -> None:
    with OpenAIServer(play) as server:
        planned = relabel(source, server, tmp_path, plan=True)
        assert server.requests == []
        relabel(source, server, tmp_path)
        sent = len(server.requests)
    assert planned["by_judge"][server.model("llama-3-8b")]["calls"] == ROWS
    assert planned["calls"] == pytest.approx(sent, abs=ROWS)


def rows_of(texts: list[tuple[str, str]]) -> list[CandidateSet]:
    return [
        CandidateSet(
            id=f"s{i}",
            query_id=f"q{i}",
            query=f"query {i}",
            positives=(),
            negatives=(Passage(id=f"p{i}", text=mined), Passage(id=f"written_{i}", text=written)),
        )
        for i, (mined, written) in enumerate(texts)
    ]


def test_the_source_check_finds_a_style_and_no_style() -> None:
    draw = random.Random(3)
    words, others = ([" ".join(draw.choices(WORDS, k=9)) for _ in range(200)] for _ in range(2))
    styled = check_source(rows_of([(text, f"It is important to note that {text}") for text in words]))
    same = check_source(rows_of(list(zip(words, others, strict=True))))
    assert styled["value"] > 0.95
    assert "AUROC" in str(source_warning(styled))
    assert 0.3 < same["value"] < 0.7
    assert source_warning(same) is None


def test_written_passages_are_known_by_their_ids() -> None:
    assert is_written(Passage(id="written_1", text="x"))
    assert not is_written(Passage(id="1", text="x"))
