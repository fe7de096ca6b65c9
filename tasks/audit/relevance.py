"""Audit a judge of relevance against human grades.

References:
    NovelEval: Sun et al. (2023), arXiv:2304.09542.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.gate import Passport, ProbeResult
from schemas.labels import Passage
from schemas.release import StageCost
from tasks.audit.probes import abstention_result, make_result, mean_result
from tasks.judges.relevance import GRADE_TOKENS, EvidenceQuestion, ModelGrader
from tasks.judges.yields import require_yield
from tasks.models import ModelSettings, open_model
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import estimate_prompt_tokens
from tasks.run.store import RunContext, vocabulary_hashes
from tasks.stats.agreement import confusion_by_cluster, kappa_with_interval
from tasks.stats.intervals import SHARE_BOUNDS

GOLD = "gold/noveleval.jsonl"
PROMPT = "relabel_grade"
LEVELS = (0, 0, 1, 2)
"""Human grade that corresponds to each grade 0–3 of a judge: a passage on the subject is not relevant, a
partial answer is partially relevant, and an exact one fully."""


@dataclass(frozen=True)
class GradedPair:
    """A query and a passage with the human grade 0, 1 or 2."""

    query_id: str
    question: EvidenceQuestion
    human: int


def read_graded_pairs(data_dir: Path) -> list[GradedPair]:
    """Read data/gold/noveleval.jsonl in its order."""
    with (data_dir / GOLD).open(encoding="utf-8") as lines:
        return [_parse_pair(json.loads(line)) for line in lines]


def _parse_pair(record: dict[str, str | int]) -> GradedPair:
    passage = Passage(id=str(record["docid"]), text=str(record["text"]))
    question = EvidenceQuestion(str(record["query"]), passage)
    return GradedPair(str(record["qid"]), question, int(record["human_grade"]))


def estimate_grading(data_dir: Path) -> tuple[int, int, int]:
    """Return upper bounds on (calls, tokens in, tokens out)."""
    pairs, prompt = read_graded_pairs(data_dir), read_prompt(data_dir, PROMPT)
    messages = (prompt.fill(query=p.question.query, passage=p.question.passage.text) for p in pairs)
    return len(pairs), sum(map(estimate_prompt_tokens, messages)), GRADE_TOKENS * len(pairs)


async def grade_pairs(
    context: RunContext, judge: str, pairs: Sequence[GradedPair], prompt: Prompt
) -> tuple[list[int | None], tuple[StageCost, ...]]:
    """Return the judge's grades 0 to 3 in the order of the pairs, and their costs."""
    async with open_model(judge, ModelSettings.of(context)) as model:
        grader = ModelGrader(model, prompt)
        grades = await grader.grade([pair.question for pair in pairs])
        require_yield([grader.answered], context.recipe.validation.min_judged)
        return grades, grader.costs()


def relevance_passport(
    data_dir: Path, judge: str, prompt: Prompt, pairs: Sequence[GradedPair], grades: Sequence[int | None]
) -> Passport:
    """Compute the judge's passport from its grades."""
    return Passport(
        judge=judge,
        revision=None,
        rubric=PROMPT,
        rubric_hash=prompt.sha256,
        prompt_hash=prompt.sha256,
        comparison="pointwise",
        gold=vocabulary_hashes(data_dir, (GOLD,)),
        scenes=len(pairs),
        probes=tuple(relevance_results(pairs, grades)),
    )


def relevance_results(pairs: Sequence[GradedPair], grades: Sequence[int | None]) -> Iterable[ProbeResult]:
    """Yield kappa on three grades (quadratic weights) and on relevant or not, sensitivity and specificity.

    A partially relevant passage counts as relevant. Queries are the clusters of the intervals.
    """
    graded = [(p, LEVELS[g]) for p, g in zip(pairs, grades, strict=True) if g is not None]
    for measure, top in (("kappa_three_grades", 2), ("kappa_relevant", 1)):
        rows = [(p.query_id, min(p.human, top), min(grade, top)) for p, grade in graded]
        table = confusion_by_cluster(rows, top + 1)
        cells = table.sum(axis=0).reshape(top + 1, top + 1).astype(int).tolist()
        interval = kappa_with_interval(table)
        queries = len({p.query_id for p in pairs})
        yield make_result("gold", measure, interval, queries, note=f"people by judge: {cells}")
    for measure, relevant in (("sensitivity", True), ("specificity", False)):
        outcomes = _accuracy_by_query(graded, relevant)
        yield mean_result("gold", measure, outcomes, bounds=SHARE_BOUNDS)
    yield abstention_result(grades)


def _accuracy_by_query(graded: Sequence[tuple[GradedPair, int]], relevant: bool) -> list[float | None]:
    """Return the judge's accuracy by query on passages that people graded relevant, or not relevant."""
    correct: dict[str, list[bool]] = {}
    for pair, grade in graded:
        if (pair.human > 0) == relevant:
            correct.setdefault(pair.query_id, []).append((grade > 0) == relevant)
    return [sum(hits) / len(hits) for _, hits in sorted(correct.items())]
