"""Hard negatives out of a pool of passages: BM25, with a margin below the positive.

A mined passage may score at most `pos − |pos|·m` (m = .05), where `pos` is the query's score for its best
positive in the pool: what scores as high as the positive is likely to answer, too (positive-aware mining,
NV-Retriever, arXiv 2407.15831). What is mined is a candidate like any other: it is relabelled before use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from schemas.candidates import CandidateSet, Passage
from schemas.ids import content_id
from tasks.relabelling.changes import RelabelledRow, Relabelling, label_change
from tasks.relabelling.lexical import stem, words
from tasks.relabelling.policies import Policy, Verdict
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
            verdict=Verdict("kept", "backfilled"),
            judge=judge,
        )
        for passage in stand
    )
    return replace(row, after=after, changes=(*row.changes, *changes), backfilled=len(stand))
