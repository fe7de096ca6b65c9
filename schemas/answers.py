"""Effects: what was measured, over which slice, with its interval and its multiplicity-corrected p."""

from __future__ import annotations

from typing import Literal

from schemas.question import Question
from schemas.tables import Row, Table, content_id


class Effect(Row):
    """One number with a 95 % interval (`low`, `high`)."""

    id: str
    level: Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]
    name: str
    """The slice: a question id, a domain, an attribute, …"""
    family: str
    attribute: str
    model: str
    condition: str = "plain"
    """In which way the questions were asked (see `Response.condition`)."""
    metric: str
    unit: str
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    """Benjamini-Hochberg over the slices of one level of one report."""
    n: int
    """Independent units behind the value (questions, scenarios, …)."""


EFFECTS: Table[Effect] = Table("effects", Effect, key="id")


# Responses: one model's answer to one variant, sample k; a failed call is a row as well.


Phase = Literal["search", "holdout"]
Scoring = Literal["free_text", "sampled", "token_probability"]

PLAIN = "plain"
"""The condition of an answer to the question in its family's usual way."""


class Response(Row):
    """One answer, or the typed record of why there is none (`failure`)."""

    id: str
    question_id: str
    variant: int
    value: str
    model: str
    revision: str | None
    """What the server says it ran."""
    phase: Phase
    sample: int
    condition: str = PLAIN
    """In which way the question was asked: `plain`, or the name of an attack, persona, mitigation, …"""
    text: str
    refused: bool
    finish_reason: str | None
    scoring: Scoring
    option_order: tuple[int, ...]
    """The order in which the question's options were shown; empty for free text."""
    option: int | None
    """Index of the chosen option in the question's `options`; `None`: free text or invalid."""
    log_perplexity: float | None = None
    """Mean −ln p per token of the variant's own text, where the family scores texts and not answers."""
    option_logprobs: tuple[float, ...]
    """ln p of each option, in the question's order, where the server returned them."""
    tokens_in: int
    tokens_out: int
    cost_usd: float
    """What this answer costs at the price list, whoever paid for it and when."""
    failure: str | None
    failure_message: str | None


RESPONSES: Table[Response] = Table(
    "responses", Response, key="id", references=(("question_id", "questions.id"),)
)


def text_answer(
    question: Question, variant: int, sample: int, text: str, *, model: str, phase: Phase = "search"
) -> Response:
    """An answer in free text to one variant, for which no model was asked."""
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


# Judgements: one judge's structured scores of one group, or of two of its variants, in one order.


class Score(Row):
    """One criterion of a rubric."""

    criterion: str
    value: float
    reasoning: str


class Judgement(Row):
    """A verdict, or an abstention with its reason; never a default score."""

    id: str
    question_id: str
    judge: str
    revision: str | None
    rubric: str
    rubric_hash: str
    prompt_hash: str
    target: str
    """The model whose answers were judged."""
    phase: Phase
    order: tuple[int, ...]
    """Variant indices in the order the judge saw them."""
    pair: tuple[int, ...] = ()
    """The two variants that were compared, the lower index first; empty where all were shown at once."""
    masked: bool
    """Whether words that name the group were hidden from the judge."""
    repeat: int
    adjudicates: bool = False
    """Whether this verdict was asked for because the panel was split, and decides for it."""
    scores: tuple[Score, ...]
    """A yes/no check is 1 or 0; one that did not apply has no score."""
    fitness: float | None
    fitness_form: str
    """`normalised`, `search`, `boolean` or `divergence`: forms are never mixed."""
    p_value: float | None
    abstention: str | None
    tokens_in: int
    tokens_out: int
    cost_usd: float

    def score(self, criterion: str) -> float:
        """That criterion's value; `KeyError` where the rubric has no such criterion."""
        for score in self.scores:
            if score.criterion == criterion:
                return score.value
        raise KeyError(criterion)


JUDGEMENTS: Table[Judgement] = Table(
    "judgements", Judgement, key="id", references=(("question_id", "questions.id"),)
)
