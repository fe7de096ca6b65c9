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

from schemas.attribute import Attribute
from schemas.candidates import CandidateSet, Passage
from schemas.ids import canonical_json, content_id
from schemas.question import Question
from schemas.response import Response
from schemas.vocabulary import Lexicon
from tasks.formats.vocabulary import read_attributes
from tasks.judging.groups import AnswerGroup, group_answers
from tasks.judging.masking import masked_words, read_group_words
from tasks.relabelling.changes import RelabelledRow
from tasks.relabelling.policies import Verdict
from tasks.text.prompts import Prompt, read_prompt
from tasks.text.similarity import token_set_ratio

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Settled:
    """What a candidate question is now: `accepted`, `ambiguous`, `hard_negative` or `unlabelled` (the judge
    abstained), with the verdict that says so and the accepted question it was compared with."""

    question: Question
    label: str
    verdict: Verdict
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


def candidate_sets(
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
    text = outside_slots(question)
    ranked = sorted(alike, key=lambda q: (-token_set_ratio(text, outside_slots(q)), q.id))
    return ranked[:nearest]


def outside_slots(question: Question) -> str:
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
    hidden = masked_words(attribute, question, vocabulary.group_words)
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


LABELS = {"promoted": "accepted", "removed": "ambiguous", "kept": "hard_negative", "abstained": "unlabelled"}


def settle_questions(rows: Iterable[RelabelledRow], questions: Iterable[Question]) -> list[Settled]:
    """One label for each candidate question. A question that is near several accepted ones keeps a label only
    where all comparisons agree; where they do not, any evidence makes it ambiguous, and an abstention leaves
    it unlabelled."""
    by_id = {q.id: q for q in questions}
    found: dict[str, list[tuple[Verdict, str]]] = defaultdict(list)
    for row in rows:
        for passage, verdict in zip(row.before.negatives, row.verdicts, strict=True):
            if row.after is None and "ambiguous" in row.flags:
                verdict = Verdict("abstained", "row_dropped", verdict.evidence)
            found[passage.id].append((verdict, row.before.query_id))
    return [_settle(by_id[name], verdicts) for name, verdicts in sorted(found.items())]


def _settle(question: Question, verdicts: Sequence[tuple[Verdict, str]]) -> Settled:
    outcomes = {verdict.outcome for verdict, _ in verdicts}
    outcome = verdicts[0][0].outcome if len(outcomes) == 1 else _mixed(outcomes)
    chosen = next((pair for pair in verdicts if pair[0].outcome == outcome), None)
    if chosen is None:
        first, because_of = verdicts[0]
        chosen = Verdict("removed", "comparisons_disagree", first.evidence), because_of
    return Settled(question, LABELS[outcome], *chosen)


def _mixed(outcomes: Set[str]) -> str:
    return "removed" if outcomes & {"promoted", "removed"} else "abstained"
