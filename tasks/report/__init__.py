"""What the report shows, read from a release's tables and manifest, before anything is drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import Manifest
from schemas.tables import canonical_json
from tasks.files.tables import write_csv
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents
from tasks.release.fitness import (
    FLOOR_CONTROLS,
    FitnessFloor,
    JudgeKind,
    Shrinkage,
    deciding_fitness_form,
    drop_reasons,
    fitness_by_phase,
    fitness_floor,
    judge_kind,
    shrinkage,
)
from tasks.report.effects import (
    MOST_HEADLINES,
    MOST_MODELS,
    FamilyEffects,
    Headline,
    by_model,
    family_effects,
    headlines,
    leaderboard,
    metric_title,
)
from tasks.report.groups import (
    Audited,
    JudgeAgreement,
    JudgeRecord,
    OrderEffect,
    ReportedGroup,
    agreement,
    audited_judges,
    choose_groups,
    groups,
    judge_records,
    order_effects,
)
from tasks.report.pictures import (
    effect_forest,
    fitness_distribution,
    funnel_bars,
    round_bars,
    round_lines,
    shrinkage_scatter,
)
from tasks.report.quotes import (
    VIEWS,
    floor_query,
    marked_template,
    plain_text,
    row_query,
    sql_literal,
    sql_where,
    without_controls,
)
from tasks.report.sections import (
    CostLine,
    Coverage,
    DecidingJudges,
    DuplicateQuestion,
    Operation,
    Relabelled,
    Round,
    Standing,
    StayedApart,
    Transition,
    cost_lines,
    coverage,
    nearest_duplicates,
    operations,
    panel_of,
    relabelled_questions,
    rounds,
    selection_effects,
    standings,
    stayed_apart,
    transitions,
)
from tasks.run.store import write_bytes, write_table

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


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
    panel: DecidingJudges
    selection: Mapping[str, Effect]
    above_floor: Share
    """Accepted questions with more fitness than the floor."""
    judge_kind: JudgeKind
    attributes: tuple[str, ...]
    floor: FitnessFloor | None
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
    agreement: tuple[JudgeAgreement, ...]
    order_effects: tuple[OrderEffect, ...]
    audited: tuple[Audited, ...]
    duplicates: tuple[DuplicateQuestion, ...]
    duplicates_in_all: int
    threshold: float
    stayed_apart: tuple[StayedApart, ...]
    transitions: tuple[Transition, ...]
    relabelled: tuple[Relabelled, ...]
    groups: tuple[ReportedGroup, ...]
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


# report.html: one page that a person reads, whole in one file, without script and without network.


MOST: Mapping[str, int] = MappingProxyType(
    {
        "attributes": 16,
        "changed": 5,
        "costs": 60,
        "domains": 80,
        "headlines": MOST_HEADLINES,
        "judges": 20,
        "metrics": 4,
        "operations": 60,
        "passports": 8,
        "probes": 40,
        "reasons": 40,
        "relabelled": 36,
        "rounds": 40,
        "warnings": 20,
    }
)
"""Rows of each kind that the page shows; the tables have all, and the page says so."""
LONGEST_NAME = 160
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write_report(path: Path, data: ReportData, data_dir: Path) -> None:
    """Fill data/report/report.html with a release's numbers and pictures."""
    path.write_text(render_report(data, data_dir), encoding="utf-8", newline="\n")


def render_report(data: ReportData, data_dir: Path) -> str:
    """The page. Whatever comes from the release is escaped; only the pictures we draw are put in as they
    are."""
    page = report_environment(data_dir).get_template("report.html")
    return page.render(
        data=data,
        m=data.manifest,
        pictures=draw_pictures(data),
        most_models=MOST_MODELS,
        most=MOST,
        warning=content_warning(data, data_dir),
        floor_value=data.floor.value if data.floor else 0.0,
    )


def content_warning(data: ReportData, data_dir: Path) -> str:
    """As the card has it."""
    import yaml

    sentences = yaml.safe_load((data_dir / "card_sentences.yaml").read_text(encoding="utf-8"))
    warning: str = sentences["warning"]["answers" if data.words_of_models else "questions"]
    return warning


def report_environment(data_dir: Path) -> SandboxedEnvironment:
    """Sandboxed, escaping everything, strict about names."""
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(data_dir / "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.update(views=VIEWS, where=sql_where, row_query=row_query, floor_query=floor_query)
    environment.filters.update(
        count=lambda n: f"{n:,}",
        fixed=_fixed,
        signed=lambda x: _fixed(x, signed=True),
        p=_p_value,
        usd=lambda x: f"${x:,.2f}",
        words=lambda name: without_controls(str(name).replace("_", " "))[:LONGEST_NAME],
        plain=without_controls,
        metric=lambda name: without_controls(metric_title(name))[:LONGEST_NAME],
        sql=sql_literal,
        slots=marked_template,
        evidence=lambda text, span: plain_text(text, evidence=[span]),
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    return environment


def draw_pictures(data: ReportData) -> dict[str, object]:
    """All pictures by name; a picture without data is left out."""
    from markupsafe import Markup

    svgs = {"funnel": funnel_bars(data.funnel)} if data.funnel else {}
    if data.fitness:
        svgs["fitness"] = fitness_distribution(data.fitness, data.floor)
    if data.phases:
        svgs["shrinkage"] = shrinkage_scatter(data.phases)
    if len(data.rounds) > 1:
        svgs["rounds_fitness"] = round_lines(data.rounds)
        svgs["rounds_accepted"] = round_bars(data.rounds)
    for family in data.effects:
        svgs.update({panel.key: effect_forest(panel, family.models) for panel in family.panels})
    return {name: Markup(svg) for name, svg in svgs.items()}  # noqa: S704 - our own drawing, text escaped


def _printable(value: object) -> object:
    """What HTML cannot hold is replaced."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _fixed(x: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a real minus sign; an en dash where there is none."""
    if x is None:
        return "–"
    return f"{x:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


# An evaluation: what a release showed of models that it was not made with. A folder of four files.


COLUMNS = (
    "family", "metric", "model", "effect", "low", "high", "p_value", "q_value", "a_a_floor", "n",
)  # fmt: skip


def write_evaluation(
    folder: Path, manifest: Manifest, effects: Sequence[Effect], form: str, data_dir: Path
) -> dict[str, Any]:
    """Write `evaluation.json`, `effects.parquet`, `leaderboard.csv`, `evaluation.html`; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    board = leaderboard(effects, form)
    result = {
        "release": manifest.name,
        "version": manifest.version,
        "fitness_form": form,
        "models": by_model(effects, form),
        "leaderboard": board,
    }
    write_table(folder / "effects.parquet", EFFECTS, effects)
    write_csv(folder / "leaderboard.csv", COLUMNS, [{c: _cell(row[c]) for c in COLUMNS} for row in board])
    write_bytes(folder / "evaluation.html", evaluation_page(manifest, effects, board, data_dir).encode())
    write_bytes(folder / "evaluation.json", (canonical_json(result) + "\n").encode())
    return result


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def evaluation_page(
    manifest: Manifest, effects: Sequence[Effect], board: Sequence[dict[str, Any]], data_dir: Path
) -> str:
    """The page: leaderboard, then every family's effects with intervals beside the A/A floor."""
    from markupsafe import Markup

    families = family_effects([e for e in effects if e.level != "question"])
    pictures = {
        panel.key: Markup(effect_forest(panel, family.models))  # noqa: S704 - our own drawing, text escaped
        for family in families
        for panel in family.panels
    }
    page = report_environment(data_dir).get_template("evaluation.html")
    return page.render(m=manifest, board=board, families=families, pictures=pictures)
