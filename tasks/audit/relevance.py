"""The audit of a judge of relevance: its grades against those of people (NovelEval, arXiv 2304.09542)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.gate import Passport, ProbeResult
from schemas.labels import Passage
from schemas.release import StageCost
from schemas.tables import derived_seed
from tasks.audit.probes import abstentions, mean, result_of
from tasks.judges.relevance import GRADE_TOKENS, EvidenceQuestion, ModelGrader
from tasks.models import ModelSettings, open_model
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import estimate_prompt_tokens
from tasks.run.store import RunContext, vocabulary_hashes
from tasks.stats.agreement import confusion_by_cluster, kappa_with_interval

GOLD = "gold/noveleval.jsonl"
PROMPT = "relabel_grade"
LEVELS = (0, 0, 1, 2)
"""What a judge's grade 0, 1, 2, 3 is on the people's scale: about the subject is not relevant, a partial
answer is partly, an exact one fully relevant."""


@dataclass(frozen=True)
class GradedPair:
    """A query, a passage, and the grade that people gave: 0, 1 or 2."""

    query_id: str
    question: EvidenceQuestion
    human: int


def read_pairs(data_dir: Path) -> list[GradedPair]:
    """data/gold/noveleval.jsonl, in its order."""
    with (data_dir / GOLD).open(encoding="utf-8") as lines:
        return [_pair(json.loads(line)) for line in lines]


def _pair(record: dict[str, str | int]) -> GradedPair:
    passage = Passage(id=str(record["docid"]), text=str(record["text"]))
    question = EvidenceQuestion(str(record["query"]), passage)
    return GradedPair(str(record["qid"]), question, int(record["human_grade"]))


def estimate_tokens_of_pairs(data_dir: Path) -> tuple[int, int, int]:
    """Calls, tokens in and tokens out, at most."""
    pairs, prompt = read_pairs(data_dir), read_prompt(data_dir, PROMPT)
    messages = (prompt.fill(query=p.question.query, passage=p.question.passage.text) for p in pairs)
    return len(pairs), sum(map(estimate_prompt_tokens, messages)), GRADE_TOKENS * len(pairs)


async def grade_pairs(
    context: RunContext, judge: str, pairs: Sequence[GradedPair], prompt: Prompt
) -> tuple[list[int | None], tuple[StageCost, ...]]:
    """The judge's grades, 0 to 3, in the order of the pairs, and what they took."""
    async with open_model(judge, ModelSettings.of(context)) as model:
        grader = ModelGrader(model, prompt)
        return await grader.grade([pair.question for pair in pairs]), grader.costs()


def relevance_passport(
    data_dir: Path, judge: str, prompt: Prompt, pairs: Sequence[GradedPair], grades: Sequence[int | None]
) -> Passport:
    """What the grades say about the judge."""
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
    """Kappa with quadratic weights on the people's three grades and plain on relevant or not (from "partly"
    on), and how often the judge is right where people say yes or no. Resampled by query."""
    read = [(p, LEVELS[g]) for p, g in zip(pairs, grades, strict=True) if g is not None]
    for measure, top in (("kappa_three_grades", 2), ("kappa_relevant", 1)):
        rows = [(p.query_id, min(p.human, top), min(given, top)) for p, given in read]
        table = confusion_by_cluster(rows, top + 1)
        cells = table.sum(axis=0).reshape(top + 1, top + 1).astype(int).tolist()
        found = kappa_with_interval(table, derived_seed("gold", measure))
        yield result_of(
            "gold", measure, found, len({p.query_id for p in pairs}), note=f"people by judge: {cells}"
        )
    for measure, relevant in (("sensitivity", True), ("specificity", False)):
        yield mean("gold", measure, _by_query(read, relevant))
    yield abstentions(grades)


def _by_query(read: Sequence[tuple[GradedPair, int]], relevant: bool) -> list[float | None]:
    right: dict[str, list[bool]] = {}
    for pair, given in read:
        if (pair.human > 0) == relevant:
            right.setdefault(pair.query_id, []).append((given > 0) == relevant)
    return [sum(hits) / len(hits) for _, hits in sorted(right.items())]
