"""The retrieval example: small, readable by its reader, and its faults are planted on purpose."""

from __future__ import annotations

from pathlib import Path

from schemas.labels import CandidateSet
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, detect_format, read_candidate_sets
from tasks.text.similarity import ratio

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
FILE = EXAMPLES / "retrieval.jsonl"


def rows() -> list[CandidateSet]:
    return list(read_candidate_sets(Source(FILE, detect_format(FILE)), BadRows()))


def grades() -> dict[tuple[str, str], int]:
    lines = [line.split() for line in (EXAMPLES / "retrieval.qrels").read_text().splitlines()]
    assert all(len(line) == 4 and line[1] == "0" for line in lines)
    return {(query, passage): int(grade) for query, _, passage, grade in lines}


def test_every_passage_has_a_grade_and_every_grade_a_passage() -> None:
    given = [(row.query_id, p.id) for row in rows() for p in (*row.positives, *row.negatives)]
    assert len(set(given)) == len(given)
    assert set(given) == set(grades())
    assert 12 <= len(rows()) <= 20


def test_positives_are_relevant_and_some_negatives_too() -> None:
    truth = grades()
    assert all(truth[row.query_id, p.id] == 3 for row in rows() for p in row.positives)
    planted = [p.id for row in rows() for p in row.negatives if truth[row.query_id, p.id] >= 2]
    honest = [p.id for row in rows() for p in row.negatives if truth[row.query_id, p.id] == 0]
    assert len(planted) >= 12
    assert len(honest) >= 24


def test_near_duplicate_empty_passage_and_conflict_are_there() -> None:
    pairs = [(p.text, n.text) for row in rows() for p in row.positives for n in row.negatives]
    assert any(ratio(p, n) >= 90 for p, n in pairs)
    assert any(not n for _, n in pairs)
    positives = {p.text for row in rows() for p in row.positives}
    assert len([n.text for row in rows() for n in row.negatives if n.text in positives]) >= 2
