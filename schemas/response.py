"""Responses: one model's answer to one variant, sample k; a failed call is a row as well."""

from __future__ import annotations

from typing import Literal

from schemas.ids import content_id
from schemas.question import Question
from schemas.tables import Row, Table

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
