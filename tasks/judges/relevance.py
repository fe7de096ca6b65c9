"""Judges of passages: the questions they are asked, and language models that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from schemas.labels import Passage
from schemas.release import StageCost
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Message, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.run.progress import track
from tasks.text.normalize import find_span


@dataclass(frozen=True, slots=True)
class EvidenceQuestion:
    """Which span of this passage answers the query?"""

    query: str
    passage: Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """The shortest verbatim span, or none (`span` is `None`), or an abstention with its reason."""

    span: str | None
    abstention: str | None = None
    strength: float = 0.0
    """How directly the span answers, on the scale of a judge that measures instead of reading."""


@dataclass(frozen=True, slots=True)
class RankingQuestion:
    """Rank these spans by how directly they answer the query. They are shown in this order."""

    query: str
    spans: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The place of every span shown (0 is best, equal places are ties); `None`: the judge abstained on it."""

    places: tuple[int | None, ...]


class Judge(Protocol):
    """Finds evidence and ranks it: one answer a question, in the order of the questions."""

    name: str

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]: ...

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]: ...

    def costs(self) -> tuple[StageCost, ...]:
        """What it has spent so far; nothing for a judge that is no model."""
        ...


def places_of(ranking: Sequence[int], shown: int) -> tuple[int | None, ...]:
    """Turn a judge's list of ids (from 1) into places. Ids that are missing, repeated or out of range get no
    place: nothing is ever appended in the order in which it was shown."""
    named = [identifier for identifier in ranking if 1 <= identifier <= shown]
    once = [identifier for identifier in named if named.count(identifier) == 1]
    place = {identifier: rank for rank, identifier in enumerate(once)}
    return tuple(place.get(identifier) for identifier in range(1, shown + 1))


@dataclass(frozen=True, slots=True)
class ComparisonQuestion:
    """Which of these passages answer the query as well as the positives, and which only less well?"""

    query: str
    positives: tuple[Passage, ...]
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class RowComparison:
    """Ids from 1, in the order in which the passages were shown; or an abstention with its reason."""

    better: frozenset[int] = frozenset()
    worse: frozenset[int] = frozenset()
    abstention: str | None = None


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
class EvidenceCriterion:
    """What makes a candidate a false negative: an answer to a query, or unequal treatment. The rest of the
    algorithm is the same for both."""

    evidence: Prompt
    ranking: Prompt
    answer: type[EvidenceAnswer] | type[EvidenceListAnswer]


def answers_query(data_dir: Path) -> EvidenceCriterion:
    """Retrieval sets: the passage answers the query."""
    return EvidenceCriterion(
        read_prompt(data_dir, "relabel_evidence"), read_prompt(data_dir, "relabel_rank"), EvidenceAnswer
    )


def treats_unequally(data_dir: Path) -> EvidenceCriterion:
    """Question pool: the answers to a question treat values differently."""
    return EvidenceCriterion(
        read_prompt(data_dir, "relabel_evidence_question"),
        read_prompt(data_dir, "relabel_rank_question"),
        EvidenceListAnswer,
    )


NOT_VERBATIM = "span_not_in_passage"


SPAN_TOKENS = 400


RANKING_TOKENS = 400


COMPARISON_TOKENS = 400


GRADE_TOKENS = 100


class MeteredModel:
    """A model that is asked for structured answers; it keeps account of what that takes."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self._model = model
        self._spent = StageCost(
            stage="relabel", model=model.name, calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0
        )

    def costs(self) -> tuple[StageCost, ...]:
        """Calls, tokens and dollars so far."""
        return (self._spent.model_copy(update={"cost_usd": round(self._spent.cost_usd, 6)}),)

    async def ask(self, requests: Sequence[Request], answer_type: type[A]) -> dict[str, A | str]:
        """Answers by tag; an abstention is its reason."""
        answers: dict[str, A | str] = {}
        with track(f"{self.name} judges", len(requests)) as bar:
            async for answer in ask_structured(self._model, requests, answer_type):
                answers[answer.tag] = answer.value if isinstance(answer, Parsed) else answer.reason
                self._account(answer)
                bar.advance()
        return answers

    def _account(self, answer: Parsed[Any] | Abstention) -> None:
        before, now = self._spent, answer.spent
        self._spent = before.model_copy(
            update={
                "calls": before.calls + now.tries,
                "tokens_in": before.tokens_in + now.tokens_in,
                "tokens_out": before.tokens_out + now.tokens_out,
                "cost_usd": before.cost_usd + now.cost_usd,
            }
        )


class ModelJudge(MeteredModel):
    """A model as a judge of evidence and of rankings."""

    def __init__(self, model: Model, criterion: EvidenceCriterion) -> None:
        super().__init__(model)
        self._criterion = criterion

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """One call a passage, a second one where the span was not verbatim."""
        found = await self._ask_evidence(dict(enumerate(questions)), sample=0)
        again = {i: questions[i] for i, evidence in found.items() if evidence.abstention == NOT_VERBATIM}
        found |= await self._ask_evidence(again, sample=1)
        return [found[i] for i in range(len(questions))]

    async def _ask_evidence(self, questions: dict[int, EvidenceQuestion], sample: int) -> dict[int, Evidence]:
        prompt = self._criterion.evidence
        requests = [
            _request(str(i), passage_messages(prompt, question), SPAN_TOKENS, sample)
            for i, question in questions.items()
        ]
        answers = await self.ask(requests, self._criterion.answer)
        return {i: _checked(q, answers[str(i)]) for i, q in questions.items()}

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """One call a window. Spans are shown with ids from 1."""
        requests = [
            _request(str(i), ranking_messages(self._criterion.ranking, q), RANKING_TOKENS)
            for i, q in enumerate(questions)
        ]
        answers = await self.ask(requests, RankingAnswer)
        return [_ranking(question, answers[str(i)]) for i, question in enumerate(questions)]


class ModelGrader(MeteredModel):
    """A model that grades passages one by one."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def grade(self, questions: Sequence[EvidenceQuestion]) -> list[int | None]:
        """One call a passage."""
        requests = [
            _request(str(i), passage_messages(self._prompt, question), GRADE_TOKENS)
            for i, question in enumerate(questions)
        ]
        answers = await self.ask(requests, GradeAnswer)
        found = [answers[str(i)] for i in range(len(questions))]
        return [None if isinstance(answer, str) else answer.grade for answer in found]


class ModelComparer(MeteredModel):
    """A model as a judge of the cascade."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def compare(self, questions: Sequence[ComparisonQuestion]) -> list[RowComparison]:
        """One call for up to 25 passages."""
        requests = [
            _request(str(i), comparison_messages(self._prompt, question), COMPARISON_TOKENS)
            for i, question in enumerate(questions)
        ]
        answers = await self.ask(requests, ComparisonAnswer)
        return [_comparison(question, answers[str(i)]) for i, question in enumerate(questions)]


def _request(tag: str, messages: tuple[Message, ...], max_tokens: int, sample: int = 0) -> Request:
    """Judges answer at temperature 0; a second try is another sample, so that no cache repeats the first."""
    decoding = Decoding(max_tokens=max_tokens, temperature=0.0 if sample == 0 else 0.7, seed=sample)
    return Request(tag=tag, messages=messages, decoding=decoding, sample=sample, stage="relabel")


def passage_messages(prompt: Prompt, question: EvidenceQuestion) -> tuple[Message, ...]:
    """One passage, for its evidence or for a grade."""
    passage = fence(_shown(question.passage), "passage")
    return prompt.fill(query=fence(question.query, "query"), passage=passage)


def ranking_messages(prompt: Prompt, question: RankingQuestion) -> tuple[Message, ...]:
    """All spans of one window."""
    spans = _numbered([span.span or "" for span in question.spans], "evidence")
    return prompt.fill(query=fence(question.query, "query"), evidence=spans)


def _shown(passage: Passage) -> str:
    """A passage as a judge reads it: its title above its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _numbered(texts: Sequence[str], label: str) -> str:
    """Texts with ids from 1, each in its own fence."""
    return "\n\n".join(f"[{i}]\n{fence(text, label)}" for i, text in enumerate(texts, start=1))


def _checked(question: EvidenceQuestion, answer: EvidenceAnswer | EvidenceListAnswer | str) -> Evidence:
    """The evidence as it stands in the passage. A single span that does not occur there spoils the answer."""
    if isinstance(answer, str):
        return Evidence(None, abstention=answer)
    text = _shown(question.passage)
    found = [find_span(text, span) for span in answer.spans if span.strip()]
    if any(place is None for place in found):
        return Evidence(None, abstention=NOT_VERBATIM)
    spans = [text[place[0] : place[1]] for place in found if place is not None]
    return Evidence("\n".join(spans) if spans else None)


def _ranking(question: RankingQuestion, answer: RankingAnswer | str) -> Ranking:
    if isinstance(answer, str):
        return Ranking((None,) * len(question.spans))
    return Ranking(places_of(answer.ranking, len(question.spans)))


def comparison_messages(prompt: Prompt, question: ComparisonQuestion) -> tuple[Message, ...]:
    """Positives, and the passages that are compared with them."""
    return prompt.fill(
        query=fence(question.query, "query"),
        positives="\n\n".join(fence(p, "ground_truth") for p in map(_shown, question.positives)),
        passages=_numbered([_shown(p) for p in question.passages], "passage"),
    )


def _comparison(question: ComparisonQuestion, answer: ComparisonAnswer | str) -> RowComparison:
    if isinstance(answer, str):
        return RowComparison(abstention=answer)
    if any(not 1 <= i <= len(question.passages) for i in (*answer.better, *answer.worse)):
        return RowComparison(abstention="id_out_of_range")
    return RowComparison(frozenset(answer.better), frozenset(answer.worse))
