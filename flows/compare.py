"""Compare models, languages, framings or releases, paired by question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.workspace import open_workspace
from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES
from schemas.errors import InputError
from schemas.options import CompareOptions
from schemas.question import QUESTIONS
from tasks.release import ReleaseDirectory, open_release
from tasks.release.fitness import select_fitness_form
from tasks.report.comparisons import (
    DEFAULT_MIN_COVERAGE,
    PairedComparison,
    Scored,
    choose_pairs,
    compare_framings,
    compare_languages,
    compare_models,
    compare_releases,
    find_name,
    score_questions,
)
from tasks.report.names import Names, read_known_attributes
from tasks.report.sentences import comparisons_in_words


def run_compare(options: CompareOptions) -> dict[str, Any]:
    """Compare what the options name, or everything in the release, and return `compare --json`.

    Raises:
        InputError: If a model, language or framing is not in the release, or nothing can be compared.
    """
    places = [options.release, *([options.other] if options.other else [])]
    data_dir = open_workspace().with_attributes(*places).vocabulary
    first = open_release(options.release)
    second = open_release(options.other) if options.other else None
    opened = [release for release in (first, second) if release is not None]
    titles = [f"{r.manifest.name} {r.manifest.version}" for r in opened]
    if second is not None and titles[0] == titles[1]:
        titles = [str(r.path) for r in opened]
    scored = [score_release(release, data_dir, title) for release, title in zip(opened, titles, strict=True)]
    scored = [restrict(s, options) for s in scored]
    if second is not None:
        compared = compare_releases(scored[0], scored[1], (titles[0], titles[1]))
    else:
        compared = compare_within(scored[0], options)
    names = names_of(scored, data_dir)
    return {"release": titles[0], "comparisons": comparisons_in_words(compared, names)}


def score_release(release: ReleaseDirectory, data_dir: Path, title: str) -> Scored:
    """Score the questions of a release for every model that answered them."""
    contents, recipe = release.contents, release.manifest.recipe
    questions, judgements = contents.rows(QUESTIONS), contents.rows(JUDGEMENTS)
    validation = recipe.get("validate")
    known = validation if isinstance(validation, dict) else {}
    return score_questions(
        questions,
        contents.rows(RESPONSES),
        judgements,
        contents.rows(EFFECTS),
        read_known_attributes(data_dir, {q.attribute for q in questions}),
        form=select_fitness_form(judgements),
        release=title,
        min_coverage=float(known.get("min_coverage", DEFAULT_MIN_COVERAGE)),
    )


def restrict(scored: Scored, options: CompareOptions) -> Scored:
    """Keep the scores of the only language, framing or model that the options name, if they name one."""
    limits = {
        "language": options.languages if len(options.languages) == 1 else (),
        "framing": options.framings if len(options.framings) == 1 else (),
    }
    for kind, names in limits.items():
        if names:
            name = find_name(names[0], values_of(scored, kind), kind)
            scored = scored.only(lambda s, kind=kind, name=name: getattr(s.question, kind) == name)
    if options.other is not None and options.models:
        wanted = {find_name(name, scored.models(), "model") for name in options.models}
        scored = scored.only(lambda s: s.model in wanted)
    elif len(options.models) == 1 and (len(options.languages) > 1 or len(options.framings) > 1):
        model = find_name(options.models[0], scored.models(), "model")
        scored = scored.only(lambda s: s.model == model)
    return scored


def values_of(scored: Scored, kind: str) -> list[str]:
    """Return the languages or framings of the scored questions."""
    return sorted({getattr(s.question, kind) for s in scored.scores})


def compare_within(scored: Scored, options: CompareOptions) -> list[PairedComparison]:
    """Compare the models, languages or framings that the options name. Without names, compare all of them.

    Raises:
        InputError: If nothing can be compared.
    """
    languages, framings = (values_of(scored, kind) for kind in ("language", "framing"))
    properties = len(options.languages) > 1 or len(options.framings) > 1
    compared: list[PairedComparison] = []
    if len(options.languages) > 1:
        compared += compare_languages(scored, choose_pairs(options.languages, languages, "language"))
    if len(options.framings) > 1:
        compared += compare_framings(scored, choose_pairs(options.framings, framings, "framing"))
    if not properties or len(options.models) > 1:
        compared += compare_models(scored, choose_pairs(options.models, scored.models(), "model"))
    if not properties and not options.models:
        if len(languages) > 1:
            compared += compare_languages(scored, choose_pairs((), languages, "language"))
        if len(framings) > 1:
            compared += compare_framings(scored, choose_pairs((), framings, "framing"))
    if not compared:
        raise InputError(
            "nothing to compare: the release has one model, one language and one framing",
            place=", ".join(scored.models()) or "no answers",
            hint="evaluate another model with `counterfoil evaluate`, or name a second release",
        )
    return compared


def names_of(scored: list[Scored], data_dir: Path) -> Names:
    """Return the names of the models and attributes of the scores."""
    models = {model for s in scored for model in s.models()}
    attributes = {attribute for s in scored for _, attribute, _ in s.asked}
    return Names.of(models, read_known_attributes(data_dir, attributes))
