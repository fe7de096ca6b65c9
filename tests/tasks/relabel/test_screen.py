"""The screen saves calls, and its errors are measured. Rows with false negatives can be dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.labels import CandidateSet
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.models import ModelSettings
from tasks.relabel import relabel_file
from tasks.relabel.decisions import Policy, decide_by_rule
from tasks.relabel.mining import Screen, screen_candidates
from tasks.relabel.two_stage import relabel_sets
from tests.tasks.relabel.test_file import rows, settings, write_lines
from tests.tasks.relabel.test_policies import JUDGE, POSITIVE, outcomes, row

__all__ = ["settings"]


def scored(*negatives: float | None, positives: tuple[float, ...] = (1.0,)) -> CandidateSet:
    return make_set(
        "when?",
        [make_passage(f"It was lit in {i + 1848}.", score=s) for i, s in enumerate(positives)],
        [make_passage(f"Loaf number {i} is baked.", score=s) for i, s in enumerate(negatives)],
    )


def undecided_passages(source: CandidateSet, screen: Screen) -> tuple[int, ...]:
    (plan,) = screen_candidates(
        decide_by_rule([source], Policy()), screen, lambda query, passage: passage.score
    )
    return plan.undecided


def test_passages_far_below_the_positive_are_not_judged() -> None:
    assert undecided_passages(scored(0.95, 0.81, 0.79, 0.1), Screen("score", 0.2, 0.0)) == (0, 1)


def test_margin_is_measured_from_the_lowest_positive_also_below_zero() -> None:
    assert undecided_passages(scored(0.5, 0.3, positives=(1.0, 0.5)), Screen("score", 0.2, 0.0)) == (0,)
    assert undecided_passages(scored(-1.1, -1.3, positives=(-1.0,)), Screen("score", 0.2, 0.0)) == (0,)


def test_passages_without_a_score_are_judged() -> None:
    assert undecided_passages(scored(None, 0.1), Screen("score", 0.2, 0.0)) == (0,)
    unscored = scored(0.1)
    bare = unscored.positives[0].model_copy(update={"score": None})
    assert undecided_passages(
        unscored.model_copy(update={"positives": (bare,)}), Screen("score", 0.2, 0.0)
    ) == (0,)


def test_checked_share_is_drawn_by_content_and_grows_with_the_share() -> None:
    source = scored(*[0.1] * 200)
    drawn = [set(undecided_passages(source, Screen("score", 0.2, share))) for share in (0.0, 0.1, 0.4, 1.0)]
    assert not drawn[0]
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3]
    assert 5 < len(drawn[1]) < 40
    backwards = source.model_copy(update={"negatives": source.negatives[::-1]})
    assert {199 - i for i in undecided_passages(backwards, Screen("score", 0.2, 0.1))} == drawn[1]


def test_bm25_screen_of_a_file_reports_saved_calls_and_losses(
    tmp_path: Path, settings: ModelSettings
) -> None:
    source, truth = write_lines(tmp_path / "in.jsonl", rows(20)), tmp_path / "qrels"
    truth.write_text("".join(f"q{i} 0 off {2 * (i < 5)}\n" for i in range(20)), encoding="utf-8")
    plain = relabel_file(source, settings=settings, truth=truth)
    found = relabel_file(source, settings=settings, truth=truth, screen="bm25:0.5:0")
    assert found["screened_out"] == 20  # "off" shares no word with the query
    assert plain["screened_out"] == 0
    assert found["report"]["screen"]["relevant_screened_out"]["value"] == pytest.approx(0.25)
    for name in ("candidates", "promoted", "filtered", "decided_by_rule"):
        assert found[name] == plain[name]


def test_mode_remove_row_drops_rows_with_a_false_negative_only() -> None:
    sources = [row("unrelated"), row("better", "unrelated", query="a"), row("worse", query="b")]
    found = asyncio.run(relabel_sets(sources, JUDGE, Policy(mode="remove_row")))
    assert [r.after is None for r in found.rows] == [False, True, True]
    assert found.flagged == {s.id: ("false_negative",) for s in sources[1:]}
    assert found.counts["promoted"] == 0


def test_mode_remove_row_keeps_rows_that_rules_mended() -> None:
    found = asyncio.run(relabel_sets([row(POSITIVE, "unrelated")], JUDGE, Policy(mode="remove_row")))
    assert [n.text for n in found.sets[0].negatives] == ["unrelated"]


def test_row_dropped_for_lack_of_negatives_is_listed_for_review() -> None:
    found = asyncio.run(relabel_sets([row("better")], JUDGE, Policy(too_few="drop_row")))
    assert found.sets == ()
    assert found.rows[0].flags == ("too_few_negatives",)


def test_row_without_screen_and_with_an_idle_one_come_out_alike() -> None:
    def idle(plans: Any) -> Any:
        return screen_candidates(plans, Screen("score", 0.5), lambda query, passage: passage.score)

    source = [row("better", "worse", "unrelated")]
    without = asyncio.run(relabel_sets(source, JUDGE, Policy()))
    assert outcomes(asyncio.run(relabel_sets(source, JUDGE, Policy(), None, idle))) == outcomes(without)
    assert replace(without) == without
