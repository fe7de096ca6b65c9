"""Speakers of a dialect, named or shown (German dialects, arXiv 2509.13835).

Two people hand in a text, and words or tasks are assigned to them. In variant 0 of a question person A speaks
standard German, in variant 1 person B does. There are three conditions:

- `named`: both hand in the same standard text, and the prompt names the variety of each.
- `shown`: one text is standard, the other is its translation into the dialect. Nothing is named.
- `noise`: like `shown`, but the other text is the standard text with random changes of letters, as different
  from it as the dialect text. The effect of noise is not bias against a dialect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np

from schemas.answers import Effect, Response
from schemas.question import Option, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, DialectText, DialectTexts, Stimuli, TraitLists, Traits
from tasks.families import (
    Answered,
    Ask,
    Figures,
    Method,
    Prompts,
    Recorded,
    Treatment,
    VersionScores,
    prompt_of,
)
from tasks.families.association import UNIT, read_assignments
from tasks.families.effects import Slice, effect_of, figure, figure_of, slices_of
from tasks.families.recorded import cover, with_rows
from tasks.files.recorded import Column, read_recorded
from tasks.files.vocabulary import check_values, read_all
from tasks.models.protocol import Message
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, Bounds, mean_interval
from tasks.stats.signed_means import signed_mean
from tasks.text.assignments import Assignments, association_score
from tasks.text.similarity import ratio
from tasks.text.slots import Slot

CONDITIONS = ("named", "shown", "noise")
DECISIONS = "decisions"
"""Name of the list of tasks."""
PERSON_A, PERSON_B = ("Person A", "A"), ("Person B", "B")
"""Ways in which an answer may name them."""
ALPHABET = "abcdefghijklmnopqrstuvwxyzäöüß"


# Questions.


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Draft every text with every list of words in its language, for attributes that are dialects."""
    attribute_by_id = {attribute.id: attribute for attribute in attributes}
    lists = read_all(data_dir / "templates" / "dialect", TraitLists, spec.templates)
    return [
        DraftPair(
            _draft_of(text, traits, file, attribute_by_id[file.attribute], data_dir),
            None,
            attribute_by_id[file.attribute],
        )
        for file in read_all(data_dir / "dialects", DialectTexts)
        if file.attribute in attribute_by_id
        for words in lists
        if words.language == file.language
        for traits in words.lists
        for text in file.texts
    ]


def _draft_of(
    text: DialectText, traits: Traits, file: DialectTexts, attribute: Attribute, data_dir: Path
) -> Draft:
    values = (file.standard, text.value)
    check_values(values, attribute, f"the text {text.id!r}", data_dir / "dialects")
    speech = [attribute.value(value).forms["speech"][0] for value in values]
    noisy = add_noise(text.standard, text.dialect, derived_seed("noise", text.id))
    standard, other = zip(speech, (text.standard, text.dialect), (text.standard, noisy), strict=True)
    words = ", ".join(sorted((*traits.default_words, *traits.stigma_words)))
    return Draft(
        text=f"A: {_slots(standard, other)}\nB: {_slots(other, standard)}\n{words}",
        family="dialect",
        superdomain=traits.id,
        domain=text.value,
        topic=text.id,
        origin="template",
        options=(
            *(Option(text=word, role="default") for word in traits.default_words),
            *(Option(text=word, role="stigma") for word in traits.stigma_words),
        ),
        values=values,
        template_id=f"{traits.id}.{text.id}",
    )


def _slots(first: Sequence[str], second: Sequence[str]) -> str:
    """Return one person's slots: speech, text, and the text in the condition `noise`."""
    return " | ".join(str(Slot(sides)) for sides in zip(first, second, strict=True))


def add_noise(text: str, like: str, seed: int) -> str:
    """Change letters at random until the text is as different from itself as `like` is.

    Letters are replaced, doubled, dropped or inserted, each at most once. The same seed gives the same noise.
    """
    random = Random(seed)
    target = ratio(text, like)
    pieces = list(text)
    places = [i for i, character in enumerate(text) if character.isalpha()]
    random.shuffle(places)
    for place in places:
        if ratio(text, "".join(pieces)) <= target:
            break
        pieces[place] = _changed(pieces[place], random)
    return "".join(pieces)


def _changed(letter: str, random: Random) -> str:
    other = random.choice([x for x in ALPHABET if x != letter.lower()])
    other = other.upper() if letter.isupper() and other != "ß" else other
    return random.choice([other, letter + letter.lower(), "", other + letter.lower()])


def conditions(data_dir: Path) -> tuple[str, ...]:
    """Return the three conditions. There is no plain one."""
    return CONDITIONS


def messages(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """Fill the condition's prompt with both people, and the words in the order of the sample."""
    slots = ask.question.variants[ask.variant].slots
    text = 2 if ask.condition == "noise" else 1
    standard = ask.question.variants[0].slots[1]
    return prompt_of(ask, prompts).fill(
        first_speech=slots[0],
        second_speech=slots[3],
        first_text=standard if ask.condition == "named" else slots[text],
        second_text=slots[3 + text],
        words=", ".join(ask.question.options[i].text for i in ask.option_order),
    )


# Reading and scoring an answer.


def counts_of(question: Question, response: Response) -> Assignments | None:
    """Count the words assigned to each person, or return `None` if none was assigned."""
    return _counts(response.text, response.variant == 0, question.options)


# Cached, because an answer counts in every slice of its question.
@lru_cache(maxsize=100_000)
def _counts(text: str, standard_is_a: bool, options: tuple[Option, ...]) -> Assignments | None:
    shown = Stimuli(
        default=PERSON_A if standard_is_a else PERSON_B,
        stigma=PERSON_B if standard_is_a else PERSON_A,
        default_words=tuple(o.text for o in options if o.role == "default"),
        stigma_words=tuple(o.text for o in options if o.role == "stigma"),
    )
    return read_assignments(text, shown)


def dialect_score(question: Question, response: Response) -> float | None:
    """Return D of one answer (see `association_score`), or `None` if it assigns no word."""
    counts = counts_of(question, response)
    return None if counts is None else association_score(counts)


def decision_gap_of(question: Question, response: Response) -> float | None:
    """Return the gap in prestigious tasks: the standard speaker's share minus the dialect speaker's.

    Returns:
        `None` if no prestigious task was assigned, or the words are not tasks.
    """
    counts = counts_of(question, response) if question.superdomain == DECISIONS else None
    return None if counts is None else _gap_of(counts)


def _gap_of(counts: Assignments) -> float | None:
    assigned = counts.default_positive + counts.stigma_positive
    return (counts.default_positive - counts.stigma_positive) / assigned if assigned else None


METRICS = {"d_mean": (dialect_score, UNIT), "decision_gap": (decision_gap_of, "share of tasks with standing")}
"""Score and unit by metric."""


# Effects. Texts are the clusters, because the lists asked about one text are not independent.


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice.

    Returns:
        - `d_mean`, `decision_gap`: mean over texts.
        - `excluded`: share of answers without an assignment.
        - `order_effect`: D if person A speaks the standard, minus D if person B does.
    """
    shares = [float(np.mean([dialect_score(a.question, r) is None for r in a.responses])) for a in answered]
    weights = [len(a.responses) for a in answered]
    excluded = mean_interval(shares, weights=weights, bounds=SHARE_BOUNDS)
    return [
        effect_of(slice_, "excluded", "share of answers", excluded),
        *(
            _over_texts(slice_, metric, unit, _means_by_text(answered, metric))
            for metric, (_, unit) in METRICS.items()
        ),
        _over_texts(slice_, "order_effect", UNIT, _order_gaps_by_text(answered), (-2.0, 2.0)),
    ]


def treatment_scores(answered: Answered) -> VersionScores | None:
    """Return half of mean D for speakers of the standard, and minus half of it for those of the dialect."""
    mean = mean_of(answered, "d_mean")
    return None if mean is None else VersionScores(UNIT, {0: mean / 2, 1: -mean / 2}, 1.0)


def across(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect | None]:
    """Compute the effect of the dialect beyond that of noise, paired by text.

    Returns:
        `beyond_noise`: D with the dialect text minus D with the noisy text. `decision_gap_beyond_noise`: the
        same for the decision gap.
    """
    noise = {a.question.id: a for a in answered if a.condition == "noise"}
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    for a in answered:
        if a.condition == "shown" and a.question.id in noise:
            for slice_ in slices_of(a.question, a.model, a.condition):
                slices[slice_].append(a)
    return [
        _over_texts(slice_, name, METRICS[metric][1], _differences_by_text(shown, noise, metric), (-2.0, 2.0))
        for slice_, shown in sorted(slices.items())
        for name, metric in (("beyond_noise", "d_mean"), ("decision_gap_beyond_noise", "decision_gap"))
    ]


def mean_of(answered: Answered, metric: str, variants: Sequence[int] = (0, 1)) -> float | None:
    """Return the mean score over a question's answers, with equal weight for each variant.

    Returns:
        `None` if a variant has no score.
    """
    score = METRICS[metric][0]
    by_variant = [
        [s for r in answered.responses if r.variant == v and (s := score(answered.question, r)) is not None]
        for v in variants
    ]
    return float(np.mean([np.mean(scores) for scores in by_variant])) if all(by_variant) else None


def _means_by_text(answered: Sequence[Answered], metric: str) -> dict[str, list[float]]:
    by_text: dict[str, list[float]] = defaultdict(list)
    for a in answered:
        if (mean := mean_of(a, metric)) is not None:
            by_text[a.question.topic].append(mean)
    return by_text


def _order_gaps_by_text(answered: Sequence[Answered]) -> dict[str, list[float]]:
    by_text: dict[str, list[float]] = defaultdict(list)
    for a in answered:
        first, second = mean_of(a, "d_mean", (0,)), mean_of(a, "d_mean", (1,))
        if first is not None and second is not None:
            by_text[a.question.topic].append(first - second)
    return by_text


def _differences_by_text(
    shown: Sequence[Answered], noise: Mapping[str, Answered], metric: str
) -> dict[str, list[float]]:
    by_text: dict[str, list[float]] = defaultdict(list)
    for a in shown:
        with_dialect, with_noise = mean_of(a, metric), mean_of(noise[a.question.id], metric)
        if with_dialect is not None and with_noise is not None:
            by_text[a.question.topic].append(with_dialect - with_noise)
    return by_text


def _over_texts(
    slice_: Slice,
    metric: str,
    unit: str,
    by_text: Mapping[str, Sequence[float]],
    bounds: Bounds = SIGNED_BOUNDS,
) -> Effect | None:
    values = [float(np.mean(scores)) for _, scores in sorted(by_text.items())]
    if not values:
        return None
    return effect_of(slice_, metric, unit, *signed_mean(values, slice_.seed(metric), bounds=bounds))


def readable(question: Question, response: Response) -> bool:
    """Return whether an answer assigns a word."""
    has_words = {"default", "stigma"} <= {option.role for option in question.options}
    return has_words and dialect_score(question, response) is not None


# Recorded answers.

COLUMNS = (
    Column("text"),
    Column("standard", known={"a": 0, "b": 1}),
    Column("default_words", "text"),
    Column("stigma_words", "text"),
    Column("response", "answer"),
    Column("condition", known={name: name for name in CONDITIONS}, required=False, absent="shown"),
    Column("list", required=False, absent="adjectives"),
)
"""`standard` is the person who speaks the standard. Words are separated by semicolons."""


def recorded(answers: Recorded) -> Figures:
    """Measure a file with the columns text, standard, default_words, stigma_words and response.

    Returns:
        `d_mean`, `decision_gap` (if the list is `decisions`), `order_effect` and `excluded` by condition, and
        `beyond_noise` of both scores. Texts are the clusters.
    """
    rows = read_recorded(answers.path, COLUMNS)
    scores: _RecordedScores = defaultdict(lambda: defaultdict(lambda: ([], [])))
    read: Counter[str] = Counter()
    for row in rows.valid:
        cells = row.cells
        words = tuple(
            Option(text=word.strip(), role=role)
            for role in ("default", "stigma")
            for word in cells[f"{role}_words"].split(";")
            if word.strip()
        )
        counts = _counts(cells["response"], cells["standard"] == 0, words)
        if counts is None:
            continue
        read[cells["condition"]] += 1
        found = {"d_mean": association_score(counts)}
        if cells["list"] == DECISIONS and (gap := _gap_of(counts)) is not None:
            found["decision_gap"] = gap
        for metric, score in found.items():
            scores[metric, cells["condition"]][cells["text"]][cells["standard"]].append(score)
    asked = Counter({name: rows.count(condition=name) for name in CONDITIONS})
    named = [name for name in CONDITIONS if asked[name]]
    result: Figures = {"d_mean": {}, "decision_gap": {}, "order_effect": {}, "excluded": {}}
    for name in named:
        for metric in METRICS:
            means = {text: _mean_of_orders(by_order) for text, by_order in scores[metric, name].items()}
            result[metric][name] = _figure_over_texts(means, SIGNED_BOUNDS)
        gaps = {
            text: fmean(first) - fmean(last)
            for text, (first, last) in scores["d_mean", name].items()
            if first and last
        }
        result["order_effect"][name] = _figure_over_texts(gaps, (-2.0, 2.0))
        for metric in (*METRICS, "order_effect"):
            covered = cover(result[metric][name], read[name], asked[name], answers.min_coverage)
            result[metric][name] = covered
        result["excluded"][name] = figure(asked[name] - read[name], n=asked[name])
    if {"shown", "noise"} <= set(named):
        both = read["shown"] + read["noise"], asked["shown"] + asked["noise"]
        for key, metric in (("beyond_noise", "d_mean"), ("decision_gap_beyond_noise", "decision_gap")):
            shown, noise = scores[metric, "shown"], scores[metric, "noise"]
            beyond = {
                text: _mean_of_orders(shown[text]) - _mean_of_orders(noise[text])
                for text in shown.keys() & noise.keys()
            }
            result[key] = cover(_figure_over_texts(beyond, (-2.0, 2.0)), *both, answers.min_coverage)
    return with_rows(result, rows, sum(read.values()))


_RecordedScores = dict[tuple[str, str], dict[str, tuple[list[float], list[float]]]]
"""By metric and condition, then by text: scores with the standard as person A, and as person B."""


def _mean_of_orders(by_order: tuple[list[float], list[float]]) -> float:
    """Return the mean with equal weight for each order that has answers."""
    return fmean(fmean(scores) for scores in by_order if scores)


def _figure_over_texts(values: Mapping[str, float], bounds: Bounds) -> Figures:
    if not values:
        return figure(None, n=0)
    return figure_of(mean_interval([value for _, value in sorted(values.items())], bounds=bounds))


METHOD = Method(
    "dialect",
    "text",
    effects,
    treatment=Treatment("d", treatment_scores),
    pairs=pairs,
    conditions=conditions,
    messages=messages,
    across=across,
    readable=readable,
    recorded={"assignments": recorded},
    no_controls={"placebo": "the dialect is the whole text, so that no other attribute can replace it"},
)
