"""Audit: a judge is shown answers whose truth is known, before it may decide anything.

Verdicts are asked for as in a build (rubric, prompt, masks, order), picks by data/prompts/audit_pick.md. What
is shown stands in `tasks.audit.scenes` and `picks`, what each probe measures in `tasks.audit.probes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import Judgement
from schemas.errors import BudgetError, ModelError
from schemas.gate import Passport
from schemas.release import StageCost
from tasks.audit.probes import abstentions, audit_divergence, own_results, pick_results, verdict_results
from tasks.audit.relevance import PROMPT as GRADE_PROMPT
from tasks.audit.relevance import estimate_tokens_of_pairs, grade_pairs, read_pairs, relevance_passport
from tasks.audit.scenes import (
    CUES,
    OWN_TOKENS,
    PAIRS,
    AuditMaterial,
    Pick,
    Picked,
    ProbeItem,
    ask_own_answers,
    ask_picks,
    ask_verdicts,
    fair_answer,
    finds_difference,
    own_answer_request,
    pick_request,
    place_picked,
    plan_own_picks,
    plan_picks,
    plan_verdicts,
    read_material,
    verdict_request,
)
from tasks.judges import divergence
from tasks.judges.comparison import ComparisonContext, read_for_judge
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import Completion, Request, estimate_prompt_tokens
from tasks.models.structured import Abstention, Parsed
from tasks.run.store import RunContext, vocabulary_hashes

ABSTAINED = 0.9
"""Share of looks without an answer from which there is nothing to write a passport about."""


@dataclass(frozen=True)
class Kit:
    """What one audit works with."""

    reading: ComparisonContext
    material: AuditMaterial
    pick: Prompt
    answer: Prompt


@dataclass(frozen=True)
class Answers:
    """Everything that a judge said."""

    judged: Mapping[ProbeItem, Judgement]
    picked: Mapping[ProbeItem, Parsed[Picked] | Abstention]
    own: Mapping[str, Completion]


@dataclass(frozen=True)
class AuditEstimate:
    """What an audit may take at most, were nothing cached."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


def audit(
    context: RunContext, judge: str, scenes: int | None = None
) -> tuple[Passport, tuple[StageCost, ...]]:
    """The passport of a judge, and what it took. Raises `ModelError` where hardly anything could be read."""
    if judge == divergence.JUDGE:
        return audit_divergence(Path(context.data_dir), scenes), ()
    kit = read_kit(context, judge, scenes)
    answers = run_async(ask_everything(context, kit))
    return passport_of(context, kit, answers), cost_of(judge, answers)


def audit_relevance(context: RunContext, judge: str) -> tuple[Passport, tuple[StageCost, ...]]:
    """The passport of a judge of relevance, from grades that people gave, and what it took."""
    data_dir = Path(context.data_dir)
    pairs, prompt = read_pairs(data_dir), read_prompt(data_dir, GRADE_PROMPT)
    grades, costs = run_async(grade_pairs(context, judge, pairs, prompt))
    paid = tuple(cost.model_copy(update={"stage": "audit"}) for cost in costs)
    return relevance_passport(data_dir, judge, prompt, pairs, grades), paid


def read_kit(context: RunContext, judge: str, scenes: int | None) -> Kit:
    """Rubric, prompts and scenes from data/."""
    data_dir = Path(context.data_dir)
    material = read_material(data_dir, scenes)
    reading = read_for_judge(context, judge, material.attributes)
    return Kit(reading, material, read_prompt(data_dir, "audit_pick"), read_prompt(data_dir, "audit_answer"))


def estimate_audit(context: RunContext, judge: str, scenes: int | None = None) -> AuditEstimate:
    """Calls, tokens and dollars at most, answers taken at their length limit. Spends nothing."""
    if judge == divergence.JUDGE:
        return AuditEstimate(0, 0, 0, 0.0)
    price = ModelSettings.of(context).price(judge)
    requests = list(planned_requests(read_kit(context, judge, scenes)))
    tokens_in = sum(estimate_prompt_tokens(request.messages) for request in requests)
    tokens_out = sum(request.decoding.max_tokens for request in requests)
    return AuditEstimate(len(requests), tokens_in, tokens_out, price.cost_usd(tokens_in, tokens_out))


def estimate_relevance(context: RunContext, judge: str) -> AuditEstimate:
    """As `estimate_audit`, for a judge of relevance."""
    calls, tokens_in, tokens_out = estimate_tokens_of_pairs(Path(context.data_dir))
    price = ModelSettings.of(context).price(judge)
    return AuditEstimate(calls, tokens_in, tokens_out, price.cost_usd(tokens_in, tokens_out))


def planned_requests(kit: Kit) -> Iterable[Request]:
    """Every call, with the fair answers in place of the judge's own, which nobody knows yet."""
    reading, material = kit.reading, kit.material
    stand_ins = {s.id: fair_answer(s) + " ." * OWN_TOKENS for s in material.scenes}
    yield from (verdict_request(reading, verdict)[0] for verdict in plan_verdicts(material))
    for pick in [*plan_picks(material), *plan_own_picks(material, stand_ins)]:
        yield pick_request(reading, kit.pick, material, pick)
    yield from (own_answer_request(kit.answer, material, scene) for scene in material.scenes)


def refuse_over_budget(judge: str, plan: AuditEstimate, budget_usd: float) -> None:
    """Raise `BudgetError` where the audit may cost more than the budget."""
    if plan.cost_usd > budget_usd:
        raise BudgetError(
            f"the audit of {judge} takes {plan.calls:,} calls and may cost ${plan.cost_usd:.2f}, "
            f"the budget is ${budget_usd:.2f}",
            place="--budget",
            hint=f"allow it with --budget {plan.cost_usd:.2f}, or take fewer --scenes; --free MODEL where it "
            "costs nothing",
        )


async def ask_everything(context: RunContext, kit: Kit) -> Answers:
    """Verdicts, the judge's own answers, then all picks."""
    reading, material = kit.reading, kit.material
    async with open_model(reading.bench.judge, ModelSettings.of(context)) as model:
        judged = await ask_verdicts(model, reading, list(plan_verdicts(material)))
        own = await ask_own_answers(model, kit.answer, material)
        picked = await ask_picks(model, reading, kit.pick, material, all_picks(kit, own))
    return Answers(judged, picked, own)


def all_picks(kit: Kit, own: Mapping[str, Completion]) -> list[Pick]:
    """Those with the judge's own answers last."""
    texts = {scene: completion.text for scene, completion in own.items()}
    return [*plan_picks(kit.material), *plan_own_picks(kit.material, texts)]


def passport_of(context: RunContext, kit: Kit, answers: Answers) -> Passport:
    """What the answers say about the judge."""
    bench, material = kit.reading.bench, kit.material
    said = {look: finds_difference(judgement) for look, judgement in answers.judged.items()}
    chosen = {look: place_picked(answer) for look, answer in answers.picked.items()}
    refuse_silence(bench.judge, answers)
    picks = all_picks(kit, answers.own)
    return Passport(
        judge=bench.judge,
        revision=revisions_of(answers),
        rubric=bench.rubric,
        rubric_hash=bench.rubric_hash,
        prompt_hash=bench.prompt_hash,
        comparison=context.recipe.judging.comparison,
        gold=vocabulary_hashes(Path(context.data_dir), (PAIRS, CUES)),
        scenes=len(material.scenes),
        probes=(
            *verdict_results(said, material),
            *pick_results(picks, chosen, material),
            *own_results(picks, chosen, material),
            abstentions([*said.values(), *chosen.values()]),
        ),
    )


def refuse_silence(judge: str, answers: Answers) -> None:
    """Raise `ModelError` where hardly any answer could be read."""
    reasons = [j.abstention for j in answers.judged.values() if j.abstention]
    reasons += [a.reason for a in answers.picked.values() if isinstance(a, Abstention)]
    if len(reasons) > ABSTAINED * (len(answers.judged) + len(answers.picked)):
        most = max(sorted(set(reasons)), key=reasons.count)
        raise ModelError(
            f"{judge} gave hardly any verdict that can be read; most often: {most}",
            hint="look at its server, raise `judging.max_tokens`, or take another judge",
        )


def revisions_of(answers: Answers) -> str | None:
    """What the server said it ran; several, where it changed."""
    said = {j.revision for j in answers.judged.values()} | {a.revision for a in answers.picked.values()}
    return ", ".join(sorted(r for r in said if r)) or None


def cost_of(judge: str, answers: Answers) -> tuple[StageCost, ...]:
    """Calls, tokens and dollars of the audit, at list prices."""
    spent = [(j.tokens_in, j.tokens_out, j.cost_usd) for j in answers.judged.values()]
    spent += [(a.spent.tokens_in, a.spent.tokens_out, a.spent.cost_usd) for a in answers.picked.values()]
    spent += [(c.tokens_in, c.tokens_out, c.cost_usd) for c in answers.own.values()]
    tokens_in, tokens_out, usd = (sum(column) for column in zip(*spent, strict=True))
    return (
        StageCost(
            stage="audit",
            model=judge,
            calls=len(spent),
            tokens_in=int(tokens_in),
            tokens_out=int(tokens_out),
            cost_usd=round(usd, 6),
        ),
    )
