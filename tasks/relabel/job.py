"""The options of a relabelling: their checks, the rule that they choose, and the key of the result."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from schemas.errors import InputError
from schemas.labels import CandidateSet
from schemas.tables import content_hash, file_hash
from tasks.files.records import BadRows, container_of
from tasks.files.retrieval import Source, check_parquet, check_target, read_candidate_sets
from tasks.models import ModelSettings
from tasks.relabel.decisions import Policy
from tasks.relabel.graded import (
    WEIGHTED,
    Rule,
    RuleLimits,
    RuleTrial,
    WeightedVote,
    choose_rule,
    describe_judges,
    read_grades,
)
from tasks.relabel.mining import Screen
from tasks.relabel.output import FIXED_WIDTH, check_soft_labels
from tasks.relabel.quality import read_audit_sheet, read_qrels
from tasks.relabel.scoring import MINING_WINDOW, ScoreWindow, check_score

Strategy = Literal["two_stage", "cascade", "graded", "score"]

VERSION = 7
"""Version of the labels. Part of the keys of jobs and of the stage: increase it when the same input gives
different labels."""
ROWS_PER_PART = 500
PART_CHARACTERS = 64 << 20
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


def check_scores(job: RelabelJob, settings: ModelSettings) -> None:
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


def check_use(job: RelabelJob, rule: str | None) -> None:
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


def check_output(source: Source, job: RelabelJob, out: Path | None, bad: BadRows) -> None:
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


def choose_operating_point(
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
