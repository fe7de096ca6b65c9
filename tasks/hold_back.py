"""Hold back: some of the accepted questions are kept private, and with them everything that says nearly the
same, so that one can tell later whether a model knows the released ones by heart.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, LabelChange, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import canonical_json, derived_seed
from tasks.near_duplicates.units import Unit, find_duplicates
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents, ReleaseRef, open_release
from tasks.release.hold_back import HELD, read_hold_back
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.slots import mask_slots

REASON = "held_back"


def draw_held(
    accepted: Sequence[Question],
    share: float,
    seed: int,
    *,
    private: Collection[str] = (),
    public: Collection[str] = (),
) -> set[str]:
    """Ids of that share of the questions of every attribute, chosen by seed, twins together: those that are
    `private` already, and more where they are too few, but none that is `public`."""
    by_attribute: dict[str, list[Question]] = defaultdict(list)
    for question in accepted:
        by_attribute[question.attribute].append(question)
    drawn = set(private)
    for _, questions in sorted(by_attribute.items()):
        wanted = round(share * len(questions))
        ids = {q.id for q in questions}
        for q in sorted(questions, key=lambda q: derived_seed(seed, "hold_back", q.id)):
            together = {i for i in (q.id, q.twin_id) if i in ids}
            if len(drawn & ids) < wanted and not together & set(public):
                drawn |= together
    return drawn


def that_say_the_same(questions: Iterable[Question], texts: Iterable[str], threshold: float) -> set[str]:
    """Ids of the questions whose text outside the slots is one of these templates', or nearly."""
    known = [Unit(id=text, text=mask_slots(text), source=REASON) for text in sorted(set(texts))]
    units = [Unit(id=q.id, text=mask_slots(q.template)) for q in questions]
    found = find_duplicates(units, threshold=threshold, earlier=known, mutual=False)
    return {d.unit.id for d in found.dropped if d.because_of.source is not None}


def with_companions(held: set[str], questions: Sequence[Question], threshold: float) -> set[str]:
    """The held questions with their twins, controls and siblings: whatever says nearly the same."""
    texts = [q.template for q in questions if q.id in held]
    found = held | that_say_the_same(questions, texts, threshold)
    return found | {q.id for q in questions if q.twin_id in found}


def without_held(dropped: Iterable[Dropped], held: set[str], like_held: set[str]) -> list[Dropped]:
    """Dropped rows that would tell a held question (its duplicates, its answers) without what they say."""
    return [_emptied(d) if _tells(d, held, like_held) else d for d in dropped]


def _tells(row: Dropped, held: set[str], like_held: set[str]) -> bool:
    if row.kind == "passage":
        return False
    record = json.loads(row.record)
    subject = record.get("question_id", record["id"])
    return subject in held or subject in like_held or row.because_of in held


def _emptied(row: Dropped) -> Dropped:
    record = canonical_json({"id": json.loads(row.record)["id"]})
    return row.model_copy(update={"text": "", "record": record, "similarity": None})


def lost_in(dropped: Iterable[Dropped]) -> list[Question]:
    """Questions that stand in dropped rows with what they say."""
    return [
        Question.model_validate_json(row.record)
        for row in dropped
        if row.kind == "question" and row.text  # without text it was held back before
    ]


def published_texts(contents: Contents) -> set[str]:
    """Templates of all questions that a release shows, dropped ones included."""
    shown = [q for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(table)]
    return {q.template for q in [*shown, *lost_in(contents.rows(DROPPED))]}


def hold_back(
    context: RunContext,
    *,
    questions: TableRef,
    label_history: Sequence[TableRef],
    dropped: Sequence[TableRef],
    earlier: Sequence[TableRef] = (),
    previous: ReleaseRef | None = None,
) -> Outcome:
    """Questions to go on with, and `held`: those to keep private. `earlier`: the private files of earlier
    versions, whose questions stay private; what `previous` published cannot become so.

    The label history and the dropped rows come back without what would tell a held question.
    """
    standing = read_table(questions, QUESTIONS)
    lost = list({row.id: row for ref in dropped for row in read_table(ref, DROPPED)}.values())
    threshold = context.recipe.deduplicate.threshold
    public = published_texts(open_release(Path(previous.path)).contents) if previous else set()
    accepted = [q for q in standing if q.family == "open" and q.label == "accepted" and q.control == "none"]
    known = that_say_the_same(accepted, public, threshold)
    kept_private = [q.template for ref in earlier for q in read_hold_back(Path(ref.path))[0]]
    private = that_say_the_same(standing, kept_private, threshold)
    share, seed = context.recipe.release.hold_back, context.recipe.seed
    drawn = draw_held(accepted, share, seed, private=private, public=known - private)
    held_ids = with_companions(drawn, standing, threshold)
    held = [q for q in standing if q.id in held_ids]
    like_held = that_say_the_same(lost_in(lost), [q.template for q in held], threshold)
    changes = [c for ref in label_history for c in read_table(ref, LABEL_HISTORY)]
    kept = [q for q in standing if q.id not in held_ids]
    return Outcome(
        tables={QUESTIONS: kept, HELD: held, LABEL_HISTORY: _history_without(changes, held_ids)},
        counts=count_held(len(standing), len(held)),
        dropped=(*without_held(lost, held_ids, like_held), *map(_drop_held, held)),
    )


def _history_without(changes: Iterable[LabelChange], held: set[str]) -> list[LabelChange]:
    return [c for c in changes if c.subject_id not in held]


def _drop_held(question: Question) -> Dropped:
    return _emptied(drop_question(question, stage="hold_back", reason=REASON))


def count_held(rows: int, held: int) -> tuple[StageCounts, ...]:
    """Nothing where nothing is held back: then the funnel has no such stage."""
    if not held:
        return ()
    counts = StageCounts(
        stage="hold_back", unit="questions", rows=rows, kept=rows - held, dropped=held, failed=0
    )
    return (counts,)


STAGE = Stage("hold_back", 1, run=hold_back, reads=("release", "deduplicate"))
