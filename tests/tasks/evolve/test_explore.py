"""Exploration by a model, over a real server: new domains, under names that are safe and not taken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ModelError
from schemas.labels import PROPOSALS, StageCounts
from schemas.question import Question
from tasks.evolve import build_search_state
from tasks.evolve.explore import RETRIES, best_and_worst_units, mean_fitness_by_unit
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.run.store import Outcome, RunContext
from tasks.text.slugs import MAX_SLUG, slugify
from tests.conftest import DATA
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer, delay
from tests.tasks.evolve.writing_server import (
    Script,
    one_round,
    proposed_domain,
    proposed_superdomain,
    questions_of,
    requested_type,
    script,
    written,
)
from tests.tasks.judge.material import make_question

MakeContext = Callable[..., RunContext]


def explore_once(
    make_context: MakeContext,
    *,
    domain: Script = proposed_domain,
    superdomain: Script = proposed_superdomain,
    per_round: int = 20,
    min_judged: float = 0.9,
) -> tuple[OpenAIServer, Outcome]:
    with OpenAIServer(script(domain=domain, superdomain=superdomain)) as server:
        context = make_context(
            models={"generator": server.model("writer"), "targets": ["embedded:smollm2-135m"]},
            budget={"free": [server.model("writer")]},
            evolve={"rounds": 1, "questions_per_round": per_round, "strategy": "quotas"},
            limits={"max_in_flight": 1, "attempts": 2},
            validate={"min_judged": min_judged},
        )
        return server, one_round(context)


def calls_for(server: OpenAIServer, kind: str) -> list[str]:
    return [r.body["messages"][-1]["content"] for r in server.requests if requested_type(r.body) == kind]


def proposals(outcome: Outcome) -> StageCounts:
    """Return the counts of the topics that were asked for."""
    return next(c for c in outcome.counts if c.stage == PROPOSALS)


def new_questions(outcome: Outcome) -> list[Question]:
    return [q for q in questions_of(outcome) if "new_" in q.superdomain + q.domain]


def test_new_superdomain_has_two_domains_with_two_topics_each(make_context: MakeContext) -> None:
    _, outcome = explore_once(make_context)
    inside = Counter((q.superdomain, q.domain) for q in new_questions(outcome) if q.superdomain != "work")
    assert inside == {("new_area_0", "new_domain_0"): 2, ("new_area_0", "new_domain_1"): 2}
    topics = {q.topic for q in new_questions(outcome) if q.domain == "new_domain_0"}
    assert topics == {"first_topic_0", "second_topic_0"}


def test_known_superdomain_gets_new_domains(make_context: MakeContext) -> None:
    _, outcome = explore_once(make_context)
    opened = {q.domain for q in new_questions(outcome) if q.superdomain == "work"}
    assert opened
    assert [f"work/{d}" for d in sorted(opened)] == [
        name for name in json.loads(outcome.notes)["opened"] if name.startswith("work/")
    ]


def test_model_sees_the_units_and_the_best_and_worst_of_them(make_context: MakeContext) -> None:
    server, _ = explore_once(make_context)
    shown = calls_for(server, "ProposedDomain")[0]
    assert "Promotion and pay" in shown
    assert "(mean 0." in shown


def test_best_and_worst_units_are_distinguished() -> None:
    judged = [
        make_question(i, superdomain=f"s{i // 2}", domain=f"d{i}", fitness=i / 16, round=0) for i in range(16)
    ]
    best, worst = best_and_worst_units(mean_fitness_by_unit(judged, ""))
    assert [name for name, _ in best] == ["s7", "s6", "s5"]
    assert [name for name, _ in worst] == ["s2", "s1", "s0"]
    assert mean_fitness_by_unit(judged, "s1") == [("d3", 3 / 16), ("d2", 2 / 16)]
    best, worst = best_and_worst_units(mean_fitness_by_unit(judged, "s1"))
    assert (len(best), len(worst)) == (2, 0)


def test_taken_name_is_asked_for_again_with_the_names_that_are_taken(make_context: MakeContext) -> None:
    def taken_first(number: int) -> dict[str, Any]:
        return {**proposed_domain(number), **({"domain": "promotion AND  pay"} if number == 0 else {})}

    server, outcome = explore_once(make_context, domain=taken_first)
    asked = calls_for(server, "ProposedDomain")
    assert sum("promotion AND pay" in text for text in asked) == 1
    assert proposals(outcome).dropped == 0
    assert "work/promotion_and_pay" not in json.loads(outcome.notes)["opened"]


def test_two_proposals_of_one_round_do_not_share_a_name(make_context: MakeContext) -> None:
    _, outcome = explore_once(make_context, superdomain=lambda n: proposed_superdomain(n // 2), per_round=60)
    opened = json.loads(outcome.notes)["opened"]
    assert len(opened) == len(set(opened))
    counts = Counter((q.superdomain, q.domain) for q in new_questions(outcome))
    assert set(counts.values()) <= {1, 2}


def test_name_that_stays_taken_is_given_up_after_five_more_tries(make_context: MakeContext) -> None:
    always = {"domain": "Promotion", "topics": ["one topic", "another topic"]}
    server, outcome = explore_once(make_context, domain=lambda n: always)
    unmet = proposals(outcome).dropped
    assert unmet > 0
    assert len(calls_for(server, "ProposedDomain")) == (RETRIES + 1) * unmet
    made = [q for q in questions_of(outcome) if q.operator == "explore"]
    assert len(questions_of(outcome)) == 20
    assert {q.superdomain for q in made} == {"work", "new_area_0"}


@pytest.mark.parametrize(
    "useless",
    ["I would rather not.", {"domain": "Only one topic", "topics": ["one"]}, {"domain": 7, "topics": []}],
    ids=["no JSON", "too few topics", "wrong types"],
)
def test_unfit_proposals_are_counted_and_known_domains_explored(
    make_context: MakeContext, useless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("tasks.evolve.explore.say", lines.append)
    _, outcome = explore_once(make_context, domain=lambda n: useless)
    assert not any(name.startswith("work/") for name in json.loads(outcome.notes)["opened"])
    counts = proposals(outcome)
    assert counts.dropped > 0
    assert lines[0].startswith(f"{counts.dropped} of {counts.rows} ")
    assert len(questions_of(outcome)) == 20


def test_proposals_that_fail_stop_the_search(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match="proposals of topics without a usable answer"):
        explore_once(make_context, domain=lambda n: "")


def test_a_search_may_tolerate_proposals_that_fail(make_context: MakeContext) -> None:
    _, outcome = explore_once(make_context, domain=lambda n: "", min_judged=0.0)
    assert proposals(outcome).dropped > 0
    assert len(questions_of(outcome)) == 20


def test_hostile_names_become_harmless_ids(make_context: MakeContext) -> None:
    hostile = {"domain": "../../etc {{7*7}} <script>\n=cmd|'/C calc'!A0 " * 9, "topics": ["$known", "%s"]}
    _, outcome = explore_once(make_context, domain=lambda n: hostile)
    for question in questions_of(outcome):
        for name in (question.superdomain, question.domain, question.topic):
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
            assert 0 < len(name) <= MAX_SLUG


@given(st.text(max_size=80))
def test_any_title_becomes_an_id_and_an_id_stays_as_it_is(title: str) -> None:
    name = slugify(title)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert 0 < len(name) <= MAX_SLUG
    assert slugify(name) == name


def test_titles_without_latin_letters_are_distinguished() -> None:
    assert slugify("Садоводство") != slugify("Кулинария")
    assert slugify("Élevage & Nature") == "elevage_and_nature"


def test_cost_of_exploration_is_counted_with_the_generator(make_context: MakeContext) -> None:
    server, outcome = explore_once(make_context)
    (cost,) = outcome.costs
    assert cost.calls == len(server.requests)


def test_opened_domain_is_like_any_other_in_later_rounds(make_context: MakeContext) -> None:
    _, outcome = explore_once(make_context)
    context = make_context(
        models={"generator": "openai:writer@http://127.0.0.1:9/v1", "targets": ["embedded:smollm2-135m"]}
    )
    found = [q.model_copy(update={"fitness": 0.9, "label": "accepted"}) for q in new_questions(outcome)]
    attributes = read_attributes(DATA, context.recipe.attributes)
    taxonomy = read_taxonomy(DATA, context.recipe.superdomains)
    assert ("new_area_0", "new_domain_0") in build_search_state(context, found, attributes, taxonomy, 2).units
    without_model = make_context()
    units = build_search_state(without_model, found, attributes, taxonomy, 2).units
    assert ("new_area_0", "new_domain_0") not in units


def test_same_answers_open_the_same_domains_in_any_order(make_context: MakeContext, tmp_path: Path) -> None:
    def by_seed(messages: Messages, body: Body) -> Answer:
        kind, number = requested_type(body), body["seed"]
        if kind == "ProposedDomain":
            return proposed_domain(number % 7)
        return proposed_superdomain(number % 7) if kind == "ProposedSuperdomain" else written(number)

    def build(turn: int) -> Outcome:
        with OpenAIServer(by_seed, faults=lambda number, _: delay(0.01 * (number * turn % 5))) as server:
            context = make_context(
                models={"generator": server.model("writer"), "targets": ["embedded:smollm2-135m"]},
                budget={"free": [server.model("writer")]},
                evolve={"rounds": 1, "questions_per_round": 60},
                limits={"max_in_flight": 8},
            )
            places = {"run_dir": str(tmp_path / f"run{turn}"), "cache_path": str(tmp_path / f"cache{turn}")}
            return one_round(context.model_copy(update=places))

    first, second = build(1), build(3)
    assert first.tables == second.tables
    assert first.notes == second.notes
