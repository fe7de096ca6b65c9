"""Ask language models about passages: evidence and its rank, comparisons with positives, and grades.

Every span of evidence is checked against its passage. A judge that quotes a span that is not in the passage
is asked once more, and abstains after a second wrong quotation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from schemas.labels import Passage
from schemas.release import StageCost
from tasks.judges.judge_answers import (
    ComparedIds,
    RankedIds,
    flatten,
    read_comparison,
    read_grade,
    read_ranking,
    read_spans,
    unquoted,
)
from tasks.judges.yields import Yield
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Message, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.run.progress import track
from tasks.text.normalize import find_span

TOO_LONG = "passage_too_long"
"""Reason of an abstention on a call that exceeds the context of the model and cannot be split further."""
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
    too_long: bool = False
    """The spans are too long for one call."""


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
    unknown: frozenset[int] = frozenset()
    """Ids that the answer left open, because it was cut off or the passage was too long."""
    too_long: frozenset[int] = frozenset()
    """Ids among `unknown` with passages too long for the model."""


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


R = TypeVar("R")


class EvidenceAnswer(Answer):
    """One span, or `NO_ANSWER`."""

    evidence: str


class EvidenceListAnswer(Answer):
    """Several spans."""

    evidence: list[str]


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


@dataclass
class Pace:
    """Calls that were sent, and the seconds in which some were under way. Cached answers do not count."""

    calls: int = 0
    seconds: float = 0.0
    _asking: int = 0
    _started: float | None = None
    _counted: int = 0
    _last: float = 0.0
    _is_warm: bool = False

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure some calls. Others may be measured at the same time.

        The first call of a model also loads its client, so that the clock starts with its answer.
        """
        if not self._asking:
            self._started, self._counted = time.monotonic() if self._is_warm else None, 0
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking and self._counted and self._started is not None:
                self.calls += self._counted
                self.seconds += self._last - self._started

    def count(self, tries: int) -> None:
        """Count the calls of an answer that has just arrived."""
        self._last = time.monotonic()
        if self._started is None:
            self._started, self._is_warm = self._last, True
        else:
            self._counted += tries


class MeteredModel:
    """A model that returns structured answers and records its costs."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.answered = Yield(model.name, "answers")
        """Answers asked for so far, and those that cannot be used."""
        self.pace = Pace()
        """Calls that were sent, and the time that they took together."""
        self._model = model
        self._spent = StageCost.zero("relabel", model.name)

    def for_part(self) -> Self:
        """Return the same model with costs of its own, for work that runs beside other work."""
        part = copy.copy(self)
        part.answered = Yield(self.name, "answers")
        part._spent = StageCost.zero("relabel", self.name)
        return part

    def costs(self) -> tuple[StageCost, ...]:
        """Return calls, tokens and dollars so far."""
        return (self._spent,)

    async def ask(
        self, requests: Sequence[Request], answer_type: type[Answer], parse: Callable[[str, bool], R]
    ) -> dict[str, R | str]:
        """Return answers by request tag. An abstention is returned as its reason.

        Args:
            requests: The requests.
            answer_type: Type of the JSON schema in the request.
            parse: Function of an answer and a flag for truncation.
        """
        answers: dict[str, R | str] = {}
        untyped = cast(Any, parse)  # the parsed value replaces the validated object
        with track(f"{self.name} judges", len(requests)) as bar, self.pace.measure():
            async for answer in ask_structured(self._model, requests, answer_type, parse=untyped):
                if not answer.spent.cached:
                    self.pace.count(answer.spent.tries)
                value = answer.value if isinstance(answer, Parsed) else _reason(answer)
                answers[answer.tag] = cast(Any, value)
                self.answered.add_answer(cast(Any, answer))
                self._add_cost(answer)
                bar.advance()
        return answers

    def _add_cost(self, answer: Parsed[Any] | Abstention) -> None:
        spent = answer.spent
        self._spent = self._spent.plus(spent.tries, spent.tokens_in, spent.tokens_out, spent.cost_usd)


def _reason(abstention: Abstention) -> str:
    """Return the reason of an abstention, `TOO_LONG` if the prompt exceeds the context of the model."""
    return TOO_LONG if abstention.reason == "failed:context_length" else abstention.reason


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
        answers = await self.ask(requests, self._criterion.answer, read_spans)
        return {i: _verify_spans(q, answers[str(i)]) for i, q in questions.items()}

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        """Rank the spans of each question with one call."""
        requests = [
            _request(str(i), ranking_messages(self._criterion.ranking, q), RANKING_TOKENS)
            for i, q in enumerate(questions)
        ]
        answers = await self.ask(requests, RankingAnswer, read_ranking)
        return [_ranking(question, answers[str(i)]) for i, question in enumerate(questions)]


class ModelComparer(MeteredModel):
    """A model that compares passages with the positives."""

    def __init__(self, model: Model, prompt: Prompt) -> None:
        super().__init__(model)
        self._prompt = prompt

    async def compare(self, questions: Sequence[ComparisonQuestion]) -> list[RowComparison]:
        """Compare with one call per question. A call that is too long for the model is split in two."""
        requests = [
            _request(str(i), comparison_messages(self._prompt, question), COMPARISON_TOKENS)
            for i, question in enumerate(questions)
        ]
        answers = await self.ask(requests, ComparisonAnswer, read_comparison)
        results = [_comparison(question, answers[str(i)]) for i, question in enumerate(questions)]
        too_long = [
            i
            for i, result in enumerate(results)
            if result.abstention == TOO_LONG and _can_be_split(questions[i])
        ]
        halves = [half for i in too_long for half in _halves(questions[i])]
        compared = await self.compare(halves) if halves else []
        for position, i in enumerate(too_long):
            first = len(halves[2 * position].passages)
            results[i] = _joined(compared[2 * position], compared[2 * position + 1], first, questions[i])
        return results


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
        answers = await self.ask(requests, GradeAnswer, read_grade)
        in_order = [answers[str(i)] for i in range(len(questions))]
        return [None if isinstance(answer, str) else answer for answer in in_order]


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


def _verify_spans(question: EvidenceQuestion, answer: tuple[str, ...] | str) -> Evidence:
    """Return the spans as they occur in the passage. One span that does not occur spoils the whole answer."""
    if isinstance(answer, str):
        return Evidence(None, abstention=answer)
    text = _with_title(question.passage)
    positions = [find_span(text, span) or find_span(text, unquoted(span)) for span in answer]
    if any(position is None for position in positions):
        return Evidence(None, abstention=NOT_VERBATIM)
    spans = [text[position[0] : position[1]] for position in positions if position is not None]
    return Evidence("\n".join(spans) if spans else None)


def _ranking(question: RankingQuestion, answer: RankedIds | str) -> Ranking:
    if isinstance(answer, str):
        return Ranking((None,) * len(question.spans), too_long=answer == TOO_LONG)
    return Ranking(ranks_of(answer.groups, len(question.spans)))


def ranks_of(ranking: Sequence[int | Sequence[int]], shown: int) -> tuple[int | None, ...]:
    """Return the rank of each span shown, from a judge's ids or groups of tied ids (from 1, best first).

    Ids that are missing, repeated or out of range get no rank. Nothing is appended in the order shown,
    because that would reward the spans shown first.
    """
    groups = [(group,) if isinstance(group, int) else tuple(group) for group in ranking]
    given = flatten(groups)
    rank: dict[int, int] = {}
    for group in groups:
        valid = [i for i in group if 1 <= i <= shown and given.count(i) == 1]
        rank |= dict.fromkeys(valid, len(rank))
    return tuple(rank.get(identifier) for identifier in range(1, shown + 1))


def _comparison(question: ComparisonQuestion, answer: ComparedIds | str) -> RowComparison:
    if isinstance(answer, str):
        return RowComparison(abstention=answer)
    return comparison_of(answer, len(question.passages))


def comparison_of(answer: ComparedIds, count: int) -> RowComparison:
    """Return the comparison of `count` passages.

    Ids that were not shown are left out. An answer that names only such ids is an abstention.
    """
    shown = frozenset(range(1, count + 1))
    better, worse = answer.better & shown, answer.worse & shown
    if (answer.better or answer.worse) and not (better or worse):
        return RowComparison(abstention="id_out_of_range")
    unknown = shown - better - worse if answer.cut_off else frozenset()
    return RowComparison(better, worse, unknown=unknown)


SHORTEST_POSITIVE = 500
"""Characters to which the positives of a call that is too long are cut at most."""


def _can_be_split(question: ComparisonQuestion) -> bool:
    return len(question.passages) > 1 or _longest_positive(question) > SHORTEST_POSITIVE


def _longest_positive(question: ComparisonQuestion) -> int:
    return max((len(p.text) for p in question.positives), default=0)


def _halves(question: ComparisonQuestion) -> tuple[ComparisonQuestion, ComparisonQuestion]:
    """Split a question by its passages. With one passage, the positives are cut instead."""
    middle = len(question.passages) // 2
    if middle == 0:
        size = max(SHORTEST_POSITIVE, _longest_positive(question) // 2)
        shorter = tuple(p.model_copy(update={"text": p.text[:size]}) for p in question.positives)
        return replace(question, positives=shorter), replace(question, passages=())
    first, second = question.passages[:middle], question.passages[middle:]
    return replace(question, passages=first), replace(question, passages=second)


def _joined(
    first: RowComparison, second: RowComparison, offset: int, question: ComparisonQuestion
) -> RowComparison:
    """Join the comparisons of two halves. An abstention leaves the passages of its half unknown."""
    parts: dict[str, frozenset[int]] = {}
    sizes = (offset, len(question.passages) - offset)
    reasons = {part.abstention for part in (first, second)} - {None, TOO_LONG}
    for name in ("better", "worse", "unknown", "too_long"):
        ids: set[int] = set()
        for part, start, size in zip((first, second), (0, offset), sizes, strict=True):
            own = getattr(part, name)
            everything = name == "unknown" or (name == "too_long" and part.abstention == TOO_LONG)
            if part.abstention is not None and everything:
                own = range(1, size + 1)
            ids |= {identifier + start for identifier in own}
        parts[name] = frozenset(ids)
    if reasons and not (parts["better"] | parts["worse"]) and len(parts["unknown"]) == len(question.passages):
        return RowComparison(abstention=sorted(map(str, reasons))[0])
    return RowComparison(
        parts["better"], parts["worse"], unknown=parts["unknown"], too_long=parts["too_long"]
    )
