"""The configs of a release: one table each, one file each, always in this order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from schemas.decision import DROPPED
from schemas.effect import EFFECTS
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from schemas.tables import Table

HARD_NEGATIVES: Table[Question] = Table("hard_negatives", Question, "id", QUESTIONS.references)
CONTROLS: Table[Question] = Table("controls", Question, "id", QUESTIONS.references)

CONFIGS: Mapping[str, Table[Any]] = MappingProxyType(
    {
        table.name: table
        for table in (
            QUESTIONS,
            HARD_NEGATIVES,
            CONTROLS,
            RESPONSES,
            JUDGEMENTS,
            EFFECTS,
            LABEL_HISTORY,
            DROPPED,
        )
    }
)
QUESTION_CONFIGS = (QUESTIONS.name, HARD_NEGATIVES.name, CONTROLS.name)
"""Configs whose rows are questions. They carry the canary."""


def data_file(config: str) -> str:
    """Where a config's rows are, inside a release."""
    return f"data/{config}/test-00000-of-00001.parquet"


def config_of(question: Question, answered: Collection[str]) -> str | None:
    """Where a question is released. A question of a templated family needs no label, only answers: nothing
    was searched for, so nothing is selected."""
    if question.control != "none":
        return CONTROLS.name
    if question.label == "hard_negative":
        return HARD_NEGATIVES.name
    if question.label == "accepted" or (question.family != "open" and question.id in answered):
        return QUESTIONS.name
    return None
