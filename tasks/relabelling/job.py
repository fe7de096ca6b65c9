"""What a file is relabelled with, and how one part of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from schemas.candidates import CandidateSet
from schemas.ids import content_hash, file_hash
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
from tasks.relabelling.strategies import relabel_by_grades, relabel_in_cascade, relabel_with_panel
from tasks.relabelling.truth import Tally

Strategy = Literal["two_stage", "cascade", "graded"]
Relabeller = Callable[[Sequence[CandidateSet], KnownPositives], Awaitable[Relabelling]]


@dataclass(frozen=True)
class FileJob:
    """Everything that the result depends on, beside the file."""

    strategy: Strategy
    judges: tuple[str, ...]
    policy: Policy
    rule: DecisionRule
    scales: dict[str, int] = field(default_factory=dict)
    verdicts: Path | None = None
    truth: Path | None = None
    relevant_from: int = 2
    mine: int = 0
    audit: int = 0
    audited: Path | None = None


@dataclass(frozen=True)
class Work:
    """What every part is done with."""

    job: FileJob
    relabel: Relabeller
    known: KnownPositives
    pool: MinedPool | None
    """The corpus, where one was named."""
    tally: Tally | None
    parts: Parts | None
    answers: dict[tuple[str, str], int]
    """What people answered on an audit sheet, by (row, docid)."""


def mined_pool(source: Source, job: FileJob, bad: BadRows) -> MinedPool | None:
    """The corpus as a pool, where one was named and something is to be mined."""
    if source.corpus is None or not (job.mine or job.policy.too_few == "backfill"):
        return None
    return MinedPool(passage for passage in read_corpus(source.corpus, bad))


async def relabel_part(rows: Sequence[CandidateSet], work: Work, number: int) -> Summary:
    """Relabel some rows, write them as a part, say what they add up to."""
    relabelling = await _relabel_rows(rows, work)
    tally = Tally(work.tally.qrels, work.tally.relevant_from) if work.tally else None
    if tally:
        tally.add(relabelling.rows)
    summary = Summary(
        count_rows(relabelling.rows),
        relabelling.judged_by,
        tally.by_query if tally else {},
        [asdict(line) for line in _lines_for_people(relabelling, work)],
    )
    if work.parts:
        work.parts.write(number, relabelling.rows, summary)
    return summary


def _lines_for_people(relabelling: Relabelling, work: Work) -> list[AuditLine]:
    """What may come on the sheet, and what people have answered already."""
    lines = list(audit_lines(relabelling.rows)) if work.job.audit or work.answers else []
    answered = [line for line in lines if (line.row, line.docid) in work.answers]
    return sorted({*draw_lines(lines, work.job.audit), *answered})


async def _relabel_rows(rows: Sequence[CandidateSet], work: Work) -> Relabelling:
    """Mine where there are no negatives, relabel, fill up where too few are left."""
    policy = work.job.policy
    if not work.job.mine and policy.too_few != "backfill":
        return await work.relabel(rows, work.known)
    pool = work.pool or MinedPool(p for row in rows for p in (*row.positives, *row.negatives))
    if work.job.mine:
        rows = with_mined_negatives(rows, pool, work.job.mine)
    relabelling = await work.relabel(rows, work.known)
    if policy.too_few != "backfill":
        return relabelling
    return await backfill(relabelling, pool, policy, lambda sets: work.relabel(sets, work.known))


@asynccontextmanager
async def open_strategy(job: FileJob, settings: ModelSettings) -> AsyncIterator[Relabeller]:
    """The strategy with its judges open, as one function of rows."""
    if job.strategy == "two_stage":
        async with open_judges(job.judges, settings, "passage") as judges:
            yield lambda rows, known: relabel_with_panel(rows, judges, job.policy, known)
    elif job.strategy == "cascade":
        async with open_comparers(job.judges, settings) as comparers:
            yield lambda rows, known: relabel_in_cascade(rows, comparers, job.policy, known)
    elif job.verdicts:
        recorded = read_grades(job.verdicts, job.judges, job.scales)

        async def by_record(rows: Sequence[CandidateSet], known: KnownPositives) -> Relabelling:
            return relabel_by_grades(rows, recorded, job.rule, job.policy, known)

        yield by_record
    else:
        async with open_graders(job.judges, settings) as graders:

            async def by_grades(rows: Sequence[CandidateSet], known: KnownPositives) -> Relabelling:
                grades = await grade_live(rows, graders)
                return relabel_by_grades(rows, grades, job.rule, job.policy, known)

            yield by_grades


def job_key(source: Source, job: FileJob, settings: ModelSettings) -> str:
    """What the finished parts of a stopped run belong to."""
    prompts = sorted((settings.data_dir / "prompts").glob("relabel_*.md"))
    described = {
        "format": source.format,
        "input": fingerprint_input(source.path),
        "beside": [file_hash(p) for p in (source.corpus, job.verdicts, job.truth, job.audited) if p],
        "relevant": sorted([*pair, grade] for pair, grade in (source.relevant or {}).items()),
        "strategy": [job.strategy, job.judges, job.scales, job.relevant_from, job.mine, job.audit],
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
