"""Relabel a retrieval file of any size, in parts, so that a stopped run resumes.

Finished parts are kept beside the result until it is written, see `stored_parts`. A `PartRunner` may relabel
them on several workers, with the same result.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

from schemas.errors import InputError, ModelError, join_steps
from schemas.labels import CandidateSet, Passage
from schemas.recipe import Limits, Relabel, Validate
from schemas.release import CostMeter, StageCost
from schemas.tables import content_hash, file_hash
from tasks.files.label_history import append_history
from tasks.files.records import BadRows, container_of, write_records
from tasks.files.retrieval import (
    ONE_RECORD_PER_SET,
    Source,
    check_format,
    check_parquet,
    check_target,
    detect_format,
    losses_of,
    read_candidate_sets,
    write_candidate_sets,
)
from tasks.files.retrieval_beir import read_corpus
from tasks.judges.relevance import MeteredModel
from tasks.judges.yields import Yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import read_prompt
from tasks.relabel.corpus_pool import CorpusPool
from tasks.relabel.decisions import Mode, Policy, Relabelling, RowPlan, TooFew, count_rows
from tasks.relabel.graded import (
    WEIGHTED,
    DecisionRule,
    Grades,
    Rule,
    RuleLimits,
    RuleTrial,
    WeightedVote,
    choose_rule,
    describe_judges,
    read_grades,
    request_grades,
)
from tasks.relabel.judges import open_comparers, open_graders, open_judges
from tasks.relabel.mining import (
    DensePool,
    PassagePool,
    Screen,
    backfill,
    fill_empty_rows,
    screen_candidates,
    with_negatives,
)
from tasks.relabel.output import FIXED_WIDTH, Fitting, check_soft_labels, with_soft_labels
from tasks.relabel.planning import ScoreEstimate, measured_rates, plan_job_rows, record_rates
from tasks.relabel.quality import (
    COUNTED,
    AuditLine,
    Qrels,
    QueryCounts,
    RunStatistics,
    agreement_with_people,
    audit_lines,
    describe_grades,
    read_audit_sheet,
    read_qrels,
    sample_lines,
    write_audit_sheet,
)
from tasks.relabel.scoring import (
    MINING_WINDOW,
    Score,
    ScoreWindow,
    check_score,
    embed,
    is_score,
    model_of,
    open_scorer,
    recorded_score,
    relabel_by_scores,
    score_rows,
)
from tasks.relabel.stored_parts import Parts, Summary
from tasks.relabel.survey import Survey
from tasks.relabel.two_stage import (
    PositiveTexts,
    Screening,
    apply_decision_rule,
    plan_rows,
    relabel_by_grades,
    relabel_in_cascade,
    relabel_with_panel,
)
from tasks.relabel.written import (
    PartWriting,
    Writer,
    Writing,
    add_written,
    check_source,
    check_writer,
    source_warning,
)
from tasks.run.parts import PartRunner
from tasks.run.progress import say, track

Strategy = Literal["two_stage", "cascade", "graded", "score"]


VERSION = 6
"""Version of the labels. Part of the keys of jobs and of the stage: increase it when the same input gives
different labels."""
TRUNCATED_HINT = "raise --max-tokens, or lower the effort of a judge that thinks (--extra-body)"
ROWS_PER_PART = 500
PARTS_AT_ONCE = 2
"""Parts that ask the judges at the same time in one process."""
PART_CHARACTERS = 64 << 20
SPARE_LINES = 1_000
"""Lines of audit sheets that are held beyond those that are needed."""
DEFAULTS = Relabel()
_NEEDS_GRADES = "give --verdicts (grades of judges) and --truth (grades of people)"


@dataclass(frozen=True)
class RelabelJob:
    """The options that the result depends on."""

    strategy: Strategy
    judges: tuple[str, ...]
    policy: Policy
    rule: Rule
    scales: dict[str, int] = field(default_factory=dict)
    verdicts: Path | None = None
    truth: Path | None = None
    relevant_from: int = 2
    mine: int = 0
    screen: Screen | None = None
    audit: int = 0
    audited: Path | None = None
    exactly: int | None = None
    soft_labels: bool = False
    out_format: str = ""
    selection: RowSelection = field(default_factory=lambda: RowSelection())
    write: int = 0
    writer: str | None = None
    window: ScoreWindow = field(default_factory=ScoreWindow)
    mine_by: str = "bm25"

    @property
    def fill_to(self) -> int:
        """Number of negatives up to which mined ones are added. 0: none are."""
        if self.exactly is not None:
            return max(self.exactly, self.policy.min_negatives)
        return self.policy.min_negatives if self.policy.too_few == "backfill" else 0

    @property
    def needs_pool(self) -> bool:
        """Whether passages are searched."""
        return self.mine > 0 or self.fill_to > 0 or self.needs_bm25

    @property
    def mining_window(self) -> ScoreWindow:
        """Limits on the scores of mined passages."""
        return self.window if self.window != ScoreWindow() else MINING_WINDOW

    @property
    def is_dense(self) -> bool:
        """Whether passages are searched by their vectors."""
        return self.mine_by != "bm25" and (self.mine > 0 or self.fill_to > 0)

    @property
    def needs_bm25(self) -> bool:
        """Whether candidates are scored with BM25."""
        screens = self.screen is not None and self.screen.by == "bm25"
        return screens or (self.strategy == "score" and self.judges == ("bm25",))


@dataclass(frozen=True)
class RowSelection:
    """The rows of a trial run."""

    limit: int | None = None
    """Only the first rows."""
    sample: int | None = None
    """Only some random rows, in their order."""
    seed: int = 0

    @property
    def is_trial(self) -> bool:
        """Whether only some rows are relabelled."""
        return self.limit is not None or self.sample is not None

    def choose(self, rows: Iterable[CandidateSet], total: int) -> Iterator[CandidateSet]:
        """Yield the chosen rows.

        Args:
            rows: All rows.
            total: Their number.
        """
        chosen = None
        if self.sample is not None and self.sample < total:
            chosen = set(random.Random(self.seed).sample(range(total), self.sample))
        selected = (row for number, row in enumerate(rows) if chosen is None or number in chosen)
        return islice(selected, self.limit)

    def count(self, total: int) -> int:
        """Return the number of chosen rows."""
        return min(n for n in (total, self.limit, self.sample) if n is not None)


# --- a whole file -----------------------------------------------------------------------------------------


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
    _check_scores(job, settings)
    _check_use(job, rule)
    if audit and out is None:
        raise InputError("the audit sheet is written beside the result", hint="give --out")
    input_format = detect_format(input, split) if format == "auto" else check_format(format)
    corpus = _corpus_to_mine(input, input_format, corpus, mine_from)
    source = Source(input, input_format, corpus, read_qrels(positives) if positives else None, split)
    limits = RuleLimits(max_true_negatives_lost, min_relabel_precision)
    job = replace(job, out_format=check_format(out_format or input_format))
    _check_output(source, job, out, BadRows(skip_bad))
    if max_in_flight is not None:
        settings = replace(settings, limits=_with_max_in_flight(settings.limits, max_in_flight))
    job, notes = _choose_operating_point(source, job, limits, BadRows(skip_bad), rule)
    if plan:
        return plan_job(source, job, settings, BadRows(skip_bad))
    required = None if allow_abstentions else min_judged
    result = _relabel_source(source, job, settings, out, BadRows(skip_bad), required, run_parts)
    return result | notes


def _check_scores(job: RelabelJob, settings: ModelSettings) -> None:
    """Raise `InputError` for scores that are unknown, not usable, or in the wrong place."""
    if job.strategy == "score":
        if len(job.judges) != 1:
            raise InputError(
                "the strategy `score` uses one score",
                hint="name it: --judge embedding, bm25, score or rerank:openai:NAME@URL",
            )
        check_score(job.judges[0], settings)
    if job.screen is not None:
        check_score(job.screen.by, settings)
    if job.mine_by == "score" or job.mine_by.startswith("rerank:"):
        raise InputError(
            f"{job.mine_by} cannot search a corpus",
            hint="use --mine-by bm25, embedding or embedding:openai:NAME@URL",
        )
    check_score(job.mine_by, settings)


def _check_use(job: RelabelJob, rule: str | None) -> None:
    """Raise `InputError` for options that would have no effect, and for judges that are named twice."""
    twice = [name for name, count in Counter(job.judges).items() if count > 1]
    if twice:
        raise InputError(
            f"the judge {twice[0]} is named twice",
            hint="a panel needs different judges; name each judge once",
        )
    if rule is not None and job.strategy != "graded":
        raise InputError(
            f"--rule has no effect on the strategy {job.strategy}",
            hint="leave it out, or use --strategy graded",
        )
    if job.window != ScoreWindow() and job.strategy != "score" and not (job.mine or job.fill_to):
        raise InputError(
            "limits on scores have no effect without --strategy score and without mining",
            hint="add --strategy score, --mine N or --too-few backfill",
        )
    if job.strategy == "score" and job.policy.mode == "relabel":
        raise InputError(
            "--mode relabel has no effect on the strategy score, which promotes nothing",
            hint="leave out --mode, or use another strategy",
        )


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


def _check_output(source: Source, job: RelabelJob, out: Path | None, bad: BadRows) -> None:
    """Raise `InputError` for options that the output cannot satisfy, before anything is judged."""
    if job.exactly is not None and job.out_format not in FIXED_WIDTH:
        raise InputError(
            f"{job.out_format} has no fixed number of negatives",
            hint=f"use --exactly with {', '.join(FIXED_WIDTH)}",
        )
    if job.soft_labels:
        check_soft_labels(job.out_format, job.strategy in ("graded", "score"))
    if out is None:
        return
    check_target(out, job.out_format)
    if job.out_format != "beir" and container_of(out) == "parquet":
        check_parquet(source, job.out_format, bad)


def _choose_operating_point(
    source: Source, job: RelabelJob, limits: RuleLimits, bad: BadRows, rule: str | None
) -> tuple[RelabelJob, dict[str, Any]]:
    """Return the job with its rule, and notes on the recorded judges and the choice.

    The rule is the one that meets the limits, the given one, or by default the weighted vote for three or
    more judges.
    """
    if not job.verdicts:
        if limits.are_set:
            raise InputError("limits choose a rule over recorded grades", hint=_NEEDS_GRADES)
        if rule == WEIGHTED:
            raise InputError("the weighted vote needs recorded grades", hint="give --verdicts")
        return job, {}
    grades = read_grades(job.verdicts, job.judges, job.scales)
    notes: dict[str, Any] = {"judges": describe_judges(grades)}
    if not limits.are_set:
        audited = audited_pairs(source, job, bad) if rule in (None, WEIGHTED) else {}
        weighted = WeightedVote.fit(grades, audited) if rule in (None, WEIGHTED) else None
        if weighted is not None:
            notes["judges"] |= {"weighted_vote": weighted.describe()}
            return replace(job, rule=weighted), notes
        if rule == WEIGHTED:
            raise InputError("the weighted vote needs at least three judges", hint="choose another --rule")
        return job, notes
    if not job.truth:
        raise InputError("limits choose a rule with known grades", hint=_NEEDS_GRADES)
    trial = RuleTrial(grades, read_qrels(job.truth), job.relevant_from, job.policy)
    for rows in split_rows(read_candidate_sets(source, bad)):
        trial.add(rows)
    chosen, notes["operating_point"] = choose_rule(trial, limits)
    return replace(job, rule=chosen), notes


def audited_pairs(source: Source, job: RelabelJob, bad: BadRows) -> dict[tuple[str, str], int]:
    """Return people's answers on an audit sheet by (query id, passage id)."""
    answers = read_audit_sheet(job.audited) if job.audited else {}
    rows = {row for row, _ in answers}
    return {
        (row.query_id, passage.id): answers[row.id, passage.id]
        for row in (read_candidate_sets(source, BadRows(bad.skip)) if answers else ())
        if row.id in rows
        for passage in row.negatives
        if (row.id, passage.id) in answers
    }


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


def survey_input(
    source: Source,
    matches: KnownTexts,
    bad: BadRows,
    settings: ModelSettings,
    parts: Parts | None,
    run_parts: PartRunner | None,
) -> tuple[Survey, BadRows]:
    """Read the input once, or the survey that a stopped run has kept, and check the files beside the input.

    Returns:
        The survey, and the repeated ids that were found.
    """
    first_pass = BadRows(bad.skip)
    if run_parts is not None:  # workers read the survey
        settings.run_dir.mkdir(parents=True, exist_ok=True)
    survey = Survey(
        matches.observe(read_candidate_sets(source, first_pass)),
        settings.run_dir if run_parts else None,
        keep=parts.folder / "survey" if parts else None,
    )
    if survey.is_new:
        matches.check()
        survey.keep({"repeated": first_pass.repeated, "repeated_ids": first_pass.repeated_ids})
    else:
        first_pass = replace(first_pass, **survey.notes)
    return survey, first_pass


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


def plan_job(source: Source, job: RelabelJob, settings: ModelSettings, bad: BadRows) -> dict[str, Any]:
    """Return the estimated calls, tokens, cost and time of a job, without any call.

    Mined negatives are counted. Screens with BM25 or scores of the file are applied, those with a model are
    not. Backfilled negatives depend on the verdicts and are left out.
    """
    survey = Survey(read_candidate_sets(source, BadRows(bad.skip)))
    rows = job.selection.choose(read_candidate_sets(source, bad), survey.rows)
    pool = None if job.is_dense else open_pool(source, job, settings, bad.skip)
    plans = (plan for chunk in split_rows(rows) for plan in _plan_part(chunk, source, job, pool, survey))
    judges = () if job.verdicts else job.judges
    scores = [*(judges if job.strategy == "score" else ()), *([job.screen.by] if job.screen else ())]
    searched = None
    if source.corpus is not None and job.is_dense and model_of(job.mine_by):
        searched = ScoreEstimate(job.mine_by)
        for passage in read_corpus(source.corpus, BadRows(bad.skip)):
            searched.add_text(passage.text)
    return plan_job_rows(
        plans,
        job.strategy,
        judges,
        settings,
        writer=job.writer,
        write=job.write,
        scores=scores,
        searched=searched,
    )


def _plan_part(
    rows: Sequence[CandidateSet],
    source: Source,
    job: RelabelJob,
    pool: PassagePool | None,
    known: PositiveTexts,
) -> list[RowPlan]:
    """Plan the rows of one part. Passages that vectors would find are replaced by the first ones."""
    if job.mine and job.is_dense:
        passages = read_corpus(source.corpus, BadRows(skip=True)) if source.corpus else _passages_of(rows)
        typical = list(islice(passages, job.mine))
        rows = [row if row.negatives else with_negatives(row, typical) for row in rows]
    elif job.mine:
        rows = fill_empty_rows(rows, pool or PassagePool(_passages_of(rows)), job.mine, job.mining_window)
    screen = None
    if job.screen is not None and job.screen.by in ("bm25", "score"):
        score = bm25_of(rows, pool) if job.screen.by == "bm25" else recorded_score
        screen = screening_step(job.screen, score)
    return plan_rows(rows, job.policy, known, screen)


def open_pool(
    source: Source, job: RelabelJob, settings: ModelSettings, skip_bad: bool, folder: Path | None = None
) -> PassagePool | None:
    """Index the corpus if there is one and the job searches it.

    Args:
        source: Names the corpus.
        job: The options.
        settings: Keys, limits and prices of the models.
        skip_bad: Leave out passages that cannot be read.
        folder: Where the vectors of the passages are kept.
    """
    if source.corpus is None or not job.needs_pool:
        return None
    passages = read_corpus(source.corpus, BadRows(skip_bad))
    return make_pool(passages, job, settings, folder) if job.is_dense else CorpusPool(passages)


def make_pool(
    passages: Iterable[Passage], job: RelabelJob, settings: ModelSettings, folder: Path | None = None
) -> PassagePool:
    """Index passages with the score that the job searches by."""
    if job.is_dense:
        return DensePool(passages, partial(embed, job.mine_by, settings=settings), folder)
    return PassagePool(passages)


def job_key(source: Source, job: RelabelJob, settings: ModelSettings) -> str:
    """Return the key of a job. Finished parts are reused by a run with the same key only."""
    folder = settings.data_dir / "prompts"
    prompts = sorted([*folder.glob("relabel_*.md"), *folder.glob("json_*.md")])
    described = {
        "version": VERSION,
        "format": source.format,
        "input": fingerprint_input(source.path),
        "beside": [file_hash(p) for p in (source.corpus, job.verdicts, job.truth, job.audited) if p],
        "relevant": sorted([*pair, grade] for pair, grade in (source.relevant or {}).items()),
        "strategy": [job.strategy, job.judges, job.scales, job.relevant_from, job.mine, job.audit],
        "screen": asdict(job.screen) if job.screen else None,
        "policy": asdict(job.policy),
        "rule": asdict(job.rule),
        "output": [job.exactly, job.soft_labels, job.out_format if job.soft_labels else ""],
        "selection": [source.split, *asdict(job.selection).values()],
        "written": [job.write, job.writer],
        "scores": [*asdict(job.window).values(), job.mine_by],
        "prompts": [file_hash(path) for path in prompts],
        "rows_a_part": ROWS_PER_PART,
    }
    return content_hash(described)


def fingerprint_input(path: Path) -> str:
    """Return a hash of a file, or of all files of a folder."""
    if path.is_file():
        return file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return content_hash([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])


# --- files beside the input -------------------------------------------------------------------------------


@dataclass
class KnownTexts:
    """Whether grades and answers beside the input belong to its rows."""

    pairs: dict[str, Collection[tuple[str, str]]]
    """Pairs (query id, passage id) by option."""
    rows: Collection[str] = ()
    """Ids of rows on an audit sheet."""
    found: set[str] = field(default_factory=set)
    example: tuple[str, str] | None = None
    """A pair of the input."""

    def observe(self, sets: Iterable[CandidateSet]) -> Iterator[CandidateSet]:
        """Yield the sets and remember which files match."""
        for row in sets:
            if row.id in self.rows:
                self.found.add("--audited")
            for option, pairs in self.pairs.items():
                for passage in () if option in self.found else (*row.positives, *row.negatives):
                    self.example = self.example or (row.query_id, passage.id)
                    if (row.query_id, passage.id) in pairs:
                        self.found.add(option)
                        break
            yield row

    def check(self) -> None:
        """Raise `InputError` for all files that match nothing."""
        options = [*self.pairs, *(["--audited"] if self.rows else [])]
        missing = [option for option in options if option not in self.found]
        if not missing:
            return
        of_file = (
            f" (a pair of the input is {self.example[0]!r}, {self.example[1]!r})" if self.example else ""
        )
        raise InputError(
            f"nothing in {' and '.join(missing)} matches a row of the input",
            hint=f"query ids and passage ids must be the same as in the input{of_file}",
        )


def matches_of(
    source: Source, job: RelabelJob, qrels: Qrels | None, answers: Mapping[tuple[str, str], int]
) -> KnownTexts:
    """Return what is compared with the rows of the input."""
    pairs: dict[str, Collection[tuple[str, str]]] = {}
    if qrels is not None:
        pairs["--truth"] = qrels.keys()
    if job.verdicts:
        pairs["--verdicts"] = read_grades(job.verdicts, job.judges, job.scales).by_pair.keys()
    if source.relevant is not None:
        pairs["--positives"] = source.relevant.keys()
    return KnownTexts(pairs, {row for row, _ in answers})


# --- one part ---------------------------------------------------------------------------------------------


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


async def relabel_rows(
    rows: Sequence[CandidateSet],
    job: RelabelJob,
    strategy: OpenStrategy,
    known: PositiveTexts = None,
    pool: PassagePool | None = None,
) -> Relabelling:
    """Mine negatives for rows without any, relabel all rows, and backfill rows with too few left.

    Args:
        rows: The candidate sets.
        job: The options.
        strategy: The strategy with its judges.
        known: Normalised positives of the whole file.
        pool: Passages to search. Default: those of `rows`.
    """
    if pool is None and (job.mine or job.fill_to):
        pool = make_pool(_passages_of(rows), job, strategy.settings).for_part(strategy.meter)
        strategy.meter.add_costs(pool.index_costs)
    if job.mine and pool:
        rows = fill_empty_rows(rows, pool, job.mine, job.mining_window)
    screen = None
    if job.screen is not None:
        bm25 = bm25_of(rows, pool) if job.screen.by == "bm25" else None
        scorer = open_scorer(job.screen.by, strategy.settings, bm25, strategy.meter)
        screen = screening_step(job.screen, await score_rows(rows, scorer))
    relabelling = await strategy.relabel(rows, known, screen)
    if not job.fill_to or pool is None:
        return relabelling
    policy = replace(job.policy, min_negatives=job.fill_to)
    decide = partial(strategy.relabel, known=known, screen=None)
    return await backfill(relabelling, pool, policy, decide, job.mining_window)


def _passages_of(rows: Iterable[CandidateSet]) -> Iterator[Passage]:
    return (passage for row in rows for passage in (*row.positives, *row.negatives))


def bm25_of(rows: Sequence[CandidateSet], pool: PassagePool | None) -> Score:
    """Return the BM25 score over a corpus, or over the passages of the rows if no corpus is indexed."""
    indexed = pool is not None and not isinstance(pool, DensePool)
    return pool.score if pool is not None and indexed else PassagePool(_passages_of(rows)).score


def screening_step(screen: Screen, score: Score) -> Screening:
    """Return the screen as a function of plans."""
    return lambda plans: screen_candidates(plans, screen, score)


# --- strategies -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenStrategy:
    """A strategy with its open judges."""

    job: RelabelJob
    settings: ModelSettings
    models: Sequence[Any] = ()
    """Its open judges. Those that are models are `MeteredModel`s."""
    recorded: Grades | None = None
    """Grades of recorded judges."""
    pool: PassagePool | None = None
    """The index of a corpus."""
    meter: CostMeter = field(default_factory=lambda: CostMeter("relabel"))
    """Calls of score endpoints and embedding servers."""

    def for_part(self, meter: CostMeter, pool: PassagePool | None) -> OpenStrategy:
        """Return the strategy with the same judges, whose costs are counted apart."""
        models = [model.for_part() if isinstance(model, MeteredModel) else model for model in self.models]
        return replace(self, models=models, pool=pool, meter=meter)

    async def relabel(
        self, rows: Sequence[CandidateSet], known: PositiveTexts, screen: Screening
    ) -> Relabelling:
        """Relabel rows."""
        job = self.job
        if job.strategy == "score":
            return await self._by_score(rows, known, screen)
        if job.strategy == "two_stage":
            return await relabel_with_panel(rows, self.models, job.policy, known, screen)
        if job.strategy == "cascade":
            return await relabel_in_cascade(rows, self.models, job.policy, known, screen)
        if self.recorded is not None:
            return relabel_by_grades(rows, self.recorded, job.rule, job.policy, known, screen)
        plans: list[RowPlan] = plan_rows(rows, job.policy, known, screen)
        return apply_decision_rule(plans, await request_grades(plans, self.models), job.rule, job.policy)

    async def _by_score(
        self, rows: Sequence[CandidateSet], known: PositiveTexts, screen: Screening
    ) -> Relabelling:
        job, name = self.job, self.job.judges[0]
        bm25 = bm25_of(rows, self.pool) if name == "bm25" else None
        scorer = open_scorer(name, self.settings, bm25, self.meter)
        plans = plan_rows(rows, job.policy, known, screen)
        score = await score_rows(rows, scorer)
        return relabel_by_scores(plans, score, job.window.or_default(), job.policy, name)

    def costs(self) -> tuple[StageCost, ...]:
        """Return the costs of the judges so far."""
        return tuple(cost for judge in self.models for cost in judge.costs())

    def paces(self) -> dict[str, tuple[float, float]]:
        """Return the calls that each judge was sent so far, and the seconds that they took."""
        judges = [judge for judge in self.models if isinstance(judge, MeteredModel)]
        return {judge.name: (judge.pace.calls, judge.pace.seconds) for judge in judges}

    def answered(self) -> list[Yield]:
        """Return how many answers each model was asked for, and how many cannot be used."""
        return [judge.answered for judge in self.models if isinstance(judge, MeteredModel)]


@asynccontextmanager
async def open_strategy(
    job: RelabelJob, settings: ModelSettings, subject: str = "passage", pool: PassagePool | None = None
) -> AsyncIterator[OpenStrategy]:
    """Open the judges of a job's strategy, for `passage`s or `question`s. `pool` is the index of a corpus."""
    opening: AbstractAsyncContextManager[Sequence[Any]] = nullcontext(())
    recorded = None
    if job.strategy == "two_stage":
        opening = open_judges(job.judges, settings, subject)
    elif job.strategy == "cascade":
        opening = open_comparers(job.judges, settings, subject)
    elif job.verdicts:
        recorded = read_grades(job.verdicts, job.judges, job.scales)
    elif job.strategy == "graded":
        opening = open_graders(job.judges, settings, subject)
    async with opening as models:
        yield OpenStrategy(job, settings, models, recorded, pool)


@asynccontextmanager
async def open_writer(job: RelabelJob, settings: ModelSettings) -> AsyncIterator[Writer | None]:
    """Open the model that writes negatives, if the job has one."""
    if not job.write or job.writer is None:
        yield None
        return
    async with open_model(job.writer, settings) as model:
        yield Writer(model, read_prompt(settings.data_dir, "relabel_write"))


def split_rows(rows: Iterable[CandidateSet]) -> Iterator[list[CandidateSet]]:
    """Yield the rows of one part each: at most `ROWS_PER_PART`, and not many more than `PART_CHARACTERS`."""
    part: list[CandidateSet] = []
    size = 0
    for row in rows:
        part.append(row)
        passages = (*row.positives, *row.negatives)
        size += len(row.query) + len(row.extra) + sum(len(p.text) + len(p.extra) for p in passages)
        if len(part) == ROWS_PER_PART or size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part
