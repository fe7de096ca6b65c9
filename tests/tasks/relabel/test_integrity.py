"""Only decided labels change. Ids, copies, known positives, widths and other files stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError, ModelError
from tasks.deduplicate.file import deduplicate_file
from tasks.files.retrieval import FORMATS
from tasks.models import ModelSettings
from tasks.relabel import relabel_file
from tasks.relabel.graded import read_grades
from tasks.relabel.quality import read_qrels
from tasks.relabel.rule_judges import split_sentences, split_words
from tasks.relabel.same_text import is_near_duplicate, match_key
from tests.conftest import PROJECT
from tests.tasks.relabel.test_file import settings, write_lines

__all__ = ["settings"]

CASES = PROJECT.parent / "shared" / "cases" / "relabel"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases/relabel")

QUERY = "who built ardmore lighthouse"
BUILT = "The harbour board built Ardmore lighthouse."
GUIDE = "Ardmore lighthouse was built by the harbour board, says the guide."
OTHERS = [
    "Ardmore is a fishing village on the west coast.",
    "Lighthouses guide ships at night with rotating lamps.",
    "Granite is quarried near the northern channel.",
]


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tevatron(query_id: Any, ids: list[Any], texts: list[str]) -> dict[str, Any]:
    passages = [{"docid": i, "text": text} for i, text in zip(ids, texts, strict=True)]
    return {
        "query_id": query_id,
        "query": QUERY,
        "positive_passages": passages[:1],
        "negative_passages": passages[1:],
    }


@pytest.mark.parametrize("ids", [["", "", "", ""], ["0", "0", "1", "2"], [10**22, 10**22 + 1, 7, 8]])
def test_texts_decide_and_not_ids(ids: list[Any], tmp_path: Path, settings: ModelSettings) -> None:
    record = tevatron(10**30, ids, [BUILT, *OTHERS])
    source = write_lines(tmp_path / "in.jsonl", [record])
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert written(tmp_path / "out.jsonl") == [record]
    assert found["id_clashes"] == 4 - len(set(ids))


def test_gaps_in_a_list_of_ids_stay_gaps(tmp_path: Path, settings: ModelSettings) -> None:
    record = {"query": QUERY, "pos": [BUILT], "neg": OTHERS, "pos_id": ["a b"], "neg_id": ["\ta", 1, None]}
    source = write_lines(tmp_path / "in.jsonl", [record])
    relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert written(tmp_path / "out.jsonl") == [record]
    relabel_file(source, settings=settings, out=tmp_path / "t.jsonl", out_format="tevatron")
    (row,) = written(tmp_path / "t.jsonl")
    assert all(passage["docid"] is not None for passage in row["negative_passages"])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("The drug is safe for children under the age of ten years.", "not safe"),
        ("The mast of the lighthouse is 10² metres high, says the guide.", "102"),
        ("The mast of the lighthouse weighs 50 kg, says the old guide.", "50 mg"),
        ("The mast was finished in ١٩٤٥ by the harbour board of Ardmore.", "١٩٤٦"),
        ("The lighthouse was built by John Smith for the harbour board.", "Jane Smith"),
        ("该药物对十岁以下的儿童是安全的，医生可以放心地给患者使用。", "不安全"),
    ],
)
def test_statements_that_differ_are_no_copies(left: str, right: str) -> None:
    old = {
        "not safe": "safe",
        "102": "10²",
        "50 mg": "50 kg",
        "١٩٤٦": "١٩٤٥",
        "Jane Smith": "John Smith",
        "不安全": "安全",
    }
    other = left.replace(old[right], right)
    assert other != left
    assert not is_near_duplicate(left, other)
    assert match_key(left) != match_key(other)


def test_copy_with_other_case_punctuation_articles_and_spaces_is_one() -> None:
    left = "The harbour board built the lighthouse at Ardmore, on a rock, in the year 1871."
    assert is_near_duplicate(
        left, "The harbour board built a lighthouse at  Ardmore on a rock in the year 1871"
    )


def test_positive_of_the_same_query_anywhere_is_masked(tmp_path: Path, settings: ModelSettings) -> None:
    late = "It was the work of the port authority, finished in the autumn."
    rows = [
        {"query": QUERY, "positive": BUILT, "negative": late},
        *({"query": f"{i}", "positive": "p", "negative": "n"} for i in range(1200)),
        {"query": QUERY, "positive": late, "negative": OTHERS[1]},
    ]
    found = relabel_file(
        write_lines(tmp_path / "in.jsonl", rows),
        settings=settings,
        out=tmp_path / "out.jsonl",
        allow_abstentions=True,
    )
    masked = found["report"]["known_positives"]
    assert (masked["n"], [(p["query"], p["passage"]) for p in masked["passages"]]) == (1, [(QUERY, late)])
    assert written(tmp_path / "out.jsonl")[-1] == rows[-1]
    assert rows[0] not in written(tmp_path / "out.jsonl")
    (lost,) = written(tmp_path / "out.jsonl.unwritable.jsonl")
    assert (lost["query"], lost["reason"]) == (QUERY, "rows without a positive or a negative")
    assert (found["rows_written"], found["rows_unwritable"], found["rows"]) == (1201, 1, 1202)


N_TUPLE = {
    "query": QUERY,
    "answer": BUILT,
    "negative_1": GUIDE,
    "negative_2": OTHERS[0],
    "scores": [0.9, 0.8, 0.1],
}
FULL = N_TUPLE | {"negative_1": OTHERS[1]}


def test_tuples_keep_their_width_and_the_others_go_to_a_side_file(
    tmp_path: Path, settings: ModelSettings
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [N_TUPLE, FULL])
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert written(tmp_path / "out.jsonl") == [FULL]
    assert found["lost"] == {"rows with too few negatives for the width": 1}
    assert found["unwritable"] == "out.jsonl.unwritable.jsonl"
    side = written(tmp_path / "out.jsonl.unwritable.jsonl")
    assert [(r["answer"], r["scores"]) for r in side] == [(BUILT, [0.9, 0.1])]


def test_file_in_which_no_row_keeps_its_width_is_narrowed(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [N_TUPLE])
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert [r["scores"] for r in written(tmp_path / "out.jsonl")] == [[0.9, 0.1]]
    assert found["warnings"] == ["no row keeps all its negatives; the rows are written with 1"]


def test_exact_number_is_mined_cut_or_dropped(tmp_path: Path, settings: ModelSettings) -> None:
    rows = [
        {"query": QUERY, "pos": [BUILT], "neg": [GUIDE, OTHERS[0]]},
        {"query": "where is granite quarried", "pos": [OTHERS[2]], "neg": [OTHERS[0], OTHERS[1], BUILT]},
        {"query": "zebra", "pos": ["x"], "neg": ["y"]},
    ]
    source = write_lines(tmp_path / "in.jsonl", rows)
    found = relabel_file(
        source, settings=settings, out=tmp_path / "out.jsonl", out_format="n-tuple", exactly=2
    )
    widths = [sum(k.startswith("negative") for k in r) for r in written(tmp_path / "out.jsonl")]
    assert set(widths) == {2}
    assert found["lost"]["negatives beyond --exactly"] >= 1
    assert found["rows_unwritable"] == 1
    with pytest.raises(InputError, match="no fixed number"):
        relabel_file(source, settings=settings, exactly=2)


@pytest.mark.parametrize("target", [name for name in FORMATS if name != "tevatron-ids"])
@pytest.mark.parametrize("shape", ["labeled-list", "n-tuple", "triplet", "labeled-pair"])
def test_every_format_is_written_from_every_shape_of_columns(
    shape: str, target: str, tmp_path: Path, settings: ModelSettings
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "labeled-list": [{"q": QUERY, "docs": [BUILT, *OTHERS[:2]], "labels": [1, 0, 0]}],
        "n-tuple": [{"q": QUERY, "a": BUILT, "negative_1": OTHERS[0], "negative_2": OTHERS[1]}],
        "triplet": [{"q": QUERY, "a": BUILT, "negative": text} for text in OTHERS[:2]],
        "labeled-pair": [
            {"q": QUERY, "d": text, "label": int(text == BUILT)} for text in (BUILT, *OTHERS[:2])
        ],
    }
    source = write_lines(tmp_path / "in.jsonl", rows[shape])
    out = tmp_path / {"msmarco": "out.tsv", "beir": "out"}.get(target, "out.jsonl")
    found = relabel_file(source, settings=settings, format=shape, out=out, out_format=target)
    assert found["rows_written"] == 1
    back = relabel_file(out, settings=settings, format=target)
    assert (back["rows"], back["candidates"]) == (1, 2)


@pytest.mark.parametrize(
    "text", ["q1\t0\ta b\t1\n", "query_id\tdoc_id\trelevance\nq1\ta b\t1.0\n", "q1\ta b\t1\n"]
)
def test_truth_is_read_with_its_separator_and_warns_if_binary(
    text: str, tmp_path: Path, settings: ModelSettings
) -> None:
    truth = tmp_path / "qrels"
    truth.write_text(text)
    source = write_lines(tmp_path / "in.jsonl", [tevatron("q1", ["p", "a b"], [BUILT, GUIDE])])
    found = relabel_file(source, settings=settings, truth=truth)
    assert found["warnings"] == [
        "the highest grade in the truth is 1, so that nothing is relevant from 2; use --relevant-from 1"
    ]
    assert found["false_negative_rate_before"]["n"] == 1
    assert "warnings" not in relabel_file(source, settings=settings, truth=truth, relevant_from=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("truth", "q1 Q0 a 1 12.3 bm25\n", "run file"),
        ("truth", "other 0 a 1\n", "--truth matches"),
        ("verdicts", "query_id,docid,judge,grade\nother,a,m,2\n", "--verdicts matches"),
        ("audited", "row,docid,query,passage,answers\nr,a,q,p,yes\n", "--audited matches"),
        ("positives", "other 0 a 1\n", "--positives matches"),
    ],
)
def test_file_beside_that_matches_nothing_is_an_error(
    name: str, content: str, message: str, tmp_path: Path, settings: ModelSettings
) -> None:
    beside = tmp_path / "beside"
    beside.write_text(content)
    source = write_lines(tmp_path / "in.jsonl", [tevatron("q1", ["p", "a"], [BUILT, GUIDE])])
    options: dict[str, Any] = {name: beside}
    with pytest.raises(InputError, match=message):
        relabel_file(source, settings=settings, **options)


def test_grades_below_zero_are_negatives(tmp_path: Path, settings: ModelSettings) -> None:
    truth = tmp_path / "qrels"
    truth.write_text("q1 0 a -2\nq1 0 b 0\nq1 0 c 3\n")
    source = write_lines(tmp_path / "in.jsonl", [tevatron("q1", ["p", "a", "b", "c"], [BUILT, *OTHERS])])
    assert relabel_file(source, settings=settings, truth=truth)["true_negatives_lost"]["n"] == 2


def test_too_few_verdicts_write_nothing_unless_allowed(tmp_path: Path, settings: ModelSettings) -> None:
    verdicts = tmp_path / "v.csv"
    verdicts.write_text("query_id,docid,judge,grade\nq1,a,m,2.0\n")
    source = write_lines(tmp_path / "in.jsonl", [tevatron("q1", ["p", "a", "b", "c"], [BUILT, *OTHERS])])
    out = tmp_path / "out.jsonl"
    with pytest.raises(ModelError, match=r"only 1 of 3 candidates \(33%\).* no_grade \(2\)"):
        relabel_file(source, settings=settings, verdicts=verdicts, out=out)
    assert not list(tmp_path.glob("*out.jsonl*"))
    for options in ({"allow_abstentions": True}, {"min_judged": 0.3}):
        found = relabel_file(source, settings=settings, verdicts=verdicts, out=out, **options)
        assert found["report"]["judged"]["abstentions"] == {"no_grade": 2}


def test_trial_runs_take_the_first_or_random_rows(tmp_path: Path, settings: ModelSettings) -> None:
    rows = [tevatron(f"q{i}", ["p", "a"], [BUILT, OTHERS[0]]) for i in range(50)]
    source, out = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"

    def ids(**options: Any) -> list[str]:
        found = relabel_file(source, settings=settings, out=out, **options)
        assert found["rows"] + found["rows_left_out"] == 50
        return [row["query_id"] for row in written(out)]

    assert ids(limit=3) == ["q0", "q1", "q2"]
    drawn = ids(sample=5)
    assert len(drawn) == 5
    assert drawn == sorted(drawn, key=lambda i: int(i[1:]))
    assert ids(sample=5) == drawn
    assert ids(sample=5, seed=1) != drawn


def test_text_without_spaces_is_split_into_pairs_of_characters() -> None:
    assert split_words("灯塔1871年 Ardmore") == ["灯塔", "1871", "年", "ardmore"]
    assert split_words("灯塔是") == ["灯塔", "塔是"]
    assert split_sentences("灯塔建成。花岗岩很硬！好") == ["灯塔建成。", "花岗岩很硬！", "好"]


SOFT = "query_id,docid,judge,grade\n" + "".join(
    f"q1,{d},{j},{g}\n"
    for d, grades in {"p": "33", "a": "21", "b": "00"}.items()
    for j, g in zip("mn", grades, strict=True)
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("flagembedding", {"pos_scores": [1.0], "neg_scores": [0.0], "scores_by": "m+n"}),
        ("n-tuple", {"scores": [1.0, 0.0], "scores_by": "m+n"}),
        ("labeled-list", {"labels": [1.0, 0.0], "scores_by": "m+n"}),
    ],
)
def test_soft_labels_are_written_in_the_field_of_the_format(
    target: str, expected: dict[str, Any], tmp_path: Path, settings: ModelSettings
) -> None:
    (tmp_path / "v.csv").write_text(SOFT)
    source = write_lines(tmp_path / "in.jsonl", [tevatron("q1", ["p", "a", "b"], [BUILT, *OTHERS[:2]])])
    relabel_file(
        source,
        settings=settings,
        verdicts=tmp_path / "v.csv",
        out=tmp_path / "out.jsonl",
        out_format=target,
        soft_labels=True,
    )
    (record,) = written(tmp_path / "out.jsonl")
    assert {name: record[name] for name in expected} == expected
    with pytest.raises(InputError, match="need grades"):
        relabel_file(source, settings=settings, soft_labels=True)


# --- shared cases -----------------------------------------------------------------------------------------


def run(name: str, tmp_path: Path, settings: ModelSettings, **options: Any) -> dict[str, Any]:
    source = CASES / name
    suffix = "".join(source.suffixes) if source.is_file() else ""
    return relabel_file(source, settings=settings, **{"out": tmp_path / f"out{suffix}"} | options)


@needs_cases
@pytest.mark.parametrize(
    "name", ["05a_docid_empty.jsonl", "05b_docid_per_list.jsonl", "10_bigint.jsonl", "09_titles.jsonl",
             "18_array.json", "43_shuffled.jsonl", "44_noscore.jsonl", "28_classlabel_flipped.parquet"]
)  # fmt: skip
def test_case_comes_out_as_it_went_in(name: str, tmp_path: Path, settings: ModelSettings) -> None:
    run(name, tmp_path, settings)
    out = next(tmp_path.glob("out.json*"), tmp_path / "out.parquet")
    if out.suffix == ".parquet":
        assert pq.read_table(out).equals(pq.read_table(CASES / name), check_metadata=True)
    elif out.suffix == ".json":
        assert json.loads(out.read_bytes()) == json.loads((CASES / name).read_bytes())
    else:
        assert written(out) == written(CASES / name)


@needs_cases
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("01_idtriples.tsv", "ids only"),
        ("02_colbert.jsonl", "ColBERT"),
        ("20a_pos_str.jsonl", "'pos' must be a list"),
        ("20d_neg_has_null.jsonl", "'neg' must be a list"),
        ("22_latin1.jsonl", "byte 0xe9"),
        ("28_hf", "several splits: train, validation"),
    ],
)
def test_case_is_refused_with_the_reason(
    name: str, message: str, tmp_path: Path, settings: ModelSettings
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(name, tmp_path, settings, out=None)
    assert caught.value.place is not None


@needs_cases
def test_cases_of_scores_labels_and_headers(tmp_path: Path, settings: ModelSettings) -> None:
    run("06a_ntuple_scores.jsonl", tmp_path, settings)
    by_text = dict(zip([BUILT, GUIDE, *OTHERS[:2]], [0.91, 0.88, 0.41, 0.12], strict=True))
    for row in written(tmp_path / "out.jsonl"):
        texts = [row["answer"], *(v for k, v in row.items() if k.startswith("negative"))]
        assert row["scores"] == [by_text[text] for text in texts]
    run("06b_labeled_list_scores.jsonl", tmp_path, settings)
    (row,) = written(tmp_path / "out.jsonl")
    assert row["scores"] == [by_text[text] for text in row["answer"]]
    assert run("06c_ntuple_label.jsonl", tmp_path, settings)["candidates"] == 2
    assert run("03_header.tsv", tmp_path, settings, out=None)["rows"] == 1
    for name in ("08_nan.jsonl", "24_nan_second.jsonl"):
        run(name, tmp_path, settings, allow_abstentions=True)
        last = written(tmp_path / "out.jsonl")[-1]
        assert (last["pos_scores"], last["neg_scores"]) == ([0.9], [None])
    assert run("20b_neg_null.jsonl", tmp_path, settings)["rows_without_negatives"] == 1
    assert run("11a_rankllm_label_str.jsonl", tmp_path, settings)["candidates"] == 1
    run("11b_rankllm_label_null.jsonl", tmp_path, settings)
    assert written(tmp_path / "out.jsonl") == written(CASES / "11b_rankllm_label_null.jsonl")


@needs_cases
def test_cases_of_masks_long_positives_chinese_and_truth(tmp_path: Path, settings: ModelSettings) -> None:
    assert run("14_apart.jsonl", tmp_path, settings)["report"]["known_positives"]["n"] == 1
    long = run("15_long_positive.jsonl", tmp_path, settings)
    assert (long["rows_without_positives"], long["abstained"]) == (0, 0)
    chinese = run("12_zh.jsonl", tmp_path, settings, mine=1)
    assert chinese["promoted"] + chinese["filtered"] == 1
    binary = run("16_bin.jsonl", tmp_path, settings, truth=CASES / "16_bin.qrels")
    assert "--relevant-from 1" in binary["warnings"][0]
    with pytest.raises(InputError, match="run file"):
        run("16_bin.jsonl", tmp_path, settings, truth=CASES / "19_run.txt")
    run("26_mixed_ids.jsonl", tmp_path, settings, out=tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["query_id"].to_pylist() == ["1", "q2"]
    assert run("28_hf", tmp_path, settings, split="validation", out=tmp_path / "o.parquet")["rows"] == 1
    names = pq.read_schema(tmp_path / "o.parquet").metadata[b"huggingface"]
    assert b'"names": ["bad", "good"]' in names


@needs_cases
def test_cases_of_beir(tmp_path: Path, settings: ModelSettings) -> None:
    run("27a_beir_grades", tmp_path, settings)
    lines = (tmp_path / "out" / "qrels" / "train.tsv").read_text().splitlines()
    assert [line for line in lines if not line.startswith("q1\td2")] == [
        "query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td3\t-1", "q1\td4\t-2", "q1\td5\t0.5"
    ]  # fmt: skip
    assert run("27b_beir_trec4", tmp_path, settings)["candidates"] == 1
    assert "corpus.jsonl: d2" in run("27g_beir_dupes", tmp_path, settings)["warnings"][0]


def test_lists_of_fixed_length_may_shrink(tmp_path: Path, settings: ModelSettings) -> None:
    table = pa.table(
        {
            "query": pa.array([QUERY]).dictionary_encode(),
            "pos": pa.array([[BUILT]], pa.large_list(pa.large_string())),
            "neg": pa.array([[*OTHERS, BUILT]], pa.list_(pa.string(), 4)),
            "neg_scores": pa.array([[0.1, 0.2, 0.3, 0.4]], pa.list_(pa.float32(), 4)),
            "tags": pa.array([["a", "b"]], pa.list_(pa.string(), 2)),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    relabel_file(tmp_path / "in.parquet", settings=settings, out=tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["neg"].to_pylist() == [OTHERS]
    assert found["neg_scores"].type == pa.list_(pa.float32())
    assert found.schema.field("tags").type == table.schema.field("tags").type
    assert found.schema.field("pos").type == table.schema.field("pos").type


def test_result_without_rows_is_named(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(
        tmp_path / "in.jsonl", [{"anchor": QUERY, "positive": BUILT, "negative_1": OTHERS[0]}]
    )
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl", exactly=5)
    assert (found["rows_written"], found["rows_unwritable"]) == (0, 1)
    assert "the result is empty" in found["warnings"][0]


@pytest.mark.parametrize("line", ['["12", "34", "56"]', "[3, [7187234, 1.0], [2, 0.4]]"])
def test_tuples_of_ids_are_named(line: str, tmp_path: Path, settings: ModelSettings) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="ColBERT"):
        relabel_file(tmp_path / "in.jsonl", settings=settings)


@needs_cases
@pytest.mark.parametrize(("name", "pair"), [("30_float.qrels", ("q1", "a")), ("30_hdr.qrels", ("q1", "a"))])
def test_headers_and_fractions_of_whole_grades_are_read_in_qrels(name: str, pair: tuple[str, str]) -> None:
    assert read_qrels(CASES / name) == {pair: 1.0}


@needs_cases
def test_fractions_of_whole_grades_are_read_in_verdicts() -> None:
    assert read_grades(CASES / "30_verdict_float.csv").by_pair == {("q1", "a"): {"m": 2}}


@needs_cases
@pytest.mark.parametrize(
    ("name", "text", "kept"), [("32_dedup_ids.jsonl", "query", 2), ("34_null_id.jsonl", "q", 2)]
)
def test_rows_with_shared_or_missing_ids_are_kept_or_named_as_duplicates(
    name: str, text: str, kept: int, tmp_path: Path
) -> None:
    found = deduplicate_file(CASES / name, text=text, out=tmp_path)
    assert (found["rows"], found["kept"], found["dropped"]) == (3, kept, 3 - kept)
    rows = [
        row for side in ("kept", "dropped") for row in pq.read_table(tmp_path / f"{side}.parquet").to_pylist()
    ]
    assert sorted(row[text] for row in rows) == sorted(record[text] for record in written(CASES / name))
