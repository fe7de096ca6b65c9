"""Scores of passages without a judgement: BM25, scores in the file, embeddings and cross-encoders.

Scores screen candidates before judges see them (`mining.Screen`), choose mined negatives, and decide alone in
the strategy `score`: a negative is removed if its score is too close to that of the positive.

References:
    TopK-PercPos and TopK-MarginPos: NV-Retriever, arXiv 2407.15831. They are the relative and the absolute
    margin.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.release import CostMeter
from tasks.models import ModelSettings
from tasks.relabel.decisions import CandidateVerdict, Policy, Relabelling, RowPlan, apply_verdicts
from tasks.relabel.same_text import match_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Pair = tuple[str, Passage]
Score = Callable[[str, Passage], float | None]
"""Scores a passage for a query. A passage without a score is `None`."""
Scorer = Callable[[Sequence[Pair]], Awaitable[Sequence[float | None]]]
"""Scores many pairs of a query and a passage at once."""

PLAIN = ("bm25", "score", "embedding")
"""Scores that need no model server. `embedding` is the packaged sentence encoder."""
WITH_MODEL = ("embedding", "rerank")
"""Prefixes of a model: `embedding:openai:NAME@URL` and `rerank:openai:NAME@URL`."""
RELATIVE_MARGIN = 0.05
"""Margin if none is set: TopK-PercPos with 95 %."""


# --- names ------------------------------------------------------------------------------------------------


def is_score(name: str) -> bool:
    """Return whether a name denotes a score and not a judge."""
    prefix, colon, model = name.partition(":")
    return name in PLAIN or (bool(colon) and bool(model) and prefix in WITH_MODEL)


def model_of(name: str) -> str | None:
    """Return the model of a score such as `rerank:openai:NAME@URL`, `None` for scores without a server."""
    return name.partition(":")[2] or None


def check_score(name: str, settings: ModelSettings) -> None:
    """Check a score without the network.

    Raises:
        InputError: If it is unknown, or its model is not usable.
        BudgetError: If the price of its model is unknown.
    """
    from tasks.models.embeddings import check_embedder
    from tasks.models.rerank import check_reranker
    from tasks.models.sentence_encoder import NAME

    if not is_score(name):
        raise InputError(
            f"not a score: {name!r}",
            hint=f"use {', '.join(PLAIN)}, embedding:openai:NAME@URL or rerank:openai:NAME@URL",
        )
    model = model_of(name)
    if name == "embedding":
        check_embedder(NAME, settings)
    elif model is not None:
        (check_embedder if name.startswith("embedding:") else check_reranker)(model, settings)


# --- scores of many pairs ---------------------------------------------------------------------------------


def open_scorer(
    name: str, settings: ModelSettings, bm25: Score | None = None, meter: CostMeter | None = None
) -> Scorer:
    """Return the function that scores pairs.

    Args:
        name: See `is_score`.
        settings: Settings of the models.
        bm25: BM25 score of one pair, for the name `bm25`.
        meter: Counts the calls of a server's model.

    Raises:
        InputError: If the score is unknown or its model is not usable.
    """
    check_score(name, settings)
    if name in ("bm25", "score"):
        single = bm25 if name == "bm25" and bm25 else recorded_score

        async def score_each(pairs: Sequence[Pair]) -> Sequence[float | None]:
            return [single(query, passage) for query, passage in pairs]

        return score_each
    if name.startswith("rerank:"):
        from tasks.models.rerank import score_pairs

        async def score_by_endpoint(pairs: Sequence[Pair]) -> Sequence[float | None]:
            texts = [(query, passage.text) for query, passage in pairs]
            return await score_pairs(name.partition(":")[2], texts, settings, meter)

        return score_by_endpoint

    async def score_by_meaning(pairs: Sequence[Pair]) -> Sequence[float | None]:
        return await asyncio.to_thread(_cosines, name, pairs, settings, meter)

    return score_by_meaning


def recorded_score(query: str, passage: Passage) -> float | None:
    """Return the score in the file."""
    return passage.score


def _cosines(
    name: str, pairs: Sequence[Pair], settings: ModelSettings, meter: CostMeter | None
) -> list[float | None]:
    import numpy as np

    texts = list(dict.fromkeys(text for query, passage in pairs for text in (query, passage.text)))
    readable = [text for text in texts if text.strip()]
    found = embed(name, readable, settings, meter) if readable else ()
    vectors = dict(zip(readable, found, strict=True))

    def cosine(query: str, text: str) -> float | None:
        if query not in vectors or text not in vectors:
            return None
        value = float(np.dot(vectors[query].astype(np.float64), vectors[text].astype(np.float64)))
        return round(value, 6) if math.isfinite(value) else None

    return [cosine(query, passage.text) for query, passage in pairs]


def embed(name: str, texts: Sequence[str], settings: ModelSettings, meter: CostMeter | None = None) -> Floats:
    """Return unit vectors of the packaged encoder (`embedding`) or of a server's model."""
    from tasks.models.embeddings import embed_texts
    from tasks.models.sentence_encoder import NAME

    return embed_texts(model_of(name) or NAME, texts, settings, meter)


async def score_rows(rows: Sequence[CandidateSet], scorer: Scorer) -> Score:
    """Score all passages of some rows, and return a function that looks the scores up."""
    pairs = {
        (row.query, passage.id, passage.text): (row.query, passage)
        for row in rows
        for passage in (*row.positives, *row.negatives)
    }
    found = dict(zip(pairs, await scorer(list(pairs.values())), strict=True))
    return lambda query, passage: found.get((query, passage.id, passage.text))


# --- the window of allowed scores -------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreWindow:
    """Which negatives are hard enough and not too close to the positive."""

    relative_margin: float | None = None
    """A negative scores at most `pos − |pos|·margin`, with `pos` the best positive."""
    absolute_margin: float | None = None
    """A negative scores at most `pos − margin`."""
    max_score: float | None = None
    min_score: float | None = None
    ranks: tuple[int, int] | None = None
    """First and last rank of the candidates to use, from 1. Positives are not ranked."""

    @classmethod
    def parse_ranks(cls, text: str | None) -> tuple[int, int] | None:
        """Parse `FIRST:LAST`. Raise `InputError` if it is no range of ranks from 1."""
        if text is None:
            return None
        first, colon, last = text.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"not a range of ranks: {text!r}", hint="write FIRST:LAST, such as 10:50")
        return int(first), int(last)

    @property
    def has_margin(self) -> bool:
        """Whether the score of the positive matters."""
        return self.relative_margin is not None or self.absolute_margin is not None

    def or_default(self) -> ScoreWindow:
        """Return the window with the default margin if nothing is set."""
        return replace(self, relative_margin=RELATIVE_MARGIN) if self == ScoreWindow() else self

    def ceiling(self, positive: float | None) -> float:
        """Return the largest allowed score for a row whose best positive has a score, or has none."""
        limits = [math.inf if self.max_score is None else self.max_score]
        if positive is not None and self.relative_margin is not None:
            limits.append(positive - abs(positive) * self.relative_margin)
        if positive is not None and self.absolute_margin is not None:
            limits.append(positive - self.absolute_margin)
        return min(limits)

    @property
    def floor(self) -> float:
        """The smallest allowed score."""
        return -math.inf if self.min_score is None else self.min_score


MINING_WINDOW = ScoreWindow(relative_margin=RELATIVE_MARGIN)
"""Window of mined passages if none is set."""


# --- the strategy -----------------------------------------------------------------------------------------


def relabel_by_scores(
    plans: Iterable[RowPlan], score: Score, window: ScoreWindow, policy: Policy, name: str
) -> Relabelling:
    """Remove the candidates whose score is outside the window. Nothing is promoted.

    Candidates without a score are abstentions, as are those of a row whose positives have no score if the
    window has a margin.
    """
    rows = [
        replace(
            apply_verdicts(plan, _verdicts(plan, score, window, policy), policy, judge=name),
            soft_labels={
                match_key(passage.text): score(plan.row.query, passage)
                for passage in (*plan.row.positives, *plan.row.negatives)
            },
        )
        for plan in plans
    ]
    return Relabelling(tuple(rows), (name,))


def _verdicts(plan: RowPlan, score: Score, window: ScoreWindow, policy: Policy) -> list[CandidateVerdict]:
    row = plan.row
    positives = [score(row.query, row.positives[i]) for i in plan.positives]
    best = max((value for value in positives if value is not None), default=None)
    scores = {i: score(row.query, row.negatives[i]) for i in plan.undecided}
    ordered = sorted((-value, i) for i, value in scores.items() if value is not None)
    rank = {i: place for place, (_, i) in enumerate(ordered, start=1)}

    def verdict(index: int) -> CandidateVerdict:
        own = scores.get(index)
        if own is None:
            return CandidateVerdict("abstained", "no_score")
        if best is None and window.has_margin:
            return CandidateVerdict("abstained", "positive_without_score")
        if own > window.ceiling(best):
            return policy.restrict(CandidateVerdict("removed", "score_too_close_to_positive"))
        if own < window.floor:
            return policy.restrict(CandidateVerdict("removed", "score_too_low"))
        if window.ranks and not window.ranks[0] <= rank[index] <= window.ranks[1]:
            return policy.restrict(CandidateVerdict("removed", "outside_rank_range"))
        return CandidateVerdict("kept", "score_within_limits")

    return [plan.decided.get(i) or verdict(i) for i in range(len(row.negatives))]
