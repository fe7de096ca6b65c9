"""The plan of a run is within 20 % of its calls, tokens and cost, on sets of different shape.

The length of the answers is known after a run over the first two rows.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import derived_seed
from tasks.models import ModelSettings
from tasks.models.sentence_encoder import find_encoder
from tasks.relabel import relabel_file
from tasks.relabel.planning import measured_rates
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages, OpenAIServer, Reply
from tests.tasks.relabel.test_file import write_lines

pytestmark = pytest.mark.skipif(find_encoder() is None, reason="needs the extra `semantic`")

WORDS = [
    "the",
    "river",
    "was",
    "measured",
    "by",
    "several",
    "engineers",
    "who",
    "found",
    "that",
    "water",
    "level",
    "rises",
    "in",
    "spring",
    "when",
    "snow",
    "melts",
    "and",
    "falls",
    "again",
    "during",
    "late",
    "summer",
    "because",
    "farmers",
    "take",
    "large",
    "amounts",
    "for",
    "their",
    "fields",
    "near",
    "old",
    "towns",
]
EVIDENCE = 0.38
"""Share of negatives with evidence, as published (ARHN)."""
PRICES = "models: {test-model: {input: 2.0, output: 8.0, source: here, as_of: '2026-01-01'}}"


def tokens_of(text: str) -> int:
    """Count the tokens of a text with the vocabulary of BERT, which no estimate here knows."""
    from tasks.models.sentence_encoder import _tokenizer, check_encoder

    size = 0
    for start in range(0, len(text), 500):
        size += len(_tokenizer(check_encoder()).encode(text[start : start + 500]).ids) - 2
    return size


def judge(messages: Messages, body: Body) -> Reply:
    """Quote some words of a share of the passages, and rank spans by their order."""
    text = str(messages[-1]["content"])
    schema = body.get("response_format", {}).get("json_schema", {}).get("name", "")
    if schema == "RankingAnswer":
        spans = re.findall(r"<evidence id=\w+>", text)
        found: dict[str, Any] = {"ranking": list(range(1, len(spans) + 1))}
    else:
        match = re.search(r"<passage id=\w+>\n(.*?)\n</passage", text, re.DOTALL)
        passage = match.group(1) if match else ""
        rng = random.Random(derived_seed("evidence", passage))
        is_evidence = "positive" in passage or rng.random() < EVIDENCE
        found = {"evidence": " ".join(passage.split()[:25]) if is_evidence else "NO_ANSWER"}
    answer = json.dumps(found)
    return Reply(answer, usage=(sum(tokens_of(str(m["content"])) + 4 for m in messages), tokens_of(answer)))


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + f" {rng.randrange(10**6)}."


def rows(count: int, positives: int, negatives: int, words: int) -> list[dict[str, Any]]:
    made = []
    for number in range(count):
        rng = random.Random(number)
        made.append(
            {
                "query": f"how high is the river in town {number}",
                "pos": [f"A positive: {sentence(rng, words)}" for _ in range(positives)],
                "neg": [sentence(rng, rng.randint(words // 2, 3 * words // 2)) for _ in range(negatives)],
            }
        )
    return made


@pytest.mark.parametrize("shape", [(12, 1, 7, 60), (5, 1, 15, 200), (6, 3, 24, 30)])
def test_the_plan_is_within_a_fifth_of_the_run(shape: tuple[int, int, int, int], tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(*shape))
    (tmp_path / "prices.yaml").write_text(PRICES)
    settings = ModelSettings(
        DATA, tmp_path / "run", tmp_path / "cache.sqlite", budget_usd=50, prices_path=tmp_path / "prices.yaml"
    )
    with OpenAIServer(judge) as server:
        model = server.model()
        planned = relabel_file(source, settings=settings, judges=[model], plan=True)
        assert not server.requests
        relabel_file(source, settings=settings, judges=[model], limit=2)
        measured = relabel_file(source, settings=settings, judges=[model], plan=True)
        fresh = replace(settings, cache_path=tmp_path / "fresh.sqlite")
        report = relabel_file(source, settings=fresh, judges=[model])["report"]
    spent = report["cost"][model]
    for name in ("calls", "tokens_in", "cost_usd"):
        assert planned[name] == pytest.approx(spent[name], rel=0.2), name
    assert planned["seconds"] is None
    for name in ("calls", "tokens_in", "tokens_out", "cost_usd"):
        assert measured[name] == pytest.approx(spent[name], rel=0.2), name
    assert measured["seconds"] > 0


def test_the_plan_counts_mined_negatives_and_screened_ones(tmp_path: Path) -> None:
    records = rows(12, 1, 6, 20)
    for record in records[::2]:
        record["neg"] = []
    source = write_lines(tmp_path / "in.jsonl", records)
    with OpenAIServer(judge) as server:
        model = server.model()
        settings = ModelSettings(
            DATA, tmp_path / "run", tmp_path / "cache.sqlite", free=frozenset({model}), budget_usd=50
        )
        for number, options in enumerate(
            (
                {"mine": 4},
                {"mine": 4, "mine_by": "embedding"},
                {"screen": "bm25:0.3:0"},
                {"screen": "bm25:0.1:0.5"},
            )
        ):
            fresh = replace(settings, cache_path=tmp_path / f"{number}.sqlite")
            job: dict[str, Any] = {"settings": fresh, "judges": [model], **options}
            planned = relabel_file(source, plan=True, **job)
            spent = relabel_file(source, **job)["report"]["cost"][model]
            assert planned["calls"] == pytest.approx(spent["calls"], rel=0.2), options
            assert planned["tokens_in"] == pytest.approx(spent["tokens_in"], rel=0.2), options


def test_rates_count_sent_calls_of_each_judge(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(6, 1, 4, 20))
    with OpenAIServer(judge, latency_s=0.05) as first, OpenAIServer(judge, latency_s=0.2) as second:
        models = [first.model(), second.model()]
        settings = ModelSettings(
            DATA, tmp_path / "run", tmp_path / "cache.sqlite", free=frozenset(models), budget_usd=50
        )
        job: dict[str, Any] = {"settings": settings, "judges": models, "max_in_flight": 2}
        relabel_file(source, **job)
        plans = [relabel_file(source, plan=True, **job)]
        relabel_file(source, **job)  # all answers come from the cache
        plans.append(relabel_file(source, plan=True, **job))
    rates = [plans[0]["by_judge"][model]["calls_per_second"] for model in models]
    assert rates[0] <= 2 / 0.05
    assert rates[1] <= 2 / 0.2 < 4 * rates[1]
    assert rates[0] > 1.5 * rates[1]
    assert plans[0] == plans[1]
    assert plans[0]["seconds"] == pytest.approx(
        sum(plans[0]["by_judge"][model]["seconds"] for model in models), abs=0.2
    )


def test_workers_are_faster_together() -> None:
    paces = {"a": (100.0, 20.0), "b": (10.0, 20.0)}
    assert measured_rates({"a": 100, "b": 10, "rerank": 8}, paces, 40.0) == {
        "a": 5.0,
        "b": 0.5,
        "rerank": 0.2,
    }
    assert measured_rates({"a": 100}, paces, 20.0) == {"a": 10.0, "b": 1.0}
    assert measured_rates({"a": 100}, {"a": (0.0, 0.0)}, 20.0) == {}
