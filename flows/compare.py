"""Compare models, languages, framings or releases, paired by question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.workspace import open_workspace
from schemas.errors import InputError
from schemas.options import CompareOptions
from tasks.release import open_release
from tasks.report import compare_all, release_scores
from tasks.report.comparisons import (
    PairedComparison,
    Scored,
    Selection,
    choose_pairs,
    compare_framings,
    compare_languages,
    compare_models,
    compare_scored_releases,
    find_name,
)
from tasks.report.names import Names, read_known_attributes
from tasks.report.sentences import comparisons_in_words, condense_comparisons


def run_compare(options: CompareOptions) -> dict[str, Any]:
    """Compare the parts that the options name, or everything in the release, and return `compare --json`.

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
    scored = [
        release_scores(release.manifest, release.contents, data_dir, title)
        for release, title in zip(opened, titles, strict=True)
    ]
    scored = [replace(restrict(s, options), margin=options.margin) for s in scored]
    if second is not None:
        compared = compare_scored_releases(scored[0], scored[1], (titles[0], titles[1]))
    else:
        compared = compare_within(scored[0], options)
    names = names_of(scored, data_dir)
    return {
        "release": titles[0],
        "summary": [sentence for _, sentence in condense_comparisons(compared, names)],
        "comparisons": comparisons_in_words(compared, names),
    }


def restrict(scored: Scored, options: CompareOptions) -> Scored:
    """Keep the scores of the only language, framing or model that the options name, if they name one."""
    if len(options.languages) == 1:
        language = find_name(options.languages[0], scored.languages(), "language")
        scored = scored.only(Selection(language=language))
    if len(options.framings) == 1:
        framing = find_name(options.framings[0], scored.framings(), "framing")
        scored = scored.only(Selection(framing=framing))
    if options.other is not None and options.models:
        wanted = {find_name(name, scored.models(), "model") for name in options.models}
        scored = scored.only(lambda s: s.model in wanted)
    elif len(options.models) == 1 and (len(options.languages) > 1 or len(options.framings) > 1):
        model = find_name(options.models[0], scored.models(), "model")
        scored = scored.only(Selection(model=model))
    return scored


def compare_within(scored: Scored, options: CompareOptions) -> list[PairedComparison]:
    """Compare the models, languages or framings that the options name. Without names, compare all of them.

    Raises:
        InputError: If nothing can be compared.
    """
    languages, framings = scored.languages(), scored.framings()
    properties = len(options.languages) > 1 or len(options.framings) > 1
    compared: list[PairedComparison] = []
    if len(options.languages) > 1:
        compared += compare_languages(scored, choose_pairs(options.languages, languages, "language"))
    if len(options.framings) > 1:
        compared += compare_framings(scored, choose_pairs(options.framings, framings, "framing"))
    if options.models and (not properties or len(options.models) > 1):
        compared += compare_models(scored, choose_pairs(options.models, scored.models(), "model"))
    if not properties and not options.models:
        compared += compare_all(scored)
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
