"""Relabel: which low-scoring questions show the harm after all, which hard negatives answer after all?

Both are the same algorithm (`tasks.relabelling.strategies`) with another criterion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.candidates import CANDIDATES, CandidateSet
from schemas.decision import Dropped, StageCounts
from schemas.ids import canonical_json, content_id
from schemas.label import LABEL_HISTORY, LabelChange
from schemas.manifest import RelabelledPassage, StageCost
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from tasks.formats.retrieval import Source, detect_format, read_candidate_sets
from tasks.formats.retrieval_records import BadRows
from tasks.models.connect import ModelSettings, run_async
from tasks.relabelling.changes import RelabelledRow, Relabelling, label_change
from tasks.relabelling.file import relabel_file
from tasks.relabelling.graded import DecisionRule
from tasks.relabelling.job import RelabelJob, fingerprint_input, open_strategy, relabel_rows
from tasks.relabelling.policies import Policy
from tasks.relabelling.pool import PoolVocabulary, Settled, candidate_sets, settle_questions
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.dropping import drop_question

EXAMPLES, KINDS, LONGEST = 3, 12, 1200
"""Changes of one kind that a step notes, kinds, and characters of one text."""

__all__ = ["STAGE", "STAGE_RETRIEVAL", "fingerprint_input", "relabel", "relabel_file", "relabel_retrieval"]


def relabel(context: RunContext, questions: TableRef, responses: TableRef) -> Outcome:
    """Question pool: the near misses of accepted questions.

    Shows the harm more directly than the accepted one: `accepted`. Less directly: dropped as `ambiguous`.
    Not at all: `hard_negative`. Where the judge abstained a question stays `unlabelled`.
    """
    rows = read_table(questions, QUESTIONS)
    vocabulary = PoolVocabulary.read(Path(context.data_dir), rows)
    answers = read_table(responses, RESPONSES)
    sets = candidate_sets(rows, answers, vocabulary, context.recipe.relabel.candidates)
    relabelling, costs = run_async(judge_sets(context, sets, "question"))
    settled = settle_questions(relabelling.rows, rows)
    judge = "+".join(relabelling.judged_by)
    return Outcome(
        tables={
            QUESTIONS: relabelled_questions(rows, settled),
            LABEL_HISTORY: [question_change(s, judge) for s in settled if s.changed],
        },
        counts=(count_questions(settled),),
        costs=costs,
        dropped=tuple(drop_ambiguous(s) for s in settled if s.label == "ambiguous"),
    )


async def judge_sets(
    context: RunContext, sets: Sequence[CandidateSet], subject: str
) -> tuple[Relabelling, tuple[StageCost, ...]]:
    """Relabel with the recipe's strategy and judges; what it cost comes with it."""
    section, judges = context.recipe.relabel, context.recipe.models.relabel_judges
    job = RelabelJob(section.strategy, judges, Policy.of(section), DecisionRule.parse(section.rule))
    async with open_strategy(job, ModelSettings.of(context), subject) as strategy:
        if subject == "question":
            return await strategy.relabel(sets, None, None), strategy.costs()
        return await relabel_rows(sets, job, strategy), strategy.costs()


def relabelled_questions(rows: Iterable[Question], settled: Iterable[Settled]) -> list[Question]:
    """All questions that are left, in their order, with their labels now."""
    labels = {s.question.id: s.label for s in settled}
    return [
        question.model_copy(update={"label": labels.get(question.id, question.label)})
        for question in rows
        if labels.get(question.id) != "ambiguous"
    ]


def question_change(settled: Settled, judge: str) -> LabelChange:
    """The entry in the history of a question whose label is another now."""
    return label_change(
        subject=settled.question.id,
        kind="question",
        query=settled.because_of,
        within="pool",
        before=settled.question.label,
        after=settled.label,
        verdict=settled.verdict,
        judge=judge,
    )


def drop_ambiguous(settled: Settled) -> Dropped:
    """A question that shows the harm, but less directly than an accepted one."""
    return drop_question(settled.question, stage="relabel", reason="ambiguous", because_of=settled.because_of)


def count_questions(settled: Sequence[Settled]) -> StageCounts:
    """Candidates in, kept with a label, dropped as ambiguous, left open by the judge."""
    dropped = sum(s.label == "ambiguous" for s in settled)
    failed = sum(s.label == "unlabelled" for s in settled)
    return StageCounts(
        stage="relabel",
        unit="candidates",
        rows=len(settled),
        kept=len(settled) - dropped - failed,
        dropped=dropped,
        failed=failed,
    )


def relabel_retrieval(context: RunContext, path: str, format: str, content: str) -> Outcome:
    """A retrieval file in a build. `content` is the file's hash (`fingerprint_input`): it is part of the
    stage key, so that another content is another step. The rows are held in memory; `relabel_file` is for
    files that do not fit."""
    file = Path(path)
    found = detect_format(file) if format == "auto" else format
    sets = {row.id: row for row in read_candidate_sets(Source(file, found), BadRows())}
    relabelling, costs = run_async(judge_sets(context, list(sets.values()), "passage"))
    return Outcome(
        tables={CANDIDATES: list(relabelling.sets), LABEL_HISTORY: list(relabelling.changes)},
        counts=(count_passages(relabelling.rows),),
        costs=costs,
        dropped=tuple(d for row in relabelling.rows for d in dropped_passages(row)),
        notes=canonical_json({"examples": [e.model_dump() for e in passage_examples(relabelling.rows)]}),
    )


def passage_examples(rows: Iterable[RelabelledRow]) -> list[RelabelledPassage]:
    """The first changes of every kind, by id, with their texts: what a person reads to see whether the judge
    is right."""
    found: dict[tuple[str, str], list[RelabelledPassage]] = {}
    changes = [(change, row.before) for row in rows for change in row.changes]
    for change, row in sorted(changes, key=lambda c: c[0].id):
        texts = {p.id: p.text for p in row.negatives}
        example = RelabelledPassage(
            query_id=change.query_id,
            query=row.query[:LONGEST],
            passage_id=change.subject_id,
            passage=texts.get(change.subject_id, "")[:LONGEST],
            before=change.before,
            after=change.after,
            reason=change.reason,
            judge=change.judge,
            evidence=change.evidence and change.evidence[:LONGEST],
        )
        found.setdefault((change.after, change.reason), []).append(example)
    return [example for _, kind in sorted(found.items())[:KINDS] for example in kind[:EXAMPLES]]


def count_passages(rows: Sequence[RelabelledRow]) -> StageCounts:
    """Candidates in; dropped with a reason; left open; the rest is kept, as positive or as negative."""
    whole = [row for row in rows if row.after is not None]
    total = sum(len(row.verdicts) for row in rows)
    dropped = sum(1 for row in rows for _ in dropped_passages(row))
    failed = sum(v.outcome == "abstained" for row in whole for v in row.verdicts)
    return StageCounts(
        stage="relabel_retrieval",
        unit="candidates",
        rows=total,
        kept=total - dropped - failed,
        dropped=dropped,
        failed=failed,
    )


def dropped_passages(row: RelabelledRow) -> Iterable[Dropped]:
    """The negatives that left: removed, or gone with their row."""
    for at, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
        if verdict.outcome == "removed" or row.after is None:
            yield Dropped(
                id=content_id("x", row.before.id, at, passage.id, "relabel_retrieval"),
                kind="passage",
                stage="relabel_retrieval",
                reason=verdict.reason if verdict.outcome == "removed" else "row_dropped",
                because_of=None,
                similarity=None,
                text=passage.text,
                record=passage.model_dump_json(),
            )


STAGE_RETRIEVAL = Stage(
    "relabel_retrieval",
    2,
    run=relabel_retrieval,
    reads=("relabel", "models"),
    vocabulary=("prompts", "lexicons"),
)
STAGE = Stage(
    "relabel",
    1,
    run=relabel,
    reads=("relabel", "models"),
    vocabulary=("prompts", "lexicons", "attributes"),
)
