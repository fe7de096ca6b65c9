"""Hold-back stage: keep some accepted questions, and near-duplicates of them, private.

Private questions show later whether a model has memorised the released ones.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, LabelChange, StageCounts
from schemas.question import QUESTIONS, SELECTED, Question
from schemas.tables import canonical_json, derived_seed
from tasks.near_duplicates.units import Unit, find_duplicates
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents, ReleaseRef, open_release
from tasks.release.hold_back import GHOST, HELD, read_hold_back
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.stats.contamination import truncate
from tasks.text.slots import mask_slots

REASON = "held_back"


def hold_back(
    context: RunContext,
    *,
    questions: TableRef,
    label_history: Sequence[TableRef],
    dropped: Sequence[TableRef],
    earlier: Sequence[TableRef] = (),
    previous: ReleaseRef | None = None,
    ghosts: TableRef | None = None,
    generated: Sequence[TableRef] = (),
) -> Outcome:
    """Split questions into those to continue with and `held` ones.

    Label history and dropped rows are returned without content that would reveal a held question.

    Args:
        context: Run context.
        questions: Questions that survived deduplication.
        label_history: Label history of earlier stages.
        dropped: Dropped rows of earlier stages.
        earlier: Private files of earlier versions. Their questions stay private.
        previous: The last release. Its questions cannot be held back.
        ghosts: Questions to draw ghosts from (`release.ghosts`).
        generated: All generated questions, which no ghost resembles. Needed with `ghosts`.
    """
    survivors = read_table(questions, QUESTIONS)
    dropped_rows = list({row.id: row for ref in dropped for row in read_table(ref, DROPPED)}.values())
    threshold = context.recipe.deduplicate.threshold
    released = published_templates(open_release(Path(previous.path)).contents) if previous else set()
    accepted = [q for q in survivors if q.family == "open" and q.label in SELECTED and q.control == "none"]
    public = match_templates(accepted, released, threshold)
    held_before = [q.template for ref in earlier for q in read_hold_back(Path(ref.path))[0]]
    private = match_templates(survivors, held_before, threshold)
    share, seed = context.recipe.release.hold_back, context.recipe.seed
    drawn = draw_held_back(accepted, share, seed, private=private, public=public - private)
    held_ids = add_near_duplicates(drawn, survivors, threshold)
    held = [q for q in survivors if q.id in held_ids]
    like_held = match_templates(parse_dropped_questions(dropped_rows), [q.template for q in held], threshold)
    changes = [c for ref in label_history for c in read_table(ref, LABEL_HISTORY)]
    kept = [q for q in survivors if q.id not in held_ids]
    apart: list[Question] = []
    if ghosts is not None:
        known = {q.template for ref in generated for q in read_table(ref, QUESTIONS)}
        known |= released | {q.template for q in survivors} | set(held_before)
        apart = draw_ghosts(
            read_table(ghosts, QUESTIONS), known, context.recipe.release.ghosts, threshold, seed
        )
    return Outcome(
        tables={QUESTIONS: kept, HELD: [*held, *apart], LABEL_HISTORY: _history_without(changes, held_ids)},
        counts=count_held_back(len(survivors), len(held)),
        dropped=(*redact_dropped(dropped_rows, held_ids, like_held), *map(_drop_held, held)),
    )


def draw_held_back(
    accepted: Sequence[Question],
    share: float,
    seed: int,
    *,
    private: Collection[str] = (),
    public: Collection[str] = (),
) -> set[str]:
    """Draw a share of the questions of every attribute by seed, with their twins.

    Args:
        accepted: Accepted open questions.
        share: Share to hold back, between 0 and 1.
        seed: Seed of the draw.
        private: Ids that are already private. They are drawn first.
        public: Ids that are already released. They are never drawn.

    Returns:
        Ids of the drawn questions.
    """
    by_attribute: dict[str, list[Question]] = defaultdict(list)
    for question in accepted:
        by_attribute[question.attribute].append(question)
    drawn, public = set(private), set(public)
    for _, questions in sorted(by_attribute.items()):
        ids = {q.id for q in questions}
        missing = round(share * len(questions)) - len(drawn & ids)
        for q in sorted(questions, key=lambda q: derived_seed(seed, "hold_back", q.id)):
            if missing <= 0:
                break
            pair = {i for i in (q.id, q.twin_id) if i in ids}
            if pair.isdisjoint(public):
                missing -= len(pair - drawn)
                drawn |= pair
    return drawn


def draw_ghosts(
    pool: Sequence[Question], known: Collection[str], wanted: int, threshold: float, seed: int
) -> list[Question]:
    """Draw questions that resemble none of the benchmark and that are long enough to be continued.

    Args:
        pool: Questions to draw from.
        known: Templates of the benchmark.
        wanted: Number of ghosts. The result has fewer if the pool has no more.
        threshold: Similarity from which on two questions are duplicates.
        seed: Seed of the draw.
    """
    usable = [
        q
        for q in pool
        if q.control == "none" and truncate(q.variants[0].text) and (q.twin_id is None or q.id < q.twin_id)
    ]
    like_known = match_templates(usable, known, threshold)
    drawn = sorted(
        (q for q in usable if q.id not in like_known), key=lambda q: derived_seed(seed, GHOST, q.id)
    )
    return [
        q.model_copy(update={"operator": GHOST, "label": "unlabelled", "twin_id": None})
        for q in drawn[:wanted]
    ]


def match_templates(questions: Iterable[Question], templates: Iterable[str], threshold: float) -> set[str]:
    """Return ids of questions that duplicate or nearly duplicate a template outside the slots."""
    known = [Unit(id=text, text=mask_slots(text), source=REASON) for text in sorted(set(templates))]
    if not known:
        return set()
    units = [Unit(id=q.id, text=mask_slots(q.template)) for q in questions]
    result = find_duplicates(units, threshold=threshold, earlier=known, mutual=False)
    return {d.unit.id for d in result.dropped if d.because_of.source is not None}


def add_near_duplicates(held: set[str], questions: Sequence[Question], threshold: float) -> set[str]:
    """Return the held ids with their near-duplicates, which include controls, and twins of all of these."""
    templates = [q.template for q in questions if q.id in held]
    similar = held | match_templates(questions, templates, threshold)
    return similar | {q.id for q in questions if q.twin_id in similar}


def redact_dropped(dropped: Iterable[Dropped], held: set[str], like_held: set[str]) -> list[Dropped]:
    """Remove the content of dropped rows that would reveal a held question, such as its duplicates."""
    return [_redact(row) if _reveals_held(row, held, like_held) else row for row in dropped]


def _reveals_held(row: Dropped, held: set[str], like_held: set[str]) -> bool:
    if row.kind == "passage":
        return False
    record = json.loads(row.record)
    subject = record.get("question_id", record["id"])
    return subject in held or subject in like_held or row.because_of in held


def _redact(row: Dropped) -> Dropped:
    record = canonical_json({"id": json.loads(row.record)["id"]})
    return row.model_copy(update={"text": "", "record": record, "similarity": None})


def parse_dropped_questions(dropped: Iterable[Dropped]) -> list[Question]:
    """Return the questions in dropped rows. Rows without text were held back before and are left out."""
    return [
        Question.model_validate_json(row.record) for row in dropped if row.kind == "question" and row.text
    ]


def published_templates(contents: Contents) -> set[str]:
    """Return the templates of all questions in a release, dropped ones included."""
    released = [q for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(table)]
    return {q.template for q in [*released, *parse_dropped_questions(contents.rows(DROPPED))]}


def _history_without(changes: Iterable[LabelChange], held: set[str]) -> list[LabelChange]:
    return [c for c in changes if c.subject_id not in held]


def _drop_held(question: Question) -> Dropped:
    return _redact(drop_question(question, stage="hold_back", reason=REASON))


def count_held_back(rows: int, held: int) -> tuple[StageCounts, ...]:
    """Return the counts of the stage, or none if nothing is held back, so that the funnel omits it."""
    if not held:
        return ()
    counts = StageCounts(
        stage="hold_back", unit="questions", rows=rows, kept=rows - held, dropped=held, failed=0
    )
    return (counts,)


STAGE = Stage("hold_back", 1, run=hold_back, reads=("release", "deduplicate"))
