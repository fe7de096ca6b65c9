"""Judge the candidate sets of the question pool, as a whole or in parts on workers.

Sets with the same query are in one part, because a judge is asked about a passage of a query only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from schemas.labels import CANDIDATES, CandidateSet
from schemas.release import StageCost, combine_costs
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, run_async
from tasks.relabel.decisions import Policy, RelabelledRow, Relabelling
from tasks.relabel.graded import DecisionRule
from tasks.relabel.job import RelabelJob
from tasks.relabel.judges import judges_of
from tasks.relabel.strategies import open_strategy, relabel_rows
from tasks.run.parts import PartRunner
from tasks.run.store import RunContext

LEAST_SETS, MOST_SETS, MOST_PARTS = 8, 512, 32
"""Smallest and largest number of sets of a part, and number of parts unless they are too large."""


@dataclass(frozen=True)
class JudgedSets:
    """Relabelled sets with the costs and the yields of the judges."""

    relabelling: Relabelling
    costs: tuple[StageCost, ...]
    yields: tuple[Yield, ...]


@dataclass(frozen=True)
class SetsPart:
    """Some candidate sets of questions in a file."""

    context: RunContext
    path: Path


async def judge_sets(
    context: RunContext, sets: Sequence[CandidateSet], subject: str
) -> tuple[Relabelling, tuple[StageCost, ...]]:
    """Relabel candidate sets with the recipe's strategy and judges. Return the result and its costs.

    Raises:
        ModelError: If a judge gives fewer answers than `validate.min_judged` of those asked for.
    """
    judged = await _judge(context, sets, subject)
    require_yield(judged.yields, context.recipe.validation.min_judged)
    return judged.relabelling, combine_costs(judged.costs)


async def _judge(context: RunContext, sets: Sequence[CandidateSet], subject: str) -> JudgedSets:
    section = context.recipe.relabel
    judges = judges_of(context.recipe.models.relabel_judges, subject)
    job = RelabelJob(section.strategy, judges, Policy.of(section), DecisionRule.parse(section.rule))
    async with open_strategy(job, ModelSettings.of(context), subject) as strategy:
        if subject == "question":
            relabelling = await strategy.relabel(sets, None, None)
        else:
            relabelling = await relabel_rows(sets, job, strategy)
        return JudgedSets(relabelling, strategy.costs(), tuple(strategy.answered()))


def judge_sets_on_workers(
    context: RunContext, sets: Sequence[CandidateSet], run_parts: PartRunner
) -> tuple[Relabelling, tuple[StageCost, ...]]:
    """Relabel candidate sets of questions in parts. The result is that of `judge_sets`.

    Raises:
        ModelError: If a judge gives fewer answers than `validate.min_judged` of those asked for.
    """
    run_dir = Path(context.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    rows: list[RelabelledRow] = []
    costs: list[StageCost] = []
    yields: dict[tuple[str, str], Yield] = {}
    names: tuple[str, ...] = ()
    with TemporaryDirectory(prefix=".relabel-", dir=run_dir) as name:
        parts = []
        for number, part in enumerate(split_by_query(sets)):
            path = Path(name).absolute() / f"sets-{number:05}.parquet"
            pq.write_table(CANDIDATES.to_arrow(part), path, compression="zstd")
            parts.append(SetsPart(context, path))
        for judged in run_parts(judge_sets_part, parts):
            rows += judged.relabelling.rows
            names = judged.relabelling.judged_by
            costs += judged.costs
            for own in judged.yields:
                yields.setdefault((own.model, own.unit), Yield(own.model, own.unit)).merge(own)
    require_yield(yields.values(), context.recipe.validation.min_judged)
    place = {own.id: i for i, own in enumerate(sets)}
    ordered = sorted(rows, key=lambda row: place[row.before.id])
    return Relabelling(tuple(ordered), names), combine_costs(costs)


def split_by_query(sets: Iterable[CandidateSet]) -> list[list[CandidateSet]]:
    """Split sets into parts. Sets with the same query stay together. There is at least one part."""
    by_query: dict[str, list[CandidateSet]] = {}
    count = 0
    for own in sets:
        by_query.setdefault(own.query, []).append(own)
        count += 1
    size = max(LEAST_SETS, min(MOST_SETS, -(-count // MOST_PARTS)))
    parts: list[list[CandidateSet]] = [[]]
    for together in by_query.values():
        if len(parts[-1]) >= size:
            parts.append([])
        parts[-1] += together
    return parts


def judge_sets_part(part: SetsPart) -> JudgedSets:
    """Judge the sets of a part. Workers import this function."""
    sets = list(CANDIDATES.from_arrow(pq.read_table(part.path)))
    return run_async(_judge(part.context, sets, "question"))
