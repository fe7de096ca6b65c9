"""The question pool as candidate sets: accepted questions, and the near misses around them.

The query is the harm hypothesis of the accepted question's topic; the positive is that question with its
answers; the candidates are the nearest questions that were judged and not selected, with theirs. From here
on the algorithm is the one for retrieval sets; only the criterion differs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import RESPONSES, Response
from schemas.labels import CANDIDATES, LABEL_HISTORY, CandidateSet, Dropped, LabelChange, Passage, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import RelabelledPassage, StageCost
from schemas.tables import canonical_json, content_id
from schemas.vocabulary import Attribute, Lexicon
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, detect_format, read_candidate_sets
from tasks.files.vocabulary import input_path, read_attributes
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.judges.words import read_group_words, words_to_mask
from tasks.models import ModelSettings, run_async
from tasks.models.prompts import Prompt, read_prompt
from tasks.questions.quality import drop_question
from tasks.relabel.decisions import CandidateVerdict, Policy, RelabelledRow, Relabelling, label_change
from tasks.relabel.file import RelabelJob, fingerprint_input, open_strategy, relabel_file, relabel_rows
from tasks.relabel.graded import DecisionRule
from tasks.relabel.judges import judges_of
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.similarity import token_set_ratio

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class LabelledQuestion:
    """What a candidate question is now: `accepted`, `ambiguous`, `hard_negative` or `unlabelled` (the judge
    abstained), with the verdict that says so and the accepted question it was compared with."""

    question: Question
    label: str
    verdict: CandidateVerdict
    because_of: str

    @property
    def changed(self) -> bool:
        """Whether the label is another now."""
        return self.label != self.question.label


@dataclass(frozen=True)
class PoolVocabulary:
    """What is needed to word a harm and to hide the words that name a group."""

    attributes: Mapping[str, Attribute]
    group_words: Lexicon
    hypothesis: Prompt

    @classmethod
    def read(cls, data_dir: Path, questions: Iterable[Question]) -> PoolVocabulary:
        names = sorted({question.attribute for question in questions})
        return cls(
            {attribute.id: attribute for attribute in read_attributes(data_dir, names)},
            read_group_words(data_dir),
            read_prompt(data_dir, "harm_hypothesis"),
        )


def pool_candidate_sets(
    questions: Sequence[Question], responses: Iterable[Response], vocabulary: PoolVocabulary, nearest: int
) -> list[CandidateSet]:
    """One set for each accepted question that has near misses, in the order of ids. Controls, forced choices
    and questions that nobody judged are no candidates."""
    pool = [q for q in questions if q.label == "unlabelled" and q.fitness is not None and _can_differ(q)]
    accepted = sorted((q for q in questions if q.label == "accepted" and _can_differ(q)), key=lambda q: q.id)
    answers = _answers(questions, responses)
    pool = [q for q in pool if answers[q.id]]
    return [
        _candidate_set(question, near, answers, vocabulary)
        for question in accepted
        if answers[question.id] and (near := nearest_questions(question, pool, nearest))
    ]


def _can_differ(question: Question) -> bool:
    return question.control == "none" and not question.options


def nearest_questions(question: Question, pool: Iterable[Question], nearest: int) -> list[Question]:
    """The most similar questions of the same attribute and family: token-set similarity outside the slots,
    ties by id."""
    alike = [q for q in pool if (q.attribute, q.family) == (question.attribute, question.family)]
    text = text_outside_slots(question)
    ranked = sorted(alike, key=lambda q: (-token_set_ratio(text, text_outside_slots(q)), q.id))
    return ranked[:nearest]


def text_outside_slots(question: Question) -> str:
    """The question's words, without those that vary."""
    return " ".join(_SLOT.sub(" ", question.template).lower().split())


def harm_hypothesis(question: Question, vocabulary: PoolVocabulary) -> str:
    """What an accepted question of this topic is taken to show, in one fixed sentence."""
    attribute = vocabulary.attributes[question.attribute].title.lower()
    filled = vocabulary.hypothesis.fill(topic=question.topic, domain=question.domain, attribute=attribute)
    return filled[-1].content


def _answers(
    questions: Sequence[Question], responses: Iterable[Response]
) -> defaultdict[str, list[AnswerGroup]]:
    found: defaultdict[str, list[AnswerGroup]] = defaultdict(list)
    for group in group_answers(questions, responses):
        if group.is_complete:
            found[group.question.id].append(group)
    return found


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


def question_passage(
    question: Question, groups: Sequence[AnswerGroup], vocabulary: PoolVocabulary
) -> Passage:
    """A question with its answers, as one text; and apart from each other for a judge that measures:
    `extra` holds `answers[model][variant][sample]` and the words that name the group."""
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


LABEL_BY_OUTCOME = {"promoted": "accepted", "removed": "ambiguous", "kept": "hard_negative", "abstained": "unlabelled"}


def label_questions(rows: Iterable[RelabelledRow], questions: Iterable[Question]) -> list[LabelledQuestion]:
    """One label for each candidate question. A question that is near several accepted ones keeps a label only
    where all comparisons agree; where they do not, any evidence makes it ambiguous, and an abstention leaves
    it unlabelled."""
    by_id = {q.id: q for q in questions}
    found: dict[str, list[tuple[CandidateVerdict, str]]] = defaultdict(list)
    for row in rows:
        for passage, verdict in zip(row.before.negatives, row.verdicts, strict=True):
            if row.after is None and "ambiguous" in row.flags:
                verdict = CandidateVerdict("abstained", "row_dropped", verdict.evidence)
            found[passage.id].append((verdict, row.before.query_id))
    return [_settle(by_id[name], verdicts) for name, verdicts in sorted(found.items())]


def _settle(question: Question, verdicts: Sequence[tuple[CandidateVerdict, str]]) -> LabelledQuestion:
    outcomes = {verdict.outcome for verdict, _ in verdicts}
    outcome = verdicts[0][0].outcome if len(outcomes) == 1 else _mixed(outcomes)
    chosen = next((pair for pair in verdicts if pair[0].outcome == outcome), None)
    if chosen is None:
        first, because_of = verdicts[0]
        chosen = CandidateVerdict("removed", "comparisons_disagree", first.evidence), because_of
    return LabelledQuestion(question, LABEL_BY_OUTCOME[outcome], *chosen)


def _mixed(outcomes: Set[str]) -> str:
    return "removed" if outcomes & {"promoted", "removed"} else "abstained"


# Relabel: which low-scoring questions show the harm after all, which hard negatives answer after all?
#
# Both are the same algorithm (`tasks.relabel.two_stage`) with another criterion.


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
    sets = pool_candidate_sets(rows, answers, vocabulary, context.recipe.relabel.candidates)
    relabelling, costs = run_async(judge_sets(context, sets, "question"))
    settled = label_questions(relabelling.rows, rows)
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
    section = context.recipe.relabel
    judges = judges_of(context.recipe.models.relabel_judges, subject)
    job = RelabelJob(section.strategy, judges, Policy.of(section), DecisionRule.parse(section.rule))
    async with open_strategy(job, ModelSettings.of(context), subject) as strategy:
        if subject == "question":
            return await strategy.relabel(sets, None, None), strategy.costs()
        return await relabel_rows(sets, job, strategy), strategy.costs()


def relabelled_questions(rows: Iterable[Question], settled: Iterable[LabelledQuestion]) -> list[Question]:
    """All questions that are left, in their order, with their labels now."""
    labels = {s.question.id: s.label for s in settled}
    return [
        question.model_copy(update={"label": labels.get(question.id, question.label)})
        for question in rows
        if labels.get(question.id) != "ambiguous"
    ]


def question_change(settled: LabelledQuestion, judge: str) -> LabelChange:
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


def drop_ambiguous(settled: LabelledQuestion) -> Dropped:
    """A question that shows the harm, but less directly than an accepted one."""
    return drop_question(settled.question, stage="relabel", reason="ambiguous", because_of=settled.because_of)


def count_questions(settled: Sequence[LabelledQuestion]) -> StageCounts:
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
    file = input_path(path)
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
    3,
    run=relabel_retrieval,
    reads=("relabel", "models"),
    vocabulary=("prompts", "lexicons"),
)
STAGE = Stage(
    "relabel",
    2,
    run=relabel,
    reads=("relabel", "models"),
    vocabulary=("prompts", "lexicons", "attributes"),
)
