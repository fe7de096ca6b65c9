"""Estimate: rows, calls, tokens and dollars of every stage, before anything is spent.

Templated families and seeds are counted by expanding them; a round of evolution counts what it may write at
most. How much of it is accepted, and how often a judge is asked twice, are assumptions (`ASSUMED`); beside
the estimate stands what it would cost were all of them as high as can be (`HIGHEST`). Tokens are estimated
from the length of the texts and, for what models write, from the length limit: models that say less cost
less. The budget is held against the estimate before a build, and against every call during it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.errors import BudgetError
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.vocabulary import Attribute
from tasks.estimate.prompt_sizes import PromptSizes, measure_prompts, measure_verdicts
from tasks.evolve.generate import reader_of
from tasks.evolve.jobs import TOPICS_PER_DOMAIN
from tasks.expand import expand_family
from tasks.families import conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.files.vocabulary import read_attributes
from tasks.judges.comparison import count_comparisons
from tasks.judges.relevance import COMPARISON_TOKENS, GRADE_TOKENS, RANKING_TOKENS, SPAN_TOKENS
from tasks.models import ModelSettings, count_cached
from tasks.models.names import parse_model_name, price_of
from tasks.models.protocol import Request, estimate_prompt_tokens
from tasks.questions.binding import control_count
from tasks.questions.composition import wants_names
from tasks.review import reviews_needed
from tasks.run.store import RunContext
from tasks.stats.tests import smallest_detectable_effect


@dataclass(frozen=True)
class Shares:
    """What no plan can know."""

    accepted: float
    """Of the searched questions, controls left out: answered again on hold-out, compared with near misses.
    What controls reach by chance leaves a twentieth of what shows nothing."""
    above_threshold: float
    """The same, where the recipe sets the threshold (`evolve.save_threshold`)."""
    explored: float
    """Of a round's questions, with a strategy that opens new domains: proposals for them are asked for."""
    split: float
    """Of the groups: the panel is split, and the adjudicator is asked."""
    orders: float
    """Calls for one comparison: a verdict that finds something is asked for in two orders."""


ASSUMED = Shares(accepted=0.1, above_threshold=0.3, explored=0.4, split=0.1, orders=1.55)
HIGHEST = Shares(accepted=1.0, above_threshold=1.0, explored=1.0, split=1.0, orders=2.0)
EXPLORERS = ("quotas", "thompson")
"""The strategies that open new domains."""
EXPLORING_TOKENS = 400
"""Tokens that are read for one proposal of a new domain."""
RANKING_ORDERS = 2
"""Every ranking is asked in two orders."""


class StageEstimate(BaseModel):
    """One stage of the plan."""

    model_config = ConfigDict(frozen=True)
    name: str
    rows: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class BuildEstimate(BaseModel):
    """The whole plan: by stage, and by stage and model."""

    model_config = ConfigDict(frozen=True)
    stages: tuple[StageEstimate, ...]
    costs: tuple[StageCost, ...]
    total_cost_usd: float
    highest_cost_usd: float
    """Were everything accepted, every domain new, every panel split and every comparison asked twice. Failed
    tries that are paid for come on top, and answers that are asked for again as they cannot be read."""
    cost_by_model: dict[str, float]
    budget_usd: float
    questions: dict[str, int]
    """Questions per family before evolution, controls included; exact."""
    known_calls: int
    """Calls whose texts are known already: templated families and seeds, all targets."""
    clear_of: tuple[str, ...]
    """Earlier releases and files that the questions will be held against, as the recipe names them."""
    reviews: int
    """Accepted questions that people must settle before the build goes on, at an estimate; 0: none."""
    cached_calls: int
    """How many of those need not be sent, because their answers are in the cache."""
    smallest_detectable_effect: dict[str, float]
    """By attribute: the smallest difference between two values, in standard deviations of one answer's
    score, that the hold-out samples of the accepted questions can show (80 % power, two-sided 5 %)."""


@dataclass(frozen=True)
class QuestionPopulation:
    """A population of questions as the estimate sees it."""

    questions: int
    controls: int
    """How many of them."""
    calls: int
    """For one model: variants × samples over all questions."""
    tokens_in: float
    """Per call."""
    tokens_out: float
    """Per call, at the length limit."""


@dataclass(frozen=True)
class Known:
    """What is counted before anything is asked."""

    templated: int
    """Questions of templated families."""
    seeds: int
    choices: QuestionPopulation
    searched: QuestionPopulation
    sizes: PromptSizes
    looks: float
    """Comparisons of one group."""
    verdicts: tuple[float, float]
    """Tokens that a judge reads for one, in the search and on hold-out."""


Work = list[tuple[str, int, list[StageCost]]]
"""Stage, rows, costs by model."""


def estimate(context: RunContext) -> BuildEstimate:
    """The plan of a build. Raises what the build would raise: unknown files, templates that do not fit."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    questions = {family: expand_family(recipe, data_dir, family) for family in recipe.families}
    templated = [q for f in recipe.templated_families for q in questions[f]]
    seeds = [q for f in recipe.evolved_families for q in questions[f]]
    known = count_known(context, templated, seeds)
    requests = known_requests(context, templated + seeds)
    highest = totals(context, plan_work(context, known, HIGHEST))
    return BuildEstimate(
        **totals(context, plan_work(context, known, ASSUMED)),
        highest_cost_usd=highest["total_cost_usd"],
        questions={family: len(q) for family, q in questions.items()},
        clear_of=recipe.deduplicate.against,
        reviews=reviews_needed(recipe.review, accepted(recipe, known.searched, ASSUMED)),
        known_calls=len(requests) * len(recipe.models.targets),
        cached_calls=sum(count_cached(m, requests, ModelSettings.of(context)) for m in recipe.models.targets),
        smallest_detectable_effect=detectable_effects(recipe, on_holdout(recipe, known.searched, ASSUMED)),
    )


def count_known(context: RunContext, templated: Sequence[Question], seeds: Sequence[Question]) -> Known:
    """Questions and prompts as far as they are there already."""
    recipe = context.recipe
    looks = [count_comparisons(len(q.variants), recipe.judging.comparison) for q in seeds]
    samples = recipe.families["open"].samples if seeds else 0
    return Known(
        templated=len(templated),
        seeds=len(seeds),
        choices=measure_asking(context, templated),
        searched=with_evolution(context, seeds),
        sizes=measure_prompts(context, seeds),
        looks=fmean(looks or [0]),
        verdicts=(
            measure_verdicts(context, seeds, samples),
            measure_verdicts(context, seeds, recipe.holdout.samples),
        ),
    )


def plan_work(context: RunContext, known: Known, shares: Shares) -> Work:
    """Every stage: rows, and costs by model."""
    recipe, searched = context.recipe, known.searched
    targets, late = recipe.models.targets, holdout_models(recipe)
    held_out = on_holdout(recipe, searched, shares)
    sets = accepted(recipe, searched, shares)
    return [
        ("expand", known.templated + known.seeds, []),
        ("mutate", searched.questions - known.seeds, writing(context, known.sizes, shares)),
        ("respond", known.choices.calls + searched.calls, asking(context, targets, known.choices, searched)),
        (
            "judge",
            searched.questions,
            judging(context, targets, searched, known.looks, known.verdicts[0], shares),
        ),
        ("relabel", *relabelling(context, sets, known.sizes)),
        ("respond_holdout", held_out.calls, asking(context, late, held_out)),
        (
            "judge_holdout",
            held_out.questions,
            judging(context, late, held_out, known.looks, known.verdicts[1], shares),
        ),
    ]


def measure_asking(context: RunContext, questions: Sequence[Question]) -> QuestionPopulation:
    """The calls of given questions, counted one by one; tokens from their own requests."""
    requests = known_requests(context, questions)
    controls = sum(question.control != "none" for question in questions)
    return QuestionPopulation(len(questions), controls, len(requests), *_mean_tokens(requests))


def known_requests(context: RunContext, questions: Sequence[Question]) -> list[Request]:
    """What one target will be asked in the search phase."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, recipe.families)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    return [
        request_for(ask, recipe, prompts)
        for q in questions
        for ask in plan_asks(recipe, q, "search", conditions[q.family])
    ]


def _mean_tokens(requests: Sequence[Request]) -> tuple[float, float]:
    if not requests:
        return 0.0, 0.0
    return (
        fmean(estimate_prompt_tokens(r.messages) for r in requests),
        fmean(r.decoding.max_tokens for r in requests),
    )


def with_evolution(context: RunContext, seeds: Sequence[Question]) -> QuestionPopulation:
    """Seeds and all rounds: as many questions as a round may write, twins and controls included, of the
    seeds' mean size."""
    recipe = context.recipe
    base = measure_asking(context, seeds)
    if not recipe.evolve.rounds or not seeds:
        return base
    controls = recipe.evolve.rounds * controls_per_round(recipe)
    extra = recipe.evolve.rounds * twins_included(context) + controls
    calls = base.calls + ceil(extra * base.calls / base.questions)
    return replace(base, questions=base.questions + extra, controls=base.controls + controls, calls=calls)


def controls_per_round(recipe: Recipe) -> int:
    """What one round of evolution writes beside its questions."""
    shares = (recipe.controls.a_a, recipe.controls.placebo, recipe.controls.neutral)
    return sum(control_count(recipe.evolve.questions_per_round, share) for share in shares)


def twins_included(context: RunContext) -> int:
    """Questions of one round, controls left out."""
    wanted = context.recipe.evolve.questions_per_round
    attributes = open_attributes(context)
    named = sum(wants_names(context.recipe.families["open"], a) for a in attributes)
    return wanted + ceil(wanted * named / len(attributes))


def open_attributes(context: RunContext) -> tuple[Attribute, ...]:
    """What the advice questions vary."""
    recipe = context.recipe
    chosen = recipe.families["open"].attributes if "open" in recipe.families else ()
    return read_attributes(Path(context.data_dir), chosen or recipe.attributes)


def on_holdout(recipe: Recipe, searched: QuestionPopulation, shares: Shares) -> QuestionPopulation:
    """Accepted questions and controls, asked again with the samples of the hold-out."""
    if not searched.questions or not recipe.holdout.samples:
        return replace(searched, questions=0, controls=0, calls=0)
    questions = searched.controls + accepted(recipe, searched, shares)
    samples = recipe.families["open"].samples
    calls = ceil(questions * searched.calls / searched.questions / samples * recipe.holdout.samples)
    return replace(searched, questions=questions, calls=calls)


def accepted(recipe: Recipe, searched: QuestionPopulation, shares: Shares) -> int:
    """Questions that the search will have selected, at an assumption."""
    share = shares.accepted if recipe.evolve.save_threshold is None else shares.above_threshold
    questions = ceil((searched.questions - searched.controls) * share)
    return min(questions, recipe.evolve.max_saved or questions)


def holdout_models(recipe: Recipe) -> tuple[str, ...]:
    return recipe.models.holdout_targets or recipe.models.targets


def asking(context: RunContext, models: Sequence[str], *asked: QuestionPopulation) -> list[StageCost]:
    """The targets' answers."""
    return [
        _cost(context, model, a.calls, a.tokens_in * a.calls, a.tokens_out * a.calls)
        for model in models
        for a in asked
    ]


def writing(context: RunContext, sizes: PromptSizes, shares: Shares) -> list[StageCost]:
    """The generator proposes new domains and writes questions, twins in one call; where the recipe says so,
    the first model among the judges then reads every question once."""
    evolve, limit = context.recipe.evolve, context.recipe.judging.max_tokens
    generator, reader = context.recipe.models.generator, reader_of(context.recipe)
    if generator == "recombine" or not evolve.rounds:
        return []
    jobs = evolve.rounds * evolve.questions_per_round
    proposals = ceil(jobs * shares.explored / TOPICS_PER_DOMAIN) if evolve.strategy in EXPLORERS else 0
    read = evolve.rounds * twins_included(context) if reader else 0
    return [
        _cost(context, generator, proposals, EXPLORING_TOKENS * proposals, evolve.max_tokens * proposals),
        _cost(context, generator, jobs, sizes.write * jobs, evolve.max_tokens * jobs),
        _cost(context, reader or "", read, sizes.read * read, limit * read),
    ]


def judging(
    context: RunContext,
    targets: Sequence[str],
    asked: QuestionPopulation,
    looks: float,
    tokens_in: float,
    shares: Shares,
) -> list[StageCost]:
    """Every judge on every group of every target, most comparisons in both orders, at the length limit; and
    the adjudicator on a share of them. `looks`: comparisons of a group; `tokens_in`: what each reads."""
    models, spec = context.recipe.models, context.recipe.judging
    groups = dict.fromkeys(models.judges, 1.0)
    if models.adjudicator:
        groups[models.adjudicator] = shares.split
    comparisons = asked.questions * len(targets) * looks
    calls = {judge: ceil(comparisons * shares.orders * share) for judge, share in groups.items()}
    return [_cost(context, judge, n, tokens_in * n, spec.max_tokens * n) for judge, n in calls.items()]


def relabelling(context: RunContext, sets: int, sizes: PromptSizes) -> tuple[int, list[StageCost]]:
    """Near misses of the accepted questions: evidence from each, one ranking in two orders for each set; or
    one grade each; or one comparison a set, where every judge is taken to see all that the first one sees."""
    passages = sets * (context.recipe.relabel.candidates + 1)
    rankings = sets * RANKING_ORDERS
    work = {  # calls, and tokens that each reads and writes
        "two_stage": ((passages, sizes.evidence, SPAN_TOKENS), (rankings, sizes.rank, RANKING_TOKENS)),
        "graded": ((passages, sizes.grade, GRADE_TOKENS),),
        "cascade": ((sets, sizes.compare, COMPARISON_TOKENS),),
    }[context.recipe.relabel.strategy]
    return passages, [
        _cost(context, judge, calls, tokens_in * calls, tokens_out * calls)
        for judge in context.recipe.models.relabel_judges
        for calls, tokens_in, tokens_out in work
    ]


def _cost(context: RunContext, model: str, calls: int, tokens_in: float, tokens_out: float) -> StageCost:
    """Nothing where a rule does the work (`recombine`, `divergence`, `lexical`)."""
    if ":" not in model or not calls:
        return StageCost(stage="", model=model, calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0)
    price = price_of(
        parse_model_name(model),
        configured=model,
        free=context.recipe.budget.free,
        prices_path=Path(context.data_dir) / "prices.yaml",
        batch=context.recipe.models.batch,
    )
    spent = price.cost_usd(ceil(tokens_in), ceil(tokens_out))
    return StageCost(
        stage="",
        model=model,
        calls=calls,
        tokens_in=ceil(tokens_in),
        tokens_out=ceil(tokens_out),
        cost_usd=round(spent, 6),
    )


def totals(context: RunContext, work: Work) -> dict[str, Any]:
    """Stage by stage and model by model."""
    costs = [c.model_copy(update={"stage": stage}) for stage, _, parts in work for c in parts if c.calls]
    models = sorted({c.model for c in costs})
    return {
        "stages": tuple(_stage(name, rows, [c for c in costs if c.stage == name]) for name, rows, _ in work),
        "costs": tuple(costs),
        "total_cost_usd": round(sum(c.cost_usd for c in costs), 6),
        "cost_by_model": {m: round(sum(c.cost_usd for c in costs if c.model == m), 6) for m in models},
        "budget_usd": context.budget_usd,
    }


def _stage(name: str, rows: int, costs: Sequence[StageCost]) -> StageEstimate:
    return StageEstimate(
        name=name,
        rows=rows,
        calls=sum(c.calls for c in costs),
        tokens_in=sum(c.tokens_in for c in costs),
        tokens_out=sum(c.tokens_out for c in costs),
        cost_usd=round(sum(c.cost_usd for c in costs), 6),
    )


def detectable_effects(recipe: Recipe, held_out: QuestionPopulation) -> dict[str, float]:
    """What each attribute's share of the hold-out questions can show."""
    questions = held_out.questions // len(recipe.attributes)
    if not questions:
        return {}
    effect = smallest_detectable_effect(recipe.holdout.samples, questions)
    return dict.fromkeys(recipe.attributes, effect)


def refuse_over_budget(plan: BuildEstimate) -> None:
    """Raise `BudgetError` when the plan may cost more than the budget."""
    if plan.total_cost_usd > plan.budget_usd:
        dearest = max(plan.cost_by_model, key=lambda m: plan.cost_by_model[m])
        raise BudgetError(
            f"the plan may cost ${plan.total_cost_usd:.2f}, the budget is ${plan.budget_usd:.2f}",
            place=f"budget.usd; most of it (${plan.cost_by_model[dearest]:.2f}) is {dearest}",
            hint="raise `budget.usd` (or --budget), or ask for fewer questions, samples or rounds; "
            "`counterfoil plan` shows the cost of every stage",
        )
