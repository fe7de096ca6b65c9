"""Decisions at the scale of the original: 135 fills, coefficients by factor, prompts that mitigate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answers import Effect, Response
from schemas.errors import InputError
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.expand import expand_family
from tasks.families import conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.families.decision import pearson_of_totals, released
from tasks.families.shared import family_effects, gather_answers
from tasks.files.vocabulary import read_attributes
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages, Reply
from tests.tasks.families.asked_family import MakeContext, ask_family
from tests.tasks.judge.material import TARGET, make_response

FULL = {
    "attributes": ["age_gender_race"],
    "families": {"decision": {"samples": 1, "framings": ["explicit", "implicit"]}},
}
Score = Callable[[Question, str], float]
"""Logit of yes against no, from the question and the variant's value."""


@cache
def attributes() -> dict[str, Attribute]:
    return {a.id: a for a in read_attributes(DATA, ["age_gender_race", "gender_race", "gender", "placebo"])}


@pytest.fixture(scope="module")
def everything() -> list[Question]:
    return expand_family(recipe_of(**FULL), DATA, "decision")


@pytest.fixture(scope="module")
def some(everything: list[Question]) -> list[Question]:
    """Return twenty scenarios in both framings."""
    explicit = [q for q in everything if q.control == "none" and q.framing == "explicit"][:20]
    twins = {q.twin_id for q in explicit}
    return explicit + [q for q in everything if q.id in twins]


def decided(
    questions: Iterable[Question], score: Score, *, noise: float = 0.3, seed: int = 5, **more: Any
) -> list[Response]:
    rng = np.random.default_rng(seed)
    rows = []
    for question in questions:
        for variant in question.variants:
            logit = score(question, variant.value) + noise * rng.normal()
            rows.append(
                make_response(
                    question,
                    variant.index,
                    0,
                    option=int(logit < 0),
                    option_logprobs=(-1.0, -1.0 - logit) if logit > -1 else (-1.0 + logit, -1.0),
                    option_order=(0, 1),
                    scoring="token_probability",
                    **more,
                )
            )
    return rows


def level(question: Question) -> float:
    """Return the same logit for every value of a scenario in both framings."""
    return (sum(map(ord, (question.template_id or "").removesuffix(".implicit"))) % 17) / 4 - 2


def planted(question: Question, value: str) -> float:
    factors = attributes()[question.attribute].value(value).factors
    gaps = 0.5 * (factors["gender"] == "woman") + 0.9 * (factors["race"] == "black")
    return level(question) + gaps * (1 if question.framing == "explicit" else 0.2)


def effects_of(questions: list[Question], responses: list[Response]) -> list[Effect]:
    return family_effects(gather_answers({q.id: q for q in questions}, responses), attributes())


def values(effects: Iterable[Effect], **where: Any) -> dict[str, float]:
    return {e.metric: e.value for e in effects if all(getattr(e, k) == v for k, v in where.items())}


def test_there_are_seventy_scenarios_with_135_fills_named_and_by_name(everything: list[Question]) -> None:
    kinds = Counter((q.control, q.framing) for q in everything)
    assert kinds["none", "explicit"] == kinds["none", "implicit"] >= 70
    asked = [q for q in everything if q.control == "none"]
    assert {len(q.variants) for q in asked} == {135}
    assert sum(len(q.variants) for q in asked if q.framing == "explicit") >= 9_450


def test_a_name_implies_gender_and_race_and_the_age_is_stated(everything: list[Question]) -> None:
    for q in everything:
        if q.control == "none" and q.framing == "implicit":
            assert all(", aged " in v.text for v in q.variants)
            assert not any(word in v.text for v in q.variants for word in ("Black", "Asian", "non-binary"))


def test_scenario_in_which_age_may_matter_is_a_neutral_control(everything: list[Question]) -> None:
    neutral = {(q.template_id or "").removesuffix(".implicit") for q in everything if q.control == "neutral"}
    assert {"fire_brigade_recruit", "bus_driver_retraining"} <= neutral


def test_coefficients_of_every_level_come_out_as_planted(some: list[Question]) -> None:
    found = values(effects_of(some, decided(some, planted)), level="attribute")
    coefficients = {k: v for k, v in found.items() if k.startswith("coefficient:")}
    assert len(coefficients) == 8 + 2 + 4
    expected = {"coefficient:woman-man": 0.5, "coefficient:black-white": 0.9}
    for metric, value in coefficients.items():
        assert value == pytest.approx(expected.get(metric, 0.0), abs=0.1)
        assert found[metric.replace("coefficient", "gap")] == pytest.approx(value)
    assert found["coefficient_by_name:black-white"] == pytest.approx(0.18, abs=0.1)


def test_single_values_are_compared_for_the_whole_attribute_only(some: list[Question]) -> None:
    effects = effects_of(some, decided(some, planted))
    single = "gap:age_20_black_woman-age_60_white_man"
    assert single in values(effects, level="attribute")
    for name in ("domain", "superdomain", "control", "family"):
        assert single not in values(effects, level=name)
    assert "gap:black-white" in values(effects, level="domain")


def test_an_intersection_shows_what_its_factors_average_out(some: list[Question]) -> None:
    recipe = recipe_of(attributes=["gender_race"], families={"decision": {"questions": 12}})
    questions = [q for q in expand_family(recipe, DATA, "decision") if q.control == "none"]
    responses = decided(questions, lambda q, value: level(q) - (value == "black_woman"), noise=0.0)
    found = values(effects_of(questions, responses), level="attribute")
    assert found["gap:black_woman-white_man"] == pytest.approx(-1)
    assert found["gap:black_man-white_man"] == found["gap:white_woman-white_man"] == pytest.approx(0)
    assert found["gap:black-white"] == pytest.approx(-1 / 3)


def test_controls_have_no_gap(everything: list[Question]) -> None:
    controls = [q for q in everything if q.control in ("a_a", "placebo")]
    effects = effects_of(controls, decided(controls, lambda q, value: level(q), noise=0.0))
    gaps = {k: v for k, v in values(effects, level="control").items() if k.startswith("gap")}
    assert gaps
    assert set(gaps.values()) == {0.0}


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99))
def test_turning_all_decisions_round_flips_every_sign(some: list[Question], seed: int) -> None:
    few = [q for q in some if q.framing == "explicit"][:6]
    rng = np.random.default_rng(seed)
    drawn = {(q.id, v.value): float(rng.normal()) for q in few for v in q.variants}

    def gaps(sign: int) -> dict[str, float]:
        responses = decided(few, lambda q, value: sign * drawn[q.id, value], noise=0.0)
        found = values(effects_of(few, responses), level="attribute")
        return {k: v for k, v in found.items() if k.startswith(("gap", "coefficient"))}

    assert gaps(-1) == pytest.approx({k: -v for k, v in gaps(1).items()})


def test_mitigation_that_changes_nothing_but_the_gap_resembles_the_plain_decisions(
    some: list[Question],
) -> None:
    plain = decided(some, planted, condition="plain")
    fair = decided(some, lambda q, value: level(q), condition="fair", seed=6)
    random = decided(some, lambda q, value: 0.0, condition="merits", noise=2.0, seed=7)
    rows = [r.model_copy(update={"id": f"{r.id}{r.condition}"}) for r in (*plain, *fair, *random)]
    effects = effects_of(some, rows)
    resemblance = {e.condition: e for e in effects if e.metric == "r_with_plain"}
    assert set(resemblance) == {"fair", "merits"}
    assert resemblance["fair"].value > 0.9
    assert abs(resemblance["merits"].value) < 0.2
    for e in resemblance.values():
        assert e.n == 20
        assert e.low is not None
        assert e.high is not None
        assert e.low < e.value < e.high
    gaps = {c: values(effects, level="attribute", condition=c) for c in ("plain", "fair")}
    assert gaps["plain"]["coefficient:black-white"] > 0.8
    assert abs(gaps["fair"]["coefficient:black-white"]) < 0.1


def test_figures_of_a_release_are_apart_by_condition_and_framing(some: list[Question]) -> None:
    rows = [
        r.model_copy(update={"id": f"{r.id}{r.condition}"})
        for condition in ("plain", "fair")
        for r in decided(some, planted, condition=condition)
    ]
    figures = released(gather_answers({q.id: q for q in some}, rows), attributes(), DATA)
    names = {TARGET, f"{TARGET}/implicit", f"{TARGET}/fair", f"{TARGET}/fair/implicit"}
    assert set(figures["gap"]) == set(figures["coefficient"]) == names
    assert figures["coefficient"][TARGET]["woman-man"]["value"] == pytest.approx(0.5, abs=0.1)
    assert figures["r_with_plain"][f"{TARGET}/fair"]["value"] == pytest.approx(1.0)


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=20))
def test_r_is_pearsons_and_does_not_depend_on_scale(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T

    def r(x: Any, y: Any) -> float:
        totals = [len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]
        return float(pearson_of_totals(np.array(totals)))

    if x.std() == 0 or y.std() == 0:
        assert np.isnan(r(x, y))
    else:
        assert r(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        assert r(-4 * x, y) == pytest.approx(-r(x, y))


def test_every_mitigating_prompt_shows_the_case_and_asks_for_it_to_be_fair() -> None:
    recipe = recipe_of(attributes=["gender"], families={"decision": {"questions": 1}})
    conditions = conditions_of(recipe, DATA, "decision")
    assert conditions == ("plain", "aware", "fair", "ignore", "illegal", "merits")
    question = next(q for q in expand_family(recipe, DATA, "decision") if q.control == "none")
    prompts = read_asking_prompts(DATA, ["decision"])
    requests = [
        request_for(ask, recipe, prompts)
        for ask in plan_asks(recipe, question, "search", conditions)
        if ask.variant == ask.sample == 0
    ]
    assert len({r.messages for r in requests}) == len(conditions)
    assert all(question.variants[0].text in r.messages[-1].content for r in requests)
    assert {r.decoding.choices for r in requests} == {("No", "Yes")}


def test_a_way_of_asking_that_there_is_no_prompt_for_is_refused() -> None:
    recipe = recipe_of(families={"decision": {"conditions": ["pray"]}})
    with pytest.raises(InputError, match="has no condition 'pray'"):
        conditions_of(recipe, DATA, "decision")


def doubts_women(messages: Messages, body: Body) -> Reply:
    """Answer yes with probability .5. For a woman .27, unless the prompt forbids discrimination."""
    text = messages[-1]["content"]
    doubt = 1.0 * (" woman," in text and "discriminate" not in text)
    return Reply("No" if doubt else "Yes", top=({"Yes": -0.7 - doubt, "No": -0.7},))


def test_decisions_over_a_server_give_the_gap_and_its_mitigation(make_context: MakeContext) -> None:
    asked = ask_family(
        make_context,
        doubts_women,
        "decision",
        attributes=["gender_race"],
        families={"decision": {"questions": 3, "samples": 1, "conditions": ["plain", "fair"]}},
    )
    assert asked.problems == []
    assert {r.scoring for r in asked.responses} == {"token_probability"}
    by_condition = {
        c: asked.only(level="attribute", metric="gap:woman-man", condition=c) for c in ("plain", "fair")
    }
    assert by_condition["plain"].value == pytest.approx(-1)
    assert by_condition["fair"].value == pytest.approx(0)
