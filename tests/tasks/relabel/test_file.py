"""Relabelling of files: counts add up, recorded grades are used, and stopped runs resume."""

from __future__ import annotations

import csv
import json
import random
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from schemas.labels import LABEL_HISTORY
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, read_candidate_sets
from tasks.models import ModelSettings
from tasks.relabel import file as relabelling_file
from tasks.relabel import job as relabelling_job
from tasks.relabel import relabel_file, strategies
from tasks.relabel.cascade import parse_text_verdict
from tasks.relabel.graded import DecisionRule, GradeScale, read_grades
from tasks.relabel.quality import QueryCounts, read_qrels
from tests.conftest import DATA, SHARED

RETRIEVAL = SHARED / "retrieval"
needs_shared = pytest.mark.skipif(not RETRIEVAL.is_dir(), reason="needs ../shared/data/retrieval")

QUERY = "capital of France"
ANSWERS = "Paris is the capital of France."
ROW = {
    "query_id": "q1",
    "query": QUERY,
    "positive_passages": [{"docid": "p", "text": "Everyone knows the old capital city of France: Paris."}],
    "negative_passages": [
        {"docid": "same", "text": ANSWERS},
        {
            "docid": "near",
            "text": "The capital of the wide and sunny land of France was moved more than once before.",
        },
        {"docid": "off", "text": "Bread is baked in the morning."},
        {"docid": "ill", "text": ""},
    ],
    "note": "kept",
}


@pytest.fixture
def settings(tmp_path: Path) -> ModelSettings:
    return ModelSettings(data_dir=DATA, run_dir=tmp_path / "run", cache_path=tmp_path / "cache.sqlite")


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows(count: int) -> list[dict[str, Any]]:
    return [ROW | {"query_id": f"q{i}"} for i in range(count)]


def test_lexical_judge_cleans_a_file(tmp_path: Path, settings: ModelSettings) -> None:
    out = tmp_path / "out.jsonl"
    result = relabel_file(write_lines(tmp_path / "in.jsonl", [ROW]), settings=settings, out=out)
    assert (result["rows"], result["candidates"], result["rows_dropped"]) == (1, 4, 0)
    assert (result["promoted"], result["filtered"], result["kept"], result["abstained"]) == (1, 2, 1, 0)
    assert result["judged_by"] == ["lexical"]
    (after,) = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert [p["docid"] for p in after["positive_passages"]] == ["p", "same"]
    assert [n["docid"] for n in after["negative_passages"]] == ["off"]
    assert after["note"] == "kept"


def test_history_lies_beside_the_result(tmp_path: Path, settings: ModelSettings) -> None:
    out = tmp_path / "out.jsonl"
    relabel_file(write_lines(tmp_path / "in.jsonl", [ROW]), settings=settings, out=out)
    history = list(LABEL_HISTORY.from_arrow(pq.read_table(tmp_path / "out.jsonl.label_history.parquet")))
    assert {(c.subject_id, c.after, c.judge) for c in history} == {
        ("same", "positive", "lexical"),
        ("near", "removed", "lexical"),
        ("ill", "removed", "rule"),
    }
    assert next(c for c in history if c.subject_id == "same").evidence == ANSWERS


def test_stopped_run_resumes_with_identical_output(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 10)
    source = write_lines(tmp_path / "in.jsonl", rows(45))
    whole = relabel_file(source, settings=settings, out=tmp_path / "whole.jsonl")
    done, judge = 0, strategies.relabel_with_panel

    async def stops_in_the_fourth_part(*args: Any) -> Any:
        nonlocal done
        done += 1
        if done == 4:
            raise KeyboardInterrupt
        return await judge(*args)

    monkeypatch.setattr(strategies, "relabel_with_panel", stops_in_the_fourth_part)
    with pytest.raises(KeyboardInterrupt):
        relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    again = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert done == 6  # parts 4 and 5 only; 1 to 3 were on disk
    assert again == whole
    for name in ("jsonl", "jsonl.review.jsonl", "jsonl.label_history.parquet"):
        assert (tmp_path / f"out.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    assert not list(tmp_path.glob(".*parts"))


def test_interrupt_stops_after_the_part_at_hand_and_writes_no_result(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 10)
    done, judge = 0, strategies.relabel_with_panel

    async def is_interrupted(*args: Any) -> Any:
        nonlocal done
        done += 1
        if done == 2:
            signal.raise_signal(signal.SIGINT)
        return await judge(*args)

    monkeypatch.setattr(strategies, "relabel_with_panel", is_interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            relabel_file(
                write_lines(tmp_path / "in.jsonl", rows(45)), settings=settings, out=tmp_path / "out.jsonl"
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == 2
    assert not (tmp_path / "out.jsonl").exists()


def test_parts_of_another_job_are_not_used(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(3))
    with monkeypatch.context() as patch:
        patch.setattr(relabelling_file, "write_candidate_sets", _fails)
        with pytest.raises(OSError, match="disk"):
            relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert list(tmp_path.glob(".*parts"))
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl", mode="filter")
    assert found["promoted"] == 0


def _fails(*_: object, **__: object) -> int:
    raise OSError("disk full")


def test_drop_row_and_formats(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(2))
    out = tmp_path / "out.parquet"
    result = relabel_file(
        source, settings=settings, out=out, out_format="flagembedding", too_few="drop_row", min_negatives=2
    )
    assert result["rows_dropped"] == 2
    assert pq.read_table(out).num_rows == 0
    relabel_file(source, settings=settings, out=out, out_format="flagembedding")
    assert pq.read_table(out).column_names == ["query", "pos", "neg", "pos_id", "neg_id", "note"]


def test_audit_sheet_is_exported_and_imported(tmp_path: Path, settings: ModelSettings) -> None:
    attack = '=HYPERLINK("http://x")'
    source = write_lines(tmp_path / "in.jsonl", [*rows(5), ROW | {"query": attack, "query_id": "z"}])
    out = tmp_path / "out.jsonl"
    relabel_file(source, settings=settings, out=out, audit=100)
    sheet = tmp_path / "out.jsonl.audit.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 18  # six rows, three candidates that a judge saw
    assert {line["answers"] for line in lines} == {""}
    assert [line["query"] for line in lines if "HYPER" in line["query"]] == ["'" + attack] * 3
    again = sheet.read_bytes()
    relabel_file(source, settings=settings, out=out, audit=100)
    assert sheet.read_bytes() == again
    for line in lines:
        line["answers"] = {"same": "yes", "near": "No"}.get(line["docid"], "no")
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines[:-1])
    found = relabel_file(source, settings=settings, audited=sheet)["audit"]
    assert found["n"] == 17
    assert 0 < found["kappa"] < 1


def test_small_audit_sheet_is_part_of_the_larger_one(tmp_path: Path, settings: ModelSettings) -> None:
    source, sheets = write_lines(tmp_path / "in.jsonl", rows(9)), []
    for count in (4, 8):
        relabel_file(source, settings=settings, out=tmp_path / "out.jsonl", audit=count)
        sheets.append((tmp_path / "out.jsonl.audit.csv").read_text(encoding="utf-8-sig").splitlines())
    assert [len(sheet) for sheet in sheets] == [5, 9]
    assert set(sheets[0]) <= set(sheets[1])


def test_skip_bad_counts_skipped_lines(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [ROW, {"positive_passages": 3}, ROW | {"query_id": "q2"}])
    with pytest.raises(InputError) as caught:
        relabel_file(source, settings=settings)
    assert caught.value.place == f"{source}:2"
    result = relabel_file(source, settings=settings, skip_bad=True)
    assert (result["rows"], result["rows_skipped"]) == (2, 1)


def test_the_judge_of_questions_cannot_judge_passages(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [ROW])
    with pytest.raises(InputError, match="`sentences` cannot judge passages") as caught:
        relabel_file(source, settings=settings, judges=("sentences",))
    assert "`lexical`" in (caught.value.hint or "")


def test_lexical_judge_cannot_run_the_cascade(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [ROW])
    with pytest.raises(InputError, match="needs models"):
        relabel_file(source, settings=settings, strategy="cascade", judges=("lexical",))
    with pytest.raises(InputError, match="needs models"):
        relabel_file(source, settings=settings, strategy="graded")


def write_grades(path: Path, grades: list[tuple[str, str, str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("query_id", "docid", "judge", "grade"), *grades])
    return path


def test_graded_promotes_if_all_grades_are_top_and_removes_if_any_is_relevant(
    tmp_path: Path, settings: ModelSettings
) -> None:
    grades = [("q1", "p", "scale", 3), ("q1", "p", "binary", 1)]
    for doc, scale, binary in (("same", 3, 1), ("near", 2, 0), ("off", 1, 0)):
        grades += [("q1", doc, "scale", scale), ("q1", doc, "binary", binary)]
    verdicts = write_grades(tmp_path / "v.csv", grades)
    result = relabel_file(
        write_lines(tmp_path / "in.jsonl", [ROW]),
        settings=settings,
        verdicts=verdicts,
        judges=("scale", "binary"),
        out=tmp_path / "out.jsonl",
    )
    assert (result["promoted"], result["filtered"], result["kept"], result["abstained"]) == (1, 2, 1, 0)


@pytest.mark.parametrize(
    ("grades", "outcome"),
    [
        ({"s": 3, "b": 1}, "promoted"),
        ({"s": 3, "b": 0}, "removed"),
        ({"s": 1, "b": 1}, "removed"),
        ({"s": 1, "b": 0}, "kept"),
        ({"s": 3, "b": None}, "removed"),
        ({"s": 1, "b": None}, "abstained"),
        ({"s": None, "b": None}, "abstained"),
    ],
)
def test_missing_grade_neither_promotes_nor_clears(grades: dict[str, int | None], outcome: str) -> None:
    scales = {"s": GradeScale.up_to(3), "b": GradeScale.up_to(1)}
    assert DecisionRule().outcome(grades, scales) == outcome


def test_decision_rule_is_read_from_text() -> None:
    assert DecisionRule.parse("majority:relevant/any:marginal") == DecisionRule(
        "majority", "relevant", "any", "marginal"
    )
    with pytest.raises(InputError, match="not a decision rule"):
        DecisionRule.parse("some:top")


@pytest.mark.parametrize("grade", ["yes", "-1", "1.5"])
def test_grade_that_is_none_is_named_with_its_line(grade: str, tmp_path: Path) -> None:
    path = write_grades(tmp_path / "v.csv", [("q", "d", "j", "1"), ("q", "e", "j", grade)])
    with pytest.raises(InputError) as caught:
        read_grades(path)
    assert caught.value.place == f"{path}:3"


def test_truth_counts_losses() -> None:
    tally = QueryCounts({}, relevant_from=2)
    for query in ("a", "b", "c"):
        for grade, outcome in ((3, "promoted"), (1, "promoted"), (2, "removed"), (0, "removed")):
            tally.count(query, grade, outcome)
        for grade in (0, 0, 2):
            tally.count(query, grade, "kept")
    found = tally.estimates()
    assert found["relabel_precision"]["value"] == pytest.approx(1 / 2)
    assert found["false_negative_rate_before"]["value"] == pytest.approx(3 / 7)
    assert found["false_negative_rate_after"]["value"] == pytest.approx(1 / 3)
    assert found["true_negatives_lost"]["value"] == pytest.approx(1 / 3)
    assert found["true_negatives_lost"]["n"] == 9


def test_truth_without_grades_is_unknown_not_zero() -> None:
    assert QueryCounts({}).estimates()["relabel_precision"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
    }


def test_qrels_of_trec_and_beir(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 3\nq1 Q0 d2 0\n", encoding="utf-8")
    assert read_qrels(path) == {("q1", "d1"): 3, ("q1", "d2"): 0}
    path.write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n", encoding="utf-8")
    assert read_qrels(path) == {("q1", "d1"): 2}


@needs_shared
def test_two_tier_rule_on_trec_dl_2019(tmp_path: Path, settings: ModelSettings) -> None:
    """Reproduce the baseline of published verdicts: precision .794, false negatives .501 → .126."""
    by_query = defaultdict(list)
    with (RETRIEVAL / "dl19_pairs.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            pair = json.loads(line)
            by_query[pair["qid"]].append(pair)
    rng, records = random.Random(19), []
    for again in range(20):
        for pairs in by_query.values():
            best = [p for p in pairs if p["human_grade"] == 3]
            if not best:
                continue
            positive = rng.choice(best)
            near = [
                p for p in pairs if p["ranks"].get("SPLADE_P_P_ENSEMBLE_DISTIL", 99) <= 50 and p != positive
            ]
            # Other texts of the query, so that the positive of one row is not masked in the others.
            asked = positive | {"query": f"{positive['query']} {again}"}
            records.append(_row(asked, rng.sample(near, min(10, len(near)))))
    pairs = [p for found in by_query.values() for p in found]
    verdicts = [(p["qid"], p["docid"], j, g) for p in pairs for j, g in p["llm"].items() if g is not None]
    truth = tmp_path / "qrels"
    truth.write_text(
        "".join(f"{p['qid']} 0 {p['docid']} {p['human_grade']}\n" for p in pairs), encoding="utf-8"
    )
    result = relabel_file(
        write_lines(tmp_path / "in.jsonl", records),
        settings=settings,
        verdicts=write_grades(tmp_path / "v.csv", verdicts),
        judges=("umb_gpt4", "bin_gpt4o"),
        truth=truth,
    )
    assert result["relabel_precision"]["value"] == pytest.approx(0.794, abs=0.02)
    assert result["false_negative_rate_before"]["value"] == pytest.approx(0.501, abs=0.02)
    assert result["false_negative_rate_after"]["value"] == pytest.approx(0.126, abs=0.02)
    assert result["true_negatives_lost"]["value"] == pytest.approx(0.432, abs=0.02)
    (kappa,) = result["judges"]["kappa"].values()
    assert 0.3 < kappa < 0.9


def test_operating_point_takes_grades_of_judges_and_of_people(
    tmp_path: Path, settings: ModelSettings
) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(8))
    docs = {"same": (3, 3), "near": (2, 1), "off": (0, 0)}
    verdicts = [(f"q{i}", doc, "j", grade) for i in range(8) for doc, (grade, _) in docs.items()]
    truth = tmp_path / "qrels"
    truth.write_text("".join(f"q{i} 0 {d} {g}\n" for i in range(8) for d, (_, g) in docs.items()))
    common: dict[str, Any] = {"settings": settings, "truth": truth, "min_relabel_precision": 1.0}
    found = relabel_file(source, verdicts=write_grades(tmp_path / "v.csv", verdicts), **common)
    assert found["operating_point"]["rule"].split("/")[0].endswith(":top")
    assert found["relabel_precision"]["value"] == 1.0
    with pytest.raises(InputError, match="recorded grades"):
        relabel_file(source, **common)


def _row(positive: dict[str, Any], negatives: list[dict[str, Any]]) -> dict[str, Any]:
    def passage(pair: dict[str, Any]) -> dict[str, Any]:
        return {"docid": pair["docid"], "text": pair["text"]}

    return {
        "query_id": positive["qid"],
        "query": positive["query"],
        "positive_passages": [passage(positive)],
        "negative_passages": [passage(pair) for pair in negatives],
    }


@needs_shared
@pytest.mark.parametrize("subset", ["fiqa", "msmarco_passage"])
def test_raw_verdicts_parsed_again_flag_the_recorded_queries(subset: str) -> None:
    path = RETRIEVAL / "rlhn" / f"{subset}.stage_1.gpt-4o-mini.jsonl"
    recorded = (
        (RETRIEVAL / "rlhn" / f"{subset}.stage_1.query_ids.with.false_negatives.txt").read_text().split()
    )
    flagged = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        found = parse_text_verdict(record["response"], len(record["negative_passages"]))
        assert found.abstention is None
        if found.better or found.worse:
            flagged.append(record["query_id"])
    assert sorted(flagged) == sorted(recorded)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot help with that.", "unparsable_verdict"),
        ("<better> [Doc (1)] </better>", "unparsable_verdict"),
        ("<better> [Doc (9)] </better> <worse> [] </worse>", "id_out_of_range"),
    ],
)
def test_text_verdict_without_both_lists_is_an_abstention(text: str, reason: str) -> None:
    assert parse_text_verdict(text, 3).abstention == reason


def test_text_verdict_is_read() -> None:
    found = parse_text_verdict("<better> as good: [Doc (1), Doc (3)] </better>, <worse>so: [2]</worse>", 3)
    assert (found.better, found.worse) == ({1, 3}, {2})


@needs_shared
def test_lexical_judge_on_real_rows(settings: ModelSettings, tmp_path: Path) -> None:
    source = RETRIEVAL / "flagembedding" / "msmarco.jsonl"
    result = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert (result["rows"], result["candidates"]) == (10, 250)
    before = list(read_candidate_sets(Source(source, "flagembedding"), BadRows()))
    after = list(read_candidate_sets(Source(tmp_path / "out.jsonl", "flagembedding"), BadRows()))
    assert sum(len(s.negatives) for s in after) == result["kept"]
    assert sum(len(s.positives) for s in after) == 10 + result["promoted"]
    assert [s.query for s in after] == [s.query for s in before]
