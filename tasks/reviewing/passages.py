"""Passages that people judged: their word comes after the relabelling's, and the rows follow it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.candidates import CandidateSet, Passage
from schemas.decision import Dropped
from schemas.ids import content_id
from schemas.label import LabelChange
from tasks.reviewing.changes import people_change
from tasks.reviewing.standing import Settlement

LABELS = {"answers": "positive", "helps": "removed", "does_not_answer": "hard_negative"}
"""What people's decisions make of a passage."""
Pair = tuple[str, str]
"""A query's id and a passage's."""


@dataclass(frozen=True)
class ReviewedSets:
    """Rows after people's decisions."""

    sets: list[CandidateSet]
    changes: list[LabelChange]
    dropped: list[Dropped]
    kept: int
    """Passages that people decided on and that stand in a row, counted row by row."""


def review_sets(
    sets: Sequence[CandidateSet],
    history: Sequence[LabelChange],
    dropped: Sequence[Dropped],
    settlements: Sequence[Settlement],
) -> ReviewedSets:
    """Every row with its passages where people want them. A passage that the relabelling removed, and that
    people want back, comes back into the rows of its query that are left."""
    wanted = {(s.query_id, s.subject_id): LABELS[s.decision] for s in settlements if s.decision in LABELS}
    last = last_labels(history)
    removed = _removed_passages(dropped, last)
    changes: dict[Pair, LabelChange] = {}
    after, lost, kept = [], [], 0
    for row in sets:
        here = _places(row, removed)
        decided = {p.id: wanted[pair] for p, _ in here if (pair := (row.query_id, p.id)) in wanted}
        for passage, label in here:
            if passage.id not in decided:
                continue
            pair = (row.query_id, passage.id)
            step, before = last.get(pair, (-1, label))
            changes[pair] = people_change(
                "passage", passage.id, row.query_id, step=step + 1, before=before, after=decided[passage.id]
            )
        labelled = [(p, decided.get(p.id, label)) for p, label in here]
        after.append(_row_of(row, labelled))
        out = [p for p, label in here if label != "removed" and decided.get(p.id) == "removed"]
        lost += [_drop(row, passage) for passage in out]
        kept += sum(label != "removed" for label in decided.values())
    return ReviewedSets(after, [changes[pair] for pair in sorted(changes)], lost, kept)


def last_labels(history: Sequence[LabelChange]) -> dict[Pair, tuple[int, str]]:
    """The last step of each passage for each query, and the label that it ended in."""
    last: dict[Pair, tuple[int, str]] = {}
    for change in history:
        pair = (change.query_id, change.subject_id)
        if change.subject_kind == "passage" and change.step >= last.get(pair, (-1, ""))[0]:
            last[pair] = (change.step, change.after)
    return last


def _removed_passages(
    dropped: Sequence[Dropped], last: Mapping[Pair, tuple[int, str]]
) -> dict[str, list[Passage]]:
    """By query the passages that the relabelling took out."""
    texts = {p.id: p for d in dropped if d.kind == "passage" for p in [Passage.model_validate_json(d.record)]}
    found: dict[str, list[Passage]] = defaultdict(list)
    for (query, passage_id), (_, label) in sorted(last.items()):
        if label == "removed" and passage_id in texts:
            found[query].append(texts[passage_id])
    return found


def _places(row: CandidateSet, removed: Mapping[str, Sequence[Passage]]) -> list[tuple[Passage, str]]:
    """Every passage of a row with its label now; those that were removed from it last."""
    here = [(p, "positive") for p in row.positives] + [(p, "hard_negative") for p in row.negatives]
    ids = {p.id for p, _ in here}
    return here + [(p, "removed") for p in removed.get(row.query_id, ()) if p.id not in ids]


def _row_of(row: CandidateSet, labelled: Sequence[tuple[Passage, str]]) -> CandidateSet:
    positives = tuple(p for p, label in labelled if label == "positive")
    negatives = tuple(p for p, label in labelled if label == "hard_negative")
    return row.model_copy(update={"positives": positives, "negatives": negatives})


def _drop(row: CandidateSet, passage: Passage) -> Dropped:
    return Dropped(
        id=content_id("x", row.id, passage.id, "review"),
        kind="passage",
        stage="review",
        reason="review_helps",
        because_of=None,
        similarity=None,
        text=passage.text,
        record=passage.model_dump_json(),
    )
