"""Audit stage: test a judge on answers with known labels and write its passport.

Verdicts are asked as in a build, with the same rubric, prompt, masking and order. Preferences are asked with
data/prompts/audit_pick.md. The material is defined in `tasks.audit.scenes`, the measures in
`tasks.audit.probes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import Judgement
from schemas.errors import BudgetError
from schemas.gate import Passport
from schemas.release import StageCost
from tasks.audit.probes import abstention_result, audit_divergence, own_results, pick_results, verdict_results
from tasks.audit.relevance import PROMPT as GRADE_PROMPT
from tasks.audit.relevance import estimate_grading, grade_pairs, read_graded_pairs, relevance_passport
from tasks.audit.scenes import (
    CUES,
    OWN_ANSWER_TOKENS,
    PAIRS,
    AuditMaterial,
    Picked,
    PreferenceProbe,
    ProbeItem,
    ask_own_answers,
    ask_preferences,
    ask_verdicts,
    detects_difference,
    make_own_answer_request,
    make_preference_request,
    make_probe_request,
    picked_index,
    plan_preferences,
    plan_self_preferences,
    plan_verdicts,
    read_material,
    reference_answer,
)
from tasks.judges import divergence
from tasks.judges.comparison import ComparisonJudge, read_comparison_judge
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import Completion, Request, estimate_prompt_tokens
from tasks.models.structured import Abstention, Parsed
from tasks.run.store import RunContext, vocabulary_hashes


@dataclass(frozen=True)
class AuditSetup:
    """A judge, the audit material and the prompts."""

    judge: ComparisonJudge
    material: AuditMaterial
    pick: Prompt
    answer: Prompt


@dataclass(frozen=True)
class AuditAnswers:
    """All answers of the judge."""

    judged: Mapping[ProbeItem, Judgement]
    picked: Mapping[ProbeItem, Parsed[Picked] | Abstention]
    own: Mapping[str, Completion]
    answered: Yield
    """Verdicts and picks asked for, and those that cannot be used."""


@dataclass(frozen=True)
class AuditEstimate:
    """Upper bounds on the calls, tokens and cost of an audit without cached answers."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


def audit(
    context: RunContext, judge: str, scenes: int | None = None
) -> tuple[Passport, tuple[StageCost, ...]]:
    """Audit a judge of answers.

    Returns:
        The passport and the costs.

    Raises:
        ModelError: If fewer answers can be used than `validate.min_judged` of those asked for.
    """
    if judge == divergence.JUDGE:
        return audit_divergence(Path(context.data_dir), scenes), ()
    setup = read_audit_setup(context, judge, scenes)
    answers = run_async(collect_answers(context, setup))
    return make_passport(context, setup, answers), sum_audit_costs(judge, answers)


def audit_relevance(context: RunContext, judge: str) -> tuple[Passport, tuple[StageCost, ...]]:
    """Audit a judge of relevance on human grades. Return the passport and the costs."""
    data_dir = Path(context.data_dir)
    pairs, prompt = read_graded_pairs(data_dir), read_prompt(data_dir, GRADE_PROMPT)
    grades, costs = run_async(grade_pairs(context, judge, pairs, prompt))
    audit_costs = tuple(cost.model_copy(update={"stage": "audit"}) for cost in costs)
    return relevance_passport(data_dir, judge, prompt, pairs, grades), audit_costs


def read_audit_setup(context: RunContext, judge: str, scenes: int | None) -> AuditSetup:
    """Read rubric, prompts and scenes from data/."""
    data_dir = Path(context.data_dir)
    material = read_material(data_dir, scenes)
    return AuditSetup(
        read_comparison_judge(context, judge, material.attributes),
        material,
        read_prompt(data_dir, "audit_pick"),
        read_prompt(data_dir, "audit_answer"),
    )


def estimate_audit(context: RunContext, judge: str, scenes: int | None = None) -> AuditEstimate:
    """Estimate an audit of a judge of answers, with every answer at its length limit. Makes no calls."""
    if judge == divergence.JUDGE:
        return AuditEstimate(0, 0, 0, 0.0)
    price = ModelSettings.of(context).price(judge)
    requests = list(plan_requests(read_audit_setup(context, judge, scenes)))
    tokens_in = sum(estimate_prompt_tokens(request.messages) for request in requests)
    tokens_out = sum(request.decoding.max_tokens for request in requests)
    return AuditEstimate(len(requests), tokens_in, tokens_out, price.cost_usd(tokens_in, tokens_out))


def estimate_relevance(context: RunContext, judge: str) -> AuditEstimate:
    """Estimate an audit of a judge of relevance. Makes no calls."""
    calls, tokens_in, tokens_out = estimate_grading(Path(context.data_dir))
    price = ModelSettings.of(context).price(judge)
    return AuditEstimate(calls, tokens_in, tokens_out, price.cost_usd(tokens_in, tokens_out))


def plan_requests(setup: AuditSetup) -> Iterable[Request]:
    """Yield every request, with reference answers in place of the judge's own, which are not yet known."""
    judge, material = setup.judge, setup.material
    placeholders = {s.id: reference_answer(s) + " ." * OWN_ANSWER_TOKENS for s in material.scenes}
    yield from (make_probe_request(judge, probe)[0] for probe in plan_verdicts(material))
    for probe in [*plan_preferences(material), *plan_self_preferences(material, placeholders)]:
        yield make_preference_request(judge, setup.pick, material, probe)
    yield from (make_own_answer_request(setup.answer, material, scene) for scene in material.scenes)


def check_audit_budget(judge: str, plan: AuditEstimate, budget_usd: float) -> None:
    """Raise `BudgetError` if the audit may cost more than the budget."""
    if plan.cost_usd > budget_usd:
        raise BudgetError(
            f"the audit of {judge} makes {plan.calls:,} calls and may cost ${plan.cost_usd:.2f}, "
            f"but the budget is ${budget_usd:.2f}",
            place="--budget",
            hint=f"raise it with --budget {plan.cost_usd:.2f}, lower --scenes, or add --free MODEL if it "
            "costs nothing",
        )


async def collect_answers(context: RunContext, setup: AuditSetup) -> AuditAnswers:
    """Ask for verdicts, then the judge's own answers, then all preferences."""
    judge, material = setup.judge, setup.material
    answered = Yield(judge.setup.judge, "verdicts")
    async with open_model(judge.setup.judge, ModelSettings.of(context)) as model:
        judged = await ask_verdicts(model, judge, list(plan_verdicts(material)), answered)
        own = await ask_own_answers(model, setup.answer, material)
        probes = plan_all_preferences(setup, own)
        picked = await ask_preferences(model, judge, setup.pick, material, probes, answered)
    return AuditAnswers(judged, picked, own, answered)


def plan_all_preferences(setup: AuditSetup, own: Mapping[str, Completion]) -> list[PreferenceProbe]:
    """Plan all preferences, those with the judge's own answers last."""
    texts = {scene: completion.text for scene, completion in own.items()}
    return [*plan_preferences(setup.material), *plan_self_preferences(setup.material, texts)]


def make_passport(context: RunContext, setup: AuditSetup, answers: AuditAnswers) -> Passport:
    """Compute the judge's passport from its answers.

    Raises:
        ModelError: If fewer answers can be used than `validate.min_judged` of those asked for.
    """
    judge, material = setup.judge.setup, setup.material
    require_yield([answers.answered], context.recipe.validation.min_judged)
    detections = {item: detects_difference(judgement) for item, judgement in answers.judged.items()}
    picks = {item: picked_index(answer) for item, answer in answers.picked.items()}
    probes = plan_all_preferences(setup, answers.own)
    return Passport(
        judge=judge.judge,
        revision=list_revisions(answers),
        rubric=judge.rubric,
        rubric_hash=judge.rubric_hash,
        prompt_hash=judge.prompt_hash,
        comparison=context.recipe.judging.comparison,
        gold=vocabulary_hashes(Path(context.data_dir), (PAIRS, CUES)),
        scenes=len(material.scenes),
        probes=(
            *verdict_results(detections, material),
            *pick_results(probes, picks, material),
            *own_results(probes, picks, material),
            abstention_result([*detections.values(), *picks.values()]),
        ),
    )


def list_revisions(answers: AuditAnswers) -> str | None:
    """Return the model revision reported by the server, or several if it changed."""
    revisions = {j.revision for j in answers.judged.values()}
    revisions |= {a.revision for a in answers.picked.values()}
    return ", ".join(sorted(r for r in revisions if r)) or None


def sum_audit_costs(judge: str, answers: AuditAnswers) -> tuple[StageCost, ...]:
    """Sum calls, tokens and dollars of the audit at list price."""
    spent = [(j.tokens_in, j.tokens_out, j.cost_usd) for j in answers.judged.values()]
    spent += [(a.spent.tokens_in, a.spent.tokens_out, a.spent.cost_usd) for a in answers.picked.values()]
    spent += [(c.tokens_in, c.tokens_out, c.cost_usd) for c in answers.own.values()]
    cost = StageCost.zero("audit", judge)
    for tokens_in, tokens_out, usd in spent:
        cost = cost.plus(1, tokens_in, tokens_out, usd)
    return (cost.rounded(),)
