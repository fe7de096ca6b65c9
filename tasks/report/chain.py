"""Change of models since a base release, through common questions of the releases in between.

Anchors rotate, so that a late release shares few questions with the first one. The change is then a sum of
changes between releases that share enough. Its standard error grows with their number, and is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

from schemas.question import QUESTIONS
from schemas.tables import file_hash
from tasks.release import MANIFEST, ReleaseDirectory, find_earlier_release, open_release
from tasks.report import link_to_earlier
from tasks.report.equating import EquatedMetric, Linked
from tasks.stats.equating import MIN_ANCHORS, Estimate, Respondent

Key = tuple[EquatedMetric, str]
"""Metric and model."""
MAX_RELEASES = 500
"""Releases that are looked back at."""


def change_since(new: ReleaseDirectory, base: str | None, data_dir: Path) -> dict[str, Any]:
    """Return the change of every model since a base release, on its scale.

    Args:
        new: The later release. Earlier ones are found in the folder beside it.
        base: Version of the base release. Default: the earliest one that is found.
        data_dir: The vocabulary.

    Returns:
        The status with its reason, the base, the versions of the chain, and one row per metric and model.
    """
    releases = releases_before(new, base)
    first = releases[0].manifest.version
    if base is not None and first != base:
        return _without(base, f"release {base} is not in the folder beside {new.manifest.version}")
    if len(releases) == 1:
        return _without(first, "there is no earlier release")
    chain = best_chain([question_ids(release) for release in releases])
    if chain is None:
        reason = f"no chain of releases with {MIN_ANCHORS} common questions each reaches {first}"
        return _without(first, reason)
    linked = [_link(*_named(releases[a]), *_named(releases[b]), str(data_dir)) for a, b in _pairs(chain)]
    rows = [_row(key, [step.get(key) for step in map(changes_of, linked)]) for key in sorted(_keys(linked))]
    measured = any(row["status"] == "measured" for row in rows)
    why = None if measured else rows[0]["reason"] if rows else "no model answered all releases of the chain"
    return {
        "status": "measured" if measured else "not_measured",
        "reason": why,
        "base": first,
        "chain": [releases[i].manifest.version for i in chain],
        "metrics": rows,
    }


def _without(base: str, reason: str) -> dict[str, Any]:
    return {"status": "not_measured", "reason": reason, "base": base, "chain": [], "metrics": []}


def releases_before(new: ReleaseDirectory, base: str | None) -> list[ReleaseDirectory]:
    """Return the releases from the base, or the earliest one that is found, to the new one."""
    found = [new]
    while found[-1].manifest.version != base and len(found) < MAX_RELEASES:
        earlier = find_earlier_release(found[-1])
        if earlier is None:
            break
        found.append(earlier)
    return found[::-1]


def question_ids(release: ReleaseDirectory) -> frozenset[str]:
    """Return the ids of the questions of a release."""
    return frozenset(id for (id,) in release.contents.distinct_rows(QUESTIONS.name, "id"))


def best_chain(questions: Sequence[frozenset[str]]) -> list[int] | None:
    """Return the chain from the first to the last release with the smallest variance, or `None`.

    The variance of a link is taken as inversely proportional to its common questions. Each link needs
    `MIN_ANCHORS`. A direct link is a chain of two.

    Args:
        questions: Ids of the questions of every release, from the base on.
    """
    best: list[tuple[float, list[int]] | None] = [(0.0, [0])]
    for k in range(1, len(questions)):
        options = [
            (known[0] + 1 / common, [*known[1], k])
            for j in range(k)
            if (known := best[j]) is not None
            if (common := len(questions[j] & questions[k])) >= MIN_ANCHORS
        ]
        best.append(min(options, key=lambda option: option[0], default=None))
    return best[-1][1] if best[-1] is not None else None


def _pairs(chain: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(chain))


def _named(release: ReleaseDirectory) -> tuple[str, str]:
    return str(release.path.resolve()), file_hash(release.path / MANIFEST)


@lru_cache(maxsize=1024)
def _link(old: str, old_hash: str, new: str, new_hash: str, data_dir: str) -> Linked:
    """Equate two releases. Their hashes are a part of the key only."""
    return link_to_earlier(open_release(Path(old)), open_release(Path(new)), Path(data_dir))


def changes_of(linked: Linked) -> dict[Key, Estimate]:
    """Return the change of every model that answered both releases, by metric."""
    return {
        (metric, score.respondent.model): equating.change(score.respondent.model)
        for metric, equating in linked.items()
        for score in equating.scores
        if score.respondent == Respondent(score.respondent.model, "new")
    }


def _keys(linked: Sequence[Linked]) -> set[Key]:
    """Return the metrics and models that every link has."""
    found = [set(changes_of(step)) for step in linked]
    return set.intersection(*found)


def add_changes(changes: Sequence[Estimate | None]) -> Estimate:
    """Add the changes of a chain. Half-widths of intervals and standard errors are added in quadrature.

    This is conservative: an error of measurement of a release between two links enters both with opposite
    signs.
    """
    for change in changes:
        if change is None or change.value is None or change.standard_error is None:
            return Estimate(
                reason=(change.reason if change else None) or "a link of the chain is not measured"
            )
    known = [c for c in changes if c is not None and c.value is not None and c.standard_error is not None]
    value = sum(c.value or 0.0 for c in known)
    error = sqrt(sum((c.standard_error or 0.0) ** 2 for c in known))
    halves = [(c.high - c.low) / 2 for c in known if c.low is not None and c.high is not None]
    half = sqrt(sum(h**2 for h in halves)) if len(halves) == len(known) else None
    return Estimate(
        value=value,
        standard_error=error,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        status="measured",
    )


def _row(key: Key, changes: Sequence[Estimate | None]) -> dict[str, Any]:
    metric, model = key
    total = add_changes(changes)
    return {
        "family": metric.family,
        "metric": metric.metric,
        "unit": metric.unit,
        "language": metric.language,
        "model": model,
        "change": total.value,
        "standard_error": total.standard_error,
        "low": total.low,
        "high": total.high,
        "status": total.status,
        "reason": total.reason,
    }
