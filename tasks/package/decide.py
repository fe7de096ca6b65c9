"""Decide whether a refreshed release is safe: by the effects of its slices, not by the ids of its questions.

A slice is an attribute, a family and a model. Each is compared with the last release: by a paired test on
the questions that both have, by an unpaired one on the others, and by a test of equivalence. The methods
are those of `tasks.stats.slice_change`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from schemas.answers import EFFECTS, JUDGEMENTS, PLAIN, RESPONSES
from schemas.question import QUESTIONS
from schemas.recipe import Refresh
from schemas.release import ComparedSlice, RefreshDecision, ReleaseComparison, ReviewItem
from tasks.families.coverage import MAIN_METRICS
from tasks.files.vocabulary import vocabulary_dir
from tasks.release import CONTROLS, Contents
from tasks.release.fitness import FLOOR_CONTROLS, select_fitness_form
from tasks.report.comparisons import DEFAULT_MIN_COVERAGE, Measured, Scored, score_questions
from tasks.report.equating import link_releases
from tasks.report.names import read_known_attributes
from tasks.stats.equating import MIN_ANCHORS, MIN_MODELS
from tasks.stats.slice_change import ChangeEstimate, FlaggedTest, SliceChange, flag_changes, measure_change
from tasks.text.model_names import short_name

Slice = tuple[str, str, str]
"""Attribute, family and model."""
INCONCLUSIVE = "inconclusive"
OF_SHARES = "_of_shares"
"""End of the name of a metric that is computed from shares instead of probabilities."""


@dataclass(frozen=True)
class Measurement:
    """The scores of one metric in both releases."""

    slice: Slice
    measured: Measured
    is_main: bool
    """Whether it is the family's main metric, for which equivalence is required. Others are only tested for a
    change."""
    change: SliceChange

    @property
    def name(self) -> str:
        """Name of the slice, with the metric if it is not the main one."""
        attribute, family, model = self.slice
        metric, _, pair = self.measured.metric.partition(":")
        value = self.measured.value if self.measured.value != "all" else ""
        parts = [attribute, family, short_name(model), "" if self.is_main else metric, pair, value]
        return " · ".join(part for part in parts if part)


def decide(
    comparison: ReleaseComparison,
    old: Contents | None,
    new: Contents,
    data_dir: Path | None = None,
    *,
    margin: float | None = None,
    margins: Mapping[str, float] | None = None,
    min_coverage: float = DEFAULT_MIN_COVERAGE,
) -> RefreshDecision:
    """Decide whether a refreshed release is unchanged, safe or risky.

    It is safe if every slice is equivalent within the margin, coverage holds, and the judges'
    findings in controls are unchanged.

    Args:
        comparison: Comparison of the releases.
        old: Tables of the last release, or None for the first one.
        new: Tables of the new release.
        data_dir: The vocabulary. Default: the program's own.
        margin: Largest change that does not matter, in standard deviations. Default: that of a recipe.
        margins: The same by family, in the unit of the scores. They replace `margin`.
        min_coverage: Smallest share of the asked questions that must have a score.
    """
    if comparison.bump == "none":
        return RefreshDecision(
            verdict="unchanged", reasons=("nothing differs from the last release",), review=()
        )
    review = [*_relabelled(comparison), *_schema(comparison)]
    slices: tuple[ComparedSlice, ...] = ()
    if old is not None:
        place = data_dir or vocabulary_dir()
        margin = Refresh().margin if margin is None else margin
        scores = score_contents(old, place), score_contents(new, place)
        compared = compare_slices(*scores, margin, margins)
        controls = compare_controls(old, new, place, margin)
        review += changed_slices(compared, controls)
        review += lost_coverage(*scores, new, min_coverage)
        review += undecided_slices(compared, flagged={item.subject for item in review})
        slices = tuple(describe_slice(m) for m in compared if m.is_main)
    if review:
        return RefreshDecision(
            verdict="risky", reasons=reasons_in_words(review), review=tuple(review), slices=slices
        )
    return RefreshDecision(
        verdict="safe", reasons=(describe_changes(comparison, slices),), review=(), slices=slices
    )


def compare_slices(
    old: Scored, new: Scored, margin: float, margins: Mapping[str, float] | None = None
) -> list[Measurement]:
    """Compare every metric of every slice that both releases measured."""
    families = {**old.families, **new.families}
    before, after = _by_metric(old), _by_metric(new)
    found = []
    for slice_ in sorted(before.keys() & after.keys()):
        metrics = _independent(sorted(before[slice_].keys() & after[slice_].keys()))
        main = _main_metrics(metrics, after[slice_])
        for measured in metrics:
            change = measure_change(
                before[slice_][measured],
                after[slice_][measured],
                margin=margin,
                largest=(margins or {}).get(measured.family) if measured in main else None,
                clusters=families,
            )
            found.append(Measurement(slice_, measured, measured in main, change))
    return found


def compare_controls(old: Contents, new: Contents, data_dir: Path, margin: float) -> list[Measurement]:
    """Compare the judges' findings in the controls of both releases, pooled over attributes."""
    sides = [_control_scores(contents, data_dir) for contents in (old, new)]
    return [
        Measurement(("controls", "open", model), measured, True, measure_change(before, after, margin=margin))
        for (model, measured), before in sorted(sides[0].items())
        if (after := sides[1].get((model, measured)))
    ]


def changed_slices(compared: Sequence[Measurement], controls: Sequence[Measurement]) -> list[ReviewItem]:
    """Return the slices, and the controls, of which a test finds a change after correction."""
    tested = [*compared, *controls]
    flagged: dict[int, list[FlaggedTest]] = defaultdict(list)
    for found in flag_changes([m.change for m in tested]):
        flagged[found.index].append(found)
    return [
        ReviewItem(
            kind="controls" if index >= len(compared) else "effect_moved",
            subject=tested[index].name,
            why="; ".join(describe_test(tested[index], test) for test in tests),
        )
        for index, tests in flagged.items()
    ]


def describe_test(m: Measurement, flagged: FlaggedTest) -> str:
    """Return a test that finds a change, in words."""
    change = m.change
    estimate: ChangeEstimate | None = getattr(change, flagged.test)
    assert estimate is not None
    common, rest = f"{change.common} common", f"{change.rest[0]} old and {change.rest[1]} new"
    asked = {"paired": common, "unpaired": rest, "combined": f"{common}, {rest}"}[flagged.test]
    return (
        f"{flagged.test} test on {asked} questions: changed by {estimate.value:+.3f} {m.measured.unit} "
        f"(p = {flagged.p_value:.1g} after correction)"
    )


def lost_coverage(old: Scored, new: Scored, contents: Contents, min_coverage: float) -> list[ReviewItem]:
    """Return the slices that the last release measured, and that the new one asked but could not measure."""
    before, after = _by_metric(old), _by_metric(new)
    unmeasured = {
        (e.attribute, e.family, e.model): e.reason or "not measured"
        for e in contents.rows(EFFECTS)
        if e.level == "attribute" and e.condition == PLAIN and not e.is_measured
    }
    items = []
    for (family, attribute, model), ids in sorted(new.asked.items()):
        slice_ = attribute, family, model
        if slice_ not in before or not ids:
            continue
        scores = after.get(slice_, {})
        scored = len(set().union(*scores.values()) & ids) if scores else 0
        if scored >= min_coverage * len(ids):
            continue
        reason = f": {unmeasured[slice_]}" if slice_ in unmeasured else ""
        items.append(
            ReviewItem(
                kind="coverage",
                subject=f"{attribute} · {family} · {short_name(model)}",
                why=f"{scored} of {len(ids)} questions have a score, {min_coverage:.0%} are required{reason}",
            )
        )
    return items


def undecided_slices(compared: Sequence[Measurement], *, flagged: set[str]) -> list[ReviewItem]:
    """Return the slices that are neither changed nor equivalent, and the data that would decide."""
    if not compared:
        why = "no slice was measured in both releases, so that nothing can be compared"
        return [ReviewItem(kind="inconclusive", subject="all slices", why=why)]
    return [
        ReviewItem(
            kind="inconclusive",
            subject=m.name,
            why=f"equivalence test: {_interval(m.change)} is not inside ±{m.change.margin:.3g} "
            f"{m.measured.unit}. It has {m.change.common} common questions. About {m.change.needed} would "
            f"decide, if nothing changed: {how_to_decide(m.change)}",
        )
        for m in compared
        if m.is_main and not m.change.equivalent and m.name not in flagged
    ]


def how_to_decide(change: SliceChange) -> str:
    """Return the settings of a recipe that decide a slice which did not change."""
    total = change.common + change.rest[0]
    if total > change.needed:
        share = min(1.0, ceil(100 * change.needed / total) / 100)
        return f"set refresh.carry_over to {share:g} or more"
    return (
        f"ask at least {change.needed} questions instead of {total} with refresh.carry_over: 1, or carry all "
        "over, ask more samples, and set a margin in the unit of the scores (refresh.margins)"
    )


def _interval(change: SliceChange) -> str:
    if change.low is None or change.high is None:
        return "an unknown change"
    return f"the change of {change.low:+.3g} to {change.high:+.3g}"


def describe_slice(m: Measurement) -> ComparedSlice:
    """Return the record of a slice."""
    attribute, family, model = m.slice
    c = m.change
    return ComparedSlice(
        attribute=attribute,
        family=family,
        model=model,
        metric=m.measured.metric,
        unit=m.measured.unit,
        common=c.common,
        rest_old=c.rest[0],
        rest_new=c.rest[1],
        mean_old=c.mean_old,
        mean_new=c.mean_new,
        paired=c.paired.value if c.paired else None,
        paired_p=c.paired.p_value if c.paired else None,
        unpaired=c.unpaired.value if c.unpaired else None,
        unpaired_p=c.unpaired.p_value if c.unpaired else None,
        combined_p=c.combined.p_value if c.combined else None,
        difference=c.difference,
        low=c.low,
        high=c.high,
        margin=c.margin,
        equivalent=c.equivalent,
        needed=c.needed,
    )


# Scores.


def score_contents(contents: Contents, data_dir: Path) -> Scored:
    """Score the questions of a release for every model that answered them."""
    questions, verdicts = contents.rows(QUESTIONS), contents.verdicts
    return score_questions(
        questions,
        contents.scan(RESPONSES),
        verdicts,
        contents.scan(JUDGEMENTS),
        contents.rows(EFFECTS),
        read_known_attributes(data_dir, {q.attribute for q in questions}),
        form=select_fitness_form(verdicts),
    )


def failed_links(old: Contents, new: Contents, data_dir: Path) -> list[str]:
    """Return one sentence per metric without a common scale of two releases.

    There is no result with fewer than two models in both, or with few anchors.
    """
    models = [{name for (name,) in c.distinct_rows(RESPONSES.name, "model")} for c in (old, new)]
    if len(models[0] & models[1]) < MIN_MODELS:
        return []
    linked = link_releases(score_contents(old, data_dir), score_contents(new, data_dir))
    return [
        f"equating of {metric.metric} of {metric.family} ({metric.language}) failed: {equating.reason}"
        for metric, equating in linked.items()
        if equating.status == "not_measured" and equating.anchors >= MIN_ANCHORS
    ]


def _by_metric(scored: Scored) -> dict[Slice, dict[Measured, dict[str, float]]]:
    """Return scores by slice, metric and question."""
    found: dict[Slice, dict[Measured, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for s in scored.scores:
        measured = Measured(
            s.measured.family, s.measured.attribute, s.measured.metric, s.measured.unit, s.measured.value
        )
        found[s.measured.attribute, s.measured.family, s.model][measured][s.question.id] = s.score
    return found


def _independent(metrics: Sequence[Measured]) -> list[Measured]:
    """Leave out the second of two contrasts, which is the negative of the first."""
    values: dict[str, list[Measured]] = defaultdict(list)
    for measured in metrics:
        values[measured.metric].append(measured)
    return [m for found in values.values() for m in (found[:1] if len(found) == 2 else found)]


def _main_metrics(
    metrics: Sequence[Measured], scores: Mapping[Measured, Mapping[str, float]]
) -> set[Measured]:
    """Return the main metric of the family, once per pair of values.

    Without it, it is the metric with most scores. Scores of whole questions come before contrasts of values.
    """
    main = {
        m for m in metrics if m.value == "all" and m.metric.partition(":")[0] == MAIN_METRICS.get(m.family)
    }
    ranked = sorted(metrics, key=lambda m: (m.value != "all", -len(scores[m]), m))
    return main or set(ranked[:1])


def _control_scores(contents: Contents, data_dir: Path) -> dict[tuple[str, Measured], dict[str, float]]:
    """Return the judges' scores of controls without a true effect, by model and metric."""
    # Scores of questions and of controls are computed in one way, so controls are scored as questions.
    controls = [
        q.model_copy(update={"control": "none"})
        for q in contents.rows(CONTROLS)
        if q.control in FLOOR_CONTROLS and q.family == "open"
    ]
    judged = {q.id for q in controls}
    verdicts = [j for j in contents.scan(JUDGEMENTS) if j.question_id in judged and j.condition == PLAIN]
    scored = score_questions(controls, [], verdicts, verdicts, [], {}, form=select_fitness_form(verdicts))
    found: dict[tuple[str, Measured], dict[str, float]] = defaultdict(dict)
    for s in scored.scores:
        measured = Measured("open", "controls", s.measured.metric, s.measured.unit)
        found[s.model, measured][s.question.id] = s.score
    return found


# In words.


def _relabelled(comparison: ReleaseComparison) -> list[ReviewItem]:
    why = "carries another label than in the last release"
    return [ReviewItem(kind="relabelled", subject=i, why=why) for i in comparison.relabelled]


def _schema(comparison: ReleaseComparison) -> list[ReviewItem]:
    return [
        ReviewItem(kind="schema", subject=change, why="scores are not comparable across it")
        for change in comparison.schema_changes
    ]


_WORDS: Mapping[str, str] = {
    "relabelled": "questions changed their label",
    "schema": "columns, metrics, judges or the common scale changed",
}
MOST_REASONS = 8
"""Reasons of one kind that are given in full."""


def reasons_in_words(review: Sequence[ReviewItem]) -> tuple[str, ...]:
    """Return the reasons of a risky decision. Slices are named with their test."""
    reasons: list[str] = []
    by_kind: dict[str, list[ReviewItem]] = defaultdict(list)
    for item in review:
        by_kind[item.kind].append(item)
    for kind, items in by_kind.items():
        if kind in _WORDS:
            named = "" if kind == "relabelled" else ": " + ", ".join(i.subject for i in items[:MOST_REASONS])
            reasons.append(_WORDS[kind] + named)
            continue
        start = {"inconclusive": f"{INCONCLUSIVE}: ", "coverage": "coverage: "}.get(kind, "")
        reasons += [f"{start}{item.subject}: {item.why}" for item in items[:MOST_REASONS]]
        if len(items) > MOST_REASONS:
            reasons.append(f"{start}{len(items) - MOST_REASONS} more slices")
    return tuple(reasons)


def describe_changes(comparison: ReleaseComparison, slices: Sequence[ComparedSlice]) -> str:
    """Return the reason of a safe decision."""
    if comparison.bump == "first":
        return "the first release, which has nothing to be compared with"
    counts = {
        "added": len(comparison.added),
        "removed": len(comparison.removed),
        "reworded": len(comparison.reworded),
    }
    changes = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    start = f"{comparison.bump} change: {changes or 'answers or scores'}"
    if not slices:
        return start
    kind = "slice" if len(slices) == 1 else "slices"
    return f"{start}; {len(slices)} {kind} of attribute, family and model equivalent to the last release"
