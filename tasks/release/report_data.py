"""What the report shows, read from a release's tables and manifest, before anything is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.decision import DROPPED, Dropped, StageCounts
from schemas.effect import EFFECTS
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.manifest import Manifest
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from tasks.release.configs import CONFIGS, CONTROLS, HARD_NEGATIVES, data_file
from tasks.release.facts import (
    FLOOR_CONTROLS,
    Floor,
    JudgeKind,
    Shrinkage,
    drop_reasons,
    fitness_by_phase,
    fitness_floor,
    judge_kind,
    shrinkage,
)
from tasks.release.reading import Contents
from tasks.release.report_effects import FamilyEffects, family_effects
from tasks.release.report_groups import Group, choose_groups, groups
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
    Round,
    Transition,
    cost_lines,
    coverage,
    nearest_duplicates,
    relabelled_questions,
    rounds,
    transitions,
)

NEAR_DUPLICATES = 12
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
    files: Mapping[str, str]
    """Config to its Parquet file: every number says where it comes from."""
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
    effects: tuple[FamilyEffects, ...]
    coverage: tuple[Coverage, ...]
    rounds: tuple[Round, ...]
    judges: tuple[JudgeRecord, ...]
    agreement: tuple[Agreement, ...]
    order_effects: tuple[OrderEffect, ...]
    audited: tuple[Audited, ...]
    duplicates: tuple[Duplicate, ...]
    duplicates_in_all: int
    transitions: tuple[Transition, ...]
    relabelled: tuple[Relabelled, ...]
    groups: tuple[Group, ...]
    costs: tuple[CostLine, ...]


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
    texts = {q.id: q.template for q in [*released, *lost]}
    return ReportData(
        manifest=manifest,
        title=manifest.recipe.get("title") or manifest.name,
        description=manifest.recipe.get("description") or "",
        files={config: data_file(config) for config in CONFIGS},
        judge_kind=judge_kind(manifest.judged_by),
        attributes=attributes,
        floor=fitness_floor(controls),
        fitness=fitness_by_fate(questions, hard, controls, lost),
        phases=tuple(phases),
        shrinkage=shrinkage(phases),
        abstained=Share(sum(j.abstention is not None for j in judgements), len(judgements)),
        failed=Share(sum(r.failure is not None for r in responses), len(responses)),
        refused=Share(sum(r.refused for r in responses), len(responses)),
        funnel=manifest.counts,
        reasons=tuple(drop_reasons(dropped)),
        effects=family_effects(contents.rows(EFFECTS)),
        coverage=coverage([*questions, *hard], lost, attributes),
        rounds=rounds([*released, *lost]),
        judges=judge_records(judgements, zero_ids),
        agreement=agreement(judgements),
        order_effects=order_effects(judgements),
        audited=audited_judges(manifest),
        duplicates=nearest_duplicates(dropped, texts, NEAR_DUPLICATES),
        duplicates_in_all=sum(d.similarity is not None for d in dropped),
        transitions=transitions(history),
        relabelled=relabelled_questions(history, texts, RELABELLED),
        groups=groups(choose_groups(questions, hard, controls), responses),
        costs=cost_lines(manifest.cost_estimated, manifest.cost),
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
