"""What makes a candidate a false negative, as prompts and the types of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from tasks.text.prompts import Prompt, read_prompt

NO_ANSWER = "NO_ANSWER"


class Answer(BaseModel):
    """What a judge returns; unknown keys are a broken answer."""

    model_config = ConfigDict(extra="forbid")


A = TypeVar("A", bound=Answer)


class EvidenceAnswer(Answer):
    evidence: str

    @property
    def spans(self) -> tuple[str, ...]:
        return () if self.evidence.strip() == NO_ANSWER else (self.evidence,)


class EvidenceListAnswer(Answer):
    evidence: list[str]

    @property
    def spans(self) -> tuple[str, ...]:
        return tuple(span for span in self.evidence if span.strip() != NO_ANSWER)


class RankingAnswer(Answer):
    ranking: list[int]


class ComparisonAnswer(Answer):
    better: list[int]
    worse: list[int]


class GradeAnswer(Answer):
    grade: Literal[0, 1, 2, 3]


@dataclass(frozen=True)
class Criterion:
    """What makes a candidate a false negative: an answer to a query, or unequal treatment. The rest of the
    algorithm is the same for both."""

    evidence: Prompt
    ranking: Prompt
    answer: type[EvidenceAnswer] | type[EvidenceListAnswer]


def answers_query(data_dir: Path) -> Criterion:
    """Retrieval sets: the passage answers the query."""
    return Criterion(
        read_prompt(data_dir, "relabel_evidence"), read_prompt(data_dir, "relabel_rank"), EvidenceAnswer
    )


def treats_unequally(data_dir: Path) -> Criterion:
    """Question pool: the answers to a question treat values differently."""
    return Criterion(
        read_prompt(data_dir, "relabel_evidence_question"),
        read_prompt(data_dir, "relabel_rank_question"),
        EvidenceListAnswer,
    )
