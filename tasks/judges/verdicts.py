"""Groups of answers, rubrics, and judgements: the input and output shared by all judges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, WrapValidator, create_model

from schemas.answers import PLAIN, Judgement, Phase, Response, Score, VersionScore
from schemas.errors import InputError
from schemas.question import Question
from schemas.tables import content_hash, content_id
from schemas.vocabulary import Criterion, Rubric
from tasks.files.vocabulary import read_rubric
from tasks.stats.fitness import boolean_fitness, fitness_of_scores

MISSING_ANSWERS = "missing_answers"
TOO_FEW_SAMPLES = "too_few_samples"
NOTHING_APPLIES = "no_check_applies"

NO_VERSION_CRITERIA, NO_VERSION_SCORES, INCOMPLETE_VERSION_SCORES = "rubric", "missing", "incomplete"
"""Reasons why a verdict has no direction (`Judgement.direction_reason`)."""
ABSTAINED = "abstention"

BOOLEAN = "boolean"
FOUR_SCORES = {"bias": (1, 5), "relevance": (1, 5), "generality": (1, 5), "refusal": (0, 1)}
"""Criteria of the published fitness forms (arXiv:2510.12857), each with its range."""


@dataclass(frozen=True)
class AnswerGroup:
    """One target's answers to all variants of one question."""

    question: Question
    target: str
    phase: Phase
    answers: tuple[tuple[Response, ...], ...]
    """Usable answers by variant, in the order of samples. Failed calls are left out."""
    condition: str = PLAIN

    @property
    def condition_key(self) -> tuple[str, ...]:
        """Part of ids and seeds. Plain answers add none, so that their ids and seeds never change."""
        return () if self.condition == PLAIN else (self.condition,)

    @property
    def is_complete(self) -> bool:
        """Whether every variant has an answer."""
        return all(self.answers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of answers by variant."""
        return tuple(len(answers) for answers in self.answers)

    @property
    def flat(self) -> tuple[Response, ...]:
        """All answers, variant by variant."""
        return tuple(answer for answers in self.answers for answer in answers)


@dataclass(frozen=True)
class JudgeSetup:
    """Fields shared by all judgements of one judge."""

    judge: str
    rubric: str
    rubric_hash: str
    prompt_hash: str
    fitness_form: str
    masked: bool
    adjudicates: bool = False


@dataclass(frozen=True)
class VerdictCost:
    """Tokens and dollars of a verdict."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


def group_answers(
    questions: Iterable[Question], responses: Iterable[Response], condition: str = PLAIN
) -> list[AnswerGroup]:
    """Group responses in one condition by question, target and phase, sorted by these.

    Responses to other questions are left out. A question without any response has no group.
    """
    known = {question.id: question for question in questions}
    rows: dict[tuple[str, str, Phase], list[Response]] = defaultdict(list)
    for response in responses:
        if response.question_id in known and response.condition == condition:
            rows[(response.question_id, response.model, response.phase)].append(response)
    return [
        AnswerGroup(known[question_id], target, phase, _by_variant(known[question_id], given), condition)
        for (question_id, target, phase), given in sorted(rows.items())
    ]


def _by_variant(question: Question, responses: Sequence[Response]) -> tuple[tuple[Response, ...], ...]:
    usable = sorted(
        (r for r in responses if r.failure is None and (r.text.strip() or r.refused)),
        key=lambda r: (r.variant, r.sample, r.id),
    )
    return tuple(tuple(r for r in usable if r.variant == variant.index) for variant in question.variants)


# Rubrics


def read_judging_rubric(data_dir: Path, name: str) -> Rubric:
    """Read `data/rubrics/<name>.yaml`.

    Raises:
        InputError: If no fitness can be computed from it.
    """
    rubric = read_rubric(data_dir, name)
    fault, hint = _rubric_fault(rubric)
    if fault:
        raise InputError(fault, place=f"judging.rubric: rubrics/{name}.yaml", hint=hint)
    return rubric


def _rubric_fault(rubric: Rubric) -> tuple[str | None, str]:
    if rubric.kind == BOOLEAN:
        unfit = [c.id for c in rubric.criteria if (c.low, c.high) != (0, 1) or c.bad is None]
        hint = "a check needs `low: 0`, `high: 1`, and `bad: high` if yes indicates unequal treatment"
        return (f"{unfit[0]!r} is not a valid yes/no check" if unfit else None), hint
    ranges = {c.id: (c.low, c.high) for c in rubric.criteria}
    for name, (low, high) in FOUR_SCORES.items():
        if ranges.get(name) != (low, high):
            hint = (
                f"a scale rubric needs the criteria {', '.join(FOUR_SCORES)}; for others, use checks with "
                "`kind: boolean`"
            )
            return f"fitness cannot be computed without the criterion {name!r} from {low} to {high}", hint
    if rubric.not_applicable is not None:
        return "a scale rubric cannot have `not_applicable`", "use `not_applicable` only with yes/no checks"
    return None, ""


def rubric_fitness_form(rubric: Rubric, published: str) -> str:
    """Return `boolean` for yes/no checks, else the recipe's published form."""
    return BOOLEAN if rubric.kind == BOOLEAN else published


def hash_rubric(rubric: Rubric) -> str:
    """Return the hash of a rubric. The hash of one without criteria under `versions` never changes."""
    record = rubric.model_dump(mode="json")
    if not rubric.versions:
        del record["versions"]
    return content_hash(record)


def describe_criteria(rubric: Rubric) -> str:
    """Return the criteria as a list for the prompt: question, range and meaning of the points."""
    return "\n\n".join(_describe(criterion, rubric.not_applicable) for criterion in rubric.criteria)


def describe_version_criteria(rubric: Rubric) -> str:
    """Return the criteria under `versions` as a list for the prompt."""
    return "\n\n".join(_describe(criterion, None) for criterion in rubric.versions)


def _describe(criterion: Criterion, not_applicable: str | None) -> str:
    points = [f"  {point}: {meaning}" for point, meaning in sorted(criterion.anchors.items())]
    if not_applicable:
        points.append(f"  null: {not_applicable}")
    head = f"- {criterion.id} ({criterion.low} to {criterion.high}): {criterion.question}"
    return "\n".join([head, *points])


def make_verdict_type(rubric: Rubric, versions: int = 0) -> type[BaseModel]:
    """Create the type of a verdict: reasoning, then a score within range, for each criterion.

    The range is an enumeration, which servers enforce even if they ignore bounds. Scores of single versions
    are part of the schema that the server gets. A verdict without them is still valid, because its other
    scores can be used (see `read_version_scores`).

    Args:
        rubric: The rubric.
        versions: Number of versions shown.
    """
    nullable = rubric.not_applicable is not None
    fields: dict[str, Any] = {c.id: (_score_type(c, nullable=nullable), ...) for c in rubric.criteria}
    if versions:
        fields |= {c.id: (_version_scores_type(c, versions), None) for c in rubric.versions}
    return create_model("Verdict", __config__=_CLOSED, **fields)


def _version_scores_type(criterion: Criterion, versions: int) -> Any:
    points: Any = Literal[tuple(range(criterion.low, criterion.high + 1))]
    title = criterion.id.title()
    by_version: dict[str, Any] = {version_key(n): (points, ...) for n in range(1, versions + 1)}
    scores = create_model(f"{title}ByVersion", __config__=_CLOSED, **by_version)
    fields: dict[str, Any] = {"reasoning": (str, ...), "scores": (scores, ...)}
    entry = create_model(f"{title}Scores", __config__=_CLOSED, **fields)
    return Annotated[entry, WrapValidator(lambda value, _: value)]


def version_key(number: int) -> str:
    """Return the key of a version in a verdict. `number` counts from 1 in the order shown."""
    return f"version_{number}"


def _score_type(criterion: Criterion, *, nullable: bool) -> type[BaseModel]:
    points: Any = Literal[tuple(range(criterion.low, criterion.high + 1))]
    fields: dict[str, Any] = {"reasoning": (str, ...), "score": (points | None if nullable else points, ...)}
    return create_model(f"{criterion.id.title()}Score", __config__=_CLOSED, **fields)


_CLOSED = ConfigDict(extra="forbid")


def read_scores(verdict: BaseModel, rubric: Rubric) -> tuple[Score, ...]:
    """Return the scores of a verdict in the order of the rubric, without null scores."""
    entries = {criterion.id: getattr(verdict, criterion.id) for criterion in rubric.criteria}
    return tuple(
        Score(criterion=name, value=float(entry.score), reasoning=entry.reasoning)
        for name, entry in entries.items()
        if entry.score is not None
    )


def read_version_scores(
    verdict: BaseModel, rubric: Rubric, group: AnswerGroup, order: Sequence[int]
) -> tuple[tuple[VersionScore, ...], str | None]:
    """Return the scores of single versions, or the reason why there are none.

    Scores of some versions only would make contrasts between values depend on which are missing, so all of
    them are discarded then.

    Args:
        verdict: A valid verdict.
        rubric: Its rubric.
        group: The judged group.
        order: Indices of the variants in the order shown.
    """
    if not rubric.versions:
        return (), NO_VERSION_CRITERIA
    found = {c.id: _scores_by_version(getattr(verdict, c.id, None), c, len(order)) for c in rubric.versions}
    if not any(scores for scores in found.values()):
        return (), NO_VERSION_SCORES
    if any(None in scores or not scores for scores in found.values()):
        return (), INCOMPLETE_VERSION_SCORES
    return tuple(
        VersionScore(
            version=variant,
            value=group.question.variants[variant].value,
            criterion=criterion.id,
            score=float(found[criterion.id][order.index(variant)] or 0),
            better="low" if criterion.bad == "high" else "high",
            low=float(criterion.low),
            high=float(criterion.high),
        )
        for criterion in rubric.versions
        for variant in sorted(order)
    ), None


def _scores_by_version(entry: Any, criterion: Criterion, versions: int) -> list[int | None]:
    """Return the score of every version in the order shown, or an empty list if the entry has none."""
    scores = entry.get("scores") if isinstance(entry, dict) else None
    if not isinstance(scores, dict) or not scores:
        return []
    points = range(criterion.low, criterion.high + 1)
    given = [scores.get(version_key(number)) for number in range(1, versions + 1)]
    return [p if isinstance(p, int) and not isinstance(p, bool) and p in points else None for p in given]


def compute_verdict_fitness(
    rubric: Rubric, form: str, scores: Sequence[Score], attribute: str
) -> float | None:
    """Compute the fitness of a verdict. `None` if no check applied."""
    values = {score.criterion: score.value for score in scores}
    if form == BOOLEAN:
        bad = {c.id: c.high if c.bad == "high" else c.low for c in rubric.criteria}
        return boolean_fitness(value == bad[name] for name, value in values.items())
    return fitness_of_scores(form, attribute=attribute, **{name: values[name] for name in FOUR_SCORES})


def make_judgement(
    setup: JudgeSetup,
    group: AnswerGroup,
    *,
    order: tuple[int, ...],
    pair: tuple[int, ...] = (),
    scores: tuple[Score, ...] = (),
    fitness: float | None = None,
    p_value: float | None = None,
    abstention: str | None = None,
    repeat: int = 0,
    revision: str | None = None,
    cost: VerdictCost | None = None,
    version_scores: tuple[VersionScore, ...] = (),
    direction_reason: str | None = NO_VERSION_SCORES,
) -> Judgement:
    """Create the judgement of a group.

    Its id depends on judge, question, target, phase, repeat, pair and condition, but not on the verdict. The
    direction is measured if there are scores of versions. `direction_reason` explains missing ones.
    """
    cost = cost or VerdictCost()
    reason = None if version_scores else ABSTAINED if abstention is not None else direction_reason
    parts = (setup.judge, group.target, group.phase, repeat, *pair, *group.condition_key)
    return Judgement(
        id=content_id("j", group.question.id, *parts),
        question_id=group.question.id,
        judge=setup.judge,
        revision=revision,
        rubric=setup.rubric,
        rubric_hash=setup.rubric_hash,
        prompt_hash=setup.prompt_hash,
        target=group.target,
        phase=group.phase,
        order=order,
        pair=pair,
        masked=setup.masked,
        repeat=repeat,
        adjudicates=setup.adjudicates,
        scores=scores,
        fitness=fitness,
        fitness_form=setup.fitness_form,
        p_value=p_value,
        abstention=abstention,
        tokens_in=cost.tokens_in,
        tokens_out=cost.tokens_out,
        cost_usd=cost.cost_usd,
        version_scores=version_scores,
        direction="measured" if version_scores else "not_measured",
        direction_reason=reason,
        condition=group.condition,
    )
