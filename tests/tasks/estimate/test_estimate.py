"""The estimate is exact if it can be, an upper bound otherwise, and is compared with the budget."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import RESPONSES
from schemas.errors import BudgetError
from schemas.question import QUESTIONS
from tasks.estimate import BuildEstimate, estimate, refuse_over_budget
from tasks.expand import expand
from tasks.models.capabilities import Capabilities, keep_capabilities
from tasks.respond import respond
from tasks.run.store import RunContext, write_step
from tests.servers.openai_server import OpenAIServer

MakeContext = Callable[..., RunContext]
PRICED = {
    "generator": "openai:gpt-5-mini",
    "targets": ["openai:gpt-4.1-mini"],
    "judges": ["openai:gpt-5-mini"],
    "relabel_judges": ["sentences"],
}


def stage(plan: BuildEstimate, name: str) -> Any:
    return next(s for s in plan.stages if s.name == name)


def test_calls_of_templated_families_are_exact(make_context: MakeContext) -> None:
    with OpenAIServer("Yes") as server:
        model = server.model()
        context = make_context(
            models={"targets": [model]},
            budget={"free": [model]},
            families={"decision": {"questions": 5, "samples": 2}},
            attributes=["gender", "age"],
        )
        plan = estimate(context)
        questions = expand(context, ("decision",))
        step = write_step(Path(context.run_dir) / "q-0", "expand", "0", questions)
        answers = respond(context, step.table("questions"), "search")
        assert len(server.requests) == stage(plan, "respond").calls
    assert stage(plan, "expand").rows == len(questions.tables[QUESTIONS]) == plan.questions["decision"]
    assert stage(plan, "respond").calls == len(answers.tables[RESPONSES]) == plan.known_calls


def test_cached_answers_are_counted(make_context: MakeContext) -> None:
    with OpenAIServer("Yes") as server:
        model = server.model()
        context = make_context(
            models={"targets": [model]},
            budget={"free": [model]},
            families={"decision": {"questions": 2, "samples": 1}},
        )
        assert estimate(context).cached_calls == 0
        step = write_step(Path(context.run_dir) / "q-0", "expand", "0", expand(context, ("decision",)))
        respond(context, step.table("questions"), "search")
        plan = estimate(context)
    assert plan.cached_calls == plan.known_calls > 0


def test_every_round_of_evolution_costs_more(make_context: MakeContext) -> None:
    def cost(rounds: int) -> float:
        evolve = {"rounds": rounds, "questions_per_round": 10}
        return estimate(make_context(models=PRICED, evolve=evolve)).total_cost_usd

    assert 0 < cost(0) < cost(1) < cost(3)


def test_builds_without_models_cost_nothing(make_context: MakeContext) -> None:
    plan = estimate(make_context(evolve={"rounds": 2, "questions_per_round": 5}))
    assert plan.total_cost_usd == 0
    assert stage(plan, "judge").calls == 0
    assert stage(plan, "judge").rows > 0
    assert stage(plan, "mutate").calls == 0


def test_assumptions_raise_the_highest_cost_and_exact_counts_do_not(make_context: MakeContext) -> None:
    searched = estimate(make_context(models=PRICED, evolve={"rounds": 2, "questions_per_round": 10}))
    assert searched.highest_cost_usd > searched.total_cost_usd > 0
    families = {"decision": {"questions": 5, "samples": 2}}
    fixed = estimate(make_context(models={"targets": ["openai:gpt-4.1-mini"]}, families=families))
    assert fixed.highest_cost_usd == fixed.total_cost_usd > 0


def test_more_samples_show_smaller_effects(make_context: MakeContext) -> None:
    effects = [
        estimate(make_context(holdout={"samples": n})).smallest_detectable_effect["gender"] for n in (2, 8)
    ]
    assert effects[0] > effects[1] > 0


def test_plan_names_the_number_of_labels_that_halves_the_interval(make_context: MakeContext) -> None:
    families = {"open": {"questions": 400, "samples": 2}}
    sections: dict[str, Any] = {"models": PRICED, "families": families, "attributes": ["gender"]}
    without = estimate(make_context(**sections))
    assert (without.labels, without.labels_to_halve) == (0, None)
    plan = estimate(make_context(**sections, review={"answers": 2}))
    assert plan.labels == 2
    assert plan.labels_to_halve is None or plan.labels_to_halve >= 4 * 2


def test_plan_over_the_budget_names_the_most_expensive_model(make_context: MakeContext) -> None:
    plan = estimate(make_context(models=PRICED, budget={"usd": 0.001}))
    with pytest.raises(BudgetError, match="exceeds the budget") as error:
        refuse_over_budget(plan)
    assert "gpt-" in str(error.value.place)
    assert error.value.exit_code == 4


def test_unknown_price_is_refused(make_context: MakeContext) -> None:
    with pytest.raises(BudgetError, match="price"):
        estimate(make_context(models={"targets": ["openai:unheard-of"]}))


def test_generator_explores_and_writes_and_the_first_judge_reads(make_context: MakeContext) -> None:
    def calls(**changes: Any) -> dict[str, int]:
        models = {**PRICED, "judges": ["divergence", "openai:gpt-4.1-mini"]}
        families = {"open": {"questions": 4, "framings": ["explicit", "implicit"]}}
        evolve = {"rounds": 2, "questions_per_round": 10, **changes}
        plan = estimate(make_context(models=models, families=families, evolve=evolve))
        mutate = [cost for cost in plan.costs if cost.stage == "mutate"]
        return {m: sum(c.calls for c in mutate if c.model == m) for m in {c.model for c in mutate}}

    assert calls() == {"openai:gpt-5-mini": 20 + 4, "openai:gpt-4.1-mini": 40}
    assert calls(strategy="random") == {"openai:gpt-5-mini": 20, "openai:gpt-4.1-mini": 40}
    assert calls(fluency="rules") == {"openai:gpt-5-mini": 20 + 4}


def test_longer_answers_of_the_generator_are_planned_for(make_context: MakeContext) -> None:
    def tokens(limit: int) -> int:
        evolve = {"rounds": 1, "questions_per_round": 10, "max_tokens": limit, "strategy": "random"}
        models = {**PRICED, "judges": ["divergence"]}
        return int(stage(estimate(make_context(models=models, evolve=evolve)), "mutate").tokens_out)

    assert tokens(4000) == 10 * tokens(400) == 40_000


def test_tokens_for_thinking_are_counted_in_full(make_context: MakeContext) -> None:
    def plan(reasoning: dict[str, Any]) -> BuildEstimate:
        (target,) = PRICED["targets"]
        options = {target: {"reasoning": reasoning}}
        return estimate(make_context(models=PRICED | {"options": options}))

    (target,) = PRICED["targets"]
    without, with_thinking = plan({}), plan({"max_tokens": 2000})
    assert without.thinking == {}
    assert with_thinking.thinking == {target: 2000}
    calls = stage(without, "respond").calls
    assert stage(with_thinking, "respond").tokens_out == stage(without, "respond").tokens_out + 2000 * calls
    assert with_thinking.total_cost_usd > without.total_cost_usd


def test_a_model_that_was_seen_thinking_without_a_budget_is_named(make_context: MakeContext) -> None:
    context = make_context(models=PRICED)
    (target,) = PRICED["targets"]
    keep_capabilities(Path(context.run_dir), target, Capabilities(reasoning=True))
    warnings = [w for w in estimate(context).warnings if "thinks before it answers" in w]
    assert len(warnings) == 1
    assert warnings[0].startswith(target)


def test_prices_have_a_source_and_own_ones_are_named(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context(models=PRICED)
    (target,), (judge,) = PRICED["targets"], PRICED["judges"]
    prices = estimate(context).prices
    assert set(prices) == {target, judge}
    assert prices[target].source.startswith("genai-prices ")
    assert not prices[target].own
    vocabulary = tmp_path / "vocabulary"
    shutil.copytree(context.data_dir, vocabulary, ignore=shutil.ignore_patterns("runs", "releases", "cache"))
    own = '{input: 9, output: 9, source: "a contract", as_of: "2026-01-02"}'
    (vocabulary / "prices.yaml").write_text(f"models: {{gpt-4.1-mini: {own}}}")
    changed = estimate(context.model_copy(update={"data_dir": str(vocabulary)})).prices
    assert changed[target].own
    assert (changed[target].input, changed[target].as_of) == (9, "2026-01-02")
    assert not changed[judge].own
