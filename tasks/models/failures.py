"""When failed calls stop a stage. Nothing is written then: the answers that came are in the cache, and the
same command asks for the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from schemas.errors import BudgetError, ModelError
from tasks.models.protocol import Failure, FailureKind, Outcome


@dataclass
class Failures:
    """The calls that were made, and those of them that failed."""

    tolerated: float
    """Share that may fail."""
    calls: int = 0
    kinds: Counter[FailureKind] = field(default_factory=Counter)
    first: dict[FailureKind, str] = field(default_factory=dict)
    """The first failure of each kind: whose it was, and what it said."""

    @property
    def failed(self) -> int:
        return self.kinds.total()

    def add(self, model: str, outcome: Outcome) -> None:
        """One call, and what came of it."""
        self.calls += 1
        if isinstance(outcome, Failure):
            self.kinds[outcome.kind] += 1
            self.first.setdefault(outcome.kind, f"{model}: {outcome.message}")

    def refuse(self) -> None:
        """Raise `BudgetError` where a call could not be paid, `ModelError` where too many failed."""
        if "budget" in self.kinds:
            raise BudgetError(
                f"the budget ran out with {self.kinds['budget']} calls of {self.calls} left to make",
                place=self.first["budget"],
                hint="raise `budget.usd` (or --budget) and run the same command again: answers that came are "
                "kept",
            )
        if self.failed > self.tolerated * self.calls:
            kinds = ", ".join(f"{n} × {kind}" for kind, n in self.kinds.most_common())
            raise ModelError(
                f"{self.failed} of {self.calls} calls failed ({kinds}); {self.tolerated:.0%} are tolerated",
                place=next(iter(self.first.values())),
                hint="mend the endpoint and run the same command again: answers that came are not paid "
                "twice; or raise the recipe's validate.max_failure_rate",
            )
