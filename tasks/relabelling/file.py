"""Relabel a retrieval file: read in parts, relabel, write; resumable, and never all in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas.candidates import CandidateSet
from schemas.errors import InputError
from schemas.ids import content_hash, file_hash
from schemas.label import LABEL_HISTORY
from tasks.formats.retrieval import (
    Source,
    check_format,
    detect_format,
    read_candidate_sets,
    write_candidate_sets,
)
from tasks.formats.retrieval_beir import read_corpus
from tasks.formats.retrieval_records import BadRows, write_records
from tasks.models.connect import ModelSettings, run_async
from tasks.progress import track
from tasks.relabelling.changes import Relabelling, count_rows
from tasks.relabelling.graded import DecisionRule, grade_live, read_grades
from tasks.relabelling.mining import MinedPool, backfill, with_mined_negatives
from tasks.relabelling.opening import open_comparers, open_graders, open_judges
from tasks.relabelling.parts import ROWS_A_PART, Parts, Summary, chunked
from tasks.relabelling.policies import Mode, Policy, TooFew
from tasks.relabelling.positives import KnownPositives
from tasks.relabelling.strategies import relabel_by_grades, relabel_in_cascade, relabel_with_panel
from tasks.relabelling.truth import Tally, read_qrels

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


def relabel_file(
    input: Path,
    *,
    settings: ModelSettings,
    format: str = "auto",
    strategy: Strategy | None = None,
    judges: Sequence[str] = (),
    verdicts: Path | None = None,
    rule: str = "all:top/any:relevant",
    scales: dict[str, int] | None = None,
    truth: Path | None = None,
    relevant_from: int = 2,
    mode: Mode = "both",
    min_negatives: int = 1,
    too_few: TooFew = "keep_row",
    max_promoted: int = 7,
    mine: int = 0,
    corpus: Path | None = None,
    positives: Path | None = None,
    out: Path | None = None,
    out_format: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Clean a retrieval set; returns the counts, and with `truth` how good they are.

    `judges`: `lexical` (the default) or models; with `verdicts` the names of recorded judges. `mine`: so many
    negatives for rows without any; they and those of `backfill` come out of `corpus`, else out of the rows
    around. `corpus` also holds the passages of formats that name them by id. `positives` are qrels that say
    which candidates of a RankLLM request are positives. Beside `out` stand `<out>.label_history.parquet` and
    `<out>.review.jsonl`.
    """
    strategy = strategy or ("graded" if verdicts else "two_stage")
    if verdicts and strategy != "graded":
        raise InputError(f"recorded verdicts do not go with {strategy}", hint="use --strategy graded")
    job = FileJob(
        strategy=strategy,
        judges=tuple(judges) or (("lexical",) if strategy == "two_stage" else ()),
        policy=Policy(mode, min_negatives, too_few, max_promoted),
        rule=DecisionRule.parse(rule),
        scales=scales or {},
        verdicts=verdicts,
        truth=truth,
        relevant_from=relevant_from,
        mine=mine,
    )
    relevant = read_qrels(positives) if positives else None
    found = detect_format(input) if format == "auto" else check_format(format)
    source = Source(input, found, corpus, relevant)
    return run_async(_relabel_source(source, job, settings, out, out_format or found, BadRows(skip_bad)))


async def _relabel_source(
    source: Source, job: FileJob, settings: ModelSettings, out: Path | None, out_format: str, bad: BadRows
) -> dict[str, Any]:
    check_format(out_format)
    known = KnownPositives(read_candidate_sets(source, BadRows(bad.skip)))
    parts = Parts(out.with_name(f".{out.name}.parts"), _job_key(source, job, settings)) if out else None
    tally = Tally(read_qrels(job.truth), job.relevant_from) if job.truth else None
    counts: Counter[str] = Counter(count_rows(()))
    judged_by: set[str] = set()
    pool = _mined_pool(source, job, bad)
    async with _open_strategy(job, settings) as relabel:
        with track("relabelling rows", None) as bar:
            for number, rows in enumerate(chunked(read_candidate_sets(source, bad), ROWS_A_PART)):
                summary = parts.find(number) if parts else None
                if summary is None:
                    summary = await _relabel_part(rows, Work(job, relabel, known, pool, tally, parts), number)
                counts.update(summary.counts)
                judged_by.update(summary.judged_by)
                if tally:
                    tally.merge(summary.truth)
                bar.advance(len(rows))
    result: dict[str, Any] = dict(counts) | {"rows_skipped": bad.count, "judged_by": sorted(judged_by)}
    if parts and out:
        result |= _write_results(parts, out, out_format, source)
    return result | (tally.estimates() if tally else {})


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


def _mined_pool(source: Source, job: FileJob, bad: BadRows) -> MinedPool | None:
    if source.corpus is None or not (job.mine or job.policy.too_few == "backfill"):
        return None
    return MinedPool(passage for passage in read_corpus(source.corpus, bad))


async def _relabel_part(rows: Sequence[CandidateSet], work: Work, number: int) -> Summary:
    relabelling = await _relabel_rows(rows, work)
    tally = Tally(work.tally.qrels, work.tally.relevant_from) if work.tally else None
    if tally:
        tally.add(relabelling.rows)
    summary = Summary(count_rows(relabelling.rows), relabelling.judged_by, tally.by_query if tally else {})
    if work.parts:
        work.parts.write(number, relabelling.rows, summary)
    return summary


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
async def _open_strategy(job: FileJob, settings: ModelSettings) -> AsyncIterator[Relabeller]:
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


def _job_key(source: Source, job: FileJob, settings: ModelSettings) -> str:
    """What the finished parts of a stopped run belong to."""
    prompts = sorted((settings.data_dir / "prompts").glob("relabel_*.md"))
    described = {
        "format": source.format,
        "input": fingerprint_input(source.path),
        "beside": [file_hash(p) for p in (source.corpus, job.verdicts, job.truth) if p],
        "relevant": sorted([*pair, grade] for pair, grade in (source.relevant or {}).items()),
        "strategy": [job.strategy, job.judges, job.scales, job.relevant_from, job.mine],
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


def _write_results(parts: Parts, out: Path, out_format: str, source: Source) -> dict[str, Any]:
    written = write_candidate_sets(out, out_format, parts.sets, source)
    write_records(out.with_name(f"{out.name}.review.jsonl"), parts.review)
    history = out.with_name(f"{out.name}.label_history.parquet")
    write_records(history, lambda: (c.model_dump() for c in parts.changes()), LABEL_HISTORY.arrow_schema)
    parts.remove()
    return {"written": written}
