"""Ask language models about passages: evidence and its rank, comparisons with positives, and grades.

Every span of evidence is checked against its passage. A judge that quotes a span that is not in the passage
is asked once more, and abstains after a second wrong quotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from schemas.labels import Passage
from schemas.release import StageCost
from tasks.judges.yields import Yield
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Message, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.run.progress import track
from tasks.text.normalize import find_span

NO_ANSWER = "NO_ANSWER"
NOT_VERBATIM = "span_not_in_passage"
SPAN_TOKENS = 400
RANKING_TOKENS = 400
COMPARISON_TOKENS = 400
GRADE_TOKENS = 100


# --- questions and answers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvidenceQuestion:
    """Which span of this passage answers the query?"""

    query: str
    passage: Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """The shortest verbatim span that answers the query.

    Without an answer in the passage, `span` and `abstention` are both `None`.
    """

    span: str | None
    abstention: str | None = None
    """Reason of the judge not to decide."""
    strength: float = 0.0
    """Directness of the answer, only set by judges that measure it."""


@dataclass(frozen=True, slots=True)
class RankingQuestion:
    """Rank these spans by how directly they answer the query. They are shown in this order."""

    query: str
    spans: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The rank of every span shown. 0 is best, equal ranks are ties, `None` is an abstention on that span."""

    ranks: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class ComparisonQuestion:
    """Which of these passages answer the query as well as the positives, and which less well?"""

    query: str
    positives: tuple[Passage, ...]
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class RowComparison:
    """Ids of passages (from 1, in the order shown), or the reason of an abstention."""

    better: frozenset[int] = frozenset()
    worse: frozenset[int] = frozenset()
    abstention: str | None = None


class Judge(Protocol):
    """A judge that finds evidence and ranks it. It returns one answer per question, in order."""

    name: str

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """Find the evidence in passages."""
        ...

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank spans."""
        ...

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs so far, or nothing for a judge without a model."""
        ...


# --- structured answers of models -------------------------------------------------------------------------


def _omit_description(schema: dict[str, Any]) -> None:
    # The docstrings below are for readers of the code. Sent to models, they would change every cache key.
    schema.pop("description", None)


class Answer(BaseModel):
    """The answer of a judge. Unknown keys make it invalid."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_omit_description)


A = TypeVar("A", bound=Answer)


class EvidenceAnswer(Answer):
    """One span, or `NO_ANSWER`."""

    evidence: str

    @property
    def spans(self) -> tuple[str, ...]:
        """The span, or nothing."""
        return () if self.evidence.strip() == NO_ANSWER else (self.evidence,)


class EvidenceListAnswer(Answer):
    """Several spans."""

    evidence: list[str]

    @property
    def spans(self) -> tuple[str, ...]:
        """The spans without `NO_ANSWER`."""
        return tuple(span for span in self.evidence if span.strip() != NO_ANSWER)


class RankingAnswer(Answer):
    """Ids from 1, best first."""

    ranking: list[int]


class ComparisonAnswer(Answer):
    """Ids from 1 of the passages that answer as well as the positives, and of those that answer less well."""

    better: list[int]
    worse: list[int]


class GradeAnswer(Answer):
    """A grade of relevance."""

    grade: Literal[0, 1, 2, 3]


# --- criteria ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvidenceCriterion:
    """The prompts that define a false negative: an answer to a query, or unequal treatment."""

    evidence: Prompt
    ranking: Prompt
    answer: type[EvidenceAnswer] | type[EvidenceListAnswer]


def read_query_criterion(data_dir: Path) -> EvidenceCriterion:
    """Read the criterion for retrieval sets: the passage answers the query."""
    return EvidenceCriterion(
        read_prompt(data_dir, "relabel_evidence"), read_prompt(data_dir, "relabel_rank"), EvidenceAnswer
    )


def read_treatment_criterion(data_dir: Path) -> EvidenceCriterion:
    """Read the criterion for the question pool: the answers treat the values differently."""
    return EvidenceCriterion(
        read_prompt(data_dir, "relabel_evidence_question"),
        read_prompt(data_dir, "relabel_rank_question"),
        EvidenceListAnswer,
    )


# --- judges that are models -------------------------------------------------------------------------------


class MeteredModel:
    """A model that returns structured answers and records its costs."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.answered = Yield(model.name, "answers")
        """Answers asked for so far, and those that cannot be used."""
        self._model = model
        self._spent = StageCost(
            stage="relabel", model=model.name, calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0
        )

    def costs(self) -> tuple[StageCost, ...]:
        """Return calls, tokens and dollars so far."""
        return (self._spent.model_copy(update={"cost_usd": round(self._spent.cost_usd, 6)}),)

    async def ask(self, requests: Sequence[Request], answer_type: type[A]) -> dict[str, A | str]:
        """Return answers by request tag. An abstention is returned as its reason."""
        answers: dict[str, A | str] = {}
        with track(f"{self.name} judges", len(requests)) as bar:
            async for answer in ask_structured(self._model, requests, answer_type):
                answers[answer.tag] = answer.value if isinstance(answer, Parsed) else answer.reason
                self.answered.add_answer(answer)
                self._add_cost(answer)
                bar.advance()
        return answers

    def _add_cost(self, answer: Parsed[Any] | Abstention) -> None:
        before, spent = self._spent, answer.spent
        self._spent = before.model_copy(
            update={
                "calls": before.calls + spent.tries,
                "tokens_in": before.tokens_in + spent.tokens_in,
                "tokens_out": before.tokens_out + spent.tokens_out,
                "cost_usd": before.cost_usd + spent.cost_usd,
            }
        )


class ModelJudge(MeteredModel):
    """A model that finds and ranks evidence."""

    def __init__(self, model: Model, criterion: EvidenceCriterion) -> None:
        super().__init__(model)
        self._criterion = criterion

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        """Find evidence with one call per passage, and a second one if the span was not verbatim."""
        evidence = await self._ask_evidence(dict(enumerate(questions)), sample=0)
        retries = {i: questions[i] for i, e in evidence.items() if e.abstention == NOT_VERBATIM}
        evidence |= await self._ask_evidence(retries, sample=1)
        return [evidence[i] for i in range(len(questions))]

    async def _ask_evidence(self, questions: dict[int, EvidenceQuestion], sample: int) -> dict[int, Evidence]:
        prompt = self._criterion.evidence
        requests = [
            _request(str(i), passage_messages(prompt, question), SPAN_TOKENS, sample)
            for i, question in questions.items()
        ]
        answers = await self.ask(requests, self._criterion.answer)
        return {i: _verify_spans(q, answers[str(i)]) for i, q in questions.items()}

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank the spans of each question with one call."""
        requests = [
            _request(str(i), ranking_messages(self._criterion.ranking, q), RANKING_TOKENS)
            for i, q in enumerate(questions)
        ]
        answers = await self.ask(requests, RankingAnswer)
        return [_ranking(question, answers[str(i)]) for i, question in enumerate(questions)]


class ModelComparer(MeteredModel):
    """A model that compares passages with the positives."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def compare(self, questions: Sequence[ComparisonQuestion]) -> list[RowComparison]:
        """Compare with one call per question."""
        requests = [
            _request(str(i), comparison_messages(self._prompt, question), COMPARISON_TOKENS)
            for i, question in enumerate(questions)
        ]
        answers = await self.ask(requests, ComparisonAnswer)
        return [_comparison(question, answers[str(i)]) for i, question in enumerate(questions)]


class ModelGrader(MeteredModel):
    """A model that grades passages one by one."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def grade(self, questions: Sequence[EvidenceQuestion]) -> list[int | None]:
        """Grade each passage from 0 to 3 with one call. `None` is an abstention."""
        requests = [
            _request(str(i), passage_messages(self._prompt, question), GRADE_TOKENS)
            for i, question in enumerate(questions)
        ]
        answers = await self.ask(requests, GradeAnswer)
        in_order = [answers[str(i)] for i in range(len(questions))]
        return [None if isinstance(answer, str) else answer.grade for answer in in_order]


# --- messages and checks ----------------------------------------------------------------------------------


def _request(tag: str, messages: tuple[Message, ...], max_tokens: int, sample: int = 0) -> Request:
    # A retry is another sample, so that the cache cannot repeat the first answer.
    decoding = Decoding(max_tokens=max_tokens, temperature=0.0 if sample == 0 else 0.7, seed=sample)
    return Request(tag=tag, messages=messages, decoding=decoding, sample=sample, stage="relabel")


def passage_messages(prompt: Prompt, question: EvidenceQuestion) -> tuple[Message, ...]:
    """Fill a prompt about one passage, for evidence or for a grade."""
    passage = fence(_with_title(question.passage), "passage")
    return prompt.fill(query=fence(question.query, "query"), passage=passage)


def ranking_messages(prompt: Prompt, question: RankingQuestion) -> tuple[Message, ...]:
    """Fill a prompt with all spans of one window."""
    spans = _numbered([span.span or "" for span in question.spans], "evidence")
    return prompt.fill(query=fence(question.query, "query"), evidence=spans)


def comparison_messages(prompt: Prompt, question: ComparisonQuestion) -> tuple[Message, ...]:
    """Fill a prompt with the positives and the passages to compare with them."""
    return prompt.fill(
        query=fence(question.query, "query"),
        positives="\n\n".join(fence(p, "ground_truth") for p in map(_with_title, question.positives)),
        passages=_numbered([_with_title(p) for p in question.passages], "passage"),
    )


def _with_title(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _numbered(texts: Sequence[str], label: str) -> str:
    """Join texts with ids from 1, each in a fence of its own."""
    return "\n\n".join(f"[{i}]\n{fence(text, label)}" for i, text in enumerate(texts, start=1))


def _verify_spans(question: EvidenceQuestion, answer: EvidenceAnswer | EvidenceListAnswer | str) -> Evidence:
    """Return the spans as they occur in the passage. One span that does not occur spoils the whole answer."""
    if isinstance(answer, str):
        return Evidence(None, abstention=answer)
    text = _with_title(question.passage)
    positions = [find_span(text, span) for span in answer.spans if span.strip()]
    if any(position is None for position in positions):
        return Evidence(None, abstention=NOT_VERBATIM)
    spans = [text[position[0] : position[1]] for position in positions if position is not None]
    return Evidence("\n".join(spans) if spans else None)


def _ranking(question: RankingQuestion, answer: RankingAnswer | str) -> Ranking:
    if isinstance(answer, str):
        return Ranking((None,) * len(question.spans))
    return Ranking(ranks_of(answer.ranking, len(question.spans)))


def ranks_of(ranking: Sequence[int], shown: int) -> tuple[int | None, ...]:
    """Return the rank of each span shown, from a judge's list of ids (from 1, best first).

    Ids that are missing, repeated or out of range get no rank. Nothing is appended in the order shown,
    because that would reward the spans shown first.
    """
    valid = [identifier for identifier in ranking if 1 <= identifier <= shown]
    unique = [identifier for identifier in valid if valid.count(identifier) == 1]
    rank = {identifier: position for position, identifier in enumerate(unique)}
    return tuple(rank.get(identifier) for identifier in range(1, shown + 1))


def _comparison(question: ComparisonQuestion, answer: ComparisonAnswer | str) -> RowComparison:
    if isinstance(answer, str):
        return RowComparison(abstention=answer)
    if any(not 1 <= i <= len(question.passages) for i in (*answer.better, *answer.worse)):
        return RowComparison(abstention="id_out_of_range")
    return RowComparison(frozenset(answer.better), frozenset(answer.worse))
