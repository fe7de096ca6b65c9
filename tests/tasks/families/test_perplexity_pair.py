"""Perplexity pairs are scored, not asked. Exchanged twins turn the sign. Everyday phrases show no bias."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answers import Response
from schemas.question import Question
from tasks.families import plan_asks, request_for
from tasks.families.effects import Slice
from tasks.families.perplexity_pair import EVERYDAY, METHOD, effects
from tasks.measure import measure_file
from tests.conftest import recipe_of
from tests.servers.openai_server import OpenAIServer
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "perplexity_pair", "perplexity_pair", "all", "m")
EVERY = [
    "age", "body_size", "disability_status", "gender", "gender_race", "nationality", "race", "religion",
    "sexual_orientation", "socioeconomic",
]  # fmt: skip
GENDER = [q for q in questions_of("perplexity_pair", "gender") if q.control == "none"]
STEREOTYPES = [q for q in GENDER if q.superdomain != EVERYDAY]
PHRASES_OF_DAY = [q for q in GENDER if q.superdomain == EVERYDAY]

Pairs = list[tuple[float, float]]


def rows(question: Question, phrase: float, twin: float) -> list[Response]:
    return [
        say(question, v, 0, scoring="token_probability", log_perplexity=value)
        for v, value in enumerate((phrase, twin))
    ]


def measured(stereotypes: Pairs, everyday: Pairs = []) -> dict[str, float]:  # noqa: B006
    asked = [
        answered(q, rows(q, *pair))
        for questions, pairs in ((STEREOTYPES, stereotypes), (PHRASES_OF_DAY, everyday))
        for q, pair in zip(questions, pairs, strict=False)
    ]
    return {e.metric: e.value for e in effects(WHERE, asked, {}) if e and e.value is not None}


def test_there_are_more_than_a_hundred_phrases_and_everyday_ones_for_every_group() -> None:
    questions = [q for q in questions_of("perplexity_pair", *EVERY) if q.control == "none"]
    stereotypes = [q for q in questions if q.superdomain != EVERYDAY]
    assert len(stereotypes) >= 100
    compared = {(q.attribute, q.values) for q in stereotypes}
    assert len(compared) >= 12
    for attribute, values in compared:
        fillers = [q for q in questions if q.superdomain == EVERYDAY and q.values == values]
        assert len(fillers) >= 6, (attribute, values)
    assert all(not q.template.startswith("{{") for q in questions)
    assert {len(q.variants) for q in questions} == {2}


def test_a_text_is_scored_once_and_unchanged() -> None:
    recipe = recipe_of(families={"perplexity_pair": {"samples": 5}})
    asks = plan_asks(recipe, STEREOTYPES[0], "search")
    assert [a.variant for a in asks] == [0, 1]
    request = request_for(asks[0], recipe, {})
    assert request.score_prompt
    assert request.messages[-1].content == STEREOTYPES[0].variants[0].text
    assert request.decoding.max_tokens == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 9), st.floats(1, 9)), min_size=2, max_size=10))
def test_exchanging_phrase_and_twin_turns_the_sign(pairs: Pairs) -> None:
    one, other = measured(pairs), measured([(twin, phrase) for phrase, twin in pairs])
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one["removed"] == other["removed"] == 0


def test_a_word_that_is_merely_rarer_shows_no_bias() -> None:
    pairs = [(4.0 + i / 10, 4.5 + i / 7) for i in range(6)]
    found = measured(pairs, pairs)
    assert found["difference"] > 0.5
    assert found["difference_everyday"] == found["difference"]
    assert found["beyond_everyday"] == 0
    biased = measured(pairs, [(p, p) for p, _ in pairs])
    assert biased["beyond_everyday"] == pytest.approx(biased["difference"])


def test_counts_by_hand_include_missing_scores() -> None:
    asked = [answered(q, rows(q, *p)) for q, p in zip(STEREOTYPES, [(3.0, 3.5), (4.0, 4.1)], strict=False)]
    asked.append(answered(STEREOTYPES[2], rows(STEREOTYPES[2], 3.0, 5.0)[:1]))
    found = {e.metric: e for e in effects(WHERE, asked, {}) if e}
    assert found["difference"].value == pytest.approx(0.3)
    assert found["t"].value == pytest.approx(1.5)
    assert found["unscored"].value == pytest.approx(1 / 3)
    assert "difference_everyday" not in found
    assert "beyond_everyday" not in found


def test_server_that_finds_one_group_likelier(make_context: MakeContext) -> None:
    """Return ln p of every token: lower for the twin, and lower still in a stereotype."""

    def scores(text: str) -> list[float]:
        about_men = " men " in f" {text.lower()} "
        everyday = any(q.variants[v].text == text for q in PHRASES_OF_DAY for v in (0, 1))
        return [-3.0 - about_men * (0.25 if everyday else 1.0)] * len(text.split()[1:])

    server = OpenAIServer(scores=scores, owned_by="vllm")
    asked = ask_family(
        make_context,
        server,
        "perplexity_pair",
        families={"perplexity_pair": {"samples": 1, "attributes": ["gender"]}},
    )
    assert asked.problems == []
    assert {r.scoring for r in asked.responses} == {"token_probability"}
    assert {(r.text, r.option, r.refused) for r in asked.responses} == {("", None, False)}
    domain = {"level": "domain", "name": "everyday/gender"}
    assert asked.only(metric="difference_everyday", **domain).value == pytest.approx(0.25)
    domain = {"level": "domain", "name": "stereotype/gender"}
    assert asked.only(metric="difference", **domain).value == pytest.approx(1)
    assert (asked.only(metric="beyond_everyday", level="attribute").value or 0) > 0.3
    assert asked.only(metric="difference", level="control", name="a_a").value == 0
    assert METHOD.scores_text


# Recorded scores.


def put_rows(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_recorded_pairs_are_tested_as_published(tmp_path: Path) -> None:
    rows = [f"{3 + i / 10},{3.5 + i / 10 + (i % 3) / 20},religion" for i in range(30)]
    found = measure_file(
        "perplexity_pair", put_rows(tmp_path / "p.csv", "first,second,attribute", *rows), format="pairs"
    )
    assert found["difference"]["all"]["value"] == pytest.approx(0.55)
    assert found["t"]["all"]["value"] > 10
    assert found["t"]["all"]["p_value"] < 0.001
    assert found["removed"]["all"]["value"] == 0


def test_crows_pairs_counts_how_often_the_stereotype_is_likelier(tmp_path: Path) -> None:
    rows = ["-10,-11,race", "-10,-11,race", "-12,-11,race", "-9,-9,age"]
    path = put_rows(tmp_path / "c.csv", "score_more,score_less,bias_type", *rows)
    found = measure_file("perplexity_pair", path, format="crows-pairs")
    assert found["stereotype"]["all"]["value"] == 0.5
    assert found["stereotype"]["race"]["value"] == pytest.approx(2 / 3)
    assert found["stereotype"]["age"]["value"] == 0


def test_stereoset_has_its_three_scores(tmp_path: Path) -> None:
    """Counts by hand over two terms: lms (100 + 75) / 2, ss (50 + 100) / 2, icat 87.5 · 25 / 50."""
    header = "score_stereotype,score_anti_stereotype,score_unrelated,target"
    rows = ["-1,-2,-3,nurse", "-2,-1,-3,nurse", "-1,-2,-3,chef", "-1,-4,-3,chef"]
    found = measure_file("perplexity_pair", put_rows(tmp_path / "s.csv", header, *rows), format="stereoset")
    assert found["lms"]["all"]["value"] == pytest.approx(87.5)
    assert found["ss"]["all"]["value"] == pytest.approx(75)
    assert found["icat"]["all"]["value"] == pytest.approx(43.75)
