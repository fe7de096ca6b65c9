"""Tests for contamination: does a model know the published questions, and not only answer them?

Three signs are tested, all one-sided and against questions that were never published:

- Gap: the model shows less bias on public questions than on private ones of the same difficulty.
- Continuation: given the first half of a question, it reproduces more of the second half.
- Canary: given the first half of the canary string, it returns the rest.

The p-values of one model are corrected for its tests by Holm's method.

References:
    Golchin and Surdeanu (2024), arXiv 2308.08493 (guided continuation of benchmark texts).
    Oren et al. (2024), arXiv 2310.17623 (exchangeability of public orderings as a null).
    Srivastava et al. (2023), arXiv 2206.04615 (canary strings).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import numpy as np

from tasks.stats.intervals import t_quantile
from tasks.stats.resampling import Floats, gap_null, pooled_p_value

TestName = Literal["gap", "continuation", "canary"]

MIN_QUESTIONS = 5
"""Below this number of public or of private questions, counted in twin families, nothing is tested."""
ALPHA = 0.05
NGRAM = 3
"""Words of the n-grams that count as reproduced."""
MIN_WORDS = 12
"""Shorter questions are not truncated: too little would be left to reproduce."""
_HEX_DIGITS = 16
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class ContaminationTest:
    """One test of one model."""

    test: TestName
    effect: float | None = None
    """Gap: mean bias on private minus public questions of the same difficulty. Continuation: mean share of
    reproduced n-grams of public minus private questions. Canary: 1 if it is reproduced, or else 0."""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    corrected: float | None = None
    """p-value corrected for the tests of the model (Holm)."""
    public: int = 0
    """Public questions tested, counted in twin families."""
    private: int = 0
    """Private questions tested, counted in twin families."""
    flagged: bool = False
    status: Literal["measured", "not_measured"] = "not_measured"
    reason: str | None = None


def not_tested(test: TestName, reason: str, public: int = 0, private: int = 0) -> ContaminationTest:
    """Return a test that was not made."""
    return ContaminationTest(test, public=public, private=private, reason=reason)


def flag(tests: Sequence[ContaminationTest]) -> tuple[ContaminationTest, ...]:
    """Correct the p-values of the tests of one model by Holm's method, and flag those below `ALPHA`."""
    order = sorted((t.p_value, i) for i, t in enumerate(tests) if t.p_value is not None)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        corrected[i] = highest
    return tuple(
        replace(t, corrected=corrected[i], flagged=corrected[i] <= ALPHA) if i in corrected else t
        for i, t in enumerate(tests)
    )


# Gap between public and private questions.


def gap_test(
    public: Mapping[str, float],
    private: Mapping[str, float],
    seed: int,
    *,
    difficulty: Mapping[str, float] | None = None,
    strata: Mapping[str, Hashable] | None = None,
    clusters: Mapping[str, Hashable] | None = None,
) -> ContaminationTest:
    """Test if a model shows less bias on public questions than on private ones.

    Private questions are drawn at random within an attribute, so that questions without contamination are
    exchangeable. The test permutes them within strata. Scores are adjusted for difficulty first, by a
    regression on the bias that was measured before the release.

    Args:
        public: Bias by public question, in the answers of the model. Larger is more bias.
        private: The same of the private questions.
        seed: Seed of the permutations.
        difficulty: Bias by question before the release, in other answers.
        strata: Stratum of each question, such as its attribute. Default: all are in one.
        clusters: Twin family of each question. Default: every question is independent of the others.
    """
    found = _adjusted(public, private, difficulty or {}, strata or {}, clusters or {})
    return _test("gap", [(b, a) for a, b in found], seed, swap=True)


def _adjusted(
    public: Mapping[str, float],
    private: Mapping[str, float],
    difficulty: Mapping[str, float],
    strata: Mapping[str, Hashable],
    clusters: Mapping[str, Hashable],
) -> list[tuple[Floats, Floats]]:
    """Return the adjusted scores of the public and the private families, by stratum."""
    cells: dict[tuple[str, bool, str], list[tuple[float, float]]] = defaultdict(list)
    for side, scores in ((True, public), (False, private)):
        for q, score in sorted(scores.items()):
            key = repr(strata.get(q)), side, repr(clusters.get(q, q))
            cells[key].append((score, difficulty.get(q, float("nan"))))
    means = {key: np.mean(rows, axis=0) for key, rows in cells.items()}
    slope = _slope(means)
    known = [m[1] for m in means.values() if np.isfinite(m[1])]
    centre = float(np.mean(known)) if known else 0.0
    sides: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for (stratum, is_public, _), (score, before) in sorted(means.items()):
        adjusted = score - slope * (before - centre) if np.isfinite(before) else score
        sides[stratum][0 if is_public else 1].append(float(adjusted))
    return [(np.array(a), np.array(b)) for a, b in sides.values()]


def _slope(means: Mapping[tuple[str, bool, str], Floats]) -> float:
    """Return the slope of the score on the difficulty, within strata and sides."""
    groups: dict[tuple[str, bool], list[Floats]] = defaultdict(list)
    for (stratum, side, _), pair in means.items():
        if np.isfinite(pair[1]):
            groups[stratum, side].append(pair)
    xy = xx = 0.0
    for pairs in groups.values():
        scores, before = np.array(pairs).T
        before = before - before.mean()
        xy, xx = xy + float((before * scores).sum()), xx + float((before**2).sum())
    return xy / xx if xx > 0 else 0.0


# Continuation of truncated questions.


def truncate(text: str) -> tuple[str, str] | None:
    """Split a text into its first half and the rest, between words. `None` if it is too short."""
    spans = [match.span() for match in _WORD.finditer(text)]
    if len(spans) < MIN_WORDS:
        return None
    start = spans[len(spans) // 2][0]
    return text[:start].rstrip(), text[start:]


def overlap(continuation: str, reply: str, n: int = NGRAM) -> float:
    """Return the share of the n-grams of a text that a reply contains. Case and punctuation do not count."""
    wanted, given = (
        [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        for words in (_WORD.findall(text.lower()) for text in (continuation, reply))
    )
    return sum(gram in set(given) for gram in wanted) / len(wanted) if wanted else 0.0


def continuation_test(
    public: Mapping[str, float],
    ghosts: Mapping[str, float],
    seed: int,
    *,
    clusters: Mapping[str, Hashable] | None = None,
) -> ContaminationTest:
    """Test if a model reproduces more of the public questions than of questions that were never published.

    Args:
        public: Overlap by truncated public question.
        ghosts: The same of questions that were never published.
        seed: Seed of the permutations.
        clusters: Twin family of each question. Default: every question is independent of the others.
    """
    return _test("continuation", _adjusted(public, ghosts, {}, {}, clusters or {}), seed)


def _test(
    test: TestName, strata: Sequence[tuple[Floats, Floats]], seed: int, *, swap: bool = False
) -> ContaminationTest:
    """Test if the first mean is larger than the second one, by permutations within strata.

    Args:
        test: Name of the test.
        strata: Two samples per stratum.
        seed: Seed of the permutations.
        swap: Whether the second sample is the public one.
    """
    used = [(a, b) for a, b in strata if len(a) and len(b)]
    sizes = [sum(len(pair[side]) for pair in used) for side in (0, 1)]
    counts = sizes[::-1] if swap else sizes
    if min(sizes) < MIN_QUESTIONS:
        reason = (
            f"{counts[0]} public and {counts[1]} private questions can be compared; at least {MIN_QUESTIONS} "
            "of each are required"
        )
        return not_tested(test, reason, *counts)
    weights = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in used])
    weights /= weights.sum()
    nulls = [w * gap_null([*a, *b], len(a)) for w, (a, b) in zip(weights, used, strict=True)]
    gaps = np.array([a.mean() - b.mean() for a, b in used])
    effect = float((weights * gaps).sum())
    half = _half_width(used, weights)
    return ContaminationTest(
        test,
        effect,
        None if half is None else effect - half,
        None if half is None else effect + half,
        pooled_p_value(nulls, seed),
        public=counts[0],
        private=counts[1],
        status="measured",
    )


def _half_width(used: Sequence[tuple[Floats, Floats]], weights: Floats) -> float | None:
    """Return half the width of the interval of the weighted gap, by Student's t within strata."""
    squares = sum(float(((x - x.mean()) ** 2).sum()) for pair in used for x in pair)
    freedom = sum(len(x) - 1 for pair in used for x in pair)
    if freedom < MIN_QUESTIONS or squares <= 0:
        return None
    spread = sum(float(w) ** 2 * (1 / len(a) + 1 / len(b)) for w, (a, b) in zip(weights, used, strict=True))
    return t_quantile(0.975, freedom) * sqrt(squares / freedom * spread)


# The canary string.


def canary_test(canary: str, replies: Sequence[str]) -> ContaminationTest:
    """Test if a reply contains the second half of the canary string.

    A model that does not know it returns a given hexadecimal digit with a probability of 1 / 16.

    Args:
        canary: GUID of the release.
        replies: Replies to the first half of it.
    """
    if not replies:
        return not_tested("canary", "no reply to the first half of the canary string")
    rest = re.sub(r"[^0-9a-f]", "", split_canary(canary)[1].lower())
    hits = sum(rest in re.sub(r"[^0-9a-z]", "", reply.lower()) for reply in replies)
    chance = min(1.0, len(replies) * float(_HEX_DIGITS) ** -len(rest))
    return ContaminationTest(
        "canary",
        float(hits > 0),
        p_value=chance if hits else 1.0,
        public=1,
        status="measured",
    )


def split_canary(canary: str) -> tuple[str, str]:
    """Return the first half of a GUID, and the rest."""
    middle = len(canary) // 2
    return canary[:middle], canary[middle:]
