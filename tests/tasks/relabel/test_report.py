"""The report adds up over parts of a file, and its figures follow the textbook formulas."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.models import ModelSettings
from tasks.relabel import job as relabelling_job
from tasks.relabel import relabel_file
from tasks.relabel.quality import RunStatistics, count_agreement, kappa_of_counts, length_quantiles
from tasks.stats.agreement import weighted_kappa
from tests.tasks.relabel.test_file import rows, settings, write_lines

__all__ = ["settings"]


def test_report_does_not_depend_on_how_a_file_is_cut(
    tmp_path: Path, settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(23))
    whole = relabel_file(source, settings=settings)
    monkeypatch.setattr(relabelling_job, "ROWS_PER_PART", 4)
    assert relabel_file(source, settings=settings) == whole
    assert sum(whole["report"]["by_reason"].values()) == whole["candidates"]


@hypothesis.settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_kappa_of_a_table_is_cohens(votes: list[tuple[bool, bool]]) -> None:
    found = count_agreement({"a": left, "b": right} for left, right in votes)
    expected = weighted_kappa([int(left) for left, _ in votes], [int(right) for _, right in votes])
    kappa = kappa_of_counts(found["a ~ b"])["kappa"]
    if kappa is None:
        assert expected != expected
    else:
        assert kappa == pytest.approx(expected)


def test_abstentions_are_not_counted() -> None:
    assert count_agreement([{"a": True, "b": None}, {"a": None, "b": None}]) == {}
    assert count_agreement([{"a": True, "b": None, "c": False}]) == {"a ~ c": (0, 1, 0, 0)}


@hypothesis.settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=80))
def test_quantiles_are_lengths_that_occurred_and_rise(lengths: list[int]) -> None:
    counted = {str(length): lengths.count(length) for length in set(lengths)}
    found = length_quantiles(counted)
    assert found["n"] == len(lengths)
    assert found["max"] == max(lengths)
    assert {found["median"], found["p90"]} <= set(lengths)
    assert sum(length <= (found["median"] or 0) for length in lengths) >= len(lengths) / 2


def test_observations_survive_the_disk_and_add_up() -> None:
    one = RunStatistics(agreement={"a ~ b": [1, 2, 3, 4]}, costs={"m": [2, 10, 5, 0.25]})
    one.reasons.update(order_flip=1, no_evidence=3)
    total = RunStatistics.from_dict(one.to_dict())
    total.merge(one)
    assert total.agreement == {"a ~ b": [2, 4, 6, 8]}
    assert total.describe(rows=4)["cost"]["m"] == {
        "calls": 4,
        "tokens_in": 20,
        "tokens_out": 10,
        "cost_usd": 0.5,
        "calls_per_row": 1.0,
        "cost_usd_per_row": 0.125,
    }
    assert one.agreement == {"a ~ b": [1, 2, 3, 4]}
