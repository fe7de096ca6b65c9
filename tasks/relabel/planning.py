"""Estimate the calls, tokens, cost and time of a relabelling before anything is asked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.labels import CandidateSet, Passage
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, read_candidate_sets
from tasks.files.retrieval_beir import read_corpus
from tasks.judges.relevance import ComparisonQuestion, EvidenceQuestion, comparison_messages, passage_messages
from tasks.models import ModelSettings
from tasks.models.embeddings import BATCH as TEXTS_PER_REQUEST
from tasks.models.prompts import read_prompt
from tasks.models.protocol import estimate_prompt_tokens, estimate_tokens
from tasks.models.rerank import BATCH as PAIRS_PER_REQUEST
from tasks.relabel.cascade import PASSAGES_PER_CALL
from tasks.relabel.decisions import RowPlan
from tasks.relabel.job import RelabelJob, split_rows
from tasks.relabel.mining import PassagePool, fill_empty_rows, with_negatives
from tasks.relabel.scoring import model_of, recorded_score
from tasks.relabel.strategies import bm25_of, open_pool, passages_of, screening_step
from tasks.relabel.survey import Survey
from tasks.relabel.two_stage import PositiveTexts, plan_rows
from tasks.relabel.written import SHOWN_POSITIVES
from tasks.run.store import write_bytes

TOKENS_OUT = {"evidence": 9, "rank": 8, "compare": 30, "grade": 10}
"""Length of an answer without its content, by kind of call. Spans and ranks are added."""
TOKENS_PER_RANK = 2
WITH_EVIDENCE = 0.38
"""Share of hard negatives that contain an answer, by which the rankings are estimated (ARHN: 3.8 of 10)."""
SPAN_TOKENS = 40
"""Typical length of a span in a ranking."""
TOKENS_PER_WRITTEN = 150
"""Typical length of a written passage."""
TYPICAL_PASSAGE = "word " * 110
NOT_MEASURED = "not measured: run the judge once, e.g. with --limit 50"
RATE_FILE = "relabel_rate.json"
ANSWER_FILE = "relabel_answer_tokens.json"


def plan_job_rows(
    plans: Iterable[RowPlan],
    strategy: str,
    judges: Sequence[str],
    settings: ModelSettings,
    *,
    writer: str | None = None,
    write: int = 0,
    scores: Sequence[str] = (),
    searched: ScoreEstimate | None = None,
) -> dict[str, Any]:
    """Return the estimate for planned rows.

    Args:
        plans: The rows after the rules.
        strategy: `two_stage`, `cascade` or `graded`.
        judges: The judges. Those without a model cost nothing.
        settings: Prices, prompts, and the folder with the measured rate.
        writer: The model that writes negatives.
        write: Negatives that it writes per row.
        scores: Scores that decide or screen. Every passage of a row is scored, before the rules.
        searched: Texts of a corpus that are embedded to mine negatives.

    Returns:
        `calls`, `tokens_in`, `tokens_out`, `cost_usd` and `seconds`, also by judge. `seconds` is `None` until
        a run with the judge has measured its rate. Such a run also measures the length of the answers. The
        cascade is estimated as if the first judge flagged every row, which is the upper bound.
    """
    prompts = {
        name: read_prompt(settings.data_dir, f"relabel_{name}")
        for name in ("evidence", "rank", "compare", "grade", "write")
    }
    rows = candidates = by_rule = 0
    calls, tokens_in, tokens_out = 0, 0, 0
    written_for = writer_in = 0
    scored = {name: ScoreEstimate(name) for name in scores if model_of(name)}
    rank_size = estimate_prompt_tokens(prompts["rank"].fill(query="", evidence=""))
    for plan in plans:
        rows += 1
        for estimate in scored.values():
            estimate.add(plan.row)
        if write and plan.row.positives:
            written_for += 1
            examples = "\n\n".join(p.text for p in plan.row.positives[:SHOWN_POSITIVES])
            writer_in += estimate_prompt_tokens(
                prompts["write"].fill(query=plan.row.query, positives=examples, count=str(write))
            )
            calls += write
            typical = EvidenceQuestion(plan.row.query, Passage(id="", text=TYPICAL_PASSAGE))
            kind = "grade" if strategy == "graded" else "evidence"
            tokens_in += write * estimate_prompt_tokens(passage_messages(prompts[kind], typical))
            tokens_out += write * (TOKENS_OUT[kind] + (SPAN_TOKENS if kind == "evidence" else 0))
        candidates += len(plan.row.negatives)
        by_rule += len(plan.decided)
        if strategy == "score" or not plan.undecided or not (plan.positives or strategy == "graded"):
            continue
        positives = [plan.row.positives[i] for i in plan.positives]
        negatives = [plan.row.negatives[i] for i in plan.undecided]
        if strategy == "cascade":
            for start in range(0, len(negatives), PASSAGES_PER_CALL):
                shown = tuple(negatives[start : start + PASSAGES_PER_CALL])
                question = ComparisonQuestion(plan.row.query, tuple(positives), shown)
                calls += 1
                tokens_in += estimate_prompt_tokens(comparison_messages(prompts["compare"], question))
                tokens_out += TOKENS_OUT["compare"]
            continue
        kind = "evidence" if strategy == "two_stage" else "grade"
        for passage in (*positives, *negatives):
            calls += 1
            tokens_in += estimate_prompt_tokens(
                passage_messages(prompts[kind], EvidenceQuestion(plan.row.query, passage))
            )
            tokens_out += TOKENS_OUT[kind]
        if strategy == "two_stage":
            tokens_out += round(sum(map(_span_tokens, positives)))
            tokens_out += round(WITH_EVIDENCE * sum(map(_span_tokens, negatives)))
            spans = len(positives) + math.ceil(WITH_EVIDENCE * len(negatives))
            windows = 2 * math.ceil(spans / 20)
            calls += windows
            tokens_in += windows * (rank_size + SPAN_TOKENS * min(20, spans))
            tokens_out += windows * (TOKENS_OUT["rank"] + TOKENS_PER_RANK * min(20, spans))
    by_judge = {
        judge: _judge_estimate(judge, calls, tokens_in, tokens_out, settings)
        for judge in judges
        if ":" in judge and strategy != "score"
    }
    for estimate in combine_estimates([*scored.values(), *([searched] if searched else [])]):
        model = model_of(estimate.name) or estimate.name
        by_judge[model] = _judge_estimate(model, estimate.calls, estimate.tokens_in, 0, settings)
    if writer and write:
        writer_out = written_for * write * TOKENS_PER_WRITTEN
        by_judge[writer] = _judge_estimate(writer, written_for, writer_in, writer_out, settings)
    seconds = [estimate["seconds"] for estimate in by_judge.values()]
    return {
        "plan": True,
        "rows": rows,
        "candidates": candidates,
        "decided_by_rule": by_rule,
        **{
            name: sum(estimate[name] for estimate in by_judge.values())
            for name in ("calls", "tokens_in", "tokens_out")
        },
        "cost_usd": round(sum(estimate["cost_usd"] for estimate in by_judge.values()), 6),
        "seconds": None if None in seconds else round(sum(seconds), 3),
        "seconds_reason": NOT_MEASURED if None in seconds else None,
        "by_judge": by_judge,
    }


@dataclass
class ScoreEstimate:
    """Calls and tokens of a score over the rows so far."""

    name: str
    requests: float = 0.0
    tokens_in: int = 0

    def add(self, row: CandidateSet) -> None:
        """Add the passages of a row."""
        passages = [estimate_tokens(passage.text) for passage in (*row.positives, *row.negatives)]
        if self.name.startswith("rerank:"):
            self.requests += math.ceil(len(passages) / PAIRS_PER_REQUEST)
            self.tokens_in += len(passages) * estimate_tokens(row.query) + sum(passages)
        else:
            self.requests += (1 + len(passages)) / TEXTS_PER_REQUEST
            self.tokens_in += estimate_tokens(row.query) + sum(passages)

    def add_text(self, text: str) -> None:
        """Add a text that is embedded."""
        self.requests += 1 / TEXTS_PER_REQUEST
        self.tokens_in += estimate_tokens(text)

    @property
    def calls(self) -> int:
        """Number of requests."""
        return math.ceil(self.requests)


def combine_estimates(estimates: Iterable[ScoreEstimate]) -> list[ScoreEstimate]:
    """Add up estimates of the same score."""
    sums: dict[str, ScoreEstimate] = {}
    for estimate in estimates:
        total = sums.setdefault(estimate.name, ScoreEstimate(estimate.name))
        total.requests += estimate.requests
        total.tokens_in += estimate.tokens_in
    return list(sums.values())


def _span_tokens(passage: Passage) -> int:
    """Return the typical length of the evidence in a passage. It is not longer than the passage."""
    return min(SPAN_TOKENS, estimate_tokens(passage.text))


def _judge_estimate(
    judge: str, calls: int, tokens_in: int, tokens_out: int, settings: ModelSettings
) -> dict[str, Any]:
    rate = read_rates(settings.run_dir).get(judge)
    per_answer = read_rates(settings.run_dir, ANSWER_FILE).get(judge)
    tokens_out = tokens_out if per_answer is None else round(calls * per_answer)
    return {
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": round(settings.price(judge).cost_usd(tokens_in, tokens_out, calls=max(1, calls)), 6),
        "calls_per_second": rate,
        "seconds": None if rate is None else round(calls / rate, 3),
    }


# --- the measured rate ------------------------------------------------------------------------------------


def read_rates(run_dir: Path, name: str = RATE_FILE) -> Mapping[str, float]:
    """Return the calls per second, or the tokens per answer, that earlier runs measured, by judge.

    Empty if nothing was measured, or the file is damaged.
    """
    try:
        rates = json.loads((run_dir / name).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(rates, dict):
        return {}
    return {judge: rate for judge, rate in rates.items() if type(rate) is float and 0 < rate < 1e9}


def measured_rates(
    calls: Mapping[str, float], paces: Mapping[str, tuple[float, float]], seconds: float
) -> dict[str, float]:
    """Return the calls per second by model.

    Args:
        calls: Calls of the run by model.
        paces: Calls that were sent, and the seconds that they took, by judge. Of a judge whose answers all
            came from the cache, nothing is known.
        seconds: Time of the run. Workers that ask at the same time are faster together.
    """
    workers = max(1.0, sum(spent for _, spent in paces.values()) / seconds) if seconds > 0 else 1.0
    rates = {judge: workers * sent / spent for judge, (sent, spent) in paces.items() if sent and spent > 0}
    others = {name: number / seconds for name, number in calls.items() if number and seconds > 0}
    return {name: rate for name, rate in others.items() if name not in paces} | rates


def record_rates(run_dir: Path, rates: Mapping[str, float], tokens_per_answer: Mapping[str, float]) -> None:
    """Record the calls per second and the tokens per answer of a run. Other models keep theirs."""
    for name, found in ((RATE_FILE, rates), (ANSWER_FILE, tokens_per_answer)):
        if found:
            run_dir.mkdir(parents=True, exist_ok=True)
            merged = {**read_rates(run_dir, name), **found}
            write_bytes(run_dir / name, json.dumps(merged, sort_keys=True).encode())


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
        passages = read_corpus(source.corpus, BadRows(skip=True)) if source.corpus else passages_of(rows)
        typical = list(islice(passages, job.mine))
        rows = [row if row.negatives else with_negatives(row, typical) for row in rows]
    elif job.mine:
        rows = fill_empty_rows(rows, pool or PassagePool(passages_of(rows)), job.mine, job.mining_window)
    screen = None
    if job.screen is not None and job.screen.by in ("bm25", "score"):
        score = bm25_of(rows, pool) if job.screen.by == "bm25" else recorded_score
        screen = screening_step(job.screen, score)
    return plan_rows(rows, job.policy, known, screen)
