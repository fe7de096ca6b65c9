"""Documented losses of a format equal the losses of a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.labels import CandidateSet
from tasks.files.records import BadRows
from tasks.files.retrieval import FORMATS, Source, losses_of, read_candidate_sets, write_candidate_sets
from tasks.files.retrieval_rows import columns_of, make_passage, make_set

FULL = make_set(
    "q?",
    [make_passage("yes.", given_id="a", title="T", score=0.9, columns={"lang": "en"})],
    [make_passage("no.", given_id="b", title="U", score=0.2, columns={"lang": "en"})],
    query_id="q1",
    columns={"subset": "s"},
)


def things(row: CandidateSet) -> dict[str, Any]:
    passages = sorted((*row.positives, *row.negatives), key=lambda p: p.text)
    return {
        "query ids": row.query_id,
        "columns of rows": columns_of(row),
        "passage ids": [p.id for p in passages],
        "titles": [p.title or None for p in passages],
        "scores": [p.score for p in passages],
        "columns of passages": [columns_of(p) for p in passages],
    }


@pytest.mark.parametrize("name", [f for f in FORMATS if f != "tevatron-ids"])
def test_documented_losses_are_the_actual_losses_of_a_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / {"msmarco": "out.tsv", "beir": "out"}.get(name, "out.jsonl")
    write_candidate_sets(path, name, lambda: [FULL])
    qrels = {("q1", "a"): 1}
    (back,) = read_candidate_sets(Source(path, name, relevant=qrels), BadRows())
    before, after = things(FULL), things(back)
    gone = {thing for thing in before if before[thing] != after[thing]}
    assert gone == set(losses_of(FULL, name))
    assert {p.text for p in back.positives} == {"yes."}
    assert {p.text for p in back.negatives} == {"no."}


def test_rows_that_have_no_place_are_counted_as_rows() -> None:
    bare = FULL.model_copy(update={"negatives": ()})
    assert losses_of(bare, "triplet") == {"rows without a positive or a negative": 1}
    assert not losses_of(make_set("q", [make_passage("a")], [make_passage("b")]), "msmarco")
    broken = make_set("q", [make_passage("a\nb")], [make_passage("b")])
    assert losses_of(broken, "msmarco") == {"line breaks and tabs": 1}


def test_ids_only_leave_the_texts_to_the_corpus() -> None:
    assert losses_of(FULL, "tevatron-ids")["texts (they stay in the corpus)"] == 2
