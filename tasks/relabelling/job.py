"""What a file is relabelled with, and how one part of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from schemas.candidates import CandidateSet
from schemas.ids import content_hash, file_hash
from schemas.manifest import StageCost
from tasks.formats.retrieval import Source
from tasks.formats.retrieval_beir import read_corpus
from tasks.formats.retrieval_records import BadRows
from tasks.models.connect import ModelSettings
from tasks.relabelling.audit import AuditLine, audit_lines, draw_lines
from tasks.relabelling.changes import Relabelling, count_rows
from tasks.relabelling.graded import DecisionRule, grade_live, read_grades
from tasks.relabelling.mining import MinedPool, backfill, with_mined_negatives
from tasks.relabelling.opening import open_comparers, open_graders, open_judges
from tasks.relabelling.parts import ROWS_A_PART, Parts, Summary
from tasks.relabelling.policies import Policy
from tasks.relabelling.positives import KnownPositives
from tasks.relabelling.report import Observed
from tasks.relabelling.rules import Plan
from tasks.relabelling.screen import Screen, given_score, screen_candidates
from tasks.relabelling.strategies import (
    Elsewhere,
    Screening,
    plan_rows,
    relabel_by_grades,
    relabel_in_cascade,
    relabel_with_panel,
    settle_by_grades,
)
from tasks.relabelling.truth import Tally

Strategy = Literal["two_stage", "cascade", "graded"]
Relabeller = Callable[[Sequence[CandidateSet], Elsewhere, Screening], Awaitable[Relabelling]]


@dataclass(frozen=True)
class RelabelJob:
    """Everything that the result depends on, beside the rows."""

    strategy: Strategy
    judges: tuple[str, ...]
    policy: Policy
    rule: DecisionRule
    scales: dict[str, int] = field(default_factory=dict)
    verdicts: Path | None = None
    truth: Path | None = None
    relevant_from: int = 2
    mine: int = 0
    screen: Screen | None = None
    audit: int = 0
    audited: Path | None = None

    @property
    def needs_pool(self) -> bool:
        """Whether passages have to be searched."""
        mines = self.mine > 0 or self.policy.too_few == "backfill"
        return mines or (self.screen is not None and self.screen.by == "bm25")


@dataclass(frozen=True)
class OpenStrategy:
    """A strategy with its judges at hand."""

    relabel: Relabeller
    costs: Callable[[], tuple[StageCost, ...]]
    """What its models have spent so far."""


@dataclass(frozen=True)
class Work:
    """What every part is done with."""

    job: RelabelJob
    strategy: OpenStrategy
    known: KnownPositives
    pool: MinedPool | None
    """The corpus, where one was named."""
    tally: Tally | None
    parts: Parts | None
    answers: dict[tuple[str, str], int]
    """What people answered on an audit sheet, by (row, docid)."""


def mined_pool(source: Source, job: RelabelJob, bad: BadRows) -> MinedPool | None:
    """The corpus as a pool, where one was named and something is to be searched in it."""
    if source.corpus is None or not job.needs_pool:
        return None
    return MinedPool(passage for passage in read_corpus(source.corpus, bad))


async def relabel_part(rows: Sequence[CandidateSet], work: Work, number: int) -> Summary:
    """Relabel some rows, write them as a part, say what they add up to."""
    before = work.strategy.costs()
    relabelling = await relabel_rows(rows, work.job, work.strategy, work.known, work.pool)
    tally = Tally(work.tally.qrels, work.tally.relevant_from) if work.tally else None
    if tally:
        tally.add(relabelling.rows)
    observed = Observed.of(relabelling, costs_since(before, work.strategy.costs()))
    summary = Summary(
        count_rows(relabelling.rows),
        relabelling.judged_by,
        tally.by_query if tally else {},
        [asdict(line) for line in _lines_for_people(relabelling, work)],
        observed.to_dict(),
    )
    if work.parts:
        work.parts.write(number, relabelling.rows, summary)
    return summary


def costs_since(before: Sequence[StageCost], now: Sequence[StageCost]) -> list[StageCost]:
    """What was spent between two looks at the same judges."""
    return [
        new.model_copy(
            update={
                "calls": new.calls - old.calls,
                "tokens_in": new.tokens_in - old.tokens_in,
                "tokens_out": new.tokens_out - old.tokens_out,
                "cost_usd": new.cost_usd - old.cost_usd,
            }
        )
        for old, new in zip(before, now, strict=True)
    ]


def _lines_for_people(relabelling: Relabelling, work: Work) -> list[AuditLine]:
    """What may come on the sheet, and what people have answered already."""
    lines = list(audit_lines(relabelling.rows)) if work.job.audit or work.answers else []
    answered = [line for line in lines if (line.row, line.docid) in work.answers]
    return sorted({*draw_lines(lines, work.job.audit), *answered})


async def relabel_rows(
    rows: Sequence[CandidateSet],
    job: RelabelJob,
    strategy: OpenStrategy,
    known: Elsewhere = None,
    pool: MinedPool | None = None,
) -> Relabelling:
    """Mine where there are no negatives, relabel, fill up where too few are left. Without a `pool` the
    passages of these rows are one."""
    if job.needs_pool and pool is None:
        pool = MinedPool(p for row in rows for p in (*row.positives, *row.negatives))
    screen = screening(job.screen, pool)
    if job.mine and pool:
        rows = with_mined_negatives(rows, pool, job.mine)
    relabelling = await strategy.relabel(rows, known, screen)
    if job.policy.too_few != "backfill" or pool is None:
        return relabelling
    return await backfill(relabelling, pool, job.policy, lambda sets: strategy.relabel(sets, known, None))


def screening(screen: Screen | None, pool: MinedPool | None) -> Screening:
    """The screen as a step of planning; `None` where there is none."""
    if screen is None:
        return None
    score = pool.score if screen.by == "bm25" and pool else given_score
    return lambda plans: screen_candidates(plans, screen, score)


@asynccontextmanager
async def open_strategy(
    job: RelabelJob, settings: ModelSettings, subject: str = "passage"
) -> AsyncIterator[OpenStrategy]:
    """The strategy of a job, for `passage`s or `question`s, with its judges open."""
    if job.strategy == "two_stage":
        async with open_judges(job.judges, settings, subject) as judges:
            yield OpenStrategy(
                lambda rows, known, screen: relabel_with_panel(rows, judges, job.policy, known, screen),
                lambda: tuple(cost for judge in judges for cost in judge.costs()),
            )
    elif job.strategy == "cascade":
        async with open_comparers(job.judges, settings, subject) as comparers:
            yield OpenStrategy(
                lambda rows, known, screen: relabel_in_cascade(rows, comparers, job.policy, known, screen),
                lambda: tuple(cost for judge in comparers for cost in judge.costs()),
            )
    elif job.verdicts:
        yield _recorded_strategy(job, job.verdicts)
    else:
        async with open_graders(job.judges, settings, subject) as graders:

            async def by_grades(
                rows: Sequence[CandidateSet], known: Elsewhere, screen: Screening
            ) -> Relabelling:
                plans: list[Plan] = plan_rows(rows, job.policy, known, screen)
                return settle_by_grades(plans, await grade_live(plans, graders), job.rule, job.policy)

            yield OpenStrategy(by_grades, lambda: tuple(c for grader in graders for c in grader.costs()))


def _recorded_strategy(job: RelabelJob, verdicts: Path) -> OpenStrategy:
    recorded = read_grades(verdicts, job.judges, job.scales)

    async def by_record(rows: Sequence[CandidateSet], known: Elsewhere, screen: Screening) -> Relabelling:
        return relabel_by_grades(rows, recorded, job.rule, job.policy, known, screen)

    return OpenStrategy(by_record, lambda: ())


def job_key(source: Source, job: RelabelJob, settings: ModelSettings) -> str:
    """What the finished parts of a stopped run belong to."""
    prompts = sorted((settings.data_dir / "prompts").glob("relabel_*.md"))
    described = {
        "format": source.format,
        "input": fingerprint_input(source.path),
        "beside": [file_hash(p) for p in (source.corpus, job.verdicts, job.truth, job.audited) if p],
        "relevant": sorted([*pair, grade] for pair, grade in (source.relevant or {}).items()),
        "strategy": [job.strategy, job.judges, job.scales, job.relevant_from, job.mine, job.audit],
        "screen": asdict(job.screen) if job.screen else None,
        "policy": asdict(job.policy),
        "rule": asdict(job.rule),
        "prompts": [file_hash(path) for path in prompts],
        "rows_a_part": ROWS_A_PART,
    }
    return content_hash(described)


def fingerprint_input(path: Path) -> str:
    """A hash of a file, or of all files of a folder."""
    if path.is_file():
        return file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return content_hash([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])
