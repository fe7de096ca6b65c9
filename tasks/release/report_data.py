"""What the report shows, read from a release's tables and manifest, before anything is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.decision import DROPPED, Dropped, StageCounts
from schemas.effect import EFFECTS, Effect
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.manifest import Manifest
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from tasks.release.configs import CONTROLS, HARD_NEGATIVES
from tasks.release.facts import (
    FLOOR_CONTROLS,
    Floor,
    JudgeKind,
    Shrinkage,
    deciding_fitness_form,
    drop_reasons,
    fitness_by_phase,
    fitness_floor,
    judge_kind,
    shrinkage,
)
from tasks.release.reading import Contents
from tasks.release.report_effects import FamilyEffects, family_effects
from tasks.release.report_evolution import Operation, Round, operations, rounds
from tasks.release.report_groups import Group, choose_groups, groups
from tasks.release.report_headlines import Headline, headlines
from tasks.release.report_judges import (
    Agreement,
    Audited,
    JudgeRecord,
    OrderEffect,
    agreement,
    audited_judges,
    judge_records,
    order_effects,
)
from tasks.release.report_sections import (
    CostLine,
    Coverage,
    Duplicate,
    Relabelled,
    StayedApart,
    Transition,
    cost_lines,
    coverage,
    nearest_duplicates,
    relabelled_questions,
    stayed_apart,
    transitions,
)
from tasks.release.report_trust import Panel, Standing, panel_of, selection_effects, standings

NEAR_DUPLICATES = 10
RELABELLED = 3
"""Examples per kind of change."""


@dataclass(frozen=True)
class Share:
    """`part` of `whole`."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        return 100 * self.part / self.whole if self.whole else 0.0


@dataclass(frozen=True)
class ReportData:
    """Everything that the page tells; see the functions that compute each part."""

    manifest: Manifest
    title: str
    description: str
    words_of_models: bool
    """Whether free text that a model wrote is released."""
    standings: Mapping[str, Standing]
    panel: Panel
    selection: Mapping[str, Effect]
    above_floor: Share
    """Accepted questions with more fitness than the floor."""
    judge_kind: JudgeKind
    attributes: tuple[str, ...]
    floor: Floor | None
    fitness: Mapping[str, Sequence[float]]
    """Search fitness by what became of the question."""
    phases: tuple[tuple[float, float], ...]
    """Search and hold-out fitness of every accepted question that has both."""
    shrinkage: Shrinkage | None
    abstained: Share
    failed: Share
    refused: Share
    funnel: tuple[StageCounts, ...]
    reasons: tuple[tuple[str, str, int], ...]
    headlines: tuple[Headline, ...]
    effects: tuple[FamilyEffects, ...]
    coverage: tuple[Coverage, ...]
    strategy: str
    rounds: tuple[Round, ...]
    operations: tuple[Operation, ...]
    judges: tuple[JudgeRecord, ...]
    agreement: tuple[Agreement, ...]
    order_effects: tuple[OrderEffect, ...]
    audited: tuple[Audited, ...]
    duplicates: tuple[Duplicate, ...]
    duplicates_in_all: int
    threshold: float
    stayed_apart: tuple[StayedApart, ...]
    transitions: tuple[Transition, ...]
    relabelled: tuple[Relabelled, ...]
    groups: tuple[Group, ...]
    costs: tuple[CostLine, ...]
    texts: Mapping[str, str]
    """Templates of the questions that changed since the last release and are in this one, by id."""


def report_data(manifest: Manifest, contents: Contents) -> ReportData:
    """The report of a release. `manifest` may lack its files, which the report itself is one of."""
    questions, hard = contents.rows(QUESTIONS), contents.rows(HARD_NEGATIVES)
    controls, dropped = contents.rows(CONTROLS), contents.rows(DROPPED)
    responses, judgements = contents.rows(RESPONSES), contents.rows(JUDGEMENTS)
    lost = lost_questions(dropped)
    released = [*questions, *hard, *controls]
    attributes = tuple(sorted({q.attribute for q in [*questions, *hard]}))
    zero_ids = {q.id for q in controls if q.control in FLOOR_CONTROLS}
    phases = fitness_by_phase(questions, judgements)
    history = contents.rows(LABEL_HISTORY)
    effects = contents.rows(EFFECTS)
    texts = {q.id: q.template for q in [*released, *lost]}
    floor = fitness_floor(controls)
    shrunk = shrinkage(phases)
    abstained = Share(sum(j.abstention is not None for j in judgements), len(judgements))
    failed = Share(sum(r.failure is not None for r in responses), len(responses))
    fitness = fitness_by_fate(questions, hard, controls, lost)
    accepted = fitness.get("accepted", [])
    panel, selection = panel_of(manifest), selection_effects(effects)
    covered = coverage([*questions, *hard], lost, attributes)
    changed = (*manifest.comparison.added, *manifest.comparison.reworded, *manifest.comparison.relabelled)
    return ReportData(
        manifest=manifest,
        title=manifest.recipe.get("title") or manifest.name,
        description=manifest.recipe.get("description") or "",
        words_of_models=any(r.text and not r.option_order for r in responses),
        standings=standings(
            manifest, panel, floor, accepted, shrunk, selection, [failed.percent, abstained.percent]
        ),
        panel=panel,
        selection=selection,
        above_floor=Share(sum(floor is not None and f > floor.value for f in accepted), len(accepted)),
        judge_kind=judge_kind(manifest.judged_by),
        attributes=attributes,
        floor=floor,
        fitness=fitness,
        phases=tuple(phases),
        shrinkage=shrunk,
        abstained=abstained,
        failed=failed,
        refused=Share(sum(r.refused for r in responses), len(responses)),
        funnel=manifest.counts,
        reasons=tuple(drop_reasons(dropped)),
        headlines=headlines(effects, deciding_fitness_form(judgements)),
        effects=family_effects(effects),
        coverage=covered,
        strategy=str(manifest.recipe.get("evolve", {}).get("strategy", "")),
        rounds=rounds([*released, *lost]),
        operations=operations([*released, *lost]),
        judges=judge_records(judgements, zero_ids),
        agreement=agreement(judgements),
        order_effects=order_effects(judgements, floor.value if floor else 0.0),
        audited=audited_judges(manifest),
        duplicates=nearest_duplicates(dropped, texts, NEAR_DUPLICATES),
        duplicates_in_all=sum(d.similarity is not None for d in dropped),
        threshold=float(manifest.recipe.get("deduplicate", {}).get("threshold", 0.0)),
        stayed_apart=stayed_apart(manifest.near_misses, texts, NEAR_DUPLICATES),
        transitions=transitions(history),
        relabelled=relabelled_questions(history, texts, RELABELLED),
        groups=groups(choose_groups(questions, hard, controls), responses, judgements, history),
        costs=cost_lines(manifest.cost_estimated, manifest.cost),
        texts={id: texts[id] for id in changed if id in texts},
    )


def lost_questions(dropped: Sequence[Dropped]) -> list[Question]:
    """Dropped questions as they were, each once (a question may have been made and dropped repeatedly).
    Those that were held back say nothing of themselves."""
    records = {
        d.record
        for d in dropped
        if d.kind == "question" and d.text and d.because_of != json.loads(d.record)["id"]
    }
    found = {q.id: q for q in map(Question.model_validate_json, sorted(records))}
    return list(found.values())


def fitness_by_fate(
    questions: Sequence[Question],
    hard_negatives: Sequence[Question],
    controls: Sequence[Question],
    lost: Sequence[Question],
) -> dict[str, list[float]]:
    """Search fitness of judged questions, by where they ended."""
    fates = {
        "accepted": questions,
        "hard negatives": hard_negatives,
        "not selected": [q for q in lost if q.control == "none"],
        "neutral": [q for q in controls if q.control == "neutral"],
        "placebo": [q for q in controls if q.control == "placebo"],
        "A/A": [q for q in controls if q.control == "a_a"],
    }
    return {
        fate: values
        for fate, rows in fates.items()
        if (values := [q.fitness for q in rows if q.fitness is not None])
    }
