"""Mine hard negatives from a pool of passages with BM25 or embeddings, and screen candidates.

A mined passage may score at most `pos − |pos|·m` (m = .05), with `pos` the query's score for its best
positive in the pool: a passage that scores as high as the positive probably answers the query, too. A
`ScoreWindow` sets other limits. Mined passages are relabelled like all others before they are used.

References:
    Positive-aware mining: NV-Retriever, arXiv 2407.15831.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.release import CostMeter, StageCost
from schemas.tables import content_id, derived_seed
from tasks.relabel.decisions import (
    SCREENED_OUT,
    CandidateVerdict,
    Policy,
    RelabelledRow,
    Relabelling,
    RowPlan,
    label_change,
)
from tasks.relabel.rule_judges import split_words, stem
from tasks.relabel.same_text import match_key
from tasks.relabel.scoring import MINING_WINDOW, PLAIN, Score, ScoreWindow, is_score
from tasks.run.progress import track
from tasks.run.store import write_bytes
from tasks.stats.shares import share_with_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MINED_PER_MISSING = 3
"""Candidates mined per missing negative. Some of them will turn out to answer the query."""
BLOCK_ROWS = 65_536
"""Vectors that are multiplied at once."""
BLOCK_BYTES = 64 << 20
"""Scores of all passages for several queries that are held at once."""
EMBEDDED_AT_ONCE = 2_048


# --- mining -----------------------------------------------------------------------------------------------


class PassagePool:
    """A BM25 index over passages, in memory. Repeated texts are indexed once."""

    lowest = 0.0
    """Passages are found if their score is higher."""
    index_costs: Sequence[StageCost] = ()
    """Costs of the index."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        import bm25s

        self._passages = {match_key(p.text): p for p in passages if p.text.strip()}
        self._position = {text: position for position, text in enumerate(self._passages)}
        self._texts = list(self._passages)
        self._index = bm25s.BM25()
        self._forget()
        if self._texts:
            stems = [_stems(passage.text) for passage in self._passages.values()]
            self._index.index(stems, show_progress=False)

    def _forget(self) -> None:
        """Start without scores of earlier queries."""
        self._meter: CostMeter | None = None
        self._last_query: str | None = None
        self._last_scores: Sequence[float] = ()

    def for_part(self, meter: CostMeter) -> Self:
        """Return a pool over the same index for one part. Parts that run at once must not share a pool.

        Args:
            meter: Counts the calls for the queries of the part.
        """
        part = copy.copy(self)
        part._forget()
        part._meter = meter
        return part

    def score(self, query: str, passage: Passage) -> float | None:
        """Return the BM25 score of a passage, `None` if it is not in the pool or the query has no words."""
        position = self._position.get(match_key(passage.text))
        if position is None:
            return None
        scores = self._cached_scores(query)
        return float(scores[position]) if len(scores) else None

    def _cached_scores(self, query: str) -> Sequence[float]:
        # A row's candidates are scored one after the other, so the last query is enough.
        if self._last_query != query:
            stems = _stems(query)
            self._last_query = query
            self._last_scores = self._index.get_scores(stems) if stems and self._texts else ()
        return self._last_scores

    def rank(self, query: str, passage: Passage) -> int | None:
        """Return how many passages score at least as high, itself included. `None` without a score."""
        own = self.score(query, passage)
        return None if own is None else sum(1 for score in self._cached_scores(query) if score >= own)

    def prepare(self, queries: Iterable[str]) -> None:
        """Announce the next queries. A pool may score several at once."""

    def _all_scores(self, query: str) -> NDArray[Any] | None:
        """Return the scores of all passages, `None` if the query cannot be scored."""
        stems = _stems(query)
        return self._index.get_scores(stems) if stems and self._texts else None

    def nearest(self, row: CandidateSet, count: int, window: ScoreWindow = MINING_WINDOW) -> list[Passage]:
        """Return the best matches for a row's query that are not in the row, best first.

        Args:
            row: Its best positive sets the ceiling of scores.
            count: Maximum number of passages.
            window: Limits on scores and ranks. Ranks do not count the passages of the row.

        Returns:
            With BM25, passages that share a word with the query. Ties are in the order of the pool.
        """
        import numpy as np

        scores = self._all_scores(row.query)
        if scores is None:
            return []
        own = {match_key(p.text) for p in (*row.positives, *row.negatives)}
        positions = [self._position.get(match_key(p.text)) for p in row.positives]
        known = [float(scores[position]) for position in positions if position is not None]
        fits = scores > self.lowest
        fits[[self._position[text] for text in own if text in self._position]] = False
        first, last = window.ranks or (1, len(scores))
        ceiling = window.ceiling(max(known, default=None))
        if window.ranks:
            ranked = _ranked(np.flatnonzero(fits), scores, last)[first - 1 : last]
            chosen = ranked[(scores[ranked] <= ceiling) & (scores[ranked] >= window.floor)][:count]
        else:
            fits &= (scores <= ceiling) & (scores >= window.floor)
            chosen = _ranked(np.flatnonzero(fits), scores, count)[:count]
        return [self._passages[self._texts[position]] for position in chosen.tolist()]


class Embed(Protocol):
    """Embeds texts."""

    def __call__(self, texts: Sequence[str], /, *, meter: CostMeter | None) -> Floats:
        """Return unit vectors, shape (n, d). The meter counts the calls of a server's model."""
        ...


class StoredVectors:
    """The vectors of one list of texts in a folder. A stopped run continues them, and workers share them.

    vectors.f32    unit vectors in single precision, one after the other
    vectors.json   number of complete vectors, their dimensions, and the costs so far
    """

    def __init__(self, folder: Path) -> None:
        """Read how far the file is."""
        self._vectors, self._state = folder / "vectors.f32", folder / "vectors.json"
        state = json.loads(self._state.read_bytes()) if self._state.is_file() else {}
        self._done: int = state.get("vectors", 0)
        self._dimensions: int = state.get("dimensions", 0)
        self.costs = tuple(StageCost(**cost) for cost in state.get("costs", ()))
        """Costs of all vectors, those of earlier runs included."""

    def complete(self, texts: Sequence[str], embed: Embed) -> Floats:
        """Embed the texts that have no vector yet, and return all vectors, shape (n, d)."""
        import numpy as np

        if self._done > len(texts):
            self._done = 0
        if self._done < len(texts):
            self._append(texts, embed)
        if not texts:
            return np.empty((0, 1), np.float32)
        return np.memmap(self._vectors, np.float32, mode="r", shape=(len(texts), self._dimensions))

    def _append(self, texts: Sequence[str], embed: Embed) -> None:
        meter = CostMeter("relabel")
        meter.add_costs(self.costs)
        with (
            self._vectors.open("r+b" if self._done else "wb") as stream,
            track("embedding passages", len(texts)) as bar,
        ):
            stream.truncate(self._done * self._dimensions * 4)  # a stopped run may have written more
            stream.seek(0, os.SEEK_END)
            bar.advance(self._done)
            for start in range(self._done, len(texts), EMBEDDED_AT_ONCE):
                part = embed(texts[start : start + EMBEDDED_AT_ONCE], meter=meter)
                stream.write(part.astype("<f4").tobytes())
                stream.flush()
                os.fsync(stream.fileno())
                self._done, self._dimensions, self.costs = start + len(part), part.shape[1], meter.costs()
                self._write_state()
                bar.advance(len(part))

    def _write_state(self) -> None:
        costs = [cost.model_dump() for cost in self.costs]
        state = {"vectors": self._done, "dimensions": self._dimensions, "costs": costs}
        write_bytes(self._state, json.dumps(state).encode())


class DensePool(PassagePool):
    """Vectors of passages in a file, compared with a query exhaustively and in blocks."""

    lowest = -2.0

    def __init__(self, passages: Iterable[Passage], embed: Embed, folder: Path | None = None) -> None:
        """Embed the passages, except those whose vectors are in the folder already.

        Args:
            passages: Repeated texts are embedded once.
            embed: Returns unit vectors of texts.
            folder: Where the vectors are kept, for workers and later runs. Default: a temporary folder.
        """
        self._passages = {match_key(p.text): p for p in passages if p.text.strip()}
        self._position = {text: position for position, text in enumerate(self._passages)}
        self._texts = list(self._passages)
        self._embed = embed
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="counterfoil-vectors-")
            folder = Path(self._temporary.name)
        stored = StoredVectors(folder)
        self._vectors = stored.complete([p.text for p in self._passages.values()], embed)
        self.index_costs = stored.costs
        self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._ready: dict[str, NDArray[Any]] = {}
        self._announced: list[str] = []

    def prepare(self, queries: Iterable[str]) -> None:
        """Announce the next queries, which are embedded and scored together."""
        self._announced = [query for query in dict.fromkeys(queries) if query.strip()]
        self._ready = {}

    def _cached_scores(self, query: str) -> Sequence[float]:
        scores = self._all_scores(query)
        return () if scores is None else scores.tolist()

    def _all_scores(self, query: str) -> NDArray[Any] | None:
        import numpy as np

        if not self._texts or not query.strip():
            return None
        if query not in self._ready:
            size = max(1, BLOCK_BYTES // (4 * len(self._texts)))
            start = self._announced.index(query) if query in self._announced else len(self._announced)
            queries = self._announced[start : start + size] or [query]
            asked = self._embed(queries, meter=self._meter).T
            found = np.concatenate(
                [self._vectors[i : i + BLOCK_ROWS] @ asked for i in range(0, len(self._vectors), BLOCK_ROWS)]
            )
            self._ready = {name: np.round(found[:, i], 6) for i, name in enumerate(queries)}
        return self._ready[query]


def _ranked(positions: NDArray[Any], scores: NDArray[Any], count: int) -> NDArray[Any]:
    """Return at least `count` of the positions by falling score. Ties are in the order of the pool."""
    import numpy as np

    if len(positions) > count:
        # Only the passages that reach the rank `count` are sorted.
        least = np.partition(scores[positions], -count)[-count]
        positions = positions[scores[positions] >= least]
    return np.asarray(positions[np.argsort(-scores[positions], kind="stable")])


def _stems(text: str) -> list[str]:
    return [stem(word) for word in split_words(text)]


def fill_empty_rows(
    rows: Sequence[CandidateSet], pool: PassagePool, count: int, window: ScoreWindow = MINING_WINDOW
) -> list[CandidateSet]:
    """Add up to `count` mined negatives to each row without negatives. Other rows stay unchanged."""
    pool.prepare(row.query for row in rows if not row.negatives)
    return [row if row.negatives else with_negatives(row, pool.nearest(row, count, window)) for row in rows]


def with_negatives(row: CandidateSet, negatives: Sequence[Passage]) -> CandidateSet:
    """Return a row with other negatives, without their scores for other queries."""
    mined = tuple(passage.model_copy(update={"score": None}) for passage in negatives)
    identifier = content_id("set", row.id, "mined", [passage.id for passage in mined])
    return row.model_copy(update={"id": identifier, "negatives": mined})


# --- backfilling ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shortage:
    """A row with too few negatives left, and the mined candidates for the missing ones."""

    row: RelabelledRow
    candidates: CandidateSet
    missing: int


async def backfill(
    relabelling: Relabelling,
    pool: PassagePool,
    policy: Policy,
    relabel: Callable[[Sequence[CandidateSet]], Awaitable[Relabelling]],
    window: ScoreWindow = MINING_WINDOW,
) -> Relabelling:
    """Add mined negatives that the judges keep to rows with fewer than `min_negatives` left."""
    pool.prepare(row.before.query for row in relabelling.rows)
    shortages = [s for row in relabelling.rows if (s := _shortage(row, pool, policy, window)) is not None]
    if not shortages:
        return relabelling
    judged = await relabel([shortage.candidates for shortage in shortages])
    judge = "+".join(relabelling.judged_by)
    filled = {
        id(shortage.row): _fill_row(shortage, answer, judge)
        for shortage, answer in zip(shortages, judged.rows, strict=True)
    }
    return replace(relabelling, rows=tuple(filled.get(id(row), row) for row in relabelling.rows))


def _shortage(row: RelabelledRow, pool: PassagePool, policy: Policy, window: ScoreWindow) -> Shortage | None:
    if row.after is None or not row.before.negatives:
        return None
    missing = policy.min_negatives - len(row.after.negatives)
    if missing <= 0:
        return None
    mined = pool.nearest(row.before, MINED_PER_MISSING * missing, window)
    return Shortage(row, with_negatives(row.before, mined), missing)


def _fill_row(shortage: Shortage, judged: RelabelledRow, judge: str) -> RelabelledRow:
    filled, count = add_kept(shortage.row, judged, judge, "backfilled", most=shortage.missing)
    return replace(filled, backfilled=count)


def add_kept(
    row: RelabelledRow, judged: RelabelledRow, judge: str, reason: str, *, most: int | None = None
) -> tuple[RelabelledRow, int]:
    """Add the candidates that the judges keep to the negatives of a row, with their label changes.

    Args:
        row: The row that gets them.
        judged: The candidates and their verdicts.
        judge: Names of the judges.
        reason: Reason of the label changes.
        most: Largest number of candidates to add.

    Returns:
        The row, and the number of candidates added.
    """
    assert row.after is not None
    kept = [
        passage
        for passage, verdict in zip(judged.before.negatives, judged.verdicts, strict=True)
        if verdict.outcome == "kept"
    ][:most]
    after = row.after.model_copy(update={"negatives": (*row.after.negatives, *kept)})
    changes = tuple(
        label_change(
            subject=passage.id,
            kind="passage",
            query=row.before.query_id,
            within=row.before.id,
            before="unlabelled",
            after="hard_negative",
            verdict=CandidateVerdict("kept", reason),
            judge=judge,
        )
        for passage in kept
    )
    return replace(row, after=after, changes=(*row.changes, *changes)), len(kept)


# --- the screen -------------------------------------------------------------------------------------------
#
# Candidates that score below `pos − |pos|·margin` keep their label without a judge, with `pos` the lowest
# score of the row's positives. To estimate how many false negatives this misses, a share of them is judged
# all the same. With known grades, they are counted.


@dataclass(frozen=True, slots=True)
class Screen:
    """The score, the margin below the positive, and the share of screened candidates to judge anyway."""

    by: str = "bm25"
    """See `scoring.is_score`."""
    margin: float = 0.5
    check: float = 0.05

    @classmethod
    def parse(cls, text: str) -> Screen:
        """Parse `SCORE:MARGIN[:CHECK]`, such as `bm25:0.5`. Raise `InputError` with the valid form."""
        parts, numbers = text.split(":"), list[float]()
        while len(parts) > 1 and len(numbers) < 2 and (share := _share_in(parts[-1])) is not None:
            numbers.insert(0, share)
            parts.pop()
        by = ":".join(parts)
        if not numbers or not is_score(by):
            raise InputError(
                f"not a screen: {text!r}",
                hint="write SCORE:MARGIN[:CHECK], e.g. bm25:0.5 or score:0.2:0.1; "
                f"scores: {', '.join(PLAIN)}, embedding:openai:NAME@URL, rerank:openai:NAME@URL",
            )
        return cls(by, *numbers)


def _share_in(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def screen_candidates(plans: Sequence[RowPlan], screen: Screen, score: Score) -> list[RowPlan]:
    """Take the candidates out of the plans that score too low to be judged."""
    return [_screen_row(plan, screen, score) for plan in plans]


def _screen_row(plan: RowPlan, screen: Screen, score: Score) -> RowPlan:
    row = plan.row
    positives = [score(row.query, row.positives[i]) for i in plan.positives]
    known = [value for value in positives if value is not None]
    if not known:
        return plan
    floor = min(known) - abs(min(known)) * screen.margin
    low = [i for i in plan.undecided if _is_below(score(row.query, row.negatives[i]), floor)]
    checked = tuple(i for i in low if _is_checked(row, row.negatives[i], screen.check))
    out = [i for i in low if i not in checked]
    return replace(
        plan,
        decided={**plan.decided, **{i: CandidateVerdict("kept", SCREENED_OUT) for i in out}},
        undecided=tuple(i for i in plan.undecided if i not in out),
        screen_checked=checked,
    )


def _is_below(value: float | None, floor: float) -> bool:
    return value is not None and value < floor


def _is_checked(row: CandidateSet, passage: Passage, share: float) -> bool:
    return derived_seed("screen check", row.query, passage.id) % 1_000_000 < share * 1_000_000


def count_missed(row: RelabelledRow) -> int:
    """Count the checked candidates of a row that are relevant: the screen would have missed them."""
    return sum(row.verdicts[i].outcome in ("promoted", "removed") for i in row.screen_checked)


def describe_screen(screened_out: int, checked: int, missed: int) -> dict[str, Any]:
    """Return the calls saved, and the share of relevant candidates among the checked, with its interval."""
    share = share_with_interval(missed, checked)
    return {
        "spared": screened_out,
        "checked": checked,
        "missed": {
            "value": share and share.value,
            "low": share and share.low,
            "high": share and share.high,
            "n": checked,
        },
    }
