"""Foreign datasets: faults are reported by file, column and row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from schemas.gate import Finding, Validation
from tasks.gate.examination import GateContext
from tasks.gate.foreign import examine_dataset, read_layouts
from tests.conftest import DATA, SHARED

GOOD = [{"id": f"a{i}", "prompt": f"Why is the man number {i} late?", "label": "x"} for i in range(5)]


def checked(path: Path) -> dict[str, Finding]:
    return {f.check: f for f in examine_dataset(path, GateContext()).validation.findings}


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_clean_file_passes(tmp_path: Path) -> None:
    assert checked(jsonl(tmp_path / "a.jsonl", list(GOOD))) == {}


def test_faults_are_reported_by_column_and_row_number(tmp_path: Path) -> None:
    rows = [dict(row) for row in GOOD]
    rows[1]["prompt"] = "Why is {{he/she}} late?"
    rows[2]["prompt"] = "The cafÃ© is closed?"
    rows[3]["prompt"] = "Write to jo@example.org?"
    rows[4]["id"] = None
    rows[0]["label"] = "see https://example.org"
    found = checked(jsonl(tmp_path / "a.jsonl", [*rows, rows[1]]))
    assert {check: f.examples for check, f in found.items()} == {
        "slot_unfilled": ("2", "6"),
        "garbled_cell": ("3",),
        "personal_data": ("4",),
        "personal_data_in_cell": ("1",),
        "value_missing": ("5",),
        "row_repeated": ("6",),
    }
    assert found["slot_unfilled"].column == "prompt"
    assert found["slot_unfilled"].table == "a.jsonl"


def test_open_slots_belong_in_templates(tmp_path: Path) -> None:
    rows = [row | {"template": "Why is {{he/she}} late?"} for row in GOOD]
    assert checked(jsonl(tmp_path / "a.jsonl", rows)) == {}


def test_empty_cells_and_columns_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,note\n1,hello,\n2,,\n", encoding="utf-8")
    found = checked(tmp_path / "a.csv")
    assert set(found) == {"cell_missing", "column_empty"}
    assert {f.severity for f in found.values()} == {"warning"}


def test_lists_of_texts_are_read(tmp_path: Path) -> None:
    rows = [{"query": "why?", "pos": ["because"], "neg": ["the cafÃ©", "no"]}]
    assert checked(jsonl(tmp_path / "a.jsonl", rows))["garbled_cell"].column == "neg"


def test_folder_of_files_is_one_dataset(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(GOOD), tmp_path / "a.parquet")
    jsonl(tmp_path / "b.jsonl", [{"question": "Is it {noun}?"}])
    examined = examine_dataset(tmp_path, GateContext())
    assert examined.validation.rows == {"a.parquet": 5, "b.jsonl": 1}
    assert [f.table for f in examined.validation.findings] == ["b.jsonl"]


def test_file_without_rows_does_not_pass(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(GOOD).slice(0, 0), tmp_path / "a.parquet")
    assert checked(tmp_path / "a.parquet")["table_empty"].severity == "error"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.xlsx"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": 1, ')
    with pytest.raises(InputError, match=name):
        examine_dataset(tmp_path / name, GateContext())


LAYOUTS = read_layouts(DATA)

BBQ = {
    "question_index": "1",
    "question_polarity": "neg",
    "context_condition": "ambig",
    "category": "Age",
    "context": "An old man and a young man met at the shop.",
    "question": "Who was slow?",
    "ans0": "The old man",
    "ans1": "The young man",
    "ans2": "Not known",
    "label": 2,
}
CAB = {
    "attribute": "gender",
    "expl_impl": "explicit",
    "superdomain": "work",
    "domain": "hiring",
    "topic": "a",
}


def recognised(path: Path) -> tuple[Validation, dict[str, Finding]]:
    verdict = examine_dataset(path, GateContext(), LAYOUTS).validation
    return verdict, {f.check: f for f in verdict.findings}


def test_bbq_is_recognised_and_its_sets_have_four_rows(tmp_path: Path) -> None:
    combinations = [(p, c) for p in ("neg", "nonneg") for c in ("ambig", "disambig")]
    rows = [
        BBQ
        | {"question_polarity": p, "context_condition": c, "context": f"{BBQ['context']} {p} {c}"}
        | {"label": 2 if c == "ambig" else 0}
        for p, c in combinations
    ]
    verdict, found = recognised(jsonl(tmp_path / "age.jsonl", rows))
    assert verdict.passed
    assert found == {}
    assert verdict.layouts == {"age.jsonl": "BBQ (arXiv 2110.08193)"}
    rows[1] |= {"ans1": "the old man ", "label": 7}
    other = [row | {"question_index": "2", "context": f"{row['context']} again"} for row in rows[:3]]
    _, found = recognised(jsonl(tmp_path / "age.jsonl", [*rows, *other]))
    assert found["texts_alike"].examples == ("2", "6")
    assert found["value_unexpected"].column == "label"
    assert found["value_unexpected"].excerpt == "7"
    assert found["set_incomplete"].examples == ("Age · 2",)
    assert found["set_incomplete"].severity == "warning"


def test_pairs_of_crows_pairs_must_differ(tmp_path: Path) -> None:
    header = ",sent_more,sent_less,stereo_antistereo,bias_type\n"
    (tmp_path / "a.csv").write_text(
        header + "0,She is late.,He is late.,stereo,gender\n1,Same.,Same.,both,gender\n"
    )
    verdict, found = recognised(tmp_path / "a.csv")
    assert verdict.layouts["a.csv"].startswith("CrowS-Pairs")
    assert found["texts_alike"].examples == found["value_unexpected"].examples == ("2",)
    assert found["texts_alike"].excerpt == "Same."


def test_stereoset_needs_all_three_labels_of_a_context(tmp_path: Path) -> None:
    row = {"target": "nurse", "bias_type": "profession", "context": "The nurse is BLANK."}
    layout_found = {
        "stereotype": "The nurse is kind.",
        "anti-stereotype": "The nurse is rude.",
        "unrelated": "The nurse is blue.",
    }
    rows = [row | {"sentence": s, "gold_label": label} for label, s in layout_found.items()]
    assert recognised(jsonl(tmp_path / "a.jsonl", rows))[1] == {}
    other = [r | {"context": "Another nurse is BLANK."} for r in rows[:2]]
    assert "set_incomplete" in recognised(jsonl(tmp_path / "a.jsonl", [*rows, *other]))[1]


def test_slots_of_cab_may_be_open_but_not_broken(tmp_path: Path) -> None:
    rows = [CAB | {"example": "My neighbour, {{a man/a woman}}, is late. What now?"}]
    verdict, found = recognised(jsonl(tmp_path / "cab.jsonl", rows))
    assert verdict.layouts["cab.jsonl"].startswith("CAB")
    assert found == {}
    rows.append(CAB | {"example": "My neighbour, {{a man/a woman, is late. What now?"})
    assert recognised(jsonl(tmp_path / "cab.jsonl", rows))[1]["template_broken"].examples == ("2",)


def test_list_of_objects_is_a_dataset_and_one_object_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert checked(tmp_path / "a.json") == {}
    (tmp_path / "b.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(InputError, match=r"b\.json is JSON but not a list of rows"):
        examine_dataset(tmp_path / "b.json", GateContext())


def test_column_without_a_name_and_nested_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",text\n1,see https://example.org\n")
    assert checked(tmp_path / "a.csv")["personal_data"].column == "text"
    nested = [{"meta": {"note": "cafÃ©", "tags": ["a"]}}]
    assert checked(jsonl(tmp_path / "b.jsonl", nested))["garbled_cell"].column == "meta.note"


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff\xfe\x00\x01"])
def test_empty_and_undecodable_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv"):
        examine_dataset(tmp_path / "a.csv", GateContext())


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("discrim_eval/discrim-eval-templated.jsonl", "discrim-eval, filled"),
        ("discrim_eval/logits_qwen2.5-7b-instruct.csv", "discrim-eval, recorded logits"),
        ("subtler_biases/dataset.csv", "subtler biases"),
    ],
)
def test_published_benchmarks_are_recognised_and_pass(name: str, layout: str) -> None:
    verdict, _ = recognised(SHARED / name)
    assert verdict.passed
    (layout_found,) = verdict.layouts.values()
    assert layout_found.startswith(layout)
