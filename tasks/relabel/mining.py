"""Hard negatives out of a pool of passages: BM25, with a margin below the positive.

A mined passage may score at most `pos − |pos|·m` (m = .05), where `pos` is the query's score for its best
positive in the pool: what scores as high as the positive is likely to answer, too (positive-aware mining,
NV-Retriever, arXiv 2407.15831). What is mined is a candidate like any other: it is relabelled before use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id, derived_seed
from tasks.relabel.decisions import (
    SCREENED_OUT,
    CandidateVerdict,
    Plan,
    Policy,
    RelabelledRow,
    Relabelling,
    label_change,
)
from tasks.relabel.rule_judges import stem, words
from tasks.text.normalize import normalise_for_match

MARGIN = 0.05
TRIES = 3
"""So many candidates are mined for every negative that is missing, because some will answer."""


class MinedPool:
    """An index over passages, each text once. Held in memory, as long as it is used."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        import bm25s

        self._passages = {normalise_for_match(p.text): p for p in passages if p.text.strip()}
        self._place = {text: place for place, text in enumerate(self._passages)}
        self._texts = list(self._passages)
        self._index = bm25s.BM25()
        self._last: tuple[str | None, Sequence[float]] = (None, ())
        if self._texts:
            self._index.index([_tokens(text) for text in self._texts], show_progress=False)

    def score(self, query: str, passage: Passage) -> float | None:
        """BM25 of a passage of the pool for a query; `None` for one that is not in it, or a query without
        words. The query that was asked last is remembered."""
        place = self._place.get(normalise_for_match(passage.text))
        if place is None or not self._scores_of(query):
            return None
        return float(self._last[1][place])

    def _scores_of(self, query: str) -> bool:
        if self._last[0] != query:
            tokens = _tokens(query)
            self._last = (query, self._index.get_scores(tokens) if tokens and self._texts else ())
        return len(self._last[1]) > 0

    def nearest(self, row: CandidateSet, count: int, margin: float = MARGIN) -> list[Passage]:
        """The best matches for a row's query that are not in the row and stay below the margin; ties in the
        order of the pool. Passages that share no word with the query are none."""
        import numpy as np

        tokens = _tokens(row.query)
        if not self._texts or not tokens:
            return []
        scores = self._index.get_scores(tokens)
        own = {normalise_for_match(p.text) for p in (*row.positives, *row.negatives)}
        positives = [self._place.get(normalise_for_match(p.text)) for p in row.positives]
        known = [float(scores[place]) for place in positives if place is not None]
        ceiling = max(known) - abs(max(known)) * margin if known else np.inf
        found: list[Passage] = []
        for place in np.argsort(-scores, kind="stable"):
            if len(found) == count or scores[place] <= 0:
                break
            if scores[place] <= ceiling and self._texts[place] not in own:
                found.append(self._passages[self._texts[place]])
        return found


def _tokens(text: str) -> list[str]:
    return [stem(word) for word in words(text)]


def with_mined_negatives(rows: Sequence[CandidateSet], pool: MinedPool, count: int) -> list[CandidateSet]:
    """Rows without negatives get so many from the pool; the others stay as they are."""
    return [row if row.negatives else _with_negatives(row, pool.nearest(row, count)) for row in rows]


def _with_negatives(row: CandidateSet, negatives: Sequence[Passage]) -> CandidateSet:
    mined = tuple(passage.model_copy(update={"score": None}) for passage in negatives)
    name = content_id("set", row.id, "mined", [passage.id for passage in mined])
    return row.model_copy(update={"id": name, "negatives": mined})


@dataclass(frozen=True)
class Shortage:
    """A row that is left with too few negatives, and the candidates that may stand in."""

    row: RelabelledRow
    asked: CandidateSet
    missing: int


async def backfill(
    relabelling: Relabelling,
    pool: MinedPool,
    policy: Policy,
    relabel: Callable[[Sequence[CandidateSet]], Awaitable[Relabelling]],
) -> Relabelling:
    """Fill rows that have fewer than `min_negatives` left with mined ones that the judges let stand."""
    short = [found for row in relabelling.rows if (found := _shortage(row, pool, policy)) is not None]
    if not short:
        return relabelling
    judged = await relabel([shortage.asked for shortage in short])
    judge = "+".join(relabelling.judged_by)
    filled = {id(s.row): _filled(s, answer, judge) for s, answer in zip(short, judged.rows, strict=True)}
    return replace(relabelling, rows=tuple(filled.get(id(row), row) for row in relabelling.rows))


def _shortage(row: RelabelledRow, pool: MinedPool, policy: Policy) -> Shortage | None:
    if row.after is None or not row.before.negatives:
        return None
    missing = policy.min_negatives - len(row.after.negatives)
    if missing <= 0:
        return None
    return Shortage(row, _with_negatives(row.before, pool.nearest(row.before, TRIES * missing)), missing)


def _filled(shortage: Shortage, answer: RelabelledRow, judge: str) -> RelabelledRow:
    row = shortage.row
    assert row.after is not None
    stand = [
        passage
        for passage, verdict in zip(answer.before.negatives, answer.verdicts, strict=True)
        if verdict.outcome == "kept"
    ][: shortage.missing]
    after = row.after.model_copy(update={"negatives": (*row.after.negatives, *stand)})
    changes = tuple(
        label_change(
            subject=passage.id,
            kind="passage",
            query=row.before.query_id,
            within=row.before.id,
            before="unlabelled",
            after="hard_negative",
            verdict=CandidateVerdict("kept", "backfilled"),
            judge=judge,
        )
        for passage in stand
    )
    return replace(row, after=after, changes=(*row.changes, *changes), backfilled=len(stand))


# A cheap screen: candidates that score far below their positive are left alone without asking anybody.
#
# Screened out is what scores below `pos − |pos|·margin`, where `pos` is the lowest score of the row's
# positives: by `bm25` over the passages at hand, or by the `score`s that the file came with. Such a candidate
# keeps its label. What that saves is counted; what it costs is measured: a share of them (`check`, drawn by
# content) is judged all the same, and how many of those turn out relevant estimates what was missed among the
# rest. With known grades it is counted outright.


Score = Callable[[str, Passage], float | None]
"""The score of a passage for a query; `None`: it has none, and is not screened."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Which score, how far below the positive, and which share of what is screened out is judged anyway."""

    by: Literal["bm25", "score"] = "bm25"
    margin: float = 0.5
    check: float = 0.05

    @classmethod
    def parse(cls, text: str) -> Screen:
        """Read `bm25:0.5` or `score:0.2:0.1` (the score, its margin, and the share that is checked)."""
        by, *numbers = text.split(":")
        try:
            values = [float(number) for number in numbers]
        except ValueError:
            values = [-1.0]
        if by not in ("bm25", "score") or not 1 <= len(values) <= 2 or not all(0 <= v <= 1 for v in values):
            raise InputError(
                f"not a screen: {text!r}",
                hint="write SCORE:MARGIN[:CHECK], e.g. bm25:0.5 or score:0.2:0.1; scores: bm25, score",
            )
        return cls(by, *values)  # type: ignore[arg-type]


def screen_candidates(plans: Sequence[Plan], screen: Screen, score: Score) -> list[Plan]:
    """The plans without the candidates that need not be asked about."""
    return [_screened(plan, screen, score) for plan in plans]


def _screened(plan: Plan, screen: Screen, score: Score) -> Plan:
    row = plan.row
    positives = [score(row.query, row.positives[i]) for i in plan.positives]
    known = [value for value in positives if value is not None]
    if not known:
        return plan
    floor = min(known) - abs(min(known)) * screen.margin
    far = [i for i in plan.asked if _is_below(score(row.query, row.negatives[i]), floor)]
    checked = tuple(i for i in far if _is_checked(row, row.negatives[i], screen.check))
    out = [i for i in far if i not in checked]
    return replace(
        plan,
        decided={**plan.decided, **{i: CandidateVerdict("kept", SCREENED_OUT) for i in out}},
        asked=tuple(i for i in plan.asked if i not in out),
        screen_checked=checked,
    )


def _is_below(value: float | None, floor: float) -> bool:
    return value is not None and value < floor


def _is_checked(row: CandidateSet, passage: Passage, share: float) -> bool:
    return derived_seed("screen check", row.query, passage.id) % 1_000_000 < share * 1_000_000


def given_score(query: str, passage: Passage) -> float | None:
    """The score that the file came with."""
    return passage.score


def missed_of(row: RelabelledRow) -> int:
    """How many of a row's checked candidates turned out relevant, though the screen had let them be."""
    return sum(row.verdicts[i].outcome in ("promoted", "removed") for i in row.screen_checked)


def describe_screen(screened_out: int, checked: int, missed: int) -> dict[str, Any]:
    """Calls saved, and the share of relevant ones among those that were checked, with Wilson's interval."""
    low, high = _wilson(missed, checked) if checked else (None, None)
    share = missed / checked if checked else None
    return {
        "spared": screened_out,
        "checked": checked,
        "missed": {"value": share, "low": low, "high": high, "n": checked},
    }


def _wilson(hits: int, of: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
