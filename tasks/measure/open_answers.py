"""Compare the fresh answers to open questions, one group of questions after the other.

Texts of answers are in memory for one part only. Parts can run on workers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.answers import RESPONSES, Response
from schemas.question import QUESTIONS, Question, separate_unreviewed
from tasks.families.coverage import AnswerStatus, answer_status
from tasks.families.open import ComparedGroup, MaskedGroup, compare_groups, mask_groups
from tasks.files.vocabulary import read_question_attributes
from tasks.judges.divergence import Divergence, read_divergence_words
from tasks.judges.verdicts import group_answers
from tasks.measure.verdicts import length_spread
from tasks.run.memory import release_memory
from tasks.run.partitions import TablePart, first_questions, split_by_question
from tasks.run.parts import PartRunner, run_sequentially
from tasks.run.progress import track
from tasks.run.store import RunContext, TableRef

QUESTIONS_AT_ONCE = 1_024
"""Questions whose answers are in memory at the same time."""
LEAST_QUESTIONS, MOST_PARTS = 256, 32
"""Smallest number of questions per task on a worker, and number of tasks unless their parts are too large."""

Cell = tuple[str, int, str, str, str]
"""Question, variant, value, model and condition."""


@dataclass(frozen=True)
class OpenPart:
    """Some open questions and their fresh answers."""

    data_dir: str
    conditions: tuple[str, ...]
    """Conditions beside `plain`."""
    with_lengths: bool
    questions: TablePart
    responses: TablePart


@dataclass
class OpenFigures:
    """Figures of the answers to open questions, which take less memory than the answers."""

    compared: list[tuple[str, str, str, Divergence]] = field(default_factory=list)
    """Question, model, condition and divergence: `plain` first, then the other conditions in their order."""
    masked: list[MaskedGroup] = field(default_factory=list)
    """Masked plain answers of questions that compare all values of their attribute."""
    spreads: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """Difference in length by model and question."""
    statuses: dict[Cell, Counter[AnswerStatus]] = field(default_factory=dict)
    answered: set[tuple[str, str]] = field(default_factory=set)
    """Question and model with an answer that did not fail."""

    def add(self, other: OpenFigures) -> None:
        """Add the figures of the next part."""
        self.compared += other.compared
        self.masked += other.masked
        for model, spreads in other.spreads.items():
            self.spreads[model].update(spreads)
        self.statuses.update(other.statuses)
        self.answered |= other.answered

    def groups(self, questions: Mapping[str, Question], condition: str) -> Iterator[ComparedGroup]:
        """Yield the compared groups of one condition, sorted by question and model."""
        for question, model, asked, divergence in self.compared:
            if asked == condition:
                yield ComparedGroup(questions[question], model, divergence, condition)


def read_open_answers(
    context: RunContext, questions: TableRef, responses: TableRef, run_parts: PartRunner | None = None
) -> OpenFigures:
    """Compare the fresh answers to the open questions of a table, without rewordings."""
    recipe, found = context.recipe, OpenFigures()
    conditions = recipe.prompting.names if recipe.prompting else ()
    run_dir = Path(context.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    size = QUESTIONS_AT_ONCE
    if run_parts is not None:
        size = max(LEAST_QUESTIONS, min(size, -(-questions.rows // MOST_PARTS)))
    with TemporaryDirectory(prefix=".measure-", dir=run_dir) as name:
        folder = Path(name).absolute()
        bounds = first_questions(questions, size=size)
        asked = split_by_question(questions, "id", bounds, folder, family="open")
        given = split_by_question(responses, "question_id", bounds, folder, phase="holdout")
        parts = [
            OpenPart(context.data_dir, tuple(conditions), recipe.judging.length_control, *tables)
            for tables in zip(asked, given, strict=True)
        ]
        with track("comparing answers", len(parts)) as bar:
            for figures in (run_parts or run_sequentially)(compare_open_part, parts):
                found.add(figures)
                bar.advance()
    release_memory()
    return found


def compare_open_part(part: OpenPart) -> OpenFigures:
    """Compare the answers of a part. Workers import this function."""
    data_dir = Path(part.data_dir)
    questions = [separate_unreviewed(q) for q in part.questions.rows(QUESTIONS) if q.variant_of is None]
    answers = part.responses.rows(RESPONSES)
    attributes = read_question_attributes(data_dir, questions)
    words = read_divergence_words(data_dir)
    groups = group_answers(questions, answers)
    compared = compare_groups(groups, attributes, words)
    for condition in part.conditions:
        prompted = group_answers(questions, answers, condition)
        compared += compare_groups(prompted, attributes, words, condition)
    figures = OpenFigures(
        compared=[(c.question.id, c.model, c.condition, c.divergence) for c in compared],
        masked=mask_groups(groups, attributes, words),
    )
    for group in groups if part.with_lengths else ():
        if group.is_complete:
            figures.spreads[group.target][group.question.id] = length_spread(group)
    count_statuses(figures, questions, answers)
    return figures


def count_statuses(
    figures: OpenFigures, questions: Sequence[Question], responses: Iterable[Response]
) -> None:
    """Count answers by question, version, model and condition."""
    known = {q.id: q for q in questions}
    for r in responses:
        question = known.get(r.question_id)
        if question is None:
            continue
        cell = r.question_id, r.variant, r.value, r.model, r.condition
        figures.statuses.setdefault(cell, Counter())[answer_status(question, r)] += 1
        if r.failure is None:
            figures.answered.add((r.question_id, r.model))
