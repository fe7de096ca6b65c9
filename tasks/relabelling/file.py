"""Relabel a retrieval file: read in parts, relabel, write; resumable, and never all in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.label import LABEL_HISTORY
from tasks.formats.retrieval import (
    Source,
    check_format,
    check_target,
    detect_format,
    read_candidate_sets,
    write_candidate_sets,
)
from tasks.formats.retrieval_losses import losses_of
from tasks.formats.retrieval_records import BadRows
from tasks.formats.retrieval_writing import write_records
from tasks.models.connect import ModelSettings, run_async
from tasks.progress import track
from tasks.relabelling.audit import (
    AuditLine,
    compare_with_people,
    draw_lines,
    read_sheet,
    write_sheet,
)
from tasks.relabelling.changes import count_rows
from tasks.relabelling.graded import DecisionRule, read_grades
from tasks.relabelling.job import (
    RelabelJob,
    Strategy,
    Work,
    job_key,
    mined_pool,
    open_strategy,
    relabel_part,
)
from tasks.relabelling.operating import Limits, RuleTrial, choose_rule
from tasks.relabelling.parts import ROWS_A_PART, Parts, chunked
from tasks.relabelling.policies import Mode, Policy, TooFew
from tasks.relabelling.positives import KnownPositives
from tasks.relabelling.reliability import describe_judges
from tasks.relabelling.report import Observed
from tasks.relabelling.screen import Screen
from tasks.relabelling.truth import COUNTED, Tally, read_qrels

_NEEDS = "give --verdicts (grades of judges) and --truth (grades of people)"


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
    screen: str | None = None,
    max_true_negatives_lost: float | None = None,
    min_relabel_precision: float | None = None,
    corpus: Path | None = None,
    positives: Path | None = None,
    audit: int = 0,
    audited: Path | None = None,
    out: Path | None = None,
    out_format: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Clean a retrieval set; returns the counts, and with `truth` how good they are.

    `judges`: `lexical` (the default) or models; with `verdicts` the names of recorded judges. `mine`: so many
    negatives for rows without any; they and those of `backfill` come out of `corpus`, else out of the rows
    around. `screen` is `bm25:MARGIN[:CHECK]` or `score:…` (see `screen.Screen`). `corpus` also holds the
    passages of formats that name them by id. `positives` are qrels that say which candidates of a RankLLM
    request are positives. `audit`: so many candidates go on a sheet for people, `<out>.audit.csv`;
    `audited` is such a sheet, filled in. Beside `out` stand `<out>.label_history.parquet` and
    `<out>.review.jsonl`. `lost` in the result says what the format of `out` has no room for.
    """
    strategy = strategy or ("graded" if verdicts else "two_stage")
    if verdicts and strategy != "graded":
        raise InputError(f"recorded verdicts do not go with {strategy}", hint="use --strategy graded")
    job = RelabelJob(
        strategy=strategy,
        judges=tuple(judges) or (("lexical",) if strategy == "two_stage" else ()),
        policy=Policy(mode, min_negatives, too_few, max_promoted),
        rule=DecisionRule.parse(rule),
        scales=scales or {},
        verdicts=verdicts,
        truth=truth,
        relevant_from=relevant_from,
        mine=mine,
        screen=Screen.parse(screen) if screen else None,
        audit=audit,
        audited=audited,
    )
    if audit and out is None:
        raise InputError("the audit sheet lies beside the result", hint="say where, with --out")
    relevant = read_qrels(positives) if positives else None
    found = detect_format(input) if format == "auto" else check_format(format)
    source = Source(input, found, corpus, relevant)
    limits = Limits(max_true_negatives_lost, min_relabel_precision)
    if out is not None:
        check_target(out, out_format or found)
    job, notes = _at_operating_point(source, job, limits, BadRows(skip_bad))
    result = run_async(_relabel_source(source, job, settings, out, out_format or found, BadRows(skip_bad)))
    return result | notes


def _at_operating_point(
    source: Source, job: RelabelJob, limits: Limits, bad: BadRows
) -> tuple[RelabelJob, dict[str, Any]]:
    """The job with the rule that keeps to the limits, where there are any; and what is to be said of it and
    of the recorded judges."""
    if not job.verdicts:
        if limits.are_set:
            raise InputError("an operating point is chosen among rules over recorded grades", hint=_NEEDS)
        return job, {}
    grades = read_grades(job.verdicts, job.judges, job.scales)
    notes: dict[str, Any] = {"judges": describe_judges(grades)}
    if not limits.are_set:
        return job, notes
    if not job.truth:
        raise InputError("an operating point is chosen with known grades", hint=_NEEDS)
    trial = RuleTrial(grades, read_qrels(job.truth), job.relevant_from, job.policy)
    for rows in chunked(read_candidate_sets(source, bad), ROWS_A_PART):
        trial.add(rows)
    rule, notes["operating_point"] = choose_rule(trial, limits)
    return replace(job, rule=rule), notes


async def _relabel_source(
    source: Source, job: RelabelJob, settings: ModelSettings, out: Path | None, out_format: str, bad: BadRows
) -> dict[str, Any]:
    check_format(out_format)
    known = KnownPositives(read_candidate_sets(source, BadRows(bad.skip)))
    parts = Parts(out.with_name(f".{out.name}.parts"), job_key(source, job, settings)) if out else None
    tally = Tally(read_qrels(job.truth), job.relevant_from) if job.truth else None
    counts: Counter[str] = Counter(count_rows(()))
    judged_by: set[str] = set()
    observed = Observed()
    lines: list[AuditLine] = []
    pool = mined_pool(source, job, BadRows(bad.skip))
    answers = read_sheet(job.audited) if job.audited else {}
    async with open_strategy(job, settings) as strategy:
        with track("relabelling rows", None) as bar:
            for number, rows in enumerate(chunked(read_candidate_sets(source, bad), ROWS_A_PART)):
                summary = parts.find(number) if parts else None
                if summary is None:
                    summary = await relabel_part(
                        rows, Work(job, strategy, known, pool, tally, parts, answers), number
                    )
                counts.update(summary.counts)
                judged_by.update(summary.judged_by)
                observed.merge(Observed.from_dict(summary.observed))
                lines += [AuditLine(**line) for line in summary.audit]
                if tally:
                    tally.merge(summary.truth)
                bar.advance(len(rows))
                await asyncio.sleep(0)  # a judge that never waits would not let an interrupt through
    result: dict[str, Any] = dict(counts) | {"rows_skipped": bad.count, "judged_by": sorted(judged_by)}
    result["report"] = observed.describe(counts["rows"])
    if tally and job.screen:
        result["report"]["screen"] |= tally.estimates(COUNTED[-1:])
    if parts and out:
        if job.audit:
            write_sheet(out.with_name(f"{out.name}.audit.csv"), draw_lines(lines, job.audit))
        result |= _write_results(parts, out, out_format, source)
    if answers:
        result["audit"] = compare_with_people(lines, answers)
    return result | (tally.estimates() if tally else {})


def _write_results(parts: Parts, out: Path, out_format: str, source: Source) -> dict[str, Any]:
    written = write_candidate_sets(out, out_format, parts.sets, source)
    lost: Counter[str] = Counter()
    if out_format != source.format:
        for row in parts.sets():
            lost.update(losses_of(row, out_format))
    write_records(out.with_name(f"{out.name}.review.jsonl"), parts.review)
    history = out.with_name(f"{out.name}.label_history.parquet")
    write_records(history, lambda: (c.model_dump() for c in parts.changes()), LABEL_HISTORY.arrow_schema)
    parts.remove()
    return {"written": written, "lost": dict(sorted(lost.items()))}
