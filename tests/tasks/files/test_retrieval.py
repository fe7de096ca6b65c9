"""Retrieval files are read and written without loss, with their ids. Bad rows are named with their place."""

from __future__ import annotations

import gzip
import json
import string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import CandidateSet
from tasks.files.records import BadRows, tsv_header
from tasks.files.retrieval import Source, detect_format, read_candidate_sets, write_candidate_sets
from tests.conftest import SHARED

RETRIEVAL = SHARED / "retrieval"
needs_shared = pytest.mark.skipif(not RETRIEVAL.is_dir(), reason="needs ../shared/data/retrieval")

P, N1, N2 = "It was lit in 1848.", "It burns oil.", "Ships pass it."
FLAG = {
    "query": "when was it lit?",
    "pos": [P],
    "neg": [N1, N2],
    "pos_scores": [9.5],
    "neg_scores": [8.25, 3.0],
    "prompt": "Answer.",
    "type": "normal",
    "pos_id": [7],
    "neg_id": ["a", "b"],
}
TEVATRON = {
    "query_id": "q1",
    "query": "when was it lit?",
    "positive_passages": [{"docid": "d1", "text": P, "title": "Light"}],
    "negative_passages": [{"docid": "d2", "text": N1, "title": ""}, {"docid": "d3", "text": N2}],
}
RANKLLM = {
    "query": {"text": "when was it lit?", "qid": 3},
    "candidates": [
        {"docid": 11, "score": 2.5, "doc": {"title": "Light", "segment": P, "url": "u"}, "label": 1},
        {"docid": 12, "score": 1.5, "doc": {"contents": N1}, "label": 0},
    ],
}
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "flagembedding": [FLAG, {"query": "none?", "pos": [P], "neg": []}],
    "tevatron": [TEVATRON],
    "rlhn": [TEVATRON | {"subset": "fever"}],
    "rankllm": [RANKLLM],
    "triplet": [
        {"anchor": "when?", "positive": P, "negative": N1},
        {"anchor": "when?", "positive": P, "negative": N2},
        {"anchor": "when?", "positive": "In 1848.", "negative": N1},
        {"anchor": "who?", "positive": "The keeper.", "negative": N2},
    ],
    "n-tuple": [{"question": "when?", "answer": P, "negative_1": N1, "negative_2": N2, "score": 0.5}],
    "labeled-pair": [
        {"query": "when?", "passage": N1, "label": 0},
        {"query": "when?", "passage": P, "label": 1},
        {"query": "when?", "passage": N2, "label": 0},
        {"query": "who?", "passage": N2, "label": 0},
    ],
    "labeled-list": [{"query": "when?", "docs": [N1, P, N2], "labels": [0, 1, 0], "source": "x"}],
}


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(path: Path, bad: BadRows | None = None, **source: Any) -> list[CandidateSet]:
    format = source.pop("format", None) or detect_format(path)
    return list(read_candidate_sets(Source(path, format, **source), bad or BadRows()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_format_is_recognised_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", EXAMPLES[name])
    assert detect_format(path) == name
    sets = read(path)
    write_candidate_sets(tmp_path / "out.jsonl", name, lambda: sets)
    assert read_lines(tmp_path / "out.jsonl") == EXAMPLES[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_parquet_holds_the_same_as_lines(name: str, tmp_path: Path) -> None:
    sets = read(write_lines(tmp_path / "in.jsonl", EXAMPLES[name]))
    write_candidate_sets(tmp_path / "out.parquet", name, lambda: sets)
    assert [_texts(s) for s in read(tmp_path / "out.parquet", format=name)] == [_texts(s) for s in sets]


def _texts(row: CandidateSet) -> tuple[Any, ...]:
    sides = ([(p.id, p.text) for p in side] for side in (row.positives, row.negatives))
    return (row.query_id, row.query, *sides)


@pytest.mark.parametrize("target", [name for name in EXAMPLES if name != "rlhn"])
@pytest.mark.parametrize("origin", ["tevatron", "flagembedding", "triplet"])
def test_any_format_becomes_any_other(origin: str, target: str, tmp_path: Path) -> None:
    sets = [s for s in read(write_lines(tmp_path / "in.jsonl", EXAMPLES[origin])) if s.negatives]
    write_candidate_sets(tmp_path / "out.jsonl", target, lambda: sets)
    expected = {(s.query, p.text, n.text) for s in sets for p in s.positives for n in s.negatives}
    found = read(tmp_path / "out.jsonl", format=target)
    pairs = {(s.query, p.text, n.text) for s in found for p in s.positives for n in s.negatives}
    if origin == "triplet" and target in ("triplet", "msmarco"):
        assert pairs <= expected
    else:
        assert pairs == expected


def test_promoted_negative_of_triplets_is_paired_with_the_remaining_ones(tmp_path: Path) -> None:
    first, other = read(write_lines(tmp_path / "in.jsonl", EXAMPLES["triplet"]))
    promoted, left = first.negatives
    after = first.model_copy(update={"positives": (*first.positives, promoted), "negatives": (left,)})
    write_candidate_sets(tmp_path / "out.jsonl", "triplet", lambda: [after, other])
    assert [tuple(r.values()) for r in read_lines(tmp_path / "out.jsonl")] == [
        ("when?", P, N2),
        ("when?", "In 1848.", N2),  # its only negative was promoted: without a new one it would be lost
        ("when?", N1, N2),
        ("who?", "The keeper.", N2),
    ]


def test_promoted_passage_takes_its_score_and_id_along(tmp_path: Path) -> None:
    (before,) = read(write_lines(tmp_path / "in.jsonl", [FLAG]))
    promoted, left = before.negatives
    after = before.model_copy(update={"positives": (*before.positives, promoted), "negatives": (left,)})
    write_candidate_sets(tmp_path / "out.jsonl", "flagembedding", lambda: [after])
    (found,) = read_lines(tmp_path / "out.jsonl")
    assert (found["pos"], found["pos_id"], found["pos_scores"]) == ([P, N1], [7, "a"], [9.5, 8.25])
    assert (found["neg"], found["neg_id"], found["neg_scores"]) == ([N2], ["b"], [3.0])
    assert found["prompt"] == "Answer."


def test_missing_ids_are_made_from_the_content(tmp_path: Path) -> None:
    plain = {k: v for k, v in FLAG.items() if not k.endswith(("_id", "_scores"))}
    once, again = read(write_lines(tmp_path / "in.jsonl", [plain, plain | {"neg": [N2, N1]}]))
    assert {p.id for p in once.negatives} == {p.id for p in again.negatives}
    assert once.query_id == again.query_id
    assert once.id != again.id
    write_candidate_sets(tmp_path / "out.jsonl", "flagembedding", lambda: [once])
    assert read_lines(tmp_path / "out.jsonl") == [plain]


def test_tevatron_ids_find_their_passages_in_the_corpus(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "corpus.jsonl", [{"docid": "d1", "text": P}, {"docid": 2, "text": N1, "title": "T"}]
    )
    record = {
        "query_id": "q",
        "query_text": "when?",
        "positive_document_ids": ["d1"],
        "negative_document_ids": [2],
    }
    path = write_lines(tmp_path / "train.jsonl", [record])
    (found,) = read(path)
    assert (found.positives[0].text, found.negatives[0].text, found.negatives[0].title) == (P, N1, "T")
    write_candidate_sets(tmp_path / "out.jsonl", "tevatron-ids", lambda: [found])
    assert read_lines(tmp_path / "out.jsonl") == [record]


def test_rankllm_requests_take_their_positives_from_qrels(tmp_path: Path) -> None:
    unlabelled = RANKLLM | {
        "candidates": [{k: v for k, v in c.items() if k != "label"} for c in RANKLLM["candidates"]]
    }  # type: ignore[union-attr]
    path = write_lines(tmp_path / "requests.jsonl", [unlabelled])
    assert len(read(path)[0].negatives) == 2
    (found,) = read(path, relevant={("3", "12"): 1})
    assert [p.id for p in found.positives] == ["12"]


def test_msmarco_triples(tmp_path: Path) -> None:
    path = tmp_path / "triples.tsv"
    path.write_text(f'when?\t{P}\t{N1}\nwhen?\t{P}\t"quoted" {N2}\n', encoding="utf-8")
    (found,) = read(path)
    assert [n.text for n in found.negatives] == [N1, f'"quoted" {N2}']
    write_candidate_sets(tmp_path / "out.tsv", "msmarco", lambda: [found])
    assert (tmp_path / "out.tsv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("first", "is_header"),
    [
        ("query\tpositive\tnegative", True),
        ("query\tpos_passage\tneg_passage", True),
        ("Query Text\tpositiveDocument\tHard-Negative 1", True),
        ("#qid\tpid_pos\tpid_neg", True),
        ("anchor\tpositive_1\tnegative_1", True),
        ("question of law\tanswer\tpassage", False),
        ("question?\tanswer\tpassage", False),
        ("Queries\tpositives\tnegatives", True),
        ("7\t8\t9", False),
    ],
)
def test_header_of_a_tsv_file_is_no_row(first: str, is_header: bool, tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text(f"{first}\nwhen?\t{P}\t{N1}\n", encoding="utf-8")
    assert (tsv_header(path) is not None) == is_header


def test_tabs_in_a_text_do_not_make_columns(tmp_path: Path) -> None:
    sets = read(write_lines(tmp_path / "in.jsonl", [FLAG | {"neg": ["a\tb\nc", N2]}]))
    write_candidate_sets(tmp_path / "out.tsv", "msmarco", lambda: sets)
    assert read(tmp_path / "out.tsv")[0].negatives[0].text == "a b c"


def make_beir(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    texts = {"d1": P, "d2": N1, "d3": "Nobody asks for this."}
    write_lines(folder / "corpus.jsonl", [{"_id": i, "title": "", "text": t} for i, t in texts.items()])
    write_lines(folder / "queries.jsonl", [{"_id": "q1", "text": "when?", "metadata": {}}])
    lines = ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td2\t0", ""]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_beir_folder_keeps_its_corpus_and_grades(tmp_path: Path) -> None:
    folder = make_beir(tmp_path / "in")
    assert detect_format(folder) == "beir"
    (before,) = read(folder)
    assert [n.id for n in before.negatives] == ["d2"]
    after = before.model_copy(update={"positives": (*before.positives, *before.negatives), "negatives": ()})
    write_candidate_sets(tmp_path / "out", "beir", lambda: [after], Source(folder, "beir"))
    assert (tmp_path / "out" / "corpus.jsonl").read_bytes() == (folder / "corpus.jsonl").read_bytes()
    qrels = (tmp_path / "out" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    assert qrels[1:] == ["q1\td1\t2", "q1\td2\t1"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_lines(suffix: str, tmp_path: Path) -> None:
    text = (json.dumps(FLAG) + "\n").encode()
    path = tmp_path / f"in.jsonl{suffix}"
    path.write_bytes(gzip.compress(text) if suffix == ".gz" else zstandard.compress(text))
    sets = read(path)
    out = tmp_path / f"out.jsonl{suffix}"
    write_candidate_sets(out, "flagembedding", lambda: sets)
    once = out.read_bytes()
    write_candidate_sets(out, "flagembedding", lambda: sets)
    assert out.read_bytes() == once
    assert read(out) == sets


def test_damaged_archive_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(FLAG) + "\n").encode() * 50)[:-20])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read(path, format="flagembedding")


def test_saved_dataset_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([TEVATRON]).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": datasets.Dataset.from_list([TEVATRON])}).save_to_disk(tmp_path / "many")
    for name in ("one", "many"):
        assert detect_format(tmp_path / name) == "tevatron"
        assert [p.id for p in read(tmp_path / name)[0].negatives] == ["d2", "d3"]


def test_folder_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([TEVATRON]), tmp_path / "data" / "train-00000-of-00001.parquet")
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "a", "pos": ["b"]', "not a JSON line"),
        ("[1, 2]", "JSON object"),
        ('{"pos": ["b"], "neg": []}', "'query' is missing"),
        ('{"query": 3, "pos": ["b"], "neg": []}', "'query' must be a text"),
        ('{"query": "a", "pos": "b", "neg": []}', "'pos' must be a list of texts"),
        ('{"query": "a", "pos": [null], "neg": []}', "'pos' must be a list of texts"),
        ('{"query": "a", "pos": ["b"], "neg": ["c"], "neg_scores": []}', None),
        ('{"query": "a", "pos": ["b"], "neg": ["c"], "neg_scores": [1, 2]}', "differ in length"),
        ('{"query": "\\ud800", "pos": ["b"], "neg": []}', "not a JSON line"),
    ],
)
def test_bad_line_stops_with_its_number_or_is_skipped_and_counted(
    line: str, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(FLAG) + "\n\n" + line + "\n" + json.dumps(FLAG) + "\n", encoding="utf-8")
    if message is None:
        assert len(read(path)) == 3
        return
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert caught.value.place == f"{path}:3"
    bad = BadRows(skip=True)
    assert len(read(path, bad)) == 2
    assert (bad.count, bad.places) == (1, [f"{path}:3"])


def test_label_that_is_neither_zero_nor_one_is_a_bad_row(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "in.jsonl", [*EXAMPLES["labeled-pair"], {"query": "q", "passage": "p", "label": 0.3}]
    )
    with pytest.raises(InputError, match="label must be 0 or 1"):
        read(path)


def test_unknown_columns_and_names_list_the_known_ones(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"title": "x"}])
    with pytest.raises(InputError, match="no known format has the columns") as caught:
        detect_format(path)
    assert "flagembedding" in str(caught.value)
    with pytest.raises(InputError, match=r"the format of in\.dat is unknown"):
        detect_format(write_lines(tmp_path / "in.dat", [FLAG]))
    with pytest.raises(InputError, match="the file has no rows"):
        detect_format(write_lines(tmp_path / "empty.jsonl", []))
    with pytest.raises(InputError, match="there is no file"):
        detect_format(tmp_path / "absent.jsonl")


TEXT = st.text(string.printable + "éß漢\u200b“", max_size=20)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"query": TEXT, "pos": st.lists(TEXT, max_size=3), "neg": st.lists(TEXT, max_size=4)},
            optional={"prompt": TEXT, "type": st.none() | TEXT, "n": st.integers(-5, 5)},
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=40, deadline=None)
def test_flagembedding_round_trip(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    sets = read(write_lines(folder / "in.jsonl", records), format="flagembedding")
    write_candidate_sets(folder / "out.jsonl", "flagembedding", lambda: sets)
    assert read_lines(folder / "out.jsonl") == records


@needs_shared
@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("flagembedding/msmarco.jsonl", "flagembedding"),
        ("flagembedding/nq.jsonl", "flagembedding"),
        ("flagembedding/nli.jsonl", "flagembedding"),
        ("flagembedding/reranker.jsonl", "flagembedding"),
        ("rlhn/fiqa.stage_1.gpt-4o-mini.jsonl", "rlhn"),
        ("rlhn/msmarco_passage.stage_2.gpt-4o.jsonl", "rlhn"),
    ],
)
def test_real_files_survive_a_round_trip(name: str, format: str, tmp_path: Path) -> None:
    assert detect_format(RETRIEVAL / name) == format
    sets = read(RETRIEVAL / name)
    write_candidate_sets(tmp_path / "out.jsonl", format, lambda: sets)
    assert read_lines(tmp_path / "out.jsonl") == read_lines(RETRIEVAL / name)
