"""Work on a long file in parts that are finished whole or not at all, so that a stopped run goes on.

.<out>.parts/job.json              what the parts belong to: another job starts afresh
.<out>.parts/00000/                sets.jsonl, changes.jsonl, review.jsonl, summary.json
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from schemas.errors import InputError
from schemas.labels import LABEL_HISTORY, CandidateSet, LabelChange
from schemas.release import StageCost
from schemas.tables import content_hash, file_hash
from tasks.files.records import BadRows, write_records
from tasks.files.retrieval import (
    Source,
    check_format,
    check_target,
    detect_format,
    losses_of,
    read_candidate_sets,
    write_candidate_sets,
)
from tasks.files.retrieval_beir import read_corpus
from tasks.models import ModelSettings, run_async
from tasks.relabel.decisions import Mode, Plan, Policy, RelabelledRow, Relabelling, TooFew, count_rows
from tasks.relabel.graded import (
    DecisionRule,
    RuleLimits,
    RuleTrial,
    choose_rule,
    describe_judges,
    request_grades,
    read_grades,
)
from tasks.relabel.judges import open_comparers, open_graders, open_judges
from tasks.relabel.mining import (
    PassagePool,
    Screen,
    backfill,
    recorded_score,
    screen_candidates,
    fill_empty_rows,
)
from tasks.relabel.quality import (
    COUNTED,
    AuditLine,
    RunStatistics,
    QueryCounts,
    audit_lines,
    agreement_with_people,
    sample_lines,
    read_qrels,
    read_audit_sheet,
    write_audit_sheet,
)
from tasks.relabel.two_stage import (
    PositiveTexts,
    Screening,
    plan_rows,
    relabel_by_grades,
    relabel_in_cascade,
    relabel_with_panel,
    apply_decision_rule,
)
from tasks.run.progress import track
from tasks.run.store import write_bytes
from tasks.text.normalize import normalise_for_match

T = TypeVar("T")
ROWS_PER_PART = 500


@dataclass(frozen=True)
class Summary:
    """What a part adds to the totals."""

    counts: dict[str, int]
    judged_by: Sequence[str] = ()
    truth: dict[str, list[int]] = field(default_factory=dict)
    """Counts by query id, see `truth.Tally`."""
    audit: Sequence[dict[str, Any]] = ()
    """Candidates for the sheet that people fill in, see `audit.AuditLine`."""
    observed: dict[str, Any] = field(default_factory=dict)
    """See `report.Observed`."""

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Summary:
        return cls(**orjson.loads(text))


class Parts:
    """The finished parts of one job, in order."""

    def __init__(self, home: Path, job: str) -> None:
        self.home = home
        marker = home / "job.json"
        if not marker.is_file() or marker.read_text() != job:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            write_bytes(marker, job.encode())

    def find(self, number: int) -> Summary | None:
        """The summary of a part, if it is finished."""
        path = self._place(number) / "summary.json"
        return Summary.from_json(path.read_bytes()) if path.is_file() else None

    def write(self, number: int, rows: Sequence[RelabelledRow], summary: Summary) -> None:
        """Write a part under a temporary name, then give it its own."""
        room = Path(tempfile.mkdtemp(prefix=".part-", dir=self.home))
        _write_lines(room / "sets.jsonl", (r.after.model_dump_json() for r in rows if r.after is not None))
        _write_lines(room / "changes.jsonl", (c.model_dump_json() for r in rows for c in r.changes))
        _write_lines(room / "review.jsonl", (_review(r) for r in rows if r.flags))
        write_bytes(room / "summary.json", summary.to_json())
        os.rename(room, self._place(number))

    def sets(self) -> Iterator[CandidateSet]:
        """Every row that is left, in order."""
        return (CandidateSet.model_validate_json(line) for line in self._lines("sets.jsonl"))

    def changes(self) -> Iterator[LabelChange]:
        """Every label change, in order."""
        return (LabelChange.model_validate_json(line) for line in self._lines("changes.jsonl"))

    def review(self) -> Iterator[dict[str, object]]:
        """The flagged rows, in order."""
        return (orjson.loads(line) for line in self._lines("review.jsonl"))

    def remove(self) -> None:
        """Forget all parts: the result is written."""
        shutil.rmtree(self.home)

    def _place(self, number: int) -> Path:
        return self.home / f"{number:05}"

    def _lines(self, name: str) -> Iterator[str]:
        for part in sorted(p for p in self.home.iterdir() if p.name.isdigit()):
            with (part / name).open(encoding="utf-8") as stream:
                yield from stream


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _review(row: RelabelledRow) -> str:
    record = {
        "id": row.before.id,
        "query_id": row.before.query_id,
        "query": row.before.query,
        "flags": row.flags,
        "dropped": row.after is None,
    }
    return orjson.dumps(record).decode()


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


# All positives of a file, by hash: 8 bytes each, so that "is this negative a positive elsewhere?" has an
# answer for files that do not fit in memory.


class KnownPositives:
    """A container of normalised texts. Two texts share a hash once in 2^64."""

    def __init__(self, sets: Iterable[CandidateSet]) -> None:
        import numpy as np

        hashes = array("Q")
        for row in sets:
            hashes.extend(_hash(normalise_for_match(passage.text)) for passage in row.positives)
        self._hashes = np.unique(np.frombuffer(hashes, dtype=np.uint64)) if hashes else np.empty(0, np.uint64)

    def __contains__(self, text: object) -> bool:
        import numpy as np

        wanted = np.uint64(_hash(str(text)))
        at = int(np.searchsorted(self._hashes, wanted))
        return at < len(self._hashes) and bool(self._hashes[at] == wanted)


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


# What a file is relabelled with, and how one part of it is done.


Strategy = Literal["two_stage", "cascade", "graded"]
Relabeller = Callable[[Sequence[CandidateSet], PositiveTexts, Screening], Awaitable[Relabelling]]


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
class PartContext:
    """What every part is done with."""

    job: RelabelJob
    strategy: OpenStrategy
    known: KnownPositives
    pool: PassagePool | None
    """The corpus, where one was named."""
    tally: QueryCounts | None
    parts: Parts | None
    answers: dict[tuple[str, str], int]
    """What people answered on an audit sheet, by (row, docid)."""


def open_pool(source: Source, job: RelabelJob, bad: BadRows) -> PassagePool | None:
    """The corpus as a pool, where one was named and something is to be searched in it."""
    if source.corpus is None or not job.needs_pool:
        return None
    return PassagePool(passage for passage in read_corpus(source.corpus, bad))


async def relabel_part(rows: Sequence[CandidateSet], work: PartContext, number: int) -> Summary:
    """Relabel some rows, write them as a part, say what they add up to."""
    before = work.strategy.costs()
    relabelling = await relabel_rows(rows, work.job, work.strategy, work.known, work.pool)
    tally = QueryCounts(work.tally.qrels, work.tally.relevant_from) if work.tally else None
    if tally:
        tally.add(relabelling.rows)
    observed = RunStatistics.of(relabelling, costs_since(before, work.strategy.costs()))
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


def _lines_for_people(relabelling: Relabelling, work: PartContext) -> list[AuditLine]:
    """What may come on the sheet, and what people have answered already."""
    lines = list(audit_lines(relabelling.rows)) if work.job.audit or work.answers else []
    answered = [line for line in lines if (line.row, line.docid) in work.answers]
    return sorted({*sample_lines(lines, work.job.audit), *answered})


async def relabel_rows(
    rows: Sequence[CandidateSet],
    job: RelabelJob,
    strategy: OpenStrategy,
    known: PositiveTexts = None,
    pool: PassagePool | None = None,
) -> Relabelling:
    """Mine where there are no negatives, relabel, fill up where too few are left. Without a `pool` the
    passages of these rows are one."""
    if job.needs_pool and pool is None:
        pool = PassagePool(p for row in rows for p in (*row.positives, *row.negatives))
    screen = screening_step(job.screen, pool)
    if job.mine and pool:
        rows = fill_empty_rows(rows, pool, job.mine)
    relabelling = await strategy.relabel(rows, known, screen)
    if job.policy.too_few != "backfill" or pool is None:
        return relabelling
    return await backfill(relabelling, pool, job.policy, lambda sets: strategy.relabel(sets, known, None))


def screening_step(screen: Screen | None, pool: PassagePool | None) -> Screening:
    """The screen as a step of planning; `None` where there is none."""
    if screen is None:
        return None
    score = pool.score if screen.by == "bm25" and pool else recorded_score
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
                rows: Sequence[CandidateSet], known: PositiveTexts, screen: Screening
            ) -> Relabelling:
                plans: list[Plan] = plan_rows(rows, job.policy, known, screen)
                return apply_decision_rule(plans, await request_grades(plans, graders), job.rule, job.policy)

            yield OpenStrategy(by_grades, lambda: tuple(c for grader in graders for c in grader.costs()))


def _recorded_strategy(job: RelabelJob, verdicts: Path) -> OpenStrategy:
    recorded = read_grades(verdicts, job.judges, job.scales)

    async def by_record(rows: Sequence[CandidateSet], known: PositiveTexts, screen: Screening) -> Relabelling:
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
        "rows_a_part": ROWS_PER_PART,
    }
    return content_hash(described)


def fingerprint_input(path: Path) -> str:
    """A hash of a file, or of all files of a folder."""
    if path.is_file():
        return file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return content_hash([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])


# Relabel a retrieval file: read in parts, relabel, write; resumable, and never all in memory.


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
    limits = RuleLimits(max_true_negatives_lost, min_relabel_precision)
    if out is not None:
        check_target(out, out_format or found)
    job, notes = _at_operating_point(source, job, limits, BadRows(skip_bad))
    result = run_async(_relabel_source(source, job, settings, out, out_format or found, BadRows(skip_bad)))
    return result | notes


def _at_operating_point(
    source: Source, job: RelabelJob, limits: RuleLimits, bad: BadRows
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
    for rows in chunked(read_candidate_sets(source, bad), ROWS_PER_PART):
        trial.add(rows)
    rule, notes["operating_point"] = choose_rule(trial, limits)
    return replace(job, rule=rule), notes


async def _relabel_source(
    source: Source, job: RelabelJob, settings: ModelSettings, out: Path | None, out_format: str, bad: BadRows
) -> dict[str, Any]:
    check_format(out_format)
    known = KnownPositives(read_candidate_sets(source, BadRows(bad.skip)))
    parts = Parts(out.with_name(f".{out.name}.parts"), job_key(source, job, settings)) if out else None
    tally = QueryCounts(read_qrels(job.truth), job.relevant_from) if job.truth else None
    counts: Counter[str] = Counter(count_rows(()))
    judged_by: set[str] = set()
    observed = RunStatistics()
    lines: list[AuditLine] = []
    pool = open_pool(source, job, BadRows(bad.skip))
    answers = read_audit_sheet(job.audited) if job.audited else {}
    async with open_strategy(job, settings) as strategy:
        with track("relabelling rows", None) as bar:
            for number, rows in enumerate(chunked(read_candidate_sets(source, bad), ROWS_PER_PART)):
                summary = parts.find(number) if parts else None
                if summary is None:
                    summary = await relabel_part(
                        rows, PartContext(job, strategy, known, pool, tally, parts, answers), number
                    )
                counts.update(summary.counts)
                judged_by.update(summary.judged_by)
                observed.merge(RunStatistics.from_dict(summary.observed))
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
            write_audit_sheet(out.with_name(f"{out.name}.audit.csv"), sample_lines(lines, job.audit))
        result |= _write_results(parts, out, out_format, source)
    if answers:
        result["audit"] = agreement_with_people(lines, answers)
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
