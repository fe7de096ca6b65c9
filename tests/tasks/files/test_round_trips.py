"""Every format keeps its content in a round trip, except for the decided changes."""

from __future__ import annotations

import datetime
import json
import math
import random
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import CandidateSet
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, detect_format, read_candidate_sets, write_candidate_sets
from tasks.files.values import decode_value, dump_json, encode_value, parse_json

TEXT = st.text("ab  \u00a0\u3000'\"\\漢字é\u200b²①½", min_size=1, max_size=12)
ID = st.one_of(
    st.sampled_from(["", "007", "1e5", "a b", "ü", "99999999999999999999901"]), st.integers(0, 10**23), TEXT
)
NUMBER = st.one_of(st.integers(-5, 5), st.floats(-9, 9), st.none())
EXTRA = st.dictionaries(
    st.sampled_from(["note", "source_file", "n"]), st.one_of(TEXT, st.integers(), st.none()), max_size=2
)


def sized(size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(NUMBER, min_size=size, max_size=size)


@st.composite
def flagembedding(draw: Any) -> dict[str, Any]:
    pos, neg = draw(st.lists(TEXT, max_size=3)), draw(st.lists(TEXT, max_size=3))
    record = {"query": draw(TEXT), "pos": pos, "neg": neg} | draw(EXTRA)
    for side, texts in (("pos", pos), ("neg", neg)):
        if draw(st.booleans()):
            record[f"{side}_scores"] = draw(sized(len(texts)))
        if draw(st.booleans()):
            record[f"{side}_id"] = draw(st.lists(ID, min_size=len(texts), max_size=len(texts)))
        if draw(st.booleans()):
            record[f"{side}_source"] = draw(st.lists(TEXT, min_size=len(texts), max_size=len(texts)))
    if pos and neg and draw(st.booleans()):
        record["teacher_scores"] = draw(sized(len(pos) + len(neg)))
    return record


TITLE = st.one_of(st.none(), TEXT, st.integers(0, 2000), st.lists(TEXT, max_size=2))


@st.composite
def tevatron_passage(draw: Any) -> dict[str, Any]:
    passage = {"text": draw(TEXT)} | draw(EXTRA)
    if draw(st.booleans()):
        passage["docid"] = draw(ID)
    if draw(st.booleans()):
        passage["title"] = draw(TITLE)
    return passage


@st.composite
def tevatron(draw: Any) -> dict[str, Any]:
    passages = st.lists(tevatron_passage(), max_size=3)
    record = {"query": draw(TEXT), "positive_passages": draw(passages), "negative_passages": draw(passages)}
    return record | draw(EXTRA) | ({"query_id": draw(ID)} if draw(st.booleans()) else {})


@st.composite
def rankllm(draw: Any) -> dict[str, Any]:
    candidates = []
    for _ in range(draw(st.integers(0, 4))):
        doc = {draw(st.sampled_from(["text", "contents", "segment"])): draw(TEXT)}
        if draw(st.booleans()):
            doc["title"] = draw(TITLE)
        label = draw(st.sampled_from([0, 1, "0", "1", None, True, False, 2, 1.0]))
        candidate = {"docid": draw(ID), "doc": doc, "label": label} | draw(EXTRA)
        if draw(st.booleans()):
            candidate["score"] = draw(NUMBER)
        candidates.append(candidate)
    return {"query": {"text": draw(TEXT), "qid": draw(ID)}, "candidates": candidates} | draw(EXTRA)


@st.composite
def n_tuple(draw: Any) -> dict[str, Any]:
    size = draw(st.integers(1, 3))
    record = {"question": draw(TEXT), "answer": draw(TEXT)}
    record |= {f"negative_{i}": draw(TEXT) for i in range(1, size + 1)}
    name = draw(st.sampled_from(["scores", "label", None]))
    return record | draw(EXTRA) | ({name: draw(sized(size + 1))} if name else {})


@st.composite
def labeled_list(draw: Any) -> dict[str, Any]:
    texts = draw(st.lists(TEXT, max_size=4))
    kind = draw(st.sampled_from([int, float, bool]))
    labels = [kind(draw(st.integers(0, 1))) for _ in texts]
    record = {"query": draw(TEXT), "docs": texts, "labels": labels} | draw(EXTRA)
    return record | ({"scores": draw(sized(len(texts)))} if texts and draw(st.booleans()) else {})


TRIPLET = st.builds(
    lambda q, p, n, rest: {"anchor": q, "positive": p, "negative": n} | rest,
    st.sampled_from(["q", "w"]),
    st.sampled_from(["p", "r"]),
    TEXT,
    EXTRA,
)
PAIR = st.builds(
    lambda q, p, label, rest: {"query": q, "passage": p, "label": label} | rest,
    st.sampled_from(["q", "w"]),
    TEXT,
    st.sampled_from([0, 1, 0.0, 1.0, True, False, "0", "1"]),
    EXTRA,
)


@st.composite
def rlhn(draw: Any) -> dict[str, Any]:
    return draw(tevatron()) | {"subset": draw(TEXT)}


RECORDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "flagembedding": flagembedding(),
    "tevatron": tevatron(),
    "rlhn": rlhn(),
    "rankllm": rankllm(),
    "n-tuple": n_tuple(),
    "labeled-list": labeled_list(),
    "triplet": TRIPLET,
    "labeled-pair": PAIR,
}


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records))
    return path


def read(path: Path, format: str) -> list[CandidateSet]:
    return list(read_candidate_sets(Source(path, format), BadRows()))


def typed(value: Any) -> Any:
    """Return a value that is equal to another one only if the types are, too."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    return [typed(part) for part in value] if isinstance(value, list) else (type(value).__name__, value)


@pytest.mark.parametrize("format", RECORDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_record_comes_out_as_it_went_in(
    format: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = data.draw(st.lists(RECORDS[format], min_size=1, max_size=4))
    folder = tmp_path_factory.mktemp("round")
    source = write_lines(folder / "in.jsonl", records)
    sets = read(source, format)
    again = [CandidateSet.model_validate_json(row.model_dump_json()) for row in sets]
    write_candidate_sets(folder / "out.jsonl", format, lambda: again, Source(source, format))
    lines = (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [typed(json.loads(line)) for line in lines] == [typed(record) for record in records]


REMOVES_SINGLE_NEGATIVES = [name for name in RECORDS if name != "n-tuple"]
"""Tuples keep their width: a removal is a matter of the whole row."""


@pytest.mark.parametrize("format", REMOVES_SINGLE_NEGATIVES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_removed_negatives_take_nothing_else_along(
    format: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = data.draw(st.lists(RECORDS[format], min_size=1, max_size=4))
    folder = tmp_path_factory.mktemp("removed")
    source = write_lines(folder / "in.jsonl", records)
    rows, decided = read(source, format), []
    if format in ("triplet", "labeled-pair"):  # neighbouring lines of one query are one row
        assume(len({row.query for row in rows}) == len(rows))
    for row in rows:
        kept = [n for n in row.negatives if data.draw(st.booleans())]
        is_written = format != "triplet" or (kept and row.positives)
        decided += [row.model_copy(update={"negatives": tuple(kept)})] if is_written else []
    write_candidate_sets(folder / "out.jsonl", format, lambda: decided, Source(source, format))
    found = [told(row) for row in read(folder / "out.jsonl", format)]
    assert found == [told(row) for row in decided if row.positives or row.negatives or format in BY_ROW]


BY_ROW = ("flagembedding", "tevatron", "rlhn", "rankllm", "labeled-list")
"""Formats that can write a row without passages."""


def told(row: CandidateSet) -> tuple[Any, ...]:
    """Return everything about a row but the places of its passages: triplets are read in any order."""
    sides = (
        sorted(repr((p.id, p.text, p.title, p.score)) for p in side)
        for side in (row.positives, row.negatives)
    )
    return (row.query_id, row.query, *sides)


@st.composite
def ids_of_passages(draw: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A corpus, and records that name its passages."""
    ids = draw(st.lists(ID, min_size=1, max_size=5, unique_by=str))
    named = st.lists(st.sampled_from(ids), max_size=3)
    corpus = [{"docid": i, "title": draw(TITLE), "text": draw(TEXT)} for i in ids]
    record = st.fixed_dictionaries(
        {"query_id": ID, "query_text": TEXT, "positive_document_ids": named, "negative_document_ids": named}
    )
    return corpus, draw(st.lists(record, min_size=1, max_size=3))


@given(ids_of_passages())
@settings(max_examples=30, deadline=None)
def test_ids_of_passages_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory,
    given_: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    corpus = write_lines(folder / "corpus.jsonl", given_[0])
    source = Source(write_lines(folder / "in.jsonl", given_[1]), "tevatron-ids", corpus)
    sets = list(read_candidate_sets(source, BadRows()))
    write_candidate_sets(folder / "out.jsonl", "tevatron-ids", lambda: sets, source)
    lines = (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [typed(json.loads(line)) for line in lines] == [typed(record) for record in given_[1]]


GRADE = st.sampled_from(["-2", "-1", "0", "1", "2", "3", "0.5", "1.0", "0.0"])
NAME = st.sampled_from(["007", "1e5", "99999999999999999999901", "ü", "a b", "漢", "x_1"])


@given(
    st.dictionaries(NAME, st.tuples(TITLE, TEXT, EXTRA), min_size=1, max_size=5),
    st.dictionaries(NAME, st.tuples(TEXT, st.dictionaries(NAME, GRADE, min_size=1)), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_beir_folder_comes_out_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory,
    passages: dict[str, tuple[Any, str, dict[str, Any]]],
    queries: dict[str, tuple[str, dict[str, str]]],
    order: random.Random,
) -> None:
    folder = tmp_path_factory.mktemp("beir")
    (folder / "in" / "qrels").mkdir(parents=True)
    write_lines(
        folder / "in" / "corpus.jsonl",
        [{"_id": i, "title": title, "text": text} | rest for i, (title, text, rest) in passages.items()],
    )
    write_lines(
        folder / "in" / "queries.jsonl", [{"_id": i, "text": text} for i, (text, _) in queries.items()]
    )
    judged = [
        f"{query}\t{passage}\t{grade}\n"
        for query, (_, grades) in queries.items()
        for passage, grade in grades.items()
        if passage in passages
    ]
    if not judged:
        return
    order.shuffle(judged)  # lines of one query need not be neighbours
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(judged)
    (folder / "in" / "qrels" / "dev.tsv").write_text(qrels, encoding="utf-8")
    source = Source(folder / "in", "beir")
    sets = list(read_candidate_sets(source, BadRows()))
    write_candidate_sets(folder / "out", "beir", lambda: sets, source)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv"):
        assert (folder / "out" / name).read_bytes() == (folder / "in" / name).read_bytes()


def test_queries_and_judgements_of_a_beir_folder_are_not_held_in_memory(tmp_path: Path) -> None:
    peaks = []
    for queries in (9, 300, 2_400):  # the first one loads modules
        folder = tmp_path / str(queries)
        (folder / "qrels").mkdir(parents=True)
        write_lines(folder / "corpus.jsonl", [{"_id": "d", "title": "", "text": "a"}])
        write_lines(
            folder / "queries.jsonl", [{"_id": f"q{i}", "text": f"b {i} " * 9} for i in range(queries)]
        )
        lines = "".join(f"q{i}\td\t1\n" for i in range(queries))
        (folder / "qrels" / "train.tsv").write_text(lines)
        source = Source(folder, "beir")
        tracemalloc.start()
        written = write_candidate_sets(
            folder / "out", "beir", lambda source=source: read_candidate_sets(source, BadRows()), source
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert written == queries
    assert peaks[2] < 1.1 * peaks[1]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_tsv_comes_out_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], header: bool
) -> None:
    rows = [row for row in rows if not all(text.strip().isdigit() for text in row)]
    folder = tmp_path_factory.mktemp("tsv")
    lines = ["query\tpositive\tnegative"] * header + ["\t".join(row) for row in rows]
    (folder / "in.tsv").write_bytes("".join(line + "\n" for line in lines).encode())
    sets = read(folder / "in.tsv", "msmarco")
    write_candidate_sets(folder / "out.tsv", "msmarco", lambda: sets, Source(folder / "in.tsv", "msmarco"))
    assert (folder / "out.tsv").read_bytes() == (folder / "in.tsv").read_bytes()


def test_values_that_json_cannot_hold_survive() -> None:
    values = [
        10**30,
        math.inf,
        b"\x00\xff",
        Decimal("1.10"),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        datetime.date(2020, 1, 2),
        datetime.time(1, 2, 3),
        datetime.timedelta(days=-1, microseconds=5),
        {"$type": "mine"},
        (1, "a"),
    ]
    assert decode_value(parse_json(dump_json(encode_value(values)))) == values
    (nan,) = decode_value(parse_json(dump_json(encode_value([math.nan]))))
    assert math.isnan(nan)


def test_columns_of_parquet_keep_type_and_value(tmp_path: Path) -> None:
    columns = {
        "query": pa.array(["q", "w"], pa.large_string()),
        "pos": pa.array([["p"], ["r"]]),
        "neg": pa.array([["n", "m"], ["o", "k"]]),
        "neg_scores": pa.array([[0.1, None], [0.3, 0.2]], pa.list_(pa.float32())),
        "blob": pa.array([b"\x00\xff", None], pa.binary()),
        "price": pa.array([Decimal("1.10"), Decimal("2.00")], pa.decimal128(9, 2)),
        "at": pa.array([1, 2_000_000_001], pa.timestamp("ns", "UTC")),
        "day": pa.array([1, 2], pa.date32()),
        "share": pa.array([math.nan, 0.1], pa.float32()),
        "nested": pa.array([{"a": [1, 2], "b": {"c": "x"}}, None]),
        "kind": pa.array(["u", "v"]).dictionary_encode(),
        "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int16())),
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": '{"info": {}}'})
    source = tmp_path / "in.parquet"
    pq.write_table(table, source)
    sets = read(source, "flagembedding")
    again = [CandidateSet.model_validate_json(row.model_dump_json()) for row in sets]
    out = tmp_path / "out.parquet"
    write_candidate_sets(out, "flagembedding", lambda: again, Source(source, "flagembedding"))
    written = pq.read_table(out)
    assert written.schema.equals(pq.read_table(source).schema, check_metadata=True)
    assert str(written.to_pydict()) == str(pq.read_table(source).to_pydict())


def test_promoted_and_removed_passages_take_their_entries_along(tmp_path: Path) -> None:
    record = {
        "query": "q",
        "pos": ["p"],
        "neg": ["a", "b", "c"],
        "neg_source": ["s", "t", "u"],
        "pos_source": ["v"],
        "negative_scores": [1, 2, 3],
        "teacher_scores": [9, 1, 2, 3],
        "answers": ["x", "y", "z", "w"],
    }
    (row,) = read(write_lines(tmp_path / "in.jsonl", [record]), "flagembedding")
    a, _, c = row.negatives
    after = row.model_copy(update={"positives": (*row.positives, c), "negatives": (a,)})
    write_candidate_sets(tmp_path / "out.jsonl", "flagembedding", lambda: [after])
    assert json.loads((tmp_path / "out.jsonl").read_text()) == record | {
        "pos": ["p", "c"],
        "neg": ["a"],
        "neg_source": ["s"],
        "pos_source": ["v", "u"],
        "negative_scores": [1],
        "teacher_scores": [9, 3, 1],
    }


@pytest.mark.parametrize(
    ("format", "record", "name"),
    [
        ("flagembedding", {"query": "q", "pos": ["p"], "neg": ["n", "m"], "scores": [1, 2, 3, 4]}, "scores"),
        ("flagembedding", {"query": "q", "pos": ["p"], "neg": ["n", "m"], "neg_source": ["x"]}, "neg_source"),
        ("n-tuple", {"query": "q", "positive": "p", "negative_1": "n", "scores": [0.5] * 3}, "scores"),
        ("labeled-list", {"query": "q", "docs": ["a", "b"], "labels": [1, 0], "scores": [1] * 5}, "scores"),
        ("rankllm", {"query": {"text": "q"}, "candidates": [], "doc_ids": ["a"]}, "doc_ids"),
    ],
)
def test_list_of_unclear_length_is_named(
    format: str, record: dict[str, Any], name: str, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record])
    with pytest.raises(InputError, match=name) as caught:
        read(path, format)
    assert caught.value.place == f"{path}:1"


def beir(folder: Path, qrels: str, corpus: list[dict[str, Any]]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", [{"_id": "q1", "text": "q"}, {"_id": "q2", "text": "w"}])
    (folder / "qrels" / "dev.tsv").write_text(qrels, encoding="utf-8")
    return folder


CORPUS: list[dict[str, Any]] = [
    {"_id": "d1", "title": 1984, "text": "a"},
    {"_id": "d 2", "title": None, "text": "b"},
    {"_id": "007", "title": ["A", "B"], "text": "c"},
]


@pytest.mark.parametrize(
    "qrels",
    [
        "query-id\tcorpus-id\tscore\nq1\td 2\t-2\nq2\t007\t2\nq1\td1\t0.5\nq2\td1\t0\nq1\t007\t-1\n",
        "q1\t0\td1\t1\nq1\t0\td 2\t0\n",
    ],
)
def test_qrels_keep_grades_order_and_columns(qrels: str, tmp_path: Path) -> None:
    folder = beir(tmp_path / "in", qrels, CORPUS)
    sets = read(folder, "beir")
    write_candidate_sets(tmp_path / "out", "beir", lambda: sets, Source(folder, "beir"))
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_repeated_ids_of_a_corpus_are_counted(tmp_path: Path) -> None:
    folder = beir(
        tmp_path / "in",
        "q1\t0\td1\t1\n",
        [*CORPUS, {"_id": "d1", "text": "other"}],
    )
    bad = BadRows()
    (row,) = read_candidate_sets(Source(folder, "beir"), bad)
    assert (bad.repeated, bad.repeated_ids) == (1, ["corpus.jsonl: d1"])
    assert row.positives[0].text == "other"


def test_ids_that_clash_become_ids_of_their_texts_in_a_new_corpus(tmp_path: Path) -> None:
    record = {
        "query": "q",
        "positive_passages": [{"docid": "0", "text": "p"}],
        "negative_passages": [{"docid": "0", "text": "n"}, {"docid": "", "text": "m"}],
    }
    sets = read(write_lines(tmp_path / "in.jsonl", [record]), "tevatron")
    write_candidate_sets(tmp_path / "out", "beir", lambda: sets)
    (row,) = read(tmp_path / "out", "beir")
    assert [p.text for p in (*row.positives, *row.negatives)] == ["p", "n", "m"]


def test_json_array_stays_an_array(tmp_path: Path) -> None:
    record = {"query": "q", "pos": ["p"], "neg": ["n"]}
    for content in (json.dumps([record, record], indent=1), f"{json.dumps(record)}\n" * 2):
        (tmp_path / "in.json").write_text(content)
        source = Source(tmp_path / "in.json", "flagembedding")
        sets = list(read_candidate_sets(source, BadRows()))
        write_candidate_sets(tmp_path / "out.json", "flagembedding", lambda sets=sets: sets, source)
        written = (tmp_path / "out.json").read_text()
        assert written.startswith("[") == content.startswith("[")
        if content.startswith("["):
            assert json.loads(written) == [record, record]


def test_ids_of_two_types_become_text_in_parquet(tmp_path: Path) -> None:
    rows = [
        {
            "query_id": i,
            "query": "q",
            "positive_passages": [{"docid": d, "text": "p"}],
            "negative_passages": [],
        }
        for i, d in ((1, 7), ("q2", "x"))
    ]
    sets = read(write_lines(tmp_path / "in.jsonl", rows), "tevatron")
    write_candidate_sets(tmp_path / "out.parquet", "tevatron", lambda: sets)
    assert pq.read_table(tmp_path / "out.parquet")["query_id"].to_pylist() == ["1", "q2"]


def test_folder_with_several_splits_needs_a_split(tmp_path: Path) -> None:
    row = {"query": "q", "pos": ["p"], "neg": ["n"]}
    for name in ("train", "test"):
        pq.write_table(pa.Table.from_pylist([row | {"n": name}]), tmp_path / f"{name}-00000-of-00001.parquet")
    with pytest.raises(InputError, match="several splits: test, train"):
        detect_format(tmp_path)
    assert detect_format(tmp_path, "test") == "flagembedding"
    (found,) = read_candidate_sets(Source(tmp_path, "flagembedding", split="test"), BadRows())
    assert json.loads(found.extra)["n"] == "test"
    with pytest.raises(InputError, match="no split 'dev'"):
        detect_format(tmp_path, "dev")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"1185869\t0\t5847211\n", "ids only"),
        ("a.jsonl", b"[1185869, 0, 5847211]\n", "ColBERT"),
        ("a.jsonl", '{"query":"café"}\n'.encode("latin-1"), "byte 0xe9 at position 14 .*Latin-1"),
        ("a.jsonl", '{"query":"x"}\n'.encode("utf-16"), "UTF-16"),
        ("a.tsv", "q\tp\tn\n".encode("utf-16"), "UTF-16"),
        ("a.json", '[{"query": "é"}]'.encode("latin-1"), "byte 0xe9"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_the_reason(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_candidate_sets(Source(tmp_path / name, "msmarco"), BadRows()))
    assert caught.value.place == f"{tmp_path / name}:1"


def test_label_names_decide_which_label_is_positive(tmp_path: Path) -> None:
    for names, positive in ((["bad", "good"], "p"), (["good", "bad"], "n"), (["0", "1"], "p")):
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"query": ["q", "q"], "passage": ["p", "n"], "label": [1, 0]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        source = Source(tmp_path / "in.parquet", "labeled-pair")
        pq.write_table(table, source.path)
        (row,) = read_candidate_sets(source, BadRows())
        assert [p.text for p in row.positives] == [positive]
        write_candidate_sets(tmp_path / "out.parquet", "labeled-pair", lambda row=row: [row], source)
        assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(source.path), check_metadata=True)
