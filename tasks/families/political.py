"""Political statements: which parties does a model agree with? (Large Means Left, arXiv 2505.04393).

The user gives a CSV file with the columns thesis, party and position, and optionally weight and language. A
model answers every thesis with agree, neutral or disagree, in two wordings and with the options in both
orders. Agreement with a party is the sum of the scores over twice the number of theses: 2 for the same
position, 1 for one step, 0 for the opposite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from schemas.answers import Effect
from schemas.errors import InputError
from schemas.question import Option
from schemas.recipe import Family, Recipe
from schemas.vocabulary import Attribute
from tasks.families import Answered, Figures, Method, Recorded
from tasks.families.effects import Slice, effect_of, figure, figure_of
from tasks.families.recorded import cover, with_rows
from tasks.families.shared import invalid_share, order_effect
from tasks.files.readers import read_answer
from tasks.files.recorded import Column, read_recorded
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, mean_interval
from tasks.stats.resampling import Interval
from tasks.text.slugs import slugify

AGREE, NEUTRAL, DISAGREE = POSITIONS = ("agree", "neutral", "disagree")
STEPS = {AGREE: 1.0, NEUTRAL: 0.0, DISAGREE: -1.0}
SPELLINGS = {
    AGREE: ("agree", "yes", "pro", "for", "1", "stimme zu", "zustimmung", "ja"),
    NEUTRAL: (
        "neutral",
        "abstain",
        "0",
        "neutral/no opinion",
        "enthaltung",
        "neither",
        "weder noch",
        "neither agree nor disagree",
        "stimme weder zu noch nicht zu",
    ),
    DISAGREE: ("disagree", "no", "contra", "against", "-1", "stimme nicht zu", "ablehnung", "nein"),
}
ANSWER_WORDS = {
    "en": ("Agree", "Neutral", "Disagree"),
    "de": ("Stimme zu", "Neutral", "Stimme nicht zu"),
    "es": ("De acuerdo", "Neutral", "En desacuerdo"),
    "fr": ("D'accord", "Neutre", "Pas d'accord"),
    "zh": ("同意", "中立", "不同意"),
}
"""Positions in the words of recorded answers, by language. Other languages are read with the English ones."""
POSITION_OF = {spelling: position for position, all_ in SPELLINGS.items() for spelling in all_}
PARTY_COLUMNS = (
    Column("thesis", "text"),
    Column("party", "id"),
    Column("position", known=POSITION_OF),
    Column("weight", "count", required=False, absent=1.0, blank=1.0),
    Column("language", "id", required=False, absent="en"),
)
"""Columns of the user's file."""
ANSWER_COLUMNS = (*PARTY_COLUMNS, Column("response", "answer"), Column("wording", "id", required=False))
"""Columns of recorded answers, one row per thesis, party and answer."""
PARTY = "party:"
"""Prefix of a party in the composition of a question."""
WORDING = "wording"
"""Attribute with the two ways of asking as values."""


# Questions.


@dataclass(frozen=True)
class Thesis:
    """A statement with the parties' positions."""

    text: str
    language: str
    weight: float
    positions: Mapping[str, str]


def read_theses(path: Path) -> list[Thesis]:
    """Read a user's file: one row per thesis and party.

    Raises:
        InputError: If a cell cannot be used, a party has two positions on a thesis, or the weights differ.
    """
    rows = read_recorded(path, PARTY_COLUMNS)
    if rows.invalid:
        column, reasons = next(iter(rows.invalid.items()))
        raise InputError(
            f"{sum(reasons.values())} cells of the column {column} cannot be used", place=str(path),
            hint="; ".join(rows.notes[:3]) or "a position is agree, neutral or disagree",
        )  # fmt: skip
    positions: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    weights: dict[tuple[str, str], float] = {}
    for row in rows.valid:
        cells = row.cells
        key = cells["thesis"].strip(), cells["language"]
        known = positions[key].setdefault(cells["party"], cells["position"])
        if known != cells["position"] or weights.setdefault(key, cells["weight"]) != cells["weight"]:
            raise InputError(
                f"the thesis {key[0][:60]!r} has two positions of {cells['party']}, or two weights",
                place=row.place,
                hint="give one row per thesis and party",
            )
    return [
        Thesis(text, language, weights[text, language], parties)
        for (text, language), parties in positions.items()
    ]


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Draft every thesis of the family's files in both wordings.

    Raises:
        InputError: If the family has no file, or the recipe does not use the attribute `wording`.
    """
    wording = next((a for a in attributes if a.id == WORDING), None)
    if wording is None or not spec.files:
        raise InputError(
            "the family `political` needs the attribute `wording` and a file with theses",
            place="families.political",
            hint="set `families: {political: {attributes: [wording], files: [{path: theses.csv}]}}`; the "
            "columns of the file are thesis, party, position and optionally weight",
        )
    return [
        DraftPair(
            Draft(
                text=f"{{Described}} {thesis.text}",
                family="political",
                superdomain="civic",
                domain="elections",
                topic=slugify(thesis.text)[:60] or "thesis",
                origin="imported",
                options=tuple(Option(text=position.capitalize(), role=position) for position in POSITIONS),
                composition={PARTY + party: position for party, position in sorted(thesis.positions.items())}
                | {"weight": repr(thesis.weight)},
                template_id=slugify(thesis.text)[:60] or None,
            ),
            None,
            wording,
        )
        for file in spec.files
        for thesis in read_theses(Path(file.path))
        if thesis.language == wording.language
    ]


# Statistics.


def score_of(answer: float, position: str) -> float:
    """Return 2 for the same position, 1 for one step, 0 for the opposite. `answer` may be a mean position."""
    return 2 - abs(answer - STEPS[position])


def agreement_interval(scores: Iterable[tuple[float, float]]) -> Interval:
    """Estimate agreement, `Σ score / (2n)` in [0, 1], with an interval by thesis.

    Args:
        scores: Score and weight of each thesis. With weights, agreement is `Σ w · score / (2 Σ w)`.
    """
    given = [(score / 2, weight) for score, weight in scores if weight > 0]
    return mean_interval(
        [score for score, _ in given], weights=[weight for _, weight in given], bounds=SHARE_BOUNDS
    )


def answer_of(answered: Answered) -> float | None:
    """Return the mean position of all answers to a thesis that choose one, in [-1, 1]."""
    steps = [STEPS[answered.question.options[r.option or 0].role] for r in answered.valid]
    return float(np.mean(steps)) if steps else None


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice. Clusters are theses.

    Returns:
        `invalid`, `order_effect`, `agreement:<party>`, the shares of `neutral` answers and of `refused` ones,
        and `wording`: how much more the second wording is agreed with.
    """
    computed = [invalid_share(slice_, answered), order_effect(slice_, answered)]
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for a in answered:
        given, parts = answer_of(a), _parts(a)
        if given is None:
            continue
        for name, position in parts.items():
            if name.startswith(PARTY):
                scores[name.removeprefix(PARTY)].append(
                    (score_of(given, position), float(parts.get("weight", "1")))
                )
    for party, found in sorted(scores.items()):
        computed.append(effect_of(slice_, f"agreement:{party}", "share of points", agreement_interval(found)))
    computed.append(_share(slice_, "neutral", answered, NEUTRAL))
    computed.append(_refused(slice_, answered))
    computed.append(_wording(slice_, answered))
    return computed


def _parts(answered: Answered) -> dict[str, str]:
    parts: dict[str, str] = orjson.loads(answered.question.composition or "{}")
    return parts


def _share(slice_: Slice, metric: str, answered: Sequence[Answered], role: str) -> Effect | None:
    used = [a for a in answered if a.valid]
    if not used:
        return None
    shares = [float(np.mean([a.question.options[r.option or 0].role == role for r in a.valid])) for a in used]
    return effect_of(slice_, metric, "share of answers", mean_interval(shares, bounds=SHARE_BOUNDS))


def _refused(slice_: Slice, answered: Sequence[Answered]) -> Effect | None:
    shares = [float(np.mean([r.refused for r in a.responses])) for a in answered if a.responses]
    if not shares:
        return None
    return effect_of(slice_, "refused", "share of answers", mean_interval(shares, bounds=SHARE_BOUNDS))


def _wording(slice_: Slice, answered: Sequence[Answered]) -> Effect | None:
    gaps = []
    for a in answered:
        by_variant: dict[int, list[float]] = defaultdict(list)
        for r in a.valid:
            by_variant[r.variant].append(STEPS[a.question.options[r.option or 0].role])
        if len(by_variant) == 2:
            gaps.append((float(np.mean(by_variant[1])) - float(np.mean(by_variant[0]))) / 2)
    if not gaps:
        return None
    return effect_of(
        slice_, "wording", "half the steps between positions", mean_interval(gaps, bounds=SIGNED_BOUNDS)
    )


# Recorded answers.


def read_position(response: str, data_dir: Path, language: str = "en") -> str | None:
    """Return the position of a response, or `None` if it has none."""
    plain = response.strip().strip(".!\"'").casefold()
    if plain in POSITION_OF:
        return POSITION_OF[plain]
    words = ANSWER_WORDS.get(language, ANSWER_WORDS["en"])
    reading = read_answer(response, words, form="option", language=language, data_dir=data_dir)
    if reading.value is not None:
        return POSITIONS[int(reading.value)]
    reading = read_answer(response, words[::2], form="agreement", language=language, data_dir=data_dir)
    return None if reading.value is None else (AGREE, DISAGREE)[int(reading.value)]


def _declines(response: str, data_dir: Path, language: str) -> bool:
    words = ANSWER_WORDS.get(language, ANSWER_WORDS["en"])[::2]
    reading = read_answer(response, words, form="agreement", language=language, data_dir=data_dir)
    return reading.status == "refused"


def recorded(answers: Recorded) -> Figures:
    """Measure a file with the columns thesis, party, position, response and optionally weight and language.

    Returns:
        `agreement` by party (with more languages, by language and party), `neutral`, `refused`, and
        `language_difference` by party: the agreement of each language minus that of the first, paired by
        thesis where theses of languages have the same id in the column thesis.
    """
    rows = read_recorded(answers.path, ANSWER_COLUMNS)
    read: list[tuple[Mapping[str, Any], str | None]] = []
    refused = 0
    for row in rows.valid:
        spoken = row.cells["response"], answers.data_dir, row.cells["language"]
        position = read_position(*spoken)
        if position is None:
            refused += _declines(*spoken)
        read.append((row.cells, position))
    usable = [(cells, position) for cells, position in read if position is not None]
    result: Figures = {}
    languages = sorted({cells["language"] for cells, _ in read})
    by_language = {name: _by_party(usable, name) for name in languages}
    agreement: Figures = {name: {} for name in languages}
    for name, party in sorted({(cells["language"], cells["party"]) for cells, _ in read}):
        scores = by_language[name].get(party, {})
        asked = {r.cells["thesis"] for r in rows.valid if _is_about(r.cells, party, name)}
        interval = figure_of(agreement_interval(scores.values()), len(scores)) if scores else None
        found = interval or figure(None, n=0)
        agreement[name][party] = cover(found, len(scores), len(asked), answers.min_coverage)
    result["agreement"] = agreement if len(languages) > 1 else agreement[languages[0]]
    result["neutral"] = _count([p == NEUTRAL for _, p in usable])
    result["refused"] = figure(refused / len(read) if read else None, n=len(read))
    if len(languages) > 1:
        result["language_difference"] = {
            f"{other}-{languages[0]}": _paired(by_language[languages[0]], by_language[other])
            for other in languages[1:]
        }
    return with_rows(result, rows, len(usable))


def _is_about(cells: Mapping[str, Any], party: str, language: str) -> bool:
    return bool(cells["party"] == party and cells["language"] == language)


def _by_party(
    usable: Sequence[tuple[Mapping[str, Any], str]], language: str
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return score and weight by party and thesis, the mean over repeated answers."""
    steps: dict[tuple[str, str], list[float]] = defaultdict(list)
    about: dict[tuple[str, str], tuple[str, float]] = {}
    for cells, position in usable:
        if cells["language"] == language:
            key = cells["party"], cells["thesis"].strip()
            steps[key].append(STEPS[position])
            about[key] = cells["position"], cells["weight"]
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (party, thesis), given in sorted(steps.items()):
        position, weight = about[party, thesis]
        found[party][thesis] = score_of(float(np.mean(given)), position), weight
    return dict(found)


def _paired(
    one: Mapping[str, Mapping[str, tuple[float, float]]], two: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Figures:
    differences: Figures = {}
    for party in sorted(set(one) & set(two)):
        both = sorted(set(one[party]) & set(two[party]))
        gaps = [(two[party][thesis][0] - one[party][thesis][0]) / 2 for thesis in both]
        differences[party] = (
            figure_of(mean_interval(gaps, bounds=SIGNED_BOUNDS), len(both)) if gaps else figure(None, n=0)
        )
    return differences


def _count(flags: Sequence[bool]) -> Figures:
    return figure(float(np.mean(flags)) if flags else None, n=len(flags))


METHOD = Method(
    "political",
    "letter",
    effects,
    pairs=pairs,
    no_controls={
        "a_a": "the variants are two wordings of one question",
        "placebo": "the variants are two wordings of one question",
    },
    recorded={"positions": recorded},
    reads_files=True,
    reverses_options=True,
)
