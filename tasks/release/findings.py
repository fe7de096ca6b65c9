"""Findings of a release: direction, size and certainty of differences in treatment.

`release_findings` is the only place that turns tables into findings. The card, the report, the evaluation and
`counterfoil show` print its rows and the words of `describe_verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect, ValueFinding, Verdict
from schemas.errors import InputError
from schemas.question import QUESTIONS, separate_unreviewed
from schemas.release import Manifest
from schemas.vocabulary import Attribute
from tasks.families import Answered
from tasks.families.contrasts import (
    SUFFIX,
    ScoredQuestion,
    contrast_effects,
    scored_answers,
    scored_judgements,
    undirected_slices,
)
from tasks.families.coverage import AnswersBySlice, CoverageRule
from tasks.families.effects import VerdictRule, correct_for_multiplicity
from tasks.families.shared import gather_answers
from tasks.files.vocabulary import read_attributes, vocabulary_dir
from tasks.release import Contents
from tasks.release.fitness import select_fitness_form
from tasks.stats.intervals import MIN_CLUSTERS

UNTESTED = "it has no test of a difference"
TOO_FEW = "too few independent questions for an interval"
NO_INTERVAL = "too few questions differ for an interval"
_ORDER: Mapping[Verdict, int] = {
    "differs": 0,
    "equivalent": 2,
    "no_difference_found": 1,
    "not_measured": 3,
}


def release_findings(
    contents: Contents, manifest: Manifest, data_dir: Path | None = None
) -> list[ValueFinding]:
    """Return the findings of a release, differences first.

    Releases of earlier versions have no contrasts. Theirs are computed from the answers and judgements.

    Args:
        contents: Tables of the release.
        manifest: Manifest of the release.
        data_dir: Vocabulary, for releases without contrasts. Default: the program's own.
    """
    effects = contents.rows(EFFECTS)
    if not any(e.compared is not None for e in effects):
        effects = _contrasts_of(contents, manifest, data_dir or vocabulary_dir())
    return findings_of(effects)


def findings_of(effects: Iterable[Effect]) -> list[ValueFinding]:
    """Return the contrasts among some effects as findings, differences first, then by size."""
    found = [_finding(e) for e in effects if e.compared is not None]
    return sorted(
        found,
        key=lambda f: (
            _ORDER[f.verdict], f.topic != "all", f.framing != "all", -_strength(f),
            f.model, f.family, f.attribute, f.value, f.topic, f.framing, f.condition, f.metric, f.language,
        ),
    )  # fmt: skip


def _strength(finding: ValueFinding) -> float:
    """Return the size of a contrast in multiples of the smallest detectable one, so that units compare."""
    if finding.contrast is None:
        return 0.0
    return abs(finding.contrast) / finding.detectable if finding.detectable else abs(finding.contrast)


def _finding(effect: Effect) -> ValueFinding:
    verdict = effect.verdict or "not_measured"
    return ValueFinding(
        attribute=effect.attribute,
        value=effect.compared or "all",
        model=effect.model,
        language=effect.language,
        family=effect.family,
        topic=effect.name if effect.level == "superdomain" else "all",
        framing=effect.framing,
        condition=effect.condition,
        metric=effect.metric.partition(":")[0].removesuffix(SUFFIX),
        unit=effect.unit,
        n=effect.n,
        contrast=effect.value,
        low=effect.low,
        high=effect.high,
        p_value=effect.p_value,
        q_value=effect.q_value,
        detectable=effect.detectable,
        coverage=effect.coverage,
        verdict=verdict,
        words=describe_verdict(effect),
        reason=unmeasured_reason(effect) if verdict == "not_measured" else None,
    )


def describe_verdict(effect: Effect) -> str:
    """Return the verdict in words: `differs (q = .012)`, `no difference found (smallest detectable: .3)`."""
    match effect.verdict:
        case "differs":
            return f"differs (q {_equals(effect.q_value)})"
        case "no_difference_found":
            smallest = "unknown" if effect.detectable is None else f"{effect.detectable:.2g}"
            return f"no difference found (smallest detectable: {smallest})"
        case "equivalent":
            return "equivalent (inside the margin)"
        case _:
            return f"not measured ({unmeasured_reason(effect)})"


def unmeasured_reason(effect: Effect) -> str:
    """Return why an effect has no verdict on a difference."""
    if effect.reason is not None:
        return effect.reason
    if effect.p_value is None:
        return UNTESTED
    return f"{TOO_FEW}: {effect.n} of {MIN_CLUSTERS}" if effect.n < MIN_CLUSTERS else NO_INTERVAL


def _equals(q: float | None) -> str:
    if q is None:
        return "unknown"
    return "< .001" if q < 0.001 else f"= {q:.3f}".replace("0.", ".", 1)


def _readable(answered: Iterable[Answered]) -> Iterator[ScoredQuestion]:
    """Yield the scores of the questions that have the form of their family. Others may hold anything."""
    for a in answered:
        with suppress(ValueError, LookupError):
            yield from scored_answers([a])


def _contrasts_of(contents: Contents, manifest: Manifest, data_dir: Path) -> list[Effect]:
    rows = contents.rows(QUESTIONS)
    responses, judgements = contents.rows(RESPONSES), contents.rows(JUDGEMENTS)
    attributes: dict[str, Attribute] = {}
    for name in sorted({q.attribute for q in rows}):
        with suppress(InputError):  # a release of others may have an attribute that the vocabulary lacks
            attributes |= {a.id: a for a in read_attributes(data_dir, [name])}
    questions = {q.id: separate_unreviewed(q) for q in rows if q.attribute in attributes}
    form = select_fitness_form(judgements) or ""
    answered = gather_answers(questions, responses)
    effects = [
        *contrast_effects(_readable(answered), attributes),
        *contrast_effects(scored_judgements(questions, judgements, form), attributes),
    ]
    settings = manifest.recipe.get("validate", {})
    counted = [
        r
        for r in responses
        if (q := questions.get(r.question_id)) and (q.family != "open" or r.phase == "holdout")
    ]
    coverage = AnswersBySlice(questions, counted)
    rule = CoverageRule(float(settings.get("min_coverage", 0.8)), data_dir)
    covered = rule.apply([*effects, *undirected_slices(answered, effects)], coverage)
    return VerdictRule().apply(correct_for_multiplicity(covered))
