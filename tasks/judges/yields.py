"""Usable answers of a model that judges or writes. Too few of them stop a stage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import ModelError
from tasks.models.structured import Abstention, Parsed

LOOPS = re.compile(r"the answer repeats (['\"]).*\1 without end", re.DOTALL)
"""Reasons that name the repeated text, which differs from answer to answer."""
LONGEST_DETAIL = 300
"""Characters of the server's words that an error repeats."""


@dataclass
class Yield:
    """Number of answers that a model was asked for, and of those that cannot be used."""

    model: str
    unit: str
    """Plural of the answers: `comparisons`, `questions`, `grades`."""
    asked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    """Detail of the first abstention with each reason, such as the words of the server."""

    @property
    def abstained(self) -> int:
        """Number of answers that cannot be used."""
        return self.reasons.total()

    def add(self, reason: str | None, detail: str = "") -> None:
        """Count one answer. `reason` is `None` if it can be used."""
        self.asked += 1
        if reason is not None:
            kind = LOOPS.sub("the answer repeats itself without end", reason)
            self.reasons[kind] += 1
            self.first.setdefault(kind, detail)

    def add_answer(self, answer: Parsed[Any] | Abstention) -> None:
        """Count the answer to a structured question."""
        if isinstance(answer, Abstention):
            self.add(answer.reason, answer.detail)
        else:
            self.add(None)

    def merge(self, other: Yield) -> None:
        """Add the answers to another part of the questions."""
        self.asked += other.asked
        self.reasons.update(other.reasons)
        self.first = {**other.first, **self.first}

    def describe(self) -> str:
        """Return the number of abstentions and their reasons, most frequent first."""
        kinds = ", ".join(f"{n:,} × {reason}" for reason, n in self.reasons.most_common())
        return f"{self.abstained:,} of {self.asked:,} {self.unit} without a usable answer ({kinds})"


def require_yield(yields: Iterable[Yield], least: float, option: str = "validate.min_judged") -> None:
    """Raise `ModelError` if a model gave fewer usable answers than `least`, a share of those asked for.

    The error names every such model with its most frequent reason and the words of its server.
    """
    failing = [y for y in yields if y.asked and y.asked - y.abstained < least * y.asked]
    if not failing:
        return
    words = []
    for y in failing:
        reason, _ = y.reasons.most_common(1)[0]
        detail = " ".join(y.first[reason].split())[:LONGEST_DETAIL]
        words.append(f"{y.model}: {reason}" + (f": {detail}" if detail else ""))
    raise ModelError(
        "; ".join(f"{y.model} left {y.describe()}" for y in failing)
        + f"; at least {least:.0%} must be usable ({option})",
        place="\n      ".join(words),
        hint="check the model with `counterfoil models RECIPE --probe`; raise `judging.max_tokens` if "
        "verdicts are cut off, also at twice the limit; take another model if one writes without end; "
        f"or lower {option}. Received answers are kept",
    )
