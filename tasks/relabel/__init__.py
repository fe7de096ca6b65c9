"""Relabel: find low-scoring questions that show the harm after all, and hard negatives that answer after all.

Both are one algorithm (`tasks.relabel.two_stage`) with two criteria. A question of the pool becomes a
candidate set: the query is the harm hypothesis of an accepted question's topic, the positive that question
with its answers, and the negatives are the nearest questions that were judged and not selected, with theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import RESPONSES, Response
from schemas.labels import CANDIDATES, LABEL_HISTORY, CandidateSet, Dropped, LabelChange, Passage, StageCounts
from schemas.notes import RelabelNotes
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.release import RelabelledPassage
from schemas.tables import canonical_json, content_id, derived_seed
from schemas.vocabulary import Attribute, Lexicon
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, detect_format, read_candidate_sets
from tasks.files.vocabulary import input_path, read_question_attributes
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.judges.words import read_group_words, words_to_mask
from tasks.models import run_async
from tasks.models.prompts import Prompt, read_prompt
from tasks.questions.quality import drop_question
from tasks.relabel.decisions import CandidateVerdict, RelabelledRow, label_change
from tasks.relabel.file import relabel_file
from tasks.relabel.job import VERSION, fingerprint_input
from tasks.relabel.nearest import nearest_questions
from tasks.relabel.question_parts import judge_sets, judge_sets_on_workers
from tasks.relabel.survey import Survey
from tasks.run.parts import PartRunner
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

EXAMPLES_PER_KIND = 3
KINDS = 12
LONGEST = 1200
"""Examples of changes that a step notes: how many per kind, how many kinds, and characters per text."""
LABEL_BY_OUTCOME = {
    "promoted": "accepted",
    "removed": "ambiguous",
    "kept": "hard_negative",
    "abstained": "unlabelled",
}

__all__ = ["STAGE", "STAGE_RETRIEVAL", "fingerprint_input", "relabel", "relabel_file", "relabel_retrieval"]


# --- the question pool ------------------------------------------------------------------------------------


def relabel(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    *,
    run_parts: PartRunner | None = None,
) -> Outcome:
    """Relabel the near misses of accepted questions.

    A question that shows the harm more directly than the accepted one becomes `accepted`. If it shows the
    harm less directly it is dropped as `ambiguous`, if it does not show it at all it becomes a
    `hard_negative`. If the judge abstains it stays `unlabelled`.

    Args:
        context: Context of the run.
        questions: The question pool.
        responses: Answers to its questions.
        run_parts: Judges parts of the pool on workers. Default: everything in this process.
    """
    rows = read_table(questions, QUESTIONS)
    vocabulary = PoolVocabulary.read(Path(context.data_dir), rows)
    answers = read_table(responses, RESPONSES)
    sets = pool_candidate_sets(rows, answers, vocabulary, context.recipe.relabel.candidates)
    if run_parts is None:
        relabelling, costs = run_async(judge_sets(context, sets, "question"))
    else:
        relabelling, costs = judge_sets_on_workers(context, sets, run_parts)
    labelled = label_questions(relabelling.rows, rows)
    judge = "+".join(relabelling.judged_by)
    return Outcome(
        tables={
            QUESTIONS: questions_with_labels(rows, labelled),
            LABEL_HISTORY: [question_change(q, judge) for q in labelled if q.changed],
        },
        counts=(count_questions(labelled),),
        costs=costs,
        dropped=tuple(drop_ambiguous(q) for q in labelled if q.label == "ambiguous"),
    )


@dataclass(frozen=True)
class PoolVocabulary:
    """The vocabulary to word a harm and to mask the words that name a group."""

    attributes: Mapping[str, Attribute]
    group_words: Lexicon
    hypothesis: Prompt

    @classmethod
    def read(cls, data_dir: Path, questions: Iterable[Question]) -> PoolVocabulary:
        """Read the attributes of the questions, the group words and the prompt."""
        return cls(
            read_question_attributes(data_dir, questions),
            read_group_words(data_dir),
            read_prompt(data_dir, "harm_hypothesis"),
        )


def pool_candidate_sets(
    questions: Sequence[Question], responses: Iterable[Response], vocabulary: PoolVocabulary, nearest: int
) -> list[CandidateSet]:
    """Return one candidate set per accepted question with near misses, sorted by id.

    Controls, questions with options, and unjudged questions are not candidates.
    """
    pool = [q for q in questions if q.label == "unlabelled" and q.fitness is not None and _is_open(q)]
    accepted = sorted((q for q in questions if q.label == "accepted" and _is_open(q)), key=lambda q: q.id)
    answers = _complete_answers(questions, responses)
    pool = [q for q in pool if answers[q.id]]
    accepted = [q for q in accepted if answers[q.id]]
    near = nearest_questions(accepted, pool, nearest)
    return [_candidate_set(q, near[q.id], answers, vocabulary) for q in accepted if near[q.id]]


def _is_open(question: Question) -> bool:
    return question.control == "none" and not question.options


def _complete_answers(
    questions: Sequence[Question], responses: Iterable[Response]
) -> defaultdict[str, list[AnswerGroup]]:
    by_question: defaultdict[str, list[AnswerGroup]] = defaultdict(list)
    for group in group_answers(questions, responses):
        if group.is_complete:
            by_question[group.question.id].append(group)
    return by_question


def _candidate_set(
    question: Question,
    near: Sequence[Question],
    answers: Mapping[str, Sequence[AnswerGroup]],
    vocabulary: PoolVocabulary,
) -> CandidateSet:
    passages = [question_passage(q, answers[q.id], vocabulary) for q in (question, *near)]
    return CandidateSet(
        id=content_id("set", question.id, [q.id for q in near]),
        query_id=question.id,
        query=harm_hypothesis(question, vocabulary),
        positives=(passages[0],),
        negatives=tuple(passages[1:]),
    )


def harm_hypothesis(question: Question, vocabulary: PoolVocabulary) -> str:
    """Return the sentence that an accepted question of this topic is taken to show."""
    attribute = vocabulary.attributes[question.attribute].title.lower()
    messages = vocabulary.hypothesis.fill(topic=question.topic, domain=question.domain, attribute=attribute)
    return messages[-1].content


def question_passage(
    question: Question, groups: Sequence[AnswerGroup], vocabulary: PoolVocabulary
) -> Passage:
    """Return a question and its answers as one passage.

    `extra` holds the answers for judges without a model: `answers[model][variant][sample]`, and in `hidden`
    the words that name the group.
    """
    answers = [[[r.text for r in variant] for variant in group.answers] for group in groups]
    attribute = vocabulary.attributes[question.attribute]
    hidden = words_to_mask(attribute, question, vocabulary.group_words)
    lines = [f"Question: {question.template}"]
    for group in answers:
        for variant, texts in zip(question.variants, group, strict=True):
            lines += [f"\nVersion: {variant.text}", *(f"Answer: {text}" for text in texts)]
    return Passage(
        id=question.id,
        text="\n".join(lines),
        score=question.fitness,
        extra=canonical_json({"answers": answers, "hidden": list(hidden)}),
    )


@dataclass(frozen=True)
class LabelledQuestion:
    """A candidate question with its new label."""

    question: Question
    label: str
    """`accepted`, `ambiguous`, `hard_negative`, or `unlabelled` if the judge abstained."""
    verdict: CandidateVerdict
    """The verdict that decided the label."""
    because_of: str
    """Id of the accepted question that it was compared with."""

    @property
    def changed(self) -> bool:
        """Whether the label differs from the old one."""
        return self.label != self.question.label


def label_questions(rows: Iterable[RelabelledRow], questions: Iterable[Question]) -> list[LabelledQuestion]:
    """Return one label per candidate question, sorted by id.

    A question near several accepted ones gets a label only if all comparisons agree. If they disagree, any
    evidence makes it ambiguous, and without evidence an abstention leaves it unlabelled.
    """
    by_id = {q.id: q for q in questions}
    verdicts_by_id: dict[str, list[tuple[CandidateVerdict, str]]] = defaultdict(list)
    for row in rows:
        for passage, verdict in zip(row.before.negatives, row.verdicts, strict=True):
            if row.after is None and "ambiguous" in row.flags:
                verdict = CandidateVerdict("abstained", "row_dropped", verdict.evidence)
            verdicts_by_id[passage.id].append((verdict, row.before.query_id))
    return [_label_question(by_id[name], verdicts) for name, verdicts in sorted(verdicts_by_id.items())]


def _label_question(question: Question, verdicts: Sequence[tuple[CandidateVerdict, str]]) -> LabelledQuestion:
    outcomes = {verdict.outcome for verdict, _ in verdicts}
    outcome = verdicts[0][0].outcome if len(outcomes) == 1 else _outcome_of_disagreement(outcomes)
    decisive = next((pair for pair in verdicts if pair[0].outcome == outcome), None)
    if decisive is None:
        first, because_of = verdicts[0]
        decisive = CandidateVerdict("removed", "comparisons_disagree", first.evidence), because_of
    return LabelledQuestion(question, LABEL_BY_OUTCOME[outcome], *decisive)


def _outcome_of_disagreement(outcomes: Set[str]) -> str:
    return "removed" if outcomes & {"promoted", "removed"} else "abstained"


def questions_with_labels(rows: Iterable[Question], labelled: Iterable[LabelledQuestion]) -> list[Question]:
    """Return all questions with their new labels, in order, without the ambiguous ones."""
    labels = {q.question.id: q.label for q in labelled}
    return [
        question.model_copy(update={"label": labels.get(question.id, question.label)})
        for question in rows
        if labels.get(question.id) != "ambiguous"
    ]


def question_change(labelled: LabelledQuestion, judge: str) -> LabelChange:
    """Return the history entry of a changed label."""
    return label_change(
        subject=labelled.question.id,
        kind="question",
        query=labelled.because_of,
        within="pool",
        before=labelled.question.label,
        after=labelled.label,
        verdict=labelled.verdict,
        judge=judge,
    )


def drop_ambiguous(labelled: LabelledQuestion) -> Dropped:
    """Return the record of a dropped question that shows the harm less directly than an accepted one."""
    return drop_question(
        labelled.question, stage="relabel", reason="ambiguous", because_of=labelled.because_of
    )


def count_questions(labelled: Sequence[LabelledQuestion]) -> StageCounts:
    """Count candidates: kept with a label, dropped as ambiguous, or failed because the judge abstained."""
    dropped = sum(q.label == "ambiguous" for q in labelled)
    failed = sum(q.label == "unlabelled" for q in labelled)
    return StageCounts(
        stage="relabel",
        unit="candidates",
        rows=len(labelled),
        kept=len(labelled) - dropped - failed,
        dropped=dropped,
        failed=failed,
    )


# --- retrieval files --------------------------------------------------------------------------------------


def relabel_retrieval(context: RunContext, path: str, format: str, content: str) -> Outcome:
    """Relabel a retrieval file in a build, in memory. `relabel_file` is for files that do not fit.

    Args:
        context: The run.
        path: The file, or a folder.
        format: Its format; `auto` detects it.
        content: Hash of the file (`fingerprint_input`). It makes a changed file a
            new step, because it is part of the stage key.
    """
    file = input_path(path)
    file_format = detect_format(file) if format == "auto" else format
    rows = sample_rows(list(read_candidate_sets(Source(file, file_format), BadRows())), context.recipe)
    sets = list(Survey(rows).with_own_ids(rows))
    relabelling, costs = run_async(judge_sets(context, sets, "passage"))
    return Outcome(
        tables={CANDIDATES: list(relabelling.sets), LABEL_HISTORY: list(relabelling.changes)},
        counts=(count_passages(relabelling.rows),),
        costs=costs,
        dropped=tuple(d for row in relabelling.rows for d in dropped_passages(row)),
        notes=RelabelNotes(examples=tuple(passage_examples(relabelling.rows))).to_json(),
    )


def passage_examples(rows: Iterable[RelabelledRow]) -> list[RelabelledPassage]:
    """Return the first changes of every kind (by label and reason) with their texts, for people to check."""
    by_kind: dict[tuple[str, str], list[RelabelledPassage]] = {}
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
        by_kind.setdefault((change.after, change.reason), []).append(example)
    return [example for _, kind in sorted(by_kind.items())[:KINDS] for example in kind[:EXAMPLES_PER_KIND]]


def count_passages(rows: Sequence[RelabelledRow]) -> StageCounts:
    """Count candidates: kept as positive or negative, dropped, or failed because the judge abstained."""
    remaining = [row for row in rows if row.after is not None]
    total = sum(len(row.verdicts) for row in rows)
    dropped = sum(1 for row in rows for _ in dropped_passages(row))
    failed = sum(v.outcome == "abstained" for row in remaining for v in row.verdicts)
    return StageCounts(
        stage="relabel_retrieval",
        unit="candidates",
        rows=total,
        kept=total - dropped - failed,
        dropped=dropped,
        failed=failed,
    )


def sample_rows(rows: list[CandidateSet], recipe: Recipe) -> list[CandidateSet]:
    """Return a stable sample of the rows if the recipe limits the build, in their order."""
    if recipe.limit is None or recipe.limit >= len(rows):
        return rows
    seeds = [derived_seed(recipe.seed, "limit", row.id, row.query) for row in rows]
    ranked = sorted(range(len(rows)), key=lambda i: seeds[i])
    return [rows[i] for i in sorted(ranked[: recipe.limit])]


def dropped_passages(row: RelabelledRow) -> Iterable[Dropped]:
    """Yield the records of dropped negatives: removed ones, and those of dropped rows."""
    for index, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
        if verdict.outcome == "removed" or row.after is None:
            yield Dropped(
                id=content_id("x", row.before.id, index, passage.id, "relabel_retrieval"),
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
    VERSION,
    run=relabel_retrieval,
    reads=("relabel", "models", "limit", "validation"),
    vocabulary=("prompts", "lexicons"),
)
STAGE = Stage(
    "relabel",
    5,
    run=relabel,
    reads=("relabel", "models", "validation"),
    vocabulary=("prompts", "lexicons", "attributes"),
)
