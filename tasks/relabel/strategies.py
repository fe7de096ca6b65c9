"""Open the judges of a job, search its passages, and relabel rows with both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from schemas.labels import CandidateSet, Passage
from schemas.release import CostMeter, StageCost
from tasks.files.records import BadRows
from tasks.files.retrieval import Source
from tasks.files.retrieval_beir import read_corpus
from tasks.judges.relevance import MeteredModel
from tasks.judges.yields import Yield
from tasks.models import ModelSettings, open_model
from tasks.models.prompts import read_prompt
from tasks.relabel.corpus_pool import CorpusPool
from tasks.relabel.decisions import Relabelling, RowPlan
from tasks.relabel.graded import Grades, read_grades, request_grades
from tasks.relabel.job import RelabelJob
from tasks.relabel.judges import open_comparers, open_graders, open_judges
from tasks.relabel.mining import DensePool, PassagePool, Screen, backfill, fill_empty_rows, screen_candidates
from tasks.relabel.scoring import Score, embed, open_scorer, relabel_by_scores, score_rows
from tasks.relabel.two_stage import (
    PositiveTexts,
    Screening,
    apply_decision_rule,
    plan_rows,
    relabel_by_grades,
    relabel_in_cascade,
    relabel_with_panel,
)
from tasks.relabel.written import Writer


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
        pool = make_pool(passages_of(rows), job, strategy.settings).for_part(strategy.meter)
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


def passages_of(rows: Iterable[CandidateSet]) -> Iterator[Passage]:
    return (passage for row in rows for passage in (*row.positives, *row.negatives))


def bm25_of(rows: Sequence[CandidateSet], pool: PassagePool | None) -> Score:
    """Return the BM25 score over a corpus, or over the passages of the rows if no corpus is indexed."""
    indexed = pool is not None and not isinstance(pool, DensePool)
    return pool.score if pool is not None and indexed else PassagePool(passages_of(rows)).score


def screening_step(screen: Screen, score: Score) -> Screening:
    """Return the screen as a function of plans."""
    return lambda plans: screen_candidates(plans, screen, score)
