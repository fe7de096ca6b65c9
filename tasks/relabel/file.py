"""Relabel a retrieval file of any size, in parts, so that a stopped run resumes.

Finished parts are kept beside the result until it is written, see `stored_parts`. A `PartRunner` may relabel
them on several workers, with the same result.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from schemas.errors import InputError, ModelError, join_steps
from schemas.labels import CandidateSet
from schemas.recipe import Limits, Relabel, Validate
from tasks.files.label_history import append_history
from tasks.files.records import BadRows, write_records
from tasks.files.retrieval import (
    ONE_RECORD_PER_SET,
    Source,
    check_format,
    detect_format,
    losses_of,
    read_candidate_sets,
    write_candidate_sets,
)
from tasks.models import ModelSettings, run_async
from tasks.relabel.decisions import Mode, Policy, TooFew, count_rows
from tasks.relabel.graded import WEIGHTED, DecisionRule, RuleLimits
from tasks.relabel.job import (
    RelabelJob,
    RowSelection,
    Strategy,
    check_output,
    check_scores,
    check_use,
    choose_operating_point,
    job_key,
    split_rows,
)
from tasks.relabel.mining import Screen
from tasks.relabel.output import Fitting
from tasks.relabel.part import (
    PartContext,
    PartInputs,
    PartWork,
    open_part_context,
    relabel_part,
    relabel_stored_part,
)
from tasks.relabel.planning import measured_rates, plan_job, record_rates
from tasks.relabel.quality import (
    COUNTED,
    AuditLine,
    Qrels,
    QueryCounts,
    RunStatistics,
    agreement_with_people,
    describe_grades,
    read_audit_sheet,
    read_qrels,
    sample_lines,
    write_audit_sheet,
)
from tasks.relabel.scoring import ScoreWindow, is_score
from tasks.relabel.stored_parts import Parts, Summary
from tasks.relabel.strategies import open_pool
from tasks.relabel.survey import matches_of, survey_input
from tasks.relabel.written import Writing, check_source, check_writer, source_warning
from tasks.run.parts import PartRunner
from tasks.run.progress import say, track

TRUNCATED_HINT = "raise --max-tokens, or lower the effort of a judge that thinks (--extra-body)"
PARTS_AT_ONCE = 2
"""Parts that ask the judges at the same time in one process."""
SPARE_LINES = 1_000
"""Lines of audit sheets that are held beyond those that are needed."""
DEFAULTS = Relabel()


def relabel_file(
    input: Path,
    *,
    settings: ModelSettings,
    format: str = "auto",
    strategy: Strategy | None = None,
    judges: Sequence[str] = (),
    verdicts: Path | None = None,
    rule: str | None = None,
    scales: dict[str, int] | None = None,
    truth: Path | None = None,
    relevant_from: int = 2,
    mode: Mode = DEFAULTS.mode,
    min_negatives: int = DEFAULTS.min_negatives,
    too_few: TooFew = DEFAULTS.too_few,
    max_promoted: int = DEFAULTS.max_promoted,
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
    exactly: int | None = None,
    split: str | None = None,
    min_judged: float = Validate().min_judged,
    allow_abstentions: bool = False,
    soft_labels: bool = False,
    plan: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    max_in_flight: int | None = None,
    write: int = 0,
    writer: str | None = None,
    mine_from: str | None = None,
    mine_by: str = "bm25",
    relative_margin: float | None = None,
    absolute_margin: float | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    ranks: str | None = None,
    run_parts: PartRunner | None = None,
) -> dict[str, Any]:
    """Relabel a retrieval set.

    Args:
        input: File or folder of the set.
        settings: Where models, their cache and their limits are found.
        format: Format of the input; `auto` detects it.
        strategy: Default: `graded` with `verdicts`, else `two_stage`.
        judges: `lexical` (default) or models. With `verdicts`, the names of recorded judges.
        verdicts: CSV file of recorded grades.
        rule: Decision rule over grades, see `DecisionRule`, or `weighted`. Default: `weighted` with three or
            more recorded judges, else `DEFAULTS.rule`.
        scales: Top grades of recorded judges whose top grade does not occur in `verdicts`.
        truth: Qrels of people, to evaluate the result.
        relevant_from: Lowest relevant grade in `truth`.
        mode: Which changes are allowed.
        min_negatives: Minimum number of negatives per row.
        too_few: What happens to rows with fewer.
        max_promoted: Rows with more promotions are flagged.
        mine: Negatives to mine for rows without any.
        screen: `bm25:MARGIN[:CHECK]`, `score:…` or `embedding:…`, see `Screen`.
        max_true_negatives_lost: Limit for the choice of a rule, which then replaces `rule`.
        min_relabel_precision: Another limit.
        corpus: Passages by id, for formats without texts. Negatives are mined from it; default: the rows.
        positives: Qrels that mark the positives among the candidates of RankLLM requests.
        audit: Candidates to write to a sheet for people, `<out>.audit.csv`.
        audited: Such a sheet, filled in.
        out: Target file. `<out>.label_history.parquet` and `<out>.review.jsonl` are written beside it.
        out_format: Format of `out`; default: that of the input.
        skip_bad: Skip and count rows that cannot be read.
        exactly: Number of negatives of every written n-tuple or triplet set. Rows are filled by mining.
        split: Split to read, for folders with several.
        min_judged: Smallest share of candidates that the judges must decide.
        allow_abstentions: Write the result even if fewer are decided.
        soft_labels: Write a probability or mean grade per passage.
        plan: Only estimate calls, tokens, costs and time. Nothing is asked or written.
        limit: Only the first rows.
        sample: Only random rows.
        seed: Seed of the sample.
        max_in_flight: Concurrent calls per model.
        write: Negatives for `writer` to write, per row. The judges decide about each.
        writer: A model of another family than the judges.
        mine_from: `corpus` requires a corpus, `rows` ignores it. Default: the corpus if there is one.
        mine_by: Score that finds passages: `bm25`, `embedding` or `embedding:MODEL`.
        relative_margin: See `ScoreWindow`. It limits mined passages and the strategy `score`.
        absolute_margin: See `ScoreWindow`.
        max_score: See `ScoreWindow`.
        min_score: See `ScoreWindow`.
        ranks: `FIRST:LAST`, see `ScoreWindow`.
        run_parts: Relabels the parts of the file on workers. Default: one after the other in this process.

    Returns:
        Counts, a report, and with `truth` the metrics. `lost` counts what the format of `out` cannot hold.

    Raises:
        InputError: If a file or an option is invalid.
        ModelError: If the judges decide fewer candidates than `min_judged`.
    """
    scored = [name for name in judges if is_score(name) and name != "embedding"]
    strategy = strategy or ("graded" if verdicts else "score" if scored else "two_stage")
    if verdicts and strategy != "graded":
        raise InputError(f"strategy {strategy} cannot use recorded verdicts", hint="use --strategy graded")
    job = RelabelJob(
        strategy=strategy,
        judges=tuple(judges) or (("lexical",) if strategy == "two_stage" else ()),
        policy=Policy(mode, min_negatives, too_few, max_promoted),
        rule=DecisionRule.parse(DEFAULTS.rule if rule in (None, WEIGHTED) else str(rule)),
        scales=scales or {},
        verdicts=verdicts,
        truth=truth,
        relevant_from=relevant_from,
        mine=mine,
        screen=Screen.parse(screen) if screen else None,
        audit=audit,
        audited=audited,
        exactly=exactly,
        soft_labels=soft_labels,
        selection=RowSelection(limit, sample, seed),
        write=write,
        writer=check_writer(writer, judges, settings.data_dir) if write else None,
        window=ScoreWindow(
            relative_margin, absolute_margin, max_score, min_score, ScoreWindow.parse_ranks(ranks)
        ),
        mine_by=mine_by,
    )
    check_scores(job, settings)
    check_use(job, rule)
    if audit and out is None:
        raise InputError("the audit sheet is written beside the result", hint="give --out")
    input_format = detect_format(input, split) if format == "auto" else check_format(format)
    corpus = _corpus_to_mine(input, input_format, corpus, mine_from)
    source = Source(input, input_format, corpus, read_qrels(positives) if positives else None, split)
    limits = RuleLimits(max_true_negatives_lost, min_relabel_precision)
    job = replace(job, out_format=check_format(out_format or input_format))
    check_output(source, job, out, BadRows(skip_bad))
    if max_in_flight is not None:
        settings = replace(settings, limits=_with_max_in_flight(settings.limits, max_in_flight))
    job, notes = choose_operating_point(source, job, limits, BadRows(skip_bad), rule)
    if plan:
        return plan_job(source, job, settings, BadRows(skip_bad))
    required = None if allow_abstentions else min_judged
    settings = replace(settings, tolerates_abstentions=not required)
    result = _relabel_source(source, job, settings, out, BadRows(skip_bad), required, run_parts)
    return result | notes


def _corpus_to_mine(input: Path, format: str, corpus: Path | None, mine_from: str | None) -> Path | None:
    """Return the corpus. A BEIR folder contains its own.

    Raises:
        InputError: If there is none, although passages are to be mined from it.
    """
    if mine_from == "corpus" and corpus is None:
        own = sorted(input.glob("corpus.jsonl*")) if format == "beir" else []
        if not own:
            raise InputError("there is no corpus to mine from", hint="name it with --corpus")
        return own[0]
    return None if mine_from == "rows" and format != "tevatron-ids" else corpus


def _with_max_in_flight(limits: Callable[[str], Limits], count: int) -> Callable[[str], Limits]:
    return lambda name: limits(name).model_copy(update={"max_in_flight": count})


def _relabel_source(
    source: Source,
    job: RelabelJob,
    settings: ModelSettings,
    out: Path | None,
    bad: BadRows,
    min_judged: float | None,
    run_parts: PartRunner | None,
) -> dict[str, Any]:
    answers = read_audit_sheet(job.audited) if job.audited else {}
    qrels = read_qrels(job.truth) if job.truth else None
    parts = Parts(out.with_name(f".{out.name}.parts"), job_key(source, job, settings)) if out else None
    matches = matches_of(source, job, qrels, answers)
    try:
        survey, first_pass = survey_input(source, matches, bad, settings, parts, run_parts)
    except InputError:
        if parts:
            parts.remove()
        raise
    warnings = file_warnings(first_pass, qrels, job)
    for warning in warnings:
        say(f"warning: {warning}")
    truth = QueryCounts(qrels, job.relevant_from) if qrels is not None else None
    total = Totals(truth, job.audit, answers)
    rows_chosen = job.selection.count(survey.rows)
    can_skip = source.format in ONE_RECORD_PER_SET and not (
        bad.skip or survey.has_repeated_rows or job.selection.is_trial
    )
    finished = parts.finished() if parts and can_skip else []
    rows = read_candidate_sets(source, bad, start=sum(summary.counts["rows"] for summary in finished))
    chosen = job.selection.choose(survey.with_own_ids(rows), survey.rows)
    new = NewCalls()
    with _shared_parts(parts, settings, run_parts) as shared, track("relabelling rows", rows_chosen) as bar:

        def add(summary: Summary, *, is_new: bool) -> None:
            total.add(summary)
            if is_new:
                new.add(summary)
            bar.advance(summary.counts["rows"])

        for summary in finished:
            add(summary, is_new=False)
        unfinished = enumerate(split_rows(chosen), start=len(finished))
        folder = shared.folder if shared else None
        needed_here = run_parts is None or job.is_dense  # workers index words, each for itself
        pool = open_pool(source, job, settings, bad.skip, folder) if needed_here else None
        total.statistics.add_costs(pool.index_costs if pool else ())
        started = time.monotonic()
        if run_parts is not None and shared is not None:
            work = PartWork(replace(source, relevant=None), job, settings, survey.positives, bad.skip, folder)
            _relabel_on_workers(unfinished, work, shared, run_parts, add)
        else:
            inputs = PartInputs(job, survey.positives, pool, qrels, answers)
            new.paces |= run_async(_relabel_in_order(unfinished, inputs, settings, parts, add))
    new.record(settings.run_dir, time.monotonic() - started)
    try:
        check_judged(total.statistics, min_judged)
        check_written(job, total.writing)
    except ModelError:
        if parts:
            parts.remove()
        raise
    result = total.describe(job, bad.count)
    result |= {"id_clashes": survey.id_clashes, "rows_left_out": survey.rows - rows_chosen}
    if parts and out:
        if job.audit:
            write_audit_sheet(out.with_name(f"{out.name}.audit.csv"), sample_lines(total.lines, job.audit))
        if job.write:
            result["report"]["written"]["source_check"] = told = check_source(parts.sets())
            warnings += [text for text in (source_warning(told),) if text]
        written = _write_results(parts, out, source, job, total.statistics)
        warnings += written.pop("warnings")
        result |= written
    if warnings:
        result["warnings"] = warnings
    if answers:
        result["audit"] = agreement_with_people(total.lines, answers)
    return result | (total.truth.estimates() if total.truth else {})


@dataclass
class Totals:
    """The figures of a file, summed over its parts."""

    truth: QueryCounts | None
    audit: int = 0
    """Lines of the audit sheet."""
    answers: Collection[tuple[str, str]] = ()
    """Candidates, as (row, docid), that people have answered."""
    counts: Counter[str] = field(default_factory=lambda: Counter(count_rows(())))
    judged_by: set[str] = field(default_factory=set)
    statistics: RunStatistics = field(default_factory=RunStatistics)
    lines: list[AuditLine] = field(default_factory=list)
    writing: Writing = field(default_factory=Writing)

    def add(self, summary: Summary) -> None:
        """Add the figures of one part."""
        self.counts.update(summary.counts)
        self.judged_by.update(summary.judged_by)
        self.statistics.merge(RunStatistics.from_dict(summary.observed))
        self.lines += [AuditLine(**line) for line in summary.audit]
        if len(self.lines) > SPARE_LINES + 2 * (self.audit + len(self.answers)):
            answered = {line for line in self.lines if (line.row, line.docid) in self.answers}
            self.lines = sorted({*sample_lines(self.lines, self.audit), *answered})
        self.writing.add(summary.written, summary.written_ranks)
        if self.truth:
            self.truth.merge(summary.truth)

    def describe(self, job: RelabelJob, rows_skipped: int) -> dict[str, Any]:
        """Return the counts and the report of a run."""
        result: dict[str, Any] = dict(self.counts)
        result |= {"rows_skipped": rows_skipped, "judged_by": sorted(self.judged_by)}
        result["report"] = self.statistics.describe(self.counts["rows"])
        if job.write:
            result["report"]["written"] = self.writing.describe()
        if self.truth and job.screen:
            result["report"]["screen"] |= self.truth.estimates(COUNTED[-1:])
        return result


@dataclass
class NewCalls:
    """The calls of this run, without those of parts that an earlier run has finished."""

    calls: Counter[str] = field(default_factory=Counter)
    tokens_out: Counter[str] = field(default_factory=Counter)
    paces: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, summary: Summary) -> None:
        """Add the calls of one part."""
        self.calls.update(summary.calls)
        self.tokens_out.update({judge: int(cost[2]) for judge, cost in summary.costs.items()})
        for judge, (sent, seconds) in summary.paces.items():
            before = self.paces.get(judge, (0.0, 0.0))
            self.paces[judge] = before[0] + sent, before[1] + seconds

    def record(self, run_dir: Path, seconds: float) -> None:
        """Record the rates and the length of answers for later plans."""
        lengths = {
            name: tokens / self.calls[name] for name, tokens in self.tokens_out.items() if self.calls[name]
        }
        record_rates(run_dir, measured_rates(self.calls, self.paces, seconds), lengths)


class AddSummary(Protocol):
    """Adds the figures of a part to those of the file."""

    def __call__(self, summary: Summary, *, is_new: bool) -> None:
        """Add a summary. It is new if this run has relabelled the part."""
        ...


async def _relabel_in_order(
    numbered: Iterable[tuple[int, Sequence[CandidateSet]]],
    inputs: PartInputs,
    settings: ModelSettings,
    parts: Parts | None,
    add: AddSummary,
) -> Mapping[str, tuple[float, float]]:
    """Relabel the parts in this process, and return the calls and seconds of each judge.

    The next part begins while the last calls of a part are under way, so that the judges are always busy.
    """
    running: deque[tuple[asyncio.Task[Summary], bool]] = deque()

    async def relabel(number: int, part: Sequence[CandidateSet], context: PartContext) -> Summary:
        relabelling, summary = await relabel_part(part, context)
        if parts:
            parts.write(number, relabelling.rows, summary)
        return summary

    async def finish_first() -> None:
        task, is_new = running[0]
        summary = await task
        running.popleft()
        add(summary, is_new=is_new)

    async with open_part_context(inputs, settings) as context:
        try:
            for number, part in numbered:
                found = parts.find(number) if parts else None
                work = relabel(number, part, context) if found is None else _at_once(found)
                running.append((asyncio.create_task(work), found is None))
                await asyncio.sleep(0)  # a judge that never waits would block interrupts
                if len(running) == PARTS_AT_ONCE:
                    await finish_first()
            while running:
                await finish_first()
        finally:
            for task, _ in running:
                task.cancel()
            await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
        return context.strategy.paces()


async def _at_once(summary: Summary) -> Summary:
    return summary


@contextmanager
def _shared_parts(
    parts: Parts | None, settings: ModelSettings, run_parts: PartRunner | None
) -> Iterator[Parts | None]:
    """Yield the parts. If a run on workers writes no result, they are temporary."""
    if parts is not None or run_parts is None:
        yield parts
        return
    with tempfile.TemporaryDirectory(prefix=".relabel-", dir=settings.run_dir) as folder:
        yield Parts(Path(folder) / "parts", "")


def _relabel_on_workers(
    numbered: Iterable[tuple[int, Sequence[CandidateSet]]],
    work: PartWork,
    parts: Parts,
    run_parts: PartRunner,
    add: AddSummary,
) -> None:
    """Hand out the parts that are not finished. Summaries are added in the order of the parts."""
    finished: deque[tuple[int, Summary]] = deque()

    def unfinished() -> Iterator[tuple[PartWork, Parts, int]]:
        for number, part in numbered:
            found = parts.find(number)
            if found is not None:
                finished.append((number, found))
                continue
            parts.hand_out(number, part)
            yield work, parts, number

    for number, summary in run_parts(relabel_stored_part, unfinished()):
        while finished and finished[0][0] < number:
            add(finished.popleft()[1], is_new=False)
        add(summary, is_new=True)
    for _, summary in finished:
        add(summary, is_new=False)


def check_judged(statistics: RunStatistics, min_judged: float | None) -> None:
    """Raise `ModelError` if the judges decided too few of the candidates that they were asked about."""
    asked, judged = statistics.judging["asked"], statistics.judging["judged"]
    if min_judged is None or not asked or judged >= min_judged * asked:
        return
    reason, count = statistics.abstentions.most_common(1)[0]
    raise ModelError(
        f"the judges decided only {judged} of {asked} candidates ({judged / asked:.0%}); the most frequent "
        f"reason is {reason} ({count}). Nothing was written",
        hint=join_steps(
            *([TRUNCATED_HINT] if reason == "truncated" else []),
            "check the judge, lower --min-judged, or accept it with --allow-abstentions",
        ),
    )


def check_written(job: RelabelJob, writing: Writing) -> None:
    """Raise `ModelError` if the writer wrote nothing."""
    if job.write and writing.counts["asked"] and not writing.counts["received"]:
        raise ModelError(
            f"{job.writer} wrote none of the {writing.counts['asked']} negatives it was asked for. Nothing "
            "was written",
            hint="try it with --limit 1, or name another --writer",
        )


def file_warnings(bad: BadRows, qrels: Qrels | None, job: RelabelJob) -> list[str]:
    """Return warnings about the input and the truth."""
    warnings = []
    if bad.repeated:
        names = ", ".join(bad.repeated_ids)
        warnings.append(f"{bad.repeated} repeated ids, of which the last record counts: {names}")
    if qrels is not None and (warning := describe_grades(qrels, job.relevant_from)):
        warnings.append(warning)
    return warnings


def _write_results(
    parts: Parts, out: Path, source: Source, job: RelabelJob, statistics: RunStatistics
) -> dict[str, Any]:
    rows = Fitting(parts.sets, job.out_format, source.format, job.exactly)
    rows.prepare()
    written = write_candidate_sets(out, job.out_format, rows.fitting, source, soft_labels=job.soft_labels)
    unwritable = out.with_name(f"{out.name}.unwritable.jsonl")
    unwritable.unlink(missing_ok=True)
    lost = Counter({f"rows dropped: {reason}": n for reason, n in statistics.dropped_rows.items()})
    lost.update(rows.lost)
    if rows.negatives_cut:
        lost["negatives beyond --exactly"] = rows.negatives_cut
    if job.out_format != source.format:
        for row in rows.fitting():
            lost.update(losses_of(row, job.out_format))
    write_records(out.with_name(f"{out.name}.review.jsonl"), parts.review)
    history = out.with_name(f"{out.name}.label_history.parquet")
    append_history(history, parts.changes)
    result: dict[str, Any] = {
        "written": written,
        "lost": dict(sorted(lost.items())),
        "rows_written": rows.rows_written,
        "rows_unwritable": rows.lost.total(),
        "warnings": rows.warnings,
    }
    if rows.lost:
        write_records(unwritable, rows.unwritable)
        result["unwritable"] = unwritable.name
    parts.remove()
    return result
