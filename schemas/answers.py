"""Responses of models, judgements of those responses, and the effects measured from them."""

from __future__ import annotations

from typing import Literal

from schemas.question import Question
from schemas.tables import Row, Table, content_id

Phase = Literal["search", "holdout"]
Scoring = Literal["free_text", "sampled", "token_probability"]

PLAIN = "plain"
"""Condition of a question that is asked in the usual way of its family."""
REVERSED = "reversed"
"""Condition of a yes/no question in the opposite polarity, in which `no` takes the place of `yes`."""
DONT_KNOW = "dont_know"
"""Condition of a yes/no question that also allows the answer "I don't know"."""
BOTH_POLARITIES = "both_polarities"
"""Condition of effects that average over `plain` and `reversed`. Nothing is asked in it."""
ON_REQUEST = (REVERSED, DONT_KNOW)
"""Conditions that a recipe must name. All others are asked by default."""


class Response(Row):
    """One model's answer to one variant, sample k, or the record of a failed call (`failure`)."""

    id: str
    question_id: str
    variant: int
    value: str
    model: str
    revision: str | None
    """Model revision reported by the server."""
    phase: Phase
    sample: int
    condition: str = PLAIN
    """How the question was asked: `plain`, or the name of an attack, persona, mitigation, …"""
    text: str
    refused: bool
    finish_reason: str | None
    scoring: Scoring
    option_order: tuple[int, ...]
    """Order in which the question's options were shown. Empty for free text."""
    option: int | None
    """Index of the chosen option in the question's `options`. `None` for free text or an invalid answer."""
    log_perplexity: float | None = None
    """Mean −ln p per token of the variant's own text, if the family scores texts instead of answers."""
    option_logprobs: tuple[float, ...]
    """ln p of each option, in the question's order. Empty if the server returned none."""
    tokens_in: int
    tokens_out: int
    cost_usd: float
    """Cost at list price, also if the answer came from the cache."""
    failure: str | None
    failure_message: str | None
    reading: str = ""
    """How the answer was read: `read`, `unreadable`, `refused`, `empty`. Empty for a failed call."""
    reading_rule: str = ""
    """Rule of the reader that decided. `probability` if the token probabilities decided."""


RESPONSES: Table[Response] = Table(
    "responses", Response, key="id", references=(("question_id", "questions.id"),)
)


def text_answer(
    question: Question, variant: int, sample: int, text: str, *, model: str, phase: Phase = "search"
) -> Response:
    """Build a free-text response to one variant without asking a model."""
    return Response(
        id=content_id("r", model, question.id, variant, sample, text),
        question_id=question.id,
        variant=variant,
        value=question.variants[variant].value,
        model=model,
        revision=None,
        phase=phase,
        sample=sample,
        text=text,
        refused=False,
        finish_reason="stop",
        scoring="free_text",
        option_order=(),
        option=None,
        option_logprobs=(),
        tokens_in=0,
        tokens_out=0,
        cost_usd=0.0,
        failure=None,
        failure_message=None,
    )


class Score(Row):
    """Score of one criterion of a rubric."""

    criterion: str
    value: float
    reasoning: str


class VersionScore(Row):
    """Score of one version of a question on one criterion, from which follows who is treated worse.

    Judges with a model score every version from 1 to 5 on the criteria under `versions` of their rubric. The
    divergence judge stores the mean of each feature over the answers to the version. To compare values, take
    the mean over orders and pairs of one judge, and subtract the mean over the versions of the question.
    Multiply by −1 if `better` is `low`. A negative contrast then means that the value is treated worse.
    """

    version: int
    """Index of the variant."""
    value: str
    """Value of the variant. Both versions of an A/A control have the same."""
    criterion: str
    """`helpfulness`, `warmth`, `competence`, `restrictions`, or a feature such as `sentiment`."""
    score: float
    better: Literal["high", "low"] | None
    """End of the scale at which a version is treated better. `None` if neither end is."""
    low: float | None = None
    """Lowest possible score. `None` if there is no limit."""
    high: float | None = None
    """Highest possible score. `None` if there is no limit."""


class Judgement(Row):
    """One judge's verdict on a group or on two of its variants, or an abstention with its reason.

    A judge that gives no usable answer abstains. There is no default score.
    """

    id: str
    question_id: str
    judge: str
    revision: str | None
    rubric: str
    rubric_hash: str
    prompt_hash: str
    target: str
    """Model that gave the judged answers."""
    phase: Phase
    order: tuple[int, ...]
    """Variant indices in the order shown to the judge."""
    pair: tuple[int, ...] = ()
    """The two compared variants, lower index first. Empty if all variants were shown at once."""
    masked: bool
    """Whether words that name the group were masked."""
    repeat: int
    adjudicates: bool = False
    """Whether the adjudicator gave this verdict, which settles a split panel."""
    scores: tuple[Score, ...]
    """A yes/no check scores 1 or 0. A check that did not apply has no score."""
    fitness: float | None
    fitness_form: str
    """`normalised`, `search`, `boolean` or `divergence`. Forms are never mixed."""
    p_value: float | None
    abstention: str | None
    tokens_in: int
    tokens_out: int
    cost_usd: float
    version_scores: tuple[VersionScore, ...] = ()
    """Scores of each version shown, by criterion in the order of the rubric, then by version. A version may
    lack a score, for example of a price that its answers do not mention."""
    direction: Literal["measured", "not_measured"] = "not_measured"
    """Whether `version_scores` has a score of at least two versions on a criterion with a better end."""
    direction_reason: str | None = None
    """Why the direction was not measured: `abstention`, `rubric` (it has no criteria under `versions`),
    `missing` (the judge gave no scores of versions) or `incomplete` (some criterion or version is missing or
    out of range, and all scores were discarded). `None` for judgements of older releases, too."""
    condition: str = PLAIN
    """Condition of the judged answers: `plain`, or the name of a system prompt or persona of the recipe."""

    def score(self, criterion: str) -> float:
        """Return the value of a criterion.

        Raises:
            KeyError: If the judgement has no score for it.
        """
        for score in self.scores:
            if score.criterion == criterion:
                return score.value
        raise KeyError(criterion)


JUDGEMENTS: Table[Judgement] = Table(
    "judgements", Judgement, key="id", references=(("question_id", "questions.id"),)
)


Verdict = Literal["differs", "no_difference_found", "equivalent", "not_measured"]
"""Outcome of the one test behind an effect: a difference at the recipe's false discovery rate, none found, an
effect inside the recipe's margin, or no test."""


class Effect(Row):
    """An estimate over one slice with its 95 % interval (`low`, `high`)."""

    id: str
    level: Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]
    name: str
    """Slice: a question id, a domain, an attribute, …"""
    family: str
    attribute: str
    model: str
    condition: str = "plain"
    """How the questions were asked (see `Response.condition`)."""
    metric: str
    unit: str
    value: float | None
    """`None` if the effect was not measured (see `reason`)."""
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    """p adjusted with Benjamini-Hochberg over the slices of one level of one report."""
    n: int
    """Number of independent units (questions, scenarios, …). 0 if the effect was not measured."""
    language: str = "en"
    """Language of the questions. `all` for effects that are not limited to one."""
    status: Literal["measured", "not_measured"] = "measured"
    reason: str | None = None
    """Why the effect was not measured."""
    asked: int | None = None
    """Answers asked for, failed calls included. `None` for effects that no single answers belong to."""
    read: int | None = None
    """Answers that could be used for the metric."""
    coverage: float | None = None
    """`read` / `asked`."""
    differential_coverage: float | None = None
    """Highest minus lowest coverage of the compared values."""
    differential_coverage_p: float | None = None
    """p-value of equal coverage, from a permutation test within questions."""
    compared: str | None = None
    """Value that a contrast is about: its score minus the mean of all values. Below 0, it is treated worse.
    `None` for other effects."""
    framing: Literal["all", "explicit", "implicit"] = "all"
    """Framing of the questions that a contrast is limited to."""
    detectable: float | None = None
    """Smallest distance from no effect that the test finds with a power of .8. `None` without an interval."""
    verdict: Verdict | None = None
    """`None` in releases of earlier versions."""
    standard_error: float | None = None
    """Half of the width of the interval over the quantile of Student's t with `n` - 1 degrees of freedom.
    Approximate for intervals that are not symmetric. `None` without an interval."""

    @property
    def is_measured(self) -> bool:
        """Whether the effect has a value."""
        return self.status == "measured"


EFFECTS: Table[Effect] = Table("effects", Effect, key="id")


class ValueFinding(Row):
    """How one value of an attribute is treated, compared with the mean of all values of its questions."""

    attribute: str
    value: str
    model: str
    language: str
    family: str
    topic: str
    """Superdomain of the questions. `all` if it is not limited to one."""
    framing: str
    """`explicit`, `implicit` or `all`."""
    condition: str
    metric: str
    unit: str
    n: int
    """Number of twin families of questions."""
    contrast: float | None
    """Score of the value minus the mean of all values. Below 0, the value is treated worse."""
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    detectable: float | None
    """Smallest contrast that the test finds with a power of .8."""
    coverage: float | None
    """Readable answers as a share of those asked for."""
    verdict: Verdict
    words: str
    """The verdict in words, with its figure: `differs (q = .012)`."""
    reason: str | None
    """Why the contrast was not measured."""


class Continuation(Row):
    """A model's continuation of the first half of a question, or the record of a failed call or a refusal."""

    id: str
    question_id: str
    """`canary` for the canary string of the release."""
    model: str
    published: bool
    """Whether the text is part of the release. Private questions are not."""
    given: str
    """First half, as it was sent."""
    reply: str
    overlap: float | None
    """Share of the n-grams of the second half that the reply contains. `None` for failed calls, refusals and
    the canary string."""
    failure: str | None
    """Kind of the failed call, or `refused`. `None` if the reply can be used."""
    tokens_in: int
    tokens_out: int
    cost_usd: float


CONTINUATIONS: Table[Continuation] = Table("continuations", Continuation, key="id")
