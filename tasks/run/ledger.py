"""The build ledger: the finished steps of a build, with their tables, counts and costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from schemas.labels import StageCounts
from schemas.release import StageCost
from tasks.run.journal import funnel, total_costs
from tasks.run.store import Step, TableRef

N = TypeVar("N", bound=BaseModel)


@dataclass
class BuildLedger:
    """Steps in the order in which they were taken."""

    steps: list[Step] = field(default_factory=list)
    _part_of: dict[str, str] = field(default_factory=dict)
    """Part of the build by step key, for steps that belong to one."""
    _replaced: set[str] = field(default_factory=set)
    """Paths of tables that a later step has taken over."""

    def add(self, step: Step, *, part: str = "", replaces: Collection[TableRef] = ()) -> Step:
        """Record a step and return it.

        Args:
            step: A finished step.
            part: Part of the build that it belongs to.
            replaces: Tables that a table of this step contains. `tables` leaves them out.
        """
        self.steps.append(step)
        self._part_of[step.key] = part
        self._replaced |= {table.path for table in replaces}
        return step

    def tables(
        self, name: str, *, part: str | None = None, stages: Collection[str] | None = None
    ) -> list[TableRef]:
        """Return the tables of a name that no later step has replaced.

        Args:
            name: Name of the table, such as `dropped`.
            part: Only steps of this part.
            stages: Only steps of these stages, in the order of `stages`. The default is all, as taken.
        """
        steps = [step for step in self.steps if part is None or self._part_of[step.key] == part]
        if stages is not None:
            steps = [step for stage in stages for step in steps if step.stage == stage]
        found = [table for step in steps for table in step.tables if table.table == name]
        return [table for table in found if table.path not in self._replaced]

    def notes(self, stage: str, model: type[N]) -> list[N]:
        """Return the notes of all steps of a stage."""
        return [step.read_notes(model) for step in self.steps if step.stage == stage]

    def funnel(self) -> tuple[StageCounts, ...]:
        """Return the counts by stage, summed over rounds."""
        return funnel(self.steps)

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs by stage and model, summed over rounds."""
        return total_costs(self.steps)
