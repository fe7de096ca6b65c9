"""Effect of a verdict on a label, in every case of the policy table, with a scripted judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.labels import CandidateSet
from schemas.release import StageCost
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.judges.relevance import Evidence, EvidenceQuestion, Ranking, RankingQuestion, ranks_of
from tasks.relabel.decisions import CandidateVerdict, Policy, RelabelledRow, Relabelling, panel_verdict
from tasks.relabel.mining import PassagePool, backfill
from tasks.relabel.scoring import ScoreWindow
from tasks.relabel.two_stage import ranking_windows, relabel_sets, relabel_with_panel

POSITIVE = "The lighthouse was first lit in 1848 by the keeper's daughter."


@dataclass
class ScriptedJudge:
    """Answers by text. `score[text]` is the directness of the answer, missing without evidence."""

    scores: dict[str, float] = field(default_factory=dict)
    abstains_on: frozenset[str] = frozenset()
    ranking: Callable[[list[float]], list[int]] | None = None
    """Return ids from 1, best first, from the scores of the spans in the order shown (default: by score)."""
    name: str = "script"
    seen: list[str] = field(default_factory=list)

    async def find_evidence(self, questions: Sequence[EvidenceQuestion]) -> list[Evidence]:
        self.seen += [q.passage.text for q in questions]
        return [self._evidence(q.passage.text) for q in questions]

    def _evidence(self, text: str) -> Evidence:
        if text in self.abstains_on:
            return Evidence(None, abstention="refused")
        return Evidence(text, strength=self.scores[text]) if text in self.scores else Evidence(None)

    async def rank(self, questions: Sequence[RankingQuestion]) -> list[Ranking]:
        return [self._ranking([s.strength for s in q.spans]) for q in questions]

    def _ranking(self, strengths: list[float]) -> Ranking:
        if self.ranking is not None:
            return Ranking(ranks_of(self.ranking(strengths), len(strengths)))
        return Ranking(tuple(sum(other > s for other in strengths) for s in strengths))

    def costs(self) -> tuple[StageCost, ...]:
        return ()


def row(
    *negatives: str, positives: Sequence[str] = (POSITIVE,), query: str = "when was it lit?"
) -> CandidateSet:
    return make_set(query, [make_passage(p) for p in positives], [make_passage(n) for n in negatives])


def relabel(judge: ScriptedJudge, *rows: CandidateSet, **policy: object) -> Relabelling:
    return asyncio.run(relabel_sets(rows, judge, Policy(**policy)))  # type: ignore[arg-type]


def only(relabelling: Relabelling) -> RelabelledRow:
    (found,) = relabelling.rows
    return found


def outcomes(relabelling: Relabelling) -> list[tuple[str, str]]:
    return [(v.outcome, v.reason) for v in only(relabelling).verdicts]


JUDGE = ScriptedJudge({POSITIVE: 2, "better": 3, "worse": 1, "equal": 2})


def test_better_evidence_promotes_worse_removes_none_keeps() -> None:
    found = relabel(JUDGE, row("better", "worse", "unrelated"))
    assert outcomes(found) == [
        ("promoted", "ranked_above_positive"),
        ("removed", "evidence_below_positive"),
        ("kept", "no_evidence"),
    ]
    (after,) = found.sets
    assert [p.text for p in after.positives] == [POSITIVE, "better"]
    assert [n.text for n in after.negatives] == ["unrelated"]


def test_history_has_decider_labels_and_reason() -> None:
    better, worse = relabel(JUDGE, row("better", "worse", "unrelated")).changes
    assert (better.before, better.after, better.reason, better.judge) == (
        "hard_negative",
        "positive",
        "ranked_above_positive",
        "script",
    )
    assert (worse.after, worse.evidence, worse.subject_kind) == ("removed", "worse", "passage")
    assert better.id != worse.id


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("both", ["promoted", "removed", "kept"]),
        ("relabel", ["promoted", "kept", "kept"]),
        ("filter", ["removed", "removed", "kept"]),
    ],
)
def test_modes(mode: str, expected: list[str]) -> None:
    assert [
        o for o, _ in outcomes(relabel(JUDGE, row("better", "worse", "unrelated"), mode=mode))
    ] == expected


@pytest.mark.parametrize(
    ("copy", "reason"),
    [
        (POSITIVE, "duplicate_of_positive"),
        ("  " + POSITIVE.upper(), "duplicate_of_positive"),
        (POSITIVE.replace("first lit", "first  lît"), "near_duplicate_of_positive"),
    ],
)
def test_duplicate_of_positive_is_decided_before_any_call(copy: str, reason: str) -> None:
    judge = ScriptedJudge({POSITIVE: 1})
    found = relabel(judge, row(copy))
    assert outcomes(found) == [("removed", reason)]
    assert found.changes[0].judge == "rule"
    assert judge.seen == []


def test_another_number_is_no_duplicate() -> None:
    assert outcomes(relabel(JUDGE, row(POSITIVE.replace("1848", "1849")))) == [("kept", "no_evidence")]


def test_positive_without_answer_never_promotes() -> None:
    found = relabel(ScriptedJudge({"better": 3}), row("better", "unrelated"))
    assert outcomes(found) == [("removed", "positive_without_evidence"), ("kept", "no_evidence")]
    assert only(found).flags == ("review",)


def test_positive_that_the_judge_abstained_on_leaves_the_row_open() -> None:
    judge = ScriptedJudge({"better": 3}, abstains_on=frozenset({POSITIVE}))
    found = relabel(judge, row("better"))
    assert outcomes(found) == [("abstained", "unusable_ranking")]
    assert only(found).flags == ("review",)


def test_several_positives_the_best_ranked_has_to_be_beaten() -> None:
    judge = ScriptedJudge({POSITIVE: 2, "strong positive": 5, "better": 3, "best": 6})
    found = relabel(judge, row("better", "best", positives=(POSITIVE, "strong positive")))
    assert [o for o, _ in outcomes(found)] == ["removed", "promoted"]


def test_tie_removes_and_does_not_promote() -> None:
    assert outcomes(relabel(JUDGE, row("equal"))) == [("removed", "tied_with_positive")]


def test_order_swap_that_flips_removes_and_does_not_promote() -> None:
    first_shown_wins = ScriptedJudge(
        {POSITIVE: 2, "better": 3}, ranking=lambda strengths: list(range(1, len(strengths) + 1))
    )
    assert outcomes(relabel(first_shown_wins, row("better"))) == [("removed", "order_flip")]


def _best_first(strengths: list[float]) -> list[int]:
    return sorted(range(1, len(strengths) + 1), key=lambda i: -strengths[i - 1])


def test_id_missing_from_the_ranking_abstains_for_that_id_only() -> None:
    judge = ScriptedJudge(
        {POSITIVE: 2, "better": 3, "forgotten": 4},
        ranking=lambda s: [i for i in _best_first(s) if s[i - 1] != 4],
    )
    assert [o for o, _ in outcomes(relabel(judge, row("better", "forgotten")))] == ["promoted", "abstained"]


def test_id_repeated_in_the_ranking_abstains_for_that_id_only() -> None:
    judge = ScriptedJudge(
        {POSITIVE: 2, "better": 3, "twice": 4},
        ranking=lambda s: [*_best_first(s), s.index(4) + 1],
    )
    assert [o for o, _ in outcomes(relabel(judge, row("better", "twice")))] == ["promoted", "abstained"]


def test_id_out_of_range_is_ignored() -> None:
    judge = ScriptedJudge({POSITIVE: 2, "better": 3}, ranking=lambda s: [99, 0, -1, *_best_first(s)])
    assert [o for o, _ in outcomes(relabel(judge, row("better")))] == ["promoted"]


def test_positive_missing_from_the_ranking_promotes_nothing() -> None:
    judge = ScriptedJudge(
        {POSITIVE: 2, "better": 3}, ranking=lambda s: [i for i in _best_first(s) if s[i - 1] != 2]
    )
    assert [o for o, _ in outcomes(relabel(judge, row("better")))] == ["abstained"]


def test_refusal_abstains_and_is_counted() -> None:
    judge = ScriptedJudge({POSITIVE: 2}, abstains_on=frozenset({"x"}))
    found = relabel(judge, row("x", "unrelated"))
    assert outcomes(found) == [("abstained", "refused"), ("kept", "no_evidence")]
    assert found.counts["abstained"] == 1
    assert [n.text for n in found.sets[0].negatives] == ["x", "unrelated"]


@pytest.mark.parametrize(("too_few", "rows"), [("keep_row", 1), ("drop_row", 0)])
def test_too_few_negatives_left(too_few: str, rows: int) -> None:
    found = relabel(JUDGE, row("better", "worse"), too_few=too_few, min_negatives=1)
    assert len(found.sets) == rows
    assert found.counts["rows_dropped"] == 1 - rows


def test_row_that_came_without_negatives_is_counted_and_kept() -> None:
    judge = ScriptedJudge({POSITIVE: 2})
    found = relabel(judge, row(), too_few="drop_row")
    assert len(found.sets) == 1
    assert found.counts["rows_without_negatives"] == 1
    assert judge.seen == []


def test_row_without_positives_is_left_open() -> None:
    found = relabel(JUDGE, row("better", positives=()))
    assert outcomes(found) == [("abstained", "no_positive")]
    assert found.counts["rows_without_positives"] == 1


def test_too_many_promoted_flags_the_row_ambiguous() -> None:
    better = {f"better {chr(97 + i) * 9}": 3.0 + i for i in range(3)}
    judge = ScriptedJudge({POSITIVE: 2, **better})
    assert only(relabel(judge, row(*better), max_promoted=2)).flags == ("ambiguous",)
    assert only(relabel(judge, row(*better), max_promoted=3)).flags == ()


def test_negative_that_is_a_positive_elsewhere_is_reported() -> None:
    other = row("unrelated", positives=("worse",), query="another question")
    found = relabel(JUDGE, row("worse"), other)
    assert found.counts["in_batch_conflicts"] == 1
    assert len(found.rows[0].conflicts) == 1


def test_empty_and_repeated_negatives_are_removed_long_ones_left_open() -> None:
    judge = ScriptedJudge({POSITIVE: 2})
    found = relabel(judge, row("", " \n", "unrelated", "Unrelated", "long " * 30), max_characters=100)
    assert [reason for _, reason in outcomes(found)] == [
        "empty_passage",
        "empty_passage",
        "no_evidence",
        "repeated_negative",
        "passage_too_long",
    ]
    assert judge.seen == [POSITIVE, "unrelated"]


def test_panel_promotes_only_unanimously() -> None:
    judges = [ScriptedJudge({POSITIVE: 2, "a": 3}), ScriptedJudge({POSITIVE: 2, "a": 1}, name="other")]
    found = asyncio.run(relabel_with_panel([row("a", "b")], judges, Policy()))
    assert [(v.outcome, v.reason) for v in found.rows[0].verdicts] == [
        ("removed", "judges_disagree"),
        ("kept", "no_evidence"),
    ]
    assert found.judged_by == ("script", "other")
    assert (
        panel_verdict([CandidateVerdict("kept", "x"), CandidateVerdict("abstained", "y")]).outcome
        == "abstained"
    )


@given(st.integers(1, 25), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_every_candidate_meets_every_positive_in_windows_of_twenty(positives: int, candidates: int) -> None:
    met: set[tuple[int, int]] = set()
    for pinned, shown in ranking_windows(range(positives), range(candidates)):
        assert len(pinned) + len(shown) <= 20
        met |= {(p, c) for p in pinned for c in shown}
    assert met == {(p, c) for p in range(positives) for c in range(candidates)}


@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 4]), min_size=1, max_size=40), st.sampled_from(["both", "filter"])
)
@settings(max_examples=40, deadline=None)
def test_counts_add_up_and_verdicts_do_not_depend_on_the_input_order(scores: list[int], mode: str) -> None:
    texts = {f"passage {i} {'xyzuv'[s] * 12}": s for i, s in enumerate(scores)}
    judge = ScriptedJudge({POSITIVE: 2} | {t: float(s) for t, s in texts.items() if s})
    there, back = (
        relabel(judge, row(*order), mode=mode) for order in (list(texts), list(reversed(list(texts))))
    )
    counts = there.counts
    assert counts["candidates"] == sum(counts[k] for k in ("promoted", "filtered", "kept", "abstained"))
    by_text = dict(zip(texts, outcomes(there), strict=True))
    assert by_text == dict(zip(reversed(list(texts)), outcomes(back), strict=True))


def test_backfill_takes_mined_negatives_that_do_not_answer() -> None:
    judge = ScriptedJudge({POSITIVE: 2, "it was lit early": 3, "worse": 1})
    source = row("worse", query="first lit in 1848 by the keeper: when?")
    pool = PassagePool(
        make_passage(t) for t in ("it was lit early", "it was lit late", "bread", POSITIVE, "worse")
    )
    policy = Policy(too_few="backfill", min_negatives=2)

    async def run() -> Relabelling:
        found = await relabel_sets([source], judge, policy)
        return await backfill(found, pool, policy, lambda sets: relabel_sets(sets, judge, policy))

    found = asyncio.run(run())
    assert [n.text for n in found.sets[0].negatives] == ["it was lit late"]
    assert found.counts["backfilled"] == 1
    assert (found.changes[-1].before, found.changes[-1].reason) == ("unlabelled", "backfilled")


def test_mined_negatives_stay_below_the_positive() -> None:
    copy = "First lit by the keeper in 1848, first lit by the keeper."
    pool = PassagePool(make_passage(t) for t in (POSITIVE, copy, "it was first dark", "bread"))
    source = row(query="first lit by the keeper when?")
    assert [p.text for p in pool.nearest(source, 5)] == ["it was first dark"]
    assert [p.text for p in pool.nearest(source, 5, ScoreWindow(relative_margin=-9))] == [
        copy,
        "it was first dark",
    ]
