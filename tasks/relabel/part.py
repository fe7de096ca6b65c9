"""Relabel one part of a file, in this process or on a worker."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

from schemas.labels import CandidateSet
from schemas.release import CostMeter, StageCost
from tasks.files.retrieval import Source
from tasks.models import ModelSettings, run_async
from tasks.relabel.decisions import Relabelling, count_rows
from tasks.relabel.job import RelabelJob
from tasks.relabel.mining import PassagePool
from tasks.relabel.output import with_soft_labels
from tasks.relabel.quality import (
    AuditLine,
    Qrels,
    QueryCounts,
    RunStatistics,
    audit_lines,
    read_audit_sheet,
    read_qrels,
    sample_lines,
)
from tasks.relabel.stored_parts import Parts, Summary
from tasks.relabel.strategies import OpenStrategy, open_pool, open_strategy, open_writer, relabel_rows
from tasks.relabel.two_stage import PositiveTexts
from tasks.relabel.written import PartWriting, Writer, add_written


@dataclass(frozen=True)
class PartInputs:
    """The inputs that all parts share."""

    job: RelabelJob
    known: PositiveTexts
    pool: PassagePool | None
    """Index of the corpus. `None`: the passages of each part are searched instead."""
    qrels: Qrels | None
    answers: Mapping[tuple[str, str], int]
    """People's answers on an audit sheet, by (row, docid)."""


@dataclass(frozen=True)
class PartContext(PartInputs):
    """The inputs that all parts share, and the open models."""

    strategy: OpenStrategy
    writer: Writer | None = None

    def for_part(self) -> PartContext:
        """Return the same models and index with costs and scores of their own. Parts run at the same time."""
        meter = CostMeter("relabel")
        pool = self.pool.for_part(meter) if self.pool else None
        writer = self.writer.for_part() if self.writer else None
        return replace(self, pool=pool, strategy=self.strategy.for_part(meter, pool), writer=writer)

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs of all models so far."""
        writer = self.writer.costs() if self.writer else ()
        return (*self.strategy.costs(), *writer, *self.strategy.meter.costs())


@asynccontextmanager
async def open_part_context(inputs: PartInputs, settings: ModelSettings) -> AsyncIterator[PartContext]:
    """Open the models of a job."""
    job = inputs.job
    async with (
        open_strategy(job, settings, pool=inputs.pool) as strategy,
        open_writer(job, settings) as writer,
    ):
        yield PartContext(job, inputs.known, inputs.pool, inputs.qrels, inputs.answers, strategy, writer)


@dataclass(frozen=True)
class PartWork:
    """The inputs of all parts, in a form that can be sent to a worker."""

    source: Source
    job: RelabelJob
    settings: ModelSettings
    known: PositiveTexts
    skip_bad: bool
    vectors: Path | None = None
    """Folder with the vectors of the corpus."""

    def read(self) -> PartInputs:
        """Read the inputs. A worker process reads them once per job."""
        key = pickle.dumps((self.source, self.job, self.skip_bad, self.vectors))
        with _inputs_lock:
            if key not in _inputs:
                job = self.job
                _inputs.clear()
                _inputs[key] = PartInputs(
                    job,
                    None,
                    open_pool(self.source, job, self.settings, self.skip_bad, self.vectors),
                    read_qrels(job.truth) if job.truth else None,
                    read_audit_sheet(job.audited) if job.audited else {},
                )
            return replace(_inputs[key], known=self.known)


_inputs: dict[bytes, PartInputs] = {}
_inputs_lock = Lock()


def relabel_stored_part(part: tuple[PartWork, Parts, int]) -> tuple[int, Summary]:
    """Relabel a part whose rows are on disk, unless another worker has finished it. Workers import this."""
    work, parts, number = part
    found = parts.find(number)
    if found is not None:
        return number, found

    async def relabel() -> Summary:
        async with open_part_context(work.read(), work.settings) as context:
            relabelling, summary = await relabel_part(parts.take(number), context)
            summary = replace(summary, paces=context.strategy.paces())
        parts.write(number, relabelling.rows, summary)
        return summary

    return number, run_async(relabel())


async def relabel_part(rows: Sequence[CandidateSet], context: PartContext) -> tuple[Relabelling, Summary]:
    """Relabel the rows of one part and sum them up."""
    job, context = context.job, context.for_part()
    relabelling = await relabel_rows(rows, job, context.strategy, context.known, context.pool)
    writing = PartWriting({})
    if context.writer:
        decide = partial(context.strategy.relabel, known=context.known, screen=None)
        relabelling, writing = await add_written(relabelling, context.writer, job.write, decide)
    if job.soft_labels:
        judge = "+".join(relabelling.judged_by)
        labelled = tuple(with_soft_labels(row, job.out_format, judge) for row in relabelling.rows)
        relabelling = replace(relabelling, rows=labelled)
    truth = QueryCounts(context.qrels, job.relevant_from) if context.qrels is not None else None
    if truth:
        truth.add(relabelling.rows)
    summary = Summary(
        count_rows(relabelling.rows),
        relabelling.judged_by,
        truth.by_query if truth else {},
        [asdict(line) for line in _audit_lines_of_part(relabelling, context)],
        RunStatistics.of(relabelling, context.costs()).to_dict(),
        dict(writing.counts),
        writing.ranks,
    )
    return relabelling, summary


def _audit_lines_of_part(relabelling: Relabelling, context: PartContext) -> list[AuditLine]:
    """Return a sample for the audit sheet, and the lines that people have answered."""
    lines = list(audit_lines(relabelling.rows)) if context.job.audit or context.answers else []
    answered = [line for line in lines if (line.row, line.docid) in context.answers]
    return sorted({*sample_lines(lines, context.job.audit), *answered})
