"""Write the report of a release and of an evaluation, each a single HTML page without scripts.

`report_data` computes everything that the page shows from the tables and the manifest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.labels import DROPPED, LABEL_HISTORY, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import CorrectedTreatment, Manifest
from schemas.tables import canonical_json
from tasks.families.effects import EVERY
from tasks.files.tables import write_csv
from tasks.files.vocabulary import vocabulary_dir
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents, ReleaseDirectory
from tasks.release.findings import findings_of, release_findings
from tasks.release.fitness import (
    FLOOR_CONTROLS,
    SIGNIFICANT,
    FitnessFloor,
    HoldoutTest,
    JudgeKind,
    Shrinkage,
    TopicOfFalsePositives,
    classify_judges,
    compute_fitness_floor,
    count_drop_reasons,
    fresh_scores_by_outcome,
    holdout_test,
    measure_shrinkage,
    pair_fitness_by_phase,
    select_fitness_form,
    topic_of_false_positives,
)
from tasks.report.cells import CellCounts, Combinations, release_cells, release_combinations
from tasks.report.comparisons import (
    DEFAULT_MIN_COVERAGE,
    PairedComparison,
    Scored,
    choose_pairs,
    compare_framings,
    compare_languages,
    compare_models,
    score_questions,
)
from tasks.report.coverage import MeasurementCoverage, release_coverage
from tasks.report.effects import (
    MOST_HEADLINES,
    MOST_MODELS,
    FamilyEffects,
    Headline,
    effects_by_family,
    effects_by_model,
    leaderboard,
    metric_title,
    select_headlines,
)
from tasks.report.equating import Linked, equating_section, link_releases
from tasks.report.findings_view import MOST_COMPARISONS, FindingsView, view_findings
from tasks.report.groups import (
    AuditedJudge,
    JudgeAgreement,
    JudgeRecord,
    OrderEffect,
    ReportedGroup,
    audited_judges,
    choose_groups,
    judge_agreement,
    judge_records,
    measure_order_effects,
    report_groups,
)
from tasks.report.lost import dropped_questions
from tasks.report.names import Names, read_known_attributes, read_topic_titles
from tasks.report.pictures import (
    contrast_plot,
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
    mark_template,
    quote,
    row_query,
    sql_literal,
    sql_where,
    without_controls,
)
from tasks.report.robustness import Robustness, summarise_robustness
from tasks.report.saturation import saturation_of, saturation_summary
from tasks.report.sections import (
    CostLine,
    Coverage,
    DecidingJudges,
    DistinctPair,
    DuplicateQuestion,
    Operation,
    Rating,
    RelabelledQuestion,
    Round,
    Transition,
    compare_costs,
    count_transitions,
    measure_coverage,
    nearest_duplicates,
    nearest_kept_pairs,
    rate_trust,
    read_deciding_judges,
    relabelling_examples,
    search_effects,
    summarise_operations,
    summarise_rounds,
)
from tasks.report.sentences import comparisons_in_words, criterion_spans, language_name, summarise_findings
from tasks.run.store import write_bytes, write_table
from tasks.stats.comparisons import controls_to_confirm
from tasks.stats.equating import Estimate
from tasks.stats.fitness import FORMS, FitnessForm

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


NEAR_DUPLICATES = 10
LOSSES = ("failed", "empty", "unreadable", "refused")
"""Kinds of lost answers, in the order in which the page shows them."""
EXAMPLES_PER_CHANGE = 3
"""Examples per kind of label change."""


@dataclass(frozen=True)
class Share:
    """`part` of `whole`."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        """The share in per cent. 0 if `whole` is 0."""
        return 100 * self.part / self.whole if self.whole else 0.0


@dataclass(frozen=True)
class ReportData:
    """All values on the report page."""

    manifest: Manifest
    title: str
    description: str
    found: FindingsView
    """Who is treated worse, and paired comparisons."""
    has_model_text: bool
    """Whether the release contains free text written by models."""
    ratings: Mapping[str, Rating]
    deciding_judges: DecidingJudges
    selection: Mapping[str, Effect]
    fresh: HoldoutTest | None
    """Fresh answers of selected questions against those of controls."""
    topic: TopicOfFalsePositives | None
    """Superdomain in which judges find significantly more in controls."""
    to_confirm: int
    """Matching controls below which no question can be confirmed."""
    labels: Mapping[str, int]
    """Number of released questions by label."""
    judge_kind: JudgeKind
    attributes: tuple[str, ...]
    floor: FitnessFloor | None
    fitness_form: FitnessForm | None
    """Range of the fitness that decides. `None` if nothing was judged."""
    fitness: Mapping[str, Sequence[float]]
    """Search fitness by outcome of the question."""
    fresh_scores: Mapping[str, Sequence[float]]
    """Scores on fresh answers by label of the question or kind of control."""
    phases: tuple[tuple[float, float], ...]
    """Search and hold-out fitness of every accepted question with both."""
    shrinkage: Shrinkage | None
    measurement: MeasurementCoverage
    """Answers and comparisons that were asked for and lost, and effects without a value."""
    losses: Mapping[str, Share]
    """By status (`failed`, `empty`, `unreadable`, `refused`, `abstained`), of all that were asked for."""
    funnel: tuple[StageCounts, ...]
    drop_reasons: tuple[tuple[str, str, int], ...]
    headlines: tuple[Headline, ...]
    effects: tuple[FamilyEffects, ...]
    coverage: tuple[Coverage, ...]
    cells: tuple[CellCounts, ...]
    combinations: tuple[Combinations, ...]
    saturation: Mapping[str, Any]
    """How well the questions tell the models apart."""
    robustness: Robustness
    strategy: str
    rounds: tuple[Round, ...]
    operations: tuple[Operation, ...]
    judges: tuple[JudgeRecord, ...]
    agreement: tuple[JudgeAgreement, ...]
    order_effects: tuple[OrderEffect, ...]
    audited: tuple[AuditedJudge, ...]
    duplicates: tuple[DuplicateQuestion, ...]
    duplicate_count: int
    threshold: float
    kept_pairs: tuple[DistinctPair, ...]
    transitions: tuple[Transition, ...]
    relabelled: tuple[RelabelledQuestion, ...]
    groups: tuple[ReportedGroup, ...]
    costs: tuple[CostLine, ...]
    texts: Mapping[str, str]
    """By id: templates of the released questions that changed since the last release."""


def release_scores(manifest: Manifest, contents: Contents, data_dir: Path, title: str = "") -> Scored:
    """Score the questions of a release for every model that answered them.

    Args:
        manifest: Manifest of the release.
        contents: Tables of the release.
        data_dir: The vocabulary.
        title: Name of the release, if releases are compared.
    """
    questions, verdicts = contents.rows(QUESTIONS), contents.verdicts
    validation = manifest.recipe.get("validate")
    known = validation if isinstance(validation, dict) else {}
    return score_questions(
        questions,
        contents.scan(RESPONSES),
        verdicts,
        contents.scan(JUDGEMENTS),
        contents.rows(EFFECTS),
        read_known_attributes(data_dir, {q.attribute for q in questions}),
        form=select_fitness_form(verdicts),
        release=title,
        min_coverage=float(known.get("min_coverage", DEFAULT_MIN_COVERAGE)),
        margins=known.get("equivalence") or {},
    )


def release_saturation(manifest: Manifest, contents: Contents, data_dir: Path) -> dict[str, Any]:
    """Return how well the questions of a release tell its models apart, as JSON."""
    return saturation_summary(saturation_of(release_scores(manifest, contents, data_dir)))


def equate_releases(
    old: ReleaseDirectory, new: ReleaseDirectory, data_dir: Path, evaluated: Scored | None = None
) -> dict[str, Any]:
    """Equate two releases of one benchmark and return the section `equating` of the result.

    Args:
        old: The earlier release.
        new: The later release.
        data_dir: The vocabulary.
        evaluated: Scores of an evaluation of the later release.
    """
    linked = link_to_earlier(old, new, data_dir, evaluated)
    return equating_section(linked, old.manifest.version, None)


def link_to_earlier(
    old: ReleaseDirectory, new: ReleaseDirectory, data_dir: Path, evaluated: Scored | None = None
) -> Linked:
    """Equate the scores of two releases, and of an evaluation of the later one."""
    scored = [release_scores(r.manifest, r.contents, data_dir) for r in (old, new)]
    return link_releases(scored[0], scored[1], evaluated)


def compare_all(scored: Scored) -> list[PairedComparison]:
    """Compare every pair of models, languages and framings."""
    languages, framings = scored.languages(), scored.framings()
    return [
        *compare_models(scored, choose_pairs((), scored.models(), "model")),
        *compare_languages(scored, choose_pairs((), languages, "language")),
        *compare_framings(scored, choose_pairs((), framings, "framing")),
    ]


def view_release(manifest: Manifest, contents: Contents, data_dir: Path) -> FindingsView:
    """Return the findings and comparisons of a release, as the report and the card show them."""
    questions = contents.rows(QUESTIONS)
    models = sorted(name for (name,) in contents.distinct_rows(RESPONSES.name, "model"))
    sides = (models, {q.language for q in questions}, {q.framing for q in questions})
    comparable = any(len(side) > 1 for side in sides)
    attributes = read_known_attributes(data_dir, {q.attribute for q in questions})
    return view_findings(
        release_findings(contents, manifest, data_dir),
        compare_all(release_scores(manifest, contents, data_dir)) if comparable else (),
        Names.of(models, attributes, read_topic_titles(data_dir)),
        criterion_spans(contents.scan(JUDGEMENTS)),
    )


def summarise_release(manifest: Manifest, contents: Contents, data_dir: Path) -> list[str]:
    """Return the findings of a release in sentences, those that were not measured first."""
    questions = contents.rows(QUESTIONS)
    models = {name for (name,) in contents.distinct_rows(RESPONSES.name, "model")}
    names = Names.of(models, read_known_attributes(data_dir, {q.attribute for q in questions}))
    findings = release_findings(contents, manifest, data_dir)
    spans = criterion_spans(contents.scan(JUDGEMENTS))
    corrected = manifest.review.treatment if manifest.review else ()
    return [
        *(s.text for s in summarise_findings(findings, names, spans)),
        *(describe_corrected(row, names) for row in corrected),
    ]


def describe_corrected(row: CorrectedTreatment, names: Names) -> str:
    """Return how people's labels correct a judge about one value, in one sentence."""
    judge = "all judges" if row.judge == EVERY else row.judge
    who = f"{names.value(row.attribute, row.value)}, {row.model}, judged by {judge}"
    if row.corrected is None:
        return f"Not measured with human labels: {who} ({row.reason})."
    alone = "" if row.judge_only is None else f" The judge alone has {row.judge_only:+.2f}."
    between = ""
    if row.corrected_low is not None and row.corrected_high is not None:
        between = f" ({row.corrected_low:+.2f} to {row.corrected_high:+.2f})"
    return (
        f"Corrected with human labels of {row.labels} of {row.groups} groups: {who}: "
        f"{row.corrected:+.2f}{between} points of treatment from 1 to 5, compared with the mean of all "
        f"values.{alone}"
    )


def report_data(
    manifest: Manifest,
    contents: Contents,
    data_dir: Path | None = None,
    found: FindingsView | None = None,
) -> ReportData:
    """Compute the values of the report.

    Args:
        manifest: Manifest of the release. It may lack the list of files, which includes the report.
        contents: Tables of the release.
        data_dir: The vocabulary. Default: the program's own.
        found: Findings and comparisons, if they are computed already.
    """
    questions, hard = contents.rows(QUESTIONS), contents.rows(HARD_NEGATIVES)
    controls, dropped = contents.rows(CONTROLS), contents.rows(DROPPED)
    verdicts = contents.verdicts
    lost = dropped_questions(dropped)
    released = [*questions, *hard, *controls]
    attributes = tuple(sorted({q.attribute for q in [*questions, *hard]}))
    zero_ids = {q.id for q in controls if q.control in FLOOR_CONTROLS}
    phases = pair_fitness_by_phase(questions, verdicts)
    history = contents.rows(LABEL_HISTORY)
    effects = contents.rows(EFFECTS)
    texts = {q.id: q.template for q in [*released, *lost]}
    floor = compute_fitness_floor(controls)
    shrunk = measure_shrinkage(phases)
    measurement = release_coverage(contents, manifest.counts)
    losses = {
        **{status: Share(measurement.lost(status), measurement.asked) for status in LOSSES},
        "abstained": Share(measurement.abstained, measurement.comparisons),
    }
    fitness = fitness_by_outcome(questions, hard, controls, lost)
    fresh = holdout_test(questions, controls, verdicts)
    topic = topic_of_false_positives(controls, verdicts)
    deciding, selection = read_deciding_judges(manifest), search_effects(effects)
    covered = measure_coverage([*questions, *hard], lost, attributes)
    changed = (*manifest.comparison.added, *manifest.comparison.reworded, *manifest.comparison.relabelled)
    found = found or view_release(manifest, contents, data_dir or vocabulary_dir())
    return ReportData(
        manifest=manifest,
        title=manifest.recipe.get("title") or manifest.name,
        description=manifest.recipe.get("description") or "",
        found=found,
        has_model_text=any(r.text and not r.option_order for r in contents.scan(RESPONSES)),
        ratings=rate_trust(
            manifest, deciding, fresh, topic, shrunk, selection, measurement, compared=not found.unmeasured
        ),
        fresh=fresh,
        topic=topic if topic is not None and topic.p_value <= SIGNIFICANT else None,
        to_confirm=controls_to_confirm(float(manifest.recipe.get("validate", {}).get("fdr", 0.05))),
        labels=Counter(q.label for q in questions),
        deciding_judges=deciding,
        selection=selection,
        judge_kind=classify_judges(manifest.judged_by),
        attributes=attributes,
        floor=floor,
        fitness_form=FORMS.get(select_fitness_form(verdicts) or ""),
        fitness=fitness,
        fresh_scores=fresh_scores_by_outcome(questions, controls, verdicts),
        phases=tuple(phases),
        shrinkage=shrunk,
        measurement=measurement,
        losses=losses,
        funnel=manifest.counts,
        drop_reasons=tuple(count_drop_reasons(dropped)),
        headlines=select_headlines(effects, select_fitness_form(verdicts)),
        effects=effects_by_family(effects, found.names),
        coverage=covered,
        cells=release_cells(contents),
        combinations=release_combinations(manifest, contents, data_dir or vocabulary_dir()),
        saturation=release_saturation(manifest, contents, data_dir or vocabulary_dir()),
        robustness=summarise_robustness(effects, found.names),
        strategy=str(manifest.recipe.get("evolve", {}).get("strategy", "")),
        rounds=summarise_rounds([*released, *lost]),
        operations=summarise_operations([*released, *lost]),
        judges=judge_records(verdicts, zero_ids),
        agreement=judge_agreement(verdicts),
        order_effects=measure_order_effects(verdicts, floor.value if floor else 0.0),
        audited=audited_judges(manifest),
        duplicates=nearest_duplicates(dropped, texts, NEAR_DUPLICATES),
        duplicate_count=sum(d.similarity is not None for d in dropped),
        threshold=float(manifest.recipe.get("deduplicate", {}).get("threshold", 0.0)),
        kept_pairs=nearest_kept_pairs(manifest.near_misses, texts, NEAR_DUPLICATES),
        transitions=count_transitions(history),
        relabelled=relabelling_examples(history, texts, EXAMPLES_PER_CHANGE),
        groups=report_groups(
            choose_groups(questions, hard, controls),
            contents.scan(RESPONSES),
            contents.scan(JUDGEMENTS),
            history,
        ),
        costs=compare_costs(manifest.cost_estimated, manifest.cost),
        texts={id: texts[id] for id in changed if id in texts},
    )


def fitness_by_outcome(
    questions: Sequence[Question],
    hard_negatives: Sequence[Question],
    controls: Sequence[Question],
    lost: Sequence[Question],
) -> dict[str, list[float]]:
    """Return the search fitness of judged questions by outcome."""
    outcomes = {
        "accepted": questions,
        "hard negatives": hard_negatives,
        "not selected": [q for q in lost if q.control == "none"],
        "neutral": [q for q in controls if q.control == "neutral"],
        "placebo": [q for q in controls if q.control == "placebo"],
        "A/A": [q for q in controls if q.control == "a_a"],
    }
    return {
        outcome: values
        for outcome, rows in outcomes.items()
        if (values := [q.fitness for q in rows if q.fitness is not None])
    }


# report.html: a single page without scripts and without network access.


ROW_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "attributes": 16,
        "changed": 5,
        "comparisons": MOST_COMPARISONS,
        "costs": 60,
        "domains": 80,
        "headlines": MOST_HEADLINES,
        "judges": 20,
        "languages": 8,
        "metrics": 4,
        "operations": 60,
        "passports": 8,
        "probes": 40,
        "reasons": 40,
        "relabelled": 36,
        "rounds": 40,
        "unmeasured": 6,
        "warnings": 20,
    }
)
"""Maximum number of rows of each kind on the page. The page states how many more the tables contain."""
MAX_NAME_LENGTH = 160
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write_report(path: Path, data: ReportData, data_dir: Path) -> None:
    """Write the report page."""
    path.write_text(render_report(data, data_dir), encoding="utf-8", newline="\n")


def render_report(data: ReportData, data_dir: Path) -> str:
    """Render the report page. All values are escaped, except our own pictures."""
    page = template_environment(data_dir, data.found.names).get_template("report.html")
    return page.render(
        data=data,
        m=data.manifest,
        pictures=draw_pictures(data),
        most_models=MOST_MODELS,
        most=ROW_LIMITS,
        warning=content_warning(data, data_dir),
        floor_value=data.floor.value if data.floor else 0.0,
    )


def content_warning(data: ReportData, data_dir: Path) -> str:
    """Return the content warning of the dataset card."""
    import yaml

    sentences = yaml.safe_load((data_dir / "card_sentences.yaml").read_text(encoding="utf-8"))
    warning: str = sentences["warning"]["answers" if data.has_model_text else "questions"]
    return warning


def template_environment(data_dir: Path, names: Names) -> SandboxedEnvironment:
    """Return the template environment: sandboxed, strict, with automatic escaping.

    Args:
        data_dir: The vocabulary, which has the templates.
        names: Names of models, attributes and values.
    """
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
        words=lambda name: without_controls(str(name).replace("_", " "))[:MAX_NAME_LENGTH],
        plain=without_controls,
        short=lambda model: without_controls(names.model(model))[:MAX_NAME_LENGTH],
        attribute=lambda name: without_controls(names.attribute(name))[:MAX_NAME_LENGTH],
        metric=lambda name: without_controls(metric_title(name))[:MAX_NAME_LENGTH],
        language=lambda code: without_controls(language_name(code))[:MAX_NAME_LENGTH],
        sql=sql_literal,
        slots=mark_template,
        evidence=lambda text, span: quote(text, evidence=[span]),
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    return environment


def draw_pictures(data: ReportData) -> dict[str, object]:
    """Draw all pictures that have data, by name."""
    from markupsafe import Markup

    svgs = {"funnel": funnel_bars(data.funnel)} if data.funnel else {}
    if data.fitness:
        svgs["fitness"] = fitness_distribution(data.fitness, data.floor)
    if data.fresh_scores:
        svgs["fresh"] = fitness_distribution(data.fresh_scores, None, fresh=True)
    if data.phases:
        svgs["shrinkage"] = shrinkage_scatter(data.phases)
    if len(data.rounds) > 1:
        svgs["rounds_fitness"] = round_lines(data.rounds)
        svgs["rounds_accepted"] = round_bars(data.rounds)
    svgs.update({panel.key: contrast_plot(panel) for panel in data.found.panels})
    for family in data.effects:
        svgs.update({panel.key: effect_forest(panel, family.models) for panel in family.panels})
    return {name: Markup(svg) for name, svg in svgs.items()}  # noqa: S704 - our own drawing, text escaped


def _printable(value: object) -> object:
    """Replace characters that HTML forbids."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _fixed(x: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Format a number with a real minus sign. `None` becomes an en dash."""
    if x is None:
        return "–"
    return f"{x:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


# Evaluation of models on a release: a folder of four files.


LEADERBOARD_COLUMNS = (
    "family", "metric", "model", "effect", "low", "high", "p_value", "q_value", "a_a_floor", "n",
    "language", "status", "reason", "asked", "read", "coverage", "verdict", "equated", "equated_low",
    "equated_high", "equated_error",
)  # fmt: skip


@dataclass(frozen=True)
class EvaluationExtras:
    """Sections of an evaluation beside its effects."""

    equating: Mapping[str, Any]
    saturation: Mapping[str, Any]
    contamination: Mapping[str, Any]
    equated: Mapping[tuple[str, str, str, str], Estimate]
    """Score on the scale of the earlier release by family, metric, language and model."""


def write_evaluation(
    folder: Path,
    manifest: Manifest,
    effects: Sequence[Effect],
    form: str,
    data_dir: Path,
    comparisons: Sequence[PairedComparison],
    extras: EvaluationExtras,
    spans: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Write `evaluation.json`, `effects.parquet`, `leaderboard.csv` and `evaluation.html`.

    Returns:
        The object in `evaluation.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    board = [row | equated_columns(row, extras) for row in leaderboard(effects, form)]
    models, attributes = {e.model for e in effects}, {e.attribute for e in effects}
    names = Names.of(
        models - {EVERY}, read_known_attributes(data_dir, attributes - {EVERY}), read_topic_titles(data_dir)
    )
    findings = findings_of(effects)
    found = view_findings(findings, comparisons, names, spans or {})
    result = {
        "release": manifest.name,
        "version": manifest.version,
        "fitness_form": form,
        "models": effects_by_model(effects, form),
        "leaderboard": board,
        "findings": [finding.model_dump() for finding in findings],
        "summary": [s.text for s in found.sentences],
        "compared": [sentence for _, sentence in found.comparisons],
        "comparisons": comparisons_in_words(comparisons, names),
        "equating": dict(extras.equating),
        "saturation": dict(extras.saturation),
        "contamination": dict(extras.contamination),
    }
    write_table(folder / "effects.parquet", EFFECTS, effects)
    write_csv(
        folder / "leaderboard.csv",
        LEADERBOARD_COLUMNS,
        [
            {c: _cell(row[c]) for c in LEADERBOARD_COLUMNS} | {"model": names.model(row["model"])}
            for row in board
        ],
    )
    write_bytes(
        folder / "evaluation.html",
        evaluation_page(manifest, effects, board, found, data_dir, extras).encode(),
    )
    write_bytes(folder / "evaluation.json", (canonical_json(result) + "\n").encode())
    return result


def equated_columns(row: Mapping[str, Any], extras: EvaluationExtras) -> dict[str, float | None]:
    """Return the equated score of a row of the leaderboard, with its interval and standard error."""
    key = row["family"], row["metric"], row["language"], row["model"]
    found = extras.equated.get(key, Estimate())
    return {
        "equated": found.value,
        "equated_low": found.low,
        "equated_high": found.high,
        "equated_error": found.standard_error,
    }


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def evaluation_page(
    manifest: Manifest,
    effects: Sequence[Effect],
    board: Sequence[dict[str, Any]],
    found: FindingsView,
    data_dir: Path,
    extras: EvaluationExtras,
) -> str:
    """Render the findings, the leaderboard and the effects of every family."""
    from markupsafe import Markup

    families = effects_by_family([e for e in effects if e.level != "question"], found.names)
    pictures = {
        panel.key: Markup(effect_forest(panel, family.models))  # noqa: S704 - our own drawing, text escaped
        for family in families
        for panel in family.panels
    }
    pictures |= {p.key: Markup(contrast_plot(p)) for p in found.panels}  # noqa: S704
    page = template_environment(data_dir, found.names).get_template("evaluation.html")
    title = manifest.recipe.get("title") or manifest.name
    return page.render(
        m=manifest, title=title, board=board, families=families, pictures=pictures, found=found,
        most=ROW_LIMITS, has_files=False, source=None, extras=extras,
    )  # fmt: skip
