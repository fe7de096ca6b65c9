"""Estimate the rows, calls, tokens and cost of every stage before any model is called.

Templated families and seeds are counted exactly, by expanding them. A round of evolution counts as the most
questions it may write. Two quantities cannot be known in advance and are assumed (`ASSUMED`): the share of
questions that is accepted, and how often a judge is called again in the other order. A second estimate uses
the highest possible values (`HIGHEST`).

Tokens are estimated from the length of the prompts and from the length limits of the answers. Models with
shorter answers cost less. The budget is compared with the estimate before a build, and with every call during
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.answers import REVERSED, Phase
from schemas.errors import BudgetError
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.vocabulary import Attribute
from tasks.estimate.prompt_sizes import PromptSizes, measure_judge_prompt, measure_prompts
from tasks.evolve.generate import find_fluency_judge
from tasks.evolve.jobs import TOPICS_PER_DOMAIN
from tasks.evolve.strategies import expected_operators
from tasks.expand import expand_families, question_warnings, read_own_table
from tasks.families import conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.files.own_questions import OwnTable
from tasks.files.vocabulary import copied_words, read_attributes, read_concept
from tasks.judges.comparison import count_comparisons
from tasks.judges.relevance import COMPARISON_TOKENS, GRADE_TOKENS, RANKING_TOKENS, SPAN_TOKENS
from tasks.judges.scored_pairs import calls_per_answer
from tasks.models import ModelSettings, count_cached
from tasks.models.capabilities import read_capabilities
from tasks.models.names import parse_model_name
from tasks.models.prices import FREE, LIBRARY, TokenPrice, price_of
from tasks.models.protocol import Request, estimate_prompt_tokens
from tasks.questions.binding import count_controls
from tasks.questions.composition import supports_implicit
from tasks.review import reviews_needed
from tasks.run.store import RunContext
from tasks.stats.comparisons import controls_to_confirm
from tasks.stats.power import smallest_detectable_excess
from tasks.stats.prediction_powered import plan_labels
from tasks.vary import PERMUTE, STYLE, find_judge, model_for

ASSUMED_CORRELATION = 0.6
"""Correlation between the scores of a judge and of people, before any is known."""
MOST_SIMULATED_VALUES = 6
"""Larger attributes would take long to simulate."""


@dataclass(frozen=True)
class Assumptions:
    """Quantities that are only known after the build."""

    accepted: float
    """Share of the searched questions (without controls) that is accepted. Accepted questions are asked again
    on hold-out and compared with near misses. The default threshold is set by the controls. By chance, about
    a twentieth of the questions without an effect exceed it."""
    above_threshold: float
    """The same share if the recipe sets the threshold (`evolve.save_threshold`)."""
    explored: float
    """Share of a round's questions for which the strategy requests proposals of new domains."""
    split: float
    """Share of the groups on which the judges disagree, so that the adjudicator is called."""
    orders: float
    """Mean number of calls per comparison. A verdict that finds a difference is repeated in the other
    order."""


ASSUMED = Assumptions(accepted=0.1, above_threshold=0.3, explored=0.4, split=0.1, orders=1.55)
HIGHEST = Assumptions(accepted=1.0, above_threshold=1.0, explored=1.0, split=1.0, orders=2.0)
EXPLORING_STRATEGIES = ("quotas", "thompson")
"""Strategies that propose new domains."""
EXPLORING_TOKENS = 400
"""Prompt tokens of one request for new domains."""
REWORDING_TOKENS = 220
"""Prompt tokens of one request to reword or compare, without the texts."""
RANKING_ORDERS = 2
"""Presentation orders in which each ranking is requested."""


class StageEstimate(BaseModel):
    """Estimate of one stage."""

    model_config = ConfigDict(frozen=True)
    name: str
    rows: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class PlannedPrice(BaseModel):
    """The price of a model that an estimate uses, in USD per million tokens."""

    model_config = ConfigDict(frozen=True)
    input: float
    output: float
    source: str
    """The library with its version, or the source in your own prices.yaml."""
    as_of: str | None
    """Date of the price. `None` if the library gives none: its version dates the price."""
    own: bool
    """Whether your own prices.yaml overrides the library, or adds the price."""


class BuildEstimate(BaseModel):
    """Estimate of a whole build, by stage and by stage and model."""

    model_config = ConfigDict(frozen=True)
    stages: tuple[StageEstimate, ...]
    costs: tuple[StageCost, ...]
    total_cost_usd: float
    highest_cost_usd: float
    """Cost under `HIGHEST`: all questions accepted, all domains new, judges always split, every comparison in
    both orders. Failed attempts that are billed and repeated calls for unreadable answers are not
    included."""
    cost_by_model: dict[str, float]
    prices: dict[str, PlannedPrice] = {}
    """By model. Without models that are free."""
    thinking: dict[str, int] = {}
    """Tokens for thinking per call that the estimate includes, by model (`models.options`). An upper bound:
    models often think for less."""
    budget_usd: float
    questions: dict[str, int]
    """Number of questions per family before evolution, including controls. Exact."""
    controls: int = 0
    """Number of these that are controls."""
    known_calls: int
    """Calls with a known text: templated families and seeds, over all targets."""
    clear_of: tuple[str, ...]
    """Earlier releases and files to deduplicate against, as named in the recipe."""
    operators: dict[str, int] = {}
    """Jobs of each operator in a round of the search, if every operator has parents. Empty without a search,
    or if the strategy draws operators by success."""
    reviews: int
    """Estimated number of accepted questions that must be reviewed before the build continues. 0 if the
    recipe does not require a review."""
    cached_calls: int
    """Number of the `known_calls` with an answer in the cache."""
    warnings: tuple[str, ...] = ()
    """Own questions that break a style rule or repeat another one, and wishes that cannot be met."""
    before_build: tuple[str, ...] = ()
    """Missing requirements of the build, such as a key or a reachable server."""
    controls_to_confirm: int = 0
    """Matching controls below which no selected question can be confirmed. 0 without a selection."""
    matching_controls: dict[str, int] = {}
    """Expected number of controls by number of versions and framing: `2 explicit`."""
    labels: int = 0
    """Groups of answers that people score (`review.answers`), at most the number that is expected."""
    labels_to_halve: int | None = None
    """Labels that halve the interval of a corrected mean, if judge and people correlate by
    `ASSUMED_CORRELATION`. `None` without labels, or if no number does."""
    smallest_detectable_effect: dict[str, float]
    """By attribute: the smallest difference of one value from the others that the hold-out samples of the
    accepted questions can detect (80 % power, 5 %), in standard deviations of one answer's score. It is
    simulated with the permutation test of the excess."""


@dataclass(frozen=True)
class QuestionPopulation:
    """Size of a set of questions and of the calls that it needs."""

    questions: int
    controls: int
    """Number of the questions that are controls."""
    calls: int
    """Calls to one model: variants × samples over all questions."""
    tokens_in: float
    """Mean prompt tokens per call."""
    tokens_out: float
    """Mean answer tokens per call, at the length limit."""


@dataclass(frozen=True)
class BuildSize:
    """Counts and prompt sizes that are known before any model is called."""

    templated: int
    """Number of questions of templated families."""
    seeds: int
    choices: QuestionPopulation
    """Questions of templated families."""
    searched: QuestionPopulation
    """Seeds and the questions of all rounds."""
    anchors: QuestionPopulation
    """Open questions that a refresh only asks on fresh samples."""
    prompts: PromptSizes
    search_comparisons: float
    """Mean number of a judge's calls per group, before repetitions in the other order."""
    search_verdict: tuple[float, float]
    """Mean prompt tokens of one comparison and length limit of its verdict, in the search."""
    holdout_comparisons: float
    holdout_verdict: tuple[float, float]
    """The same on hold-out."""


StageWork = list[tuple[str, int, list[StageCost]]]
"""Stage, rows, costs by model."""


@dataclass(frozen=True)
class RefreshWork:
    """What a refresh adds to a build."""

    anchors: tuple[Question, ...]
    """Questions of the last release that are asked again."""
    make_room: Callable[[Sequence[Question]], list[Question]]
    """Returns the new questions that remain beside the anchors."""
    before: StageWork
    """Work before the build: the test for contamination, and topics made of material."""


def estimate(
    context: RunContext, own: OwnTable | None = None, refresh: RefreshWork | None = None
) -> BuildEstimate:
    """Estimate the cost of a build.

    Args:
        context: The run.
        own: Own questions of the recipe, if they are read already.
        refresh: What a refresh adds, if the build is one.

    Raises:
        InputError: If the build would fail on its files, for example on unknown files or on templates that do
        not fit. BudgetError: If a model has no known price.
    """
    recipe, data_dir = context.recipe, Path(context.data_dir)
    own = read_own_table(context) if own is None else own
    questions = expand_families(recipe, data_dir, recipe.families, own)
    shortages = describe_shortages(recipe, questions)
    later: list[Question] = []
    if refresh is not None:
        questions = {family: refresh.make_room(fresh) for family, fresh in questions.items()}
        for anchor in refresh.anchors:
            # A search asks its anchors on fresh samples only.
            asked_first = anchor.family != "open" or recipe.is_survey
            (questions[anchor.family] if asked_first else later).append(anchor)
    templated = [q for f in recipe.templated_families for q in questions[f]]
    seeds = [q for f in recipe.evolved_families for q in questions[f]]
    size = measure_build(context, templated, seeds, later)
    requests = search_requests(context, templated + seeds)
    highest = sum_costs(context, plan_stages(context, size, HIGHEST, refresh))
    matching = expect_matching_controls(recipe, seeds)
    needed = controls_to_confirm(recipe.validation.fdr) if matching else 0
    labels, to_halve = expect_labels(recipe, holdout_population(recipe, size.searched, ASSUMED))
    return BuildEstimate(
        **sum_costs(context, plan_stages(context, size, ASSUMED, refresh)),
        highest_cost_usd=highest["total_cost_usd"],
        questions={family: len(q) for family, q in questions.items()},
        controls=sum(q.control != "none" for made in questions.values() for q in made),
        clear_of=recipe.deduplicate.against,
        operators=_operators_of(recipe),
        reviews=reviews_needed(recipe.review, count_accepted(recipe, size.searched, ASSUMED)),
        labels=labels,
        labels_to_halve=to_halve,
        known_calls=len(requests) * len(recipe.models.targets),
        controls_to_confirm=needed,
        matching_controls=matching,
        warnings=(
            *question_warnings(recipe, own),
            *copied_words(Path(context.data_dir), own.questions),
            *shortages,
            *describe_missing_controls(recipe, matching, needed),
            *describe_unchecked_rewordings(recipe, Path(context.data_dir)),
            *describe_unturned(recipe, questions.get("decision", ()), Path(context.data_dir)),
            *describe_missing_thinking(recipe, Path(context.run_dir)),
        ),
        cached_calls=sum(count_cached(m, requests, ModelSettings.of(context)) for m in recipe.models.targets),
        smallest_detectable_effect=detectable_effects(
            context, holdout_population(recipe, size.searched, ASSUMED)
        ),
    )


def describe_unturned(recipe: Recipe, decisions: Sequence[Question], data_dir: Path) -> list[str]:
    """Return a warning if some decisions are turned by a second question, because no rule rewrites theirs."""
    if not decisions or REVERSED not in conditions_of(recipe, data_dir, "decision"):
        return []
    from tasks.families.decision import opposite_text

    prompts = read_asking_prompts(data_dir, ["decision"])
    appended = sum(opposite_text(q, prompts) is None for q in decisions)
    if not appended:
        return []
    return [
        f"{appended:,} of {len(decisions):,} decisions have no rewritten opposite. In the condition "
        '`reversed`, a second question asks if "no" is the right answer to the first'
    ]


def describe_unchecked_rewordings(recipe: Recipe, data_dir: Path) -> list[str]:
    """Return a warning if no judge compares the rewordings with their originals."""
    if not recipe.rewording_models or find_judge(recipe, data_dir) is not None:
        return []
    return [
        "no judge compares the rewordings with their originals, so a change of meaning is not noticed. Add a "
        "model of another family to models.judges"
    ]


def expect_labels(recipe: Recipe, held_out: QuestionPopulation) -> tuple[int, int | None]:
    """Return how many groups of answers people score, and how many would halve a corrected interval."""
    targets = recipe.models.holdout_targets or recipe.models.targets
    groups = (held_out.questions - held_out.controls) * len(targets)
    labels = min(recipe.review.answers, groups)
    return labels, plan_labels(labels, groups, ASSUMED_CORRELATION) if labels else None


def expect_matching_controls(recipe: Recipe, seeds: Sequence[Question]) -> dict[str, int]:
    """Return the expected number of A/A and placebo controls of open questions, by versions and framing.

    Rounds of the search are assumed to have the strata of the seeds. Empty if nothing is selected.
    """
    kinds = Counter((len(q.variants), q.framing) for q in seeds if q.family == "open" and q.control == "none")
    if recipe.is_survey or not kinds:
        return {}
    drawn = Counter((len(q.variants), q.framing) for q in seeds if q.control in ("a_a", "placebo"))
    each_round = sum(
        count_controls(recipe.evolve.questions_per_round, share)
        for share in (recipe.controls.a_a, recipe.controls.placebo)
    )
    more = recipe.evolve.rounds * each_round
    return {
        f"{versions} {framing}": drawn[versions, framing] + more * count // kinds.total()
        for (versions, framing), count in sorted(kinds.items())
    }


def describe_missing_controls(recipe: Recipe, matching: Mapping[str, int], needed: int) -> list[str]:
    """Return a line if some questions have too few controls to be confirmed."""
    few = {kind: count for kind, count in matching.items() if count < needed}
    if not few:
        return []
    kind, count = min(few.items(), key=lambda item: item[1])
    versions, framing = kind.split()
    advice = "set controls.a_a and controls.placebo above 0"
    if count:
        factor = needed / count
        shares = (
            min(1.0, ceil(100 * factor * s) / 100) for s in (recipe.controls.a_a, recipe.controls.placebo)
        )
        advice = "set controls.a_a: {:g} and controls.placebo: {:g}".format(*shares)
        most = max(recipe.controls.a_a, recipe.controls.placebo)
        if factor * most > 1:
            advice += ", and ask more questions"
    return [
        f"questions with {versions} versions in {framing} framing cannot be confirmed: about {count} "
        f"controls match them, and {needed} are needed at validate.fdr: {recipe.validation.fdr:g}. {advice}"
    ]


def _operators_of(recipe: Recipe) -> dict[str, int]:
    """Return the operators of one round of the recipe's search."""
    search = recipe.evolve
    return (
        expected_operators(search.strategy, search.questions_per_round, recipe.seed) if search.rounds else {}
    )


def describe_shortages(recipe: Recipe, questions: Mapping[str, Sequence[Question]]) -> list[str]:
    """Return one line per family with fewer possible questions than the recipe wants."""
    lines = []
    for family, made in questions.items():
        wanted = recipe.families[family].questions
        own_ids = {q.id for q in made if q.origin == "imported"} if recipe.questions else set()
        drawn = [q for q in made if q.control == "none" and q.id not in own_ids]
        possible = sum(q.framing == "explicit" or q.twin_id is None for q in drawn)
        if recipe.families[family].shipped and possible < wanted:
            more = ["add `attributes`"]
            if family == "open":
                more += ["use all `superdomains`"] if recipe.superdomains else []
                more.append("let a `generator` model write more with `evolve.rounds`")
            more.append(f"add templates in data/templates/{family}, or own `questions`")
            lines.append(
                f"families.{family}.questions: {wanted:,} are wanted and {possible:,} are possible. "
                f"To get more: {'; '.join(more)}"
            )
    return lines


def refuse_over_budget(plan: BuildEstimate) -> None:
    """Raise `BudgetError` if the estimate exceeds the budget."""
    if plan.total_cost_usd > plan.budget_usd:
        dearest = max(plan.cost_by_model, key=lambda m: plan.cost_by_model[m])
        raise BudgetError(
            f"the estimated cost of ${plan.total_cost_usd:.2f} exceeds the budget of ${plan.budget_usd:.2f}",
            place=f"budget.usd (largest share: ${plan.cost_by_model[dearest]:.2f} for {dearest})",
            hint="raise `budget.usd` (or --budget), or reduce the number of questions, samples or rounds; "
            "`counterfoil plan` shows the cost of every stage",
        )


def measure_build(
    context: RunContext,
    templated: Sequence[Question],
    seeds: Sequence[Question],
    later: Sequence[Question] = (),
) -> BuildSize:
    """Count the questions and measure the prompts that exist before the build.

    Args:
        context: The run.
        templated: Questions of templated families.
        seeds: Open questions before the search.
        later: Open questions that are only asked on fresh samples.
    """
    recipe = context.recipe
    samples = recipe.families["open"].samples if seeds else 0
    fresh = samples if recipe.is_survey else recipe.holdout.samples
    return BuildSize(
        templated=len(templated),
        seeds=len(seeds),
        choices=measure_population(context, templated),
        searched=add_evolution(context, seeds),
        anchors=measure_population(context, later, "holdout"),
        prompts=measure_prompts(context, seeds),
        search_comparisons=mean_comparisons(context, seeds, samples),
        search_verdict=measure_judge_prompt(context, seeds, samples),
        holdout_comparisons=mean_comparisons(context, seeds, fresh),
        holdout_verdict=measure_judge_prompt(context, seeds, fresh),
    )


def mean_comparisons(context: RunContext, seeds: Sequence[Question], samples: int) -> float:
    """Return the mean number of a judge's calls per group with `samples` answers per variant."""
    judging = context.recipe.judging
    if judging.comparison == "pairwise_scored":
        concept = read_concept(Path(context.data_dir), judging.concept)
        each = calls_per_answer(concept, judging.opponents)
        return fmean([len(q.variants) * samples * each for q in seeds] or [0])
    return fmean([count_comparisons(len(q.variants), judging.comparison) for q in seeds] or [0])


def plan_stages(
    context: RunContext, size: BuildSize, assumed: Assumptions, refresh: RefreshWork | None = None
) -> StageWork:
    """Return the rows and the costs by model of every stage, in the order of the build."""
    recipe, searched = context.recipe, size.searched
    targets, holdout_targets = recipe.models.targets, recipe.models.holdout_targets or recipe.models.targets
    held_out = holdout_population(recipe, searched, assumed)
    reworded = max(0, held_out.questions - held_out.controls) * sum(n for _, n in rewordings_of(recipe))
    asked_again = count_prompts(recipe) * (held_out.questions + size.anchors.questions)
    judged = replace(held_out, questions=asked_again + reworded)
    # A survey asks every question once, in the phase of the hold-out, and has no near misses.
    compared = replace(searched, questions=0, controls=0, calls=0) if recipe.is_survey else searched
    accepted = 0 if recipe.is_survey else count_accepted(recipe, searched, assumed)
    carried = [("carry_over", len(refresh.anchors), list[StageCost]())] if refresh else []
    own_anchors = len(refresh.anchors) - size.anchors.questions if refresh else 0
    return [
        *(refresh.before if refresh else []),
        *carried,
        ("expand", size.templated + size.seeds - own_anchors, []),
        ("mutate", searched.questions - size.seeds, generation_costs(context, size.prompts, assumed)),
        (
            "respond",
            size.choices.calls + compared.calls,
            target_costs(context, targets, size.choices, compared),
        ),
        (
            "judge",
            compared.questions,
            judge_costs(context, targets, compared, size.search_comparisons, size.search_verdict, assumed),
        ),
        ("relabel", *relabel_costs(context, accepted, size.prompts)),
        *variation_work(context, size, held_out),
        (
            "respond_holdout",
            held_out.calls + size.anchors.calls,
            target_costs(context, holdout_targets, held_out, size.anchors),
        ),
        (
            "judge_holdout",
            judged.questions,
            judge_costs(
                context,
                holdout_targets,
                judged,
                size.holdout_comparisons,
                size.holdout_verdict,
                assumed,
            ),
        ),
    ]


# Populations: how many questions and calls each phase has.


def measure_population(
    context: RunContext, questions: Sequence[Question], phase: Phase | None = None
) -> QuestionPopulation:
    """Count the calls of existing questions and measure the tokens of their requests."""
    requests = search_requests(context, questions, phase)
    controls = sum(question.control != "none" for question in questions)
    return QuestionPopulation(len(questions), controls, len(requests), *_mean_tokens(requests))


def search_requests(
    context: RunContext, questions: Sequence[Question], phase: Phase | None = None
) -> list[Request]:
    """Return all requests to one target in a phase. Default: the first one of each family."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, recipe.families)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    return [
        request_for(ask, recipe, prompts)
        for q in questions
        for ask in plan_asks(recipe, q, phase or first_phase(recipe, q.family), conditions[q.family])
    ]


def first_phase(recipe: Recipe, family: str) -> Phase:
    """Return the phase in which the questions of a family are asked first. A survey has no search."""
    return "holdout" if recipe.is_survey and family == "open" else "search"


def _mean_tokens(requests: Sequence[Request]) -> tuple[float, float]:
    if not requests:
        return 0.0, 0.0
    return (
        fmean(estimate_prompt_tokens(r.messages) for r in requests),
        fmean(r.decoding.max_tokens for r in requests),
    )


def add_evolution(context: RunContext, seeds: Sequence[Question]) -> QuestionPopulation:
    """Return the population of the seeds and all rounds.

    Each round counts as the most questions it may write, with twins and controls. Every new question is
    assumed to need as many calls as the mean seed.
    """
    recipe = context.recipe
    base = measure_population(context, seeds)
    if not recipe.evolve.rounds or not seeds:
        return base
    controls = recipe.evolve.rounds * controls_per_round(recipe)
    added = recipe.evolve.rounds * questions_per_round(context) + controls
    calls = base.calls + ceil(added * base.calls / base.questions)
    return replace(base, questions=base.questions + added, controls=base.controls + controls, calls=calls)


def controls_per_round(recipe: Recipe) -> int:
    """Return the number of controls that one round of evolution writes."""
    shares = (recipe.controls.a_a, recipe.controls.placebo, recipe.controls.neutral)
    return sum(count_controls(recipe.evolve.questions_per_round, share) for share in shares)


def questions_per_round(context: RunContext) -> int:
    """Return the number of questions that one round writes, with twins and without controls."""
    wanted = context.recipe.evolve.questions_per_round
    attributes = open_attributes(context)
    named = sum(supports_implicit(context.recipe.families["open"], a) for a in attributes)
    return wanted + ceil(wanted * named / len(attributes))


def open_attributes(context: RunContext) -> tuple[Attribute, ...]:
    """Return the attributes of the `open` family."""
    recipe = context.recipe
    chosen = recipe.families["open"].attributes if "open" in recipe.families else ()
    return read_attributes(Path(context.data_dir), chosen or recipe.attributes)


def holdout_population(
    recipe: Recipe, searched: QuestionPopulation, assumed: Assumptions
) -> QuestionPopulation:
    """Return the population of the hold-out: accepted questions and controls."""
    if recipe.is_survey:
        return searched
    if not searched.questions or not recipe.holdout.samples:
        return replace(searched, questions=0, controls=0, calls=0)
    questions = searched.controls + count_accepted(recipe, searched, assumed)
    samples = recipe.families["open"].samples
    once = questions * searched.calls / searched.questions / samples
    calls = ceil(once * recipe.holdout.samples * count_prompts(recipe))
    return replace(searched, questions=questions, calls=calls)


def count_prompts(recipe: Recipe) -> int:
    """Return how often selected open questions are asked and judged: once, and under every prompt."""
    return 1 + len(recipe.prompting.names if recipe.prompting else ())


def count_accepted(recipe: Recipe, searched: QuestionPopulation, assumed: Assumptions) -> int:
    """Return the number of questions that the search is assumed to accept."""
    if recipe.is_survey:
        return searched.questions - searched.controls
    share = assumed.accepted if recipe.evolve.save_threshold is None else assumed.above_threshold
    questions = ceil((searched.questions - searched.controls) * share)
    return min(questions, recipe.evolve.max_saved or questions)


def detectable_effects(context: RunContext, held_out: QuestionPopulation) -> dict[str, float]:
    """Return the smallest detectable effect of each attribute.

    All attributes are assumed to have equally many questions. Controls do not count. Attributes with more
    than `MOST_SIMULATED_VALUES` values are simulated with that number.
    """
    recipe = context.recipe
    questions = (held_out.questions - held_out.controls) // len(recipe.attributes)
    if questions < 1:
        return {}
    return {
        attribute.id: smallest_detectable_excess(
            recipe.holdout.samples, questions, versions=min(len(attribute.values), MOST_SIMULATED_VALUES)
        )
        for attribute in read_attributes(Path(context.data_dir), recipe.attributes)
    }


# Costs of each kind of call.


def target_costs(
    context: RunContext, models: Sequence[str], *populations: QuestionPopulation
) -> list[StageCost]:
    """Return the costs of the answers of the targets."""
    return [
        _cost(context, model, p.calls, p.tokens_in * p.calls, p.tokens_out * p.calls)
        for model in models
        for p in populations
    ]


def generation_costs(context: RunContext, sizes: PromptSizes, assumed: Assumptions) -> list[StageCost]:
    """Return the costs of evolution: proposals of new domains, new questions, and the fluency check.

    The generator writes a question and its twin in one call. If the recipe enables the fluency check, the
    first judge that is a model reads every question once.
    """
    evolve, limit = context.recipe.evolve, context.recipe.judging.max_tokens
    generator, reader = context.recipe.models.generator, find_fluency_judge(context.recipe)
    if generator == "recombine" or not evolve.rounds:
        return []
    jobs = evolve.rounds * evolve.questions_per_round
    explores = evolve.strategy in EXPLORING_STRATEGIES
    proposals = ceil(jobs * assumed.explored / TOPICS_PER_DOMAIN) if explores else 0
    checks = evolve.rounds * questions_per_round(context) if reader else 0
    return [
        _cost(context, generator, proposals, EXPLORING_TOKENS * proposals, evolve.max_tokens * proposals),
        _cost(context, generator, jobs, sizes.write * jobs, evolve.max_tokens * jobs),
        _cost(context, reader or "", checks, sizes.read * checks, limit * checks),
    ]


def variation_work(context: RunContext, size: BuildSize, held_out: QuestionPopulation) -> StageWork:
    """Return the work of rewording the selected questions, or nothing if the recipe does not want it.

    Every principle is assumed to fit every question, and one attempt to be enough. The answers to the
    rewordings are included.
    """
    recipe = context.recipe
    per_question = rewordings_of(recipe)
    if not per_question:
        return []
    chosen = (size.choices, held_out)
    originals = sum(max(0, p.questions - p.controls) for p in chosen)
    count = sum(number for _, number in per_question)
    costs = [
        cost
        for p in chosen
        for cost in target_costs(context, recipe.models.targets, _scaled(p, count * _uncontrolled(p)))
    ]
    judge = find_judge(recipe, Path(context.data_dir))
    for principle, number in per_question:
        if principle == PERMUTE:
            continue
        calls = originals * number
        text = size.choices.tokens_in or held_out.tokens_in
        read = (text + REWORDING_TOKENS) * calls
        costs.append(
            _cost(context, model_for(recipe, principle), calls, read, recipe.evolve.max_tokens * calls)
        )
        if judge:
            read = (2 * text + REWORDING_TOKENS) * calls
            costs.append(_cost(context, judge, calls, read, recipe.judging.max_tokens * calls))
    return [("vary", originals * count, costs)]


def rewordings_of(recipe: Recipe) -> list[tuple[str, int]]:
    """Return the principles and styles of the recipe, with the number of rewordings per question."""
    variants, styles = recipe.variants, recipe.augment.styles if recipe.augment else ()
    principles = [(p, variants.count) for p in variants.principles] if variants else []
    return [*principles, *((f"{STYLE}{style}", 1) for style in styles)]


def _uncontrolled(population: QuestionPopulation) -> float:
    return 1 - population.controls / population.questions if population.questions else 0.0


def _scaled(population: QuestionPopulation, factor: float) -> QuestionPopulation:
    return replace(population, calls=ceil(population.calls * factor))


def judge_costs(
    context: RunContext,
    targets: Sequence[str],
    population: QuestionPopulation,
    comparisons: float,
    verdict: tuple[float, float],
    assumed: Assumptions,
) -> list[StageCost]:
    """Return the costs of all judges on all groups, and of the adjudicator on a share of the groups.

    Args:
        context: The run.
        targets: Judged models.
        population: Judged questions.
        comparisons: Mean number of comparisons per group.
        verdict: Mean prompt tokens per comparison, and mean length limit of its verdict.
        assumed: Shares that are not known yet.
    """
    models = context.recipe.models
    tokens_in, tokens_out = verdict
    share_by_judge = dict.fromkeys(models.judges, 1.0)
    if models.adjudicator:
        share_by_judge[models.adjudicator] = assumed.split
    total = population.questions * len(targets) * comparisons
    # A tenth of the scored pairs is compared in both orders, which `mean_comparisons` counts.
    orders = 1.0 if context.recipe.judging.comparison == "pairwise_scored" else assumed.orders
    calls = {judge: ceil(total * orders * share) for judge, share in share_by_judge.items()}
    return [_cost(context, judge, n, tokens_in * n, tokens_out * n) for judge, n in calls.items()]


def relabel_costs(context: RunContext, accepted: int, sizes: PromptSizes) -> tuple[int, list[StageCost]]:
    """Return the rows and costs of relabelling the near misses of the accepted questions.

    Calls by strategy: `two_stage` extracts evidence from each passage and ranks each set in two orders,
    `graded` grades each passage, `cascade` compares each set once. In a cascade, every judge is assumed to
    see as many sets as the first.
    """
    passages = accepted * (context.recipe.relabel.candidates + 1)
    rankings = accepted * RANKING_ORDERS
    calls_by_strategy = {  # calls, and the tokens that each reads and writes
        "two_stage": ((passages, sizes.evidence, SPAN_TOKENS), (rankings, sizes.rank, RANKING_TOKENS)),
        "graded": ((passages, sizes.grade, GRADE_TOKENS),),
        "cascade": ((accepted, sizes.compare, COMPARISON_TOKENS),),
    }[context.recipe.relabel.strategy]
    return passages, [
        _cost(context, judge, calls, tokens_in * calls, tokens_out * calls)
        for judge in context.recipe.models.relabel_judges
        for calls, tokens_in, tokens_out in calls_by_strategy
    ]


def _cost(context: RunContext, model: str, calls: int, tokens_in: float, tokens_out: float) -> StageCost:
    """Price the calls of one model. Names without a backend (`divergence`, `recombine`) are free."""
    if ":" not in model or not calls:
        return StageCost.zero("", model)
    price = _price(context, model)
    options = context.recipe.models.options.get(model)
    if options is not None:
        visible = tokens_out if options.max_tokens is None else options.max_tokens * calls
        tokens_out = visible + options.reasoning.max_tokens * calls
    spent = price.cost_usd(ceil(tokens_in), ceil(tokens_out), calls=calls)
    return StageCost(
        stage="",
        model=model,
        calls=calls,
        tokens_in=ceil(tokens_in),
        tokens_out=ceil(tokens_out),
        cost_usd=round(spent, 6),
    )


def sum_costs(context: RunContext, work: StageWork) -> dict[str, Any]:
    """Return the cost fields of `BuildEstimate`, by stage and by model."""
    costs = [c.model_copy(update={"stage": stage}) for stage, _, parts in work for c in parts if c.calls]
    models = sorted({c.model for c in costs})
    return {
        "stages": tuple(_stage(name, rows, [c for c in costs if c.stage == name]) for name, rows, _ in work),
        "costs": tuple(costs),
        "total_cost_usd": round(sum(c.cost_usd for c in costs), 6),
        "cost_by_model": {m: round(sum(c.cost_usd for c in costs if c.model == m), 6) for m in models},
        "prices": planned_prices(context, models),
        "thinking": thinking_tokens(context.recipe, models),
        "budget_usd": context.budget_usd,
    }


def planned_prices(context: RunContext, models: Iterable[str]) -> dict[str, PlannedPrice]:
    """Return the price of every model that is not free."""
    prices = {model: _price(context, model) for model in models}
    return {
        model: PlannedPrice(
            input=price.input,
            output=price.output,
            source=price.source,
            as_of=price.as_of,
            own=not price.source.startswith(LIBRARY),
        )
        for model, price in prices.items()
        if price != FREE
    }


def _price(context: RunContext, model: str) -> TokenPrice:
    return price_of(
        parse_model_name(model),
        configured=model,
        free=context.recipe.budget.free,
        prices_path=Path(context.data_dir) / "prices.yaml",
        batch=context.recipe.models.batch,
    )


def thinking_tokens(recipe: Recipe, models: Iterable[str]) -> dict[str, int]:
    """Return the tokens for thinking per call, for models with such a budget."""
    options = recipe.models.options
    budgets = {m: options[m].reasoning.max_tokens for m in models if m in options}
    return {model: tokens for model, tokens in budgets.items() if tokens}


def describe_missing_thinking(recipe: Recipe, run_dir: Path) -> list[str]:
    """Warn of models that were seen thinking and have no tokens for it in the recipe."""
    known, options = read_capabilities(run_dir), recipe.models.options
    return [
        f"{model} thinks before it answers, and the length limit counts both: give it "
        "`models.options.<name>.reasoning.max_tokens`, or answers may end before they begin"
        for model in recipe.every_model()
        if isinstance(record := known.get(model), dict)
        and record.get("reasoning") is True
        and (model not in options or not options[model].reasoning.max_tokens)
    ]


def _stage(name: str, rows: int, costs: Sequence[StageCost]) -> StageEstimate:
    return StageEstimate(
        name=name,
        rows=rows,
        calls=sum(c.calls for c in costs),
        tokens_in=sum(c.tokens_in for c in costs),
        tokens_out=sum(c.tokens_out for c in costs),
        cost_usd=round(sum(c.cost_usd for c in costs), 6),
    )
