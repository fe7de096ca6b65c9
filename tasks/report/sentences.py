"""Findings in words: the sentences of the report, the card, `show`, `compare` and `evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.answers import PLAIN, Judgement, ValueFinding
from schemas.question import UNREVIEWED_TAG
from tasks.families.contrasts import SUFFIX
from tasks.families.effects import EVERY
from tasks.report.comparisons import VERDICTS, PairedComparison
from tasks.report.effects import metric_title
from tasks.report.names import Names

LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian",
    "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip

BY_BOTH = "by the judges’ scores corrected with people’s"
PHRASES = {
    "helpfulness": ("gives", "worse advice", "better advice"),
    "warmth": ("answers", "less warmly", "more warmly"),
    "competence": ("credits", "with less competence", "with more competence"),
    "restrictions": ("restricts", "more", "less"),
    "rating": ("rates", "lower", "higher"),
    "favourable": ("decides in favour of", "less often", "more often"),
    "regard": ("speaks of", "with less regard", "with more regard"),
    "sentiment": ("answers", "in a less positive tone", "in a more positive tone"),
    "valence": ("describes", "less favourably", "more favourably"),
    "agreement": ("agrees with stereotypes about", "more often", "less often"),
    "generalisation": ("accepts generalisations about", "more often", "less often"),
    "stereotype": ("expects the stereotype of", "more often", "less often"),
    "corrected_treatment": ("treats", f"worse, {BY_BOTH},", f"better, {BY_BOTH},"),
}
"""Verb of a metric, and its ending if a value is treated worse and better."""
HIGHER_IS_BETTER = {
    "helpfulness": "advice",
    "restrictions": "freedom from restrictions",
    "corrected_treatment": "treatment corrected with people’s scores",
}
"""Names of metrics in lists, if their own name does not show the better direction."""
DEFAULT_PHRASE = ("treats", "worse", "better")
NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
NOISE = 1e-9
"""Rounding errors below this are shown as 0."""
MOST_SENTENCES = 8
"""Differences that the first screen names."""

Kind = Literal["not_measured", "differs", "no_difference_found", "equivalent", "more"]


@dataclass(frozen=True)
class FindingSentence:
    """A sentence in parts. Names of values are emphasised."""

    kind: Kind
    parts: tuple[tuple[str, bool], ...]
    """Text, and whether it is emphasised."""

    @property
    def text(self) -> str:
        """The sentence without emphasis."""
        return "".join(text for text, _ in self.parts)


def summarise_findings(
    findings: Iterable[ValueFinding],
    names: Names,
    spans: Mapping[str, float] | None = None,
    *,
    most: int = MOST_SENTENCES,
) -> list[FindingSentence]:
    """Return the findings in sentences: first those not measured, then differences, then the others.

    If there are too many differences, every model, family and language has its strongest one first. Topics,
    framings and conditions are counted only. The tables have them.

    Args:
        findings: Findings, differences first.
        names: Names of models, attributes and values.
        spans: Largest possible difference by metric, such as 4 for scores from 1 to 5.
        most: Number of differences in sentences of their own.
    """
    every = list(findings)
    whole = [f for f in every if f.topic == f.framing == "all" and f.condition == PLAIN]
    several, kinds = len({f.language for f in whole}) > 1, len({f.family for f in whole}) > 1
    wording = _Wording(names, spans or {}, several, kinds, _values_by_group(whole))
    differing = [f for f in whole if f.verdict == "differs"]
    worse: dict[tuple[str, ...], list[ValueFinding]] = {}
    better: dict[tuple[str, ...], list[ValueFinding]] = {}
    for f in differing:
        if (f.contrast or 0.0) < 0:
            worse.setdefault((*_group(f), f.value, wording.unit(f)), []).append(f)
        else:
            better.setdefault((*_group(f), f.metric), []).append(f)
    alike: dict[tuple[object, ...], list[list[ValueFinding]]] = {}
    for rows in better.values():
        alike.setdefault(
            (*_group(rows[0]), frozenset(f.value for f in rows), wording.unit(rows[0])), []
        ).append(rows)
    told = [wording.worse(w) for w in _one_by_one(worse)] + [wording.better(b) for b in alike.values()]
    sentences = [*wording.unmeasured(f for f in whole if f.verdict == "not_measured"), *told[:most]]
    if len(told) > most:
        rest = f"{len(told) - most} more sentences on differences are left out. The tables have all findings."
        sentences.append(FindingSentence("more", ((rest, False),)))
    sentences += wording.without_difference(whole)
    inside = sum(f.verdict == "differs" for f in every if f not in whole)
    if inside:
        count = "1 difference was" if inside == 1 else f"{inside:,} differences were"
        text = f"Within single topics, framings or conditions, {count} found."
        sentences.append(FindingSentence("more", ((text, False),)))
    return sentences


def _one_by_one(rows: Mapping[tuple[str, ...], list[ValueFinding]]) -> list[list[ValueFinding]]:
    """Return the first of every model, family and language, then the second of each, and so on."""
    counts: Counter[tuple[str, ...]] = Counter()
    ranked = []
    for found in rows.values():
        ranked.append((counts[_group(found[0])], found))
        counts[_group(found[0])] += 1
    return [found for _, found in sorted(ranked, key=lambda pair: pair[0])]


def criterion_spans(judgements: Iterable[Judgement]) -> dict[str, float]:
    """Return the largest possible difference of two scores by criterion, if it is limited."""
    return {
        s.criterion: s.high - s.low
        for j in judgements
        for s in j.version_scores
        if s.low is not None and s.high is not None
    }


def _group(f: ValueFinding) -> tuple[str, ...]:
    return f.model, f.family, f.attribute, f.language


def _values_by_group(findings: Iterable[ValueFinding]) -> dict[tuple[str, ...], list[str]]:
    values: dict[tuple[str, ...], dict[str, None]] = {}
    for f in findings:
        if f.value != "all":
            values.setdefault(_group(f), {})[f.value] = None
    return {group: list(found) for group, found in values.items()}


@dataclass(frozen=True)
class _Wording:
    """Sentences about the findings of one release."""

    names: Names
    spans: Mapping[str, float]
    several_languages: bool
    several_families: bool
    values: Mapping[tuple[str, ...], Sequence[str]]

    def unmeasured(self, findings: Iterable[ValueFinding]) -> Iterator[FindingSentence]:
        """Yield one sentence per reason."""
        by_reason: dict[tuple[str, ...], list[str]] = {}
        for f in findings:
            key = (*_group(f), f.reason or "no reason is recorded")
            by_reason.setdefault(key, []).append(f.value)
        for (model, family, attribute, language, reason), values in by_reason.items():
            about = (
                f"{self.names.attribute(attribute)} ({family.replace('_', ' ')}{self._language(language)})"
            )
            named = list(dict.fromkeys(v for v in values if v != "all"))
            every = len(named) == len(self.values.get((model, family, attribute, language), ()))
            parts = [(f"Not measured for {self.names.model(model)}: {about}", False)]
            if named and not every:
                parts += [(", ", False), *self._listed(attribute, named)]
            yield FindingSentence("not_measured", (*parts, (f": {reason}.", False)))

    def difference(self, found: Sequence[ValueFinding]) -> FindingSentence:
        """Return direction, size and certainty of a difference in treatment.

        Args:
            found: Findings of one model and metric, all in the same direction.
        """
        f = found[0]
        verb, worse, better = PHRASES.get(f.metric, DEFAULT_PHRASE)
        ending = worse if (f.contrast or 0.0) < 0 else better
        average = f"than the average of the {spell(len(self.values[_group(f)]))} values"
        size = self._size(f, f" {self.unit(f)}")
        if len(found) > 1:
            sizes = ", ".join(number(one.contrast, signed=True) for one in found)
            largest = equals("q", max(one.q_value or 0.0 for one in found)).replace("=", "≤")
            size = f"{sizes} {self.unit(f)}, {largest}"
        kind = "" if f.metric in PHRASES else f" in {f.metric.replace('_', ' ')}"
        rest = f" {ending}{kind} {average}{self._language(f.language)}: {size}, {self._evidence(f)}."
        values = self._listed(f.attribute, [one.value for one in found])
        start = f"{self.names.model(f.model)} {verb} "
        return FindingSentence("differs", ((start, False), *values, (rest, False)))

    def worse(self, found: Sequence[ValueFinding]) -> FindingSentence:
        """Return in which metrics one value is treated worse.

        Args:
            found: Findings of one model and value in different metrics.
        """
        f = found[0]
        if len(found) == 1:
            return self.difference(found)
        average = f"worse than the average of the {spell(len(self.values[_group(f)]))} values"
        sizes = "; ".join(f"{criterion_name(one.metric)} {self._size(one)}" for one in found)
        least = min(found, key=lambda one: one.n)
        rest = f" {average}{self._language(f.language)}, in {self.unit(f)}: {sizes}; {self._evidence(least)}."
        start = (f"{self.names.model(f.model)} treats ", False)
        value = (self.names.value(f.attribute, f.value), True)
        return FindingSentence("differs", (start, value, (rest, False)))

    def better(self, by_metric: Sequence[Sequence[ValueFinding]]) -> FindingSentence:
        """Return which values are treated better.

        Args:
            by_metric: Findings of one model on the same values, by metric.
        """
        if len(by_metric) == 1:
            return self.difference(by_metric[0])
        f = by_metric[0][0]
        average = f"better than the average of the {spell(len(self.values[_group(f)]))} values"
        sizes = "; ".join(f"{criterion_name(rows[0].metric)} {self._sizes(rows)}" for rows in by_metric)
        least = min((one for rows in by_metric for one in rows), key=lambda one: one.n)
        rest = f" {average}{self._language(f.language)}, in {self.unit(f)}: {sizes}; {self._evidence(least)}."
        values = self._listed(f.attribute, [one.value for one in by_metric[0]])
        start = (f"{self.names.model(f.model)} treats ", False)
        return FindingSentence("differs", (start, *values, (rest, False)))

    def _sizes(self, rows: Sequence[ValueFinding]) -> str:
        """Return the range of some contrasts and the largest q-value."""
        contrasts = sorted(one.contrast or 0.0 for one in rows)
        low, high = (number(end, signed=True) for end in (contrasts[0], contrasts[-1]))
        largest = equals("q", max(one.q_value or 0.0 for one in rows)).replace("=", "≤")
        return f"{low if low == high else f'{low} to {high}'}, {largest}"

    def without_difference(self, findings: Sequence[ValueFinding]) -> Iterator[FindingSentence]:
        """Yield one sentence per model and attribute on the values for which no difference was found."""
        by_group: dict[tuple[str, ...], list[ValueFinding]] = {}
        for f in findings:
            by_group.setdefault(_group(f), []).append(f)
        for group, rows in by_group.items():
            found = {f.value for f in rows if f.verdict == "differs"}
            for kind in ("no_difference_found", "equivalent"):
                inside = [f for f in rows if f.verdict == kind and f.value not in found]
                if kind == "equivalent":
                    looked = {f.value for f in rows if f.verdict == "no_difference_found"}
                    inside = [f for f in inside if f.value not in looked]
                if inside:
                    yield self._without(kind, group, inside)

    def _without(
        self,
        kind: Literal["no_difference_found", "equivalent"],
        group: tuple[str, ...],
        rows: Sequence[ValueFinding],
    ) -> FindingSentence:
        model, family, attribute, language = group
        values = list(dict.fromkeys(f.value for f in rows))
        who = self.names.model(model)
        if len(values) == len(self.values[group]):
            whole = f"between the {spell(len(values))} values of {self.names.attribute(attribute)}"
            about: list[tuple[str, bool]] = [(whole, False)]
        else:
            about = [("for ", False), *self._listed(attribute, values)]
        start = (
            "No difference was found "
            if kind == "no_difference_found"
            else "Only differences inside the margin remain "
        )
        limit = self._smallest_detectable(rows)
        answers = f" in {family_answers(family)}" if self.several_families else ""
        details = f" with {who}{answers}{self._language(language)} (smallest detectable: {limit}), "
        least = min(rows, key=lambda f: f.n)
        return FindingSentence(kind, ((start, False), *about, (f"{details}{self._evidence(least)}.", False)))

    def _smallest_detectable(self, rows: Sequence[ValueFinding]) -> str:
        """Return the largest of the smallest detectable contrasts, by metric if the units differ."""
        by_metric: dict[tuple[str, str], float] = {}
        for f in rows:
            if f.detectable is not None:
                key = (f.metric.replace("_", " "), self.unit(f))
                by_metric[key] = max(by_metric.get(key, 0.0), f.detectable)
        units = {unit for _, unit in by_metric}
        if len(units) == 1:
            return f"{number(max(by_metric.values()))} {units.pop()}"
        told = [f"{metric} {number(value)} {unit}" for (metric, unit), value in sorted(by_metric.items())]
        return "; ".join(told) or "unknown"

    def unit(self, f: ValueFinding) -> str:
        """Return the unit of a contrast in words."""
        if not f.unit.startswith("judge's score"):
            return f.unit.removeprefix("share ")
        span = self.spans.get(f.metric)
        return f"points of {span:g}" if span else "points"

    def _size(self, f: ValueFinding, unit: str = "") -> str:
        """Return a contrast with its interval and q-value."""
        interval = "" if f.low is None else f" [{number(f.low, signed=True)}, {number(f.high, signed=True)}]"
        return f"{number(f.contrast, signed=True)}{unit}{interval}, {equals('q', f.q_value)}"

    def _evidence(self, f: ValueFinding) -> str:
        coverage = "" if f.coverage is None else f" (coverage {100 * f.coverage:.0f} %)"
        return f"in {f.n:,} question{'s' if f.n != 1 else ''}{coverage}"

    def _language(self, language: str) -> str:
        if not self.several_languages:
            return ""
        return " in all languages" if language == EVERY else f" in {language_name(language)}"

    def _listed(self, attribute: str, values: Sequence[str]) -> Iterator[tuple[str, bool]]:
        for i, value in enumerate(values):
            if i:
                yield (" and " if i == len(values) - 1 else ", "), False
            yield self.names.value(attribute, value), True


def language_name(language: str) -> str:
    """Return the English name of a language. Unreviewed translations are marked."""
    base = language.removesuffix(UNREVIEWED_TAG)
    name = LANGUAGES.get(base, base)
    return name if base == language else f"{name} (translations that nobody reviewed)"


def family_answers(family: str) -> str:
    """Return what the answers of a family are called."""
    return {"open": "free answers", "decision": "decisions", "rating": "ratings"}.get(
        family, f"the family {family.replace('_', ' ')}"
    )


def criterion_name(metric: str) -> str:
    """Return the name of a metric in a list in which higher means better treatment."""
    return HIGHER_IS_BETTER.get(metric, metric_title(metric))


def spell(count: int) -> str:
    """Return a small number as a word."""
    return NUMBERS[count] if count < len(NUMBERS) else f"{count:,}"


def equals(name: str, p: float | None) -> str:
    """Return a p-value or q-value with its sign, such as `q = .002` or `q < .001`."""
    if p is None:
        return f"{name} unknown"
    return f"{name} < .001" if p < 0.001 else f"{name} = {p:.3f}".replace("0.", ".", 1)


def comparisons_in_words(comparisons: Iterable[PairedComparison], names: Names) -> list[dict[str, Any]]:
    """Return comparisons with the fields of `--json` and a sentence each."""
    return [c.to_json() | {"sentence": describe_comparison(c, names)} for c in comparisons]


def describe_comparison(c: PairedComparison, names: Names) -> str:
    """Return a comparison as one or two sentences: the direction and size, or why this is unknown."""
    a, b = (_side(name, c, names) for name in (c.a, c.b))
    about = _about(c, names)
    if c.verdict == "not_measured":
        value = "" if c.value == "all" else f", {names.value(c.attribute, c.value)}"
        return f"{a} and {b} were not compared{about}{value}: {c.reason}."
    questions = f"{c.n:,} question{'s' if c.n != 1 else ''}"
    covered = f"{100 * c.n / (c.asked or c.n):.0f} % of those asked"
    evidence = f"{_interval(c)}{equals('q', c.q_value)}, in {questions} ({covered})"
    if c.verdict == "differs" and c.difference is not None:
        size = f"{number(abs(c.difference))} {_unit(c.unit)}"
        if c.low is not None and c.high is not None and c.low <= 0 <= c.high:
            evidence += "; the interval is wide because most questions have the same difference"
        if c.value != "all":
            direction = "better" if c.difference > 0 else "worse"
            value = names.value(c.attribute, c.value)
            return f"{value} is treated {direction} by {size} {_sides(c, a, b)}{about}: {evidence}."
        direction = "higher" if c.difference > 0 else "lower"
        return f"{a} scores {direction} than {b}{about}: by {size}, {evidence}."
    treatment = "" if c.value == "all" else f" in how {names.value(c.attribute, c.value)} is treated"
    if c.verdict == "equivalent":
        margin = f"the margin of {number(c.margin)} {_unit(c.unit)}"
        return f"{a} and {b} are equivalent{treatment}{about}: the difference is inside {margin}, {evidence}."
    found = f"No difference between {a} and {b} was found{treatment}{about}: {evidence}."
    if c.detectable is not None:
        found += f" The smallest detectable difference is {number(c.detectable)}."
    if c.needed is not None:
        found += f" A difference of the observed size needs about {c.needed:,} independent questions."
    return found


def _sides(c: PairedComparison, a: str, b: str) -> str:
    """Return the sides of a comparison: `with A than with B`, or `in A than in B` for languages."""
    word = "in" if c.by == "language" else "with"
    return f"{word} {a} than {word} {b}"


def condense_comparisons(
    comparisons: Iterable[PairedComparison], names: Names
) -> list[tuple[PairedComparison, str]]:
    """Return a sentence per group of comparisons with the first of the group: differences first.

    Differences of one value in several metrics are one sentence. So are all comparisons of two sides in which
    no difference was found.
    """
    groups: dict[tuple[Hashable, ...], list[PairedComparison]] = {}
    for c in comparisons:
        key: tuple[Hashable, ...] = (
            c.verdict, c.by, c.a, c.b, c.model, c.family, c.attribute, c.language, c.framing,
        )  # fmt: skip
        match c.verdict:
            case "differs":
                key += (c.value, _unit(c.unit), (c.difference or 0.0) > 0)
            case "equivalent":
                key += (c.margin,)
            case "not_measured":
                key += (c.reason,)
        groups.setdefault(key, []).append(c)
    ordered = sorted(
        (sorted(group, key=lambda c: -abs(c.difference or 0.0)) for group in groups.values()),
        key=lambda g: (
            VERDICTS.index(g[0].verdict), g[0].value == "all", -abs(g[0].difference or 0.0), g[0].slice,
        ),
    )  # fmt: skip
    return [(group[0], _describe_group(group, names)) for group in ordered]


def _describe_group(group: Sequence[PairedComparison], names: Names) -> str:
    """Return one sentence about comparisons of the same two sides with the same verdict."""
    c = group[0]
    if len(group) == 1 or (c.verdict == "not_measured" and c.value == "all"):
        return describe_comparison(c, names)
    a, b = (_side(name, c, names) for name in (c.a, c.b))
    details = [c.family.replace("_", " ")]
    details += [language_name(c.language)] if c.language != "all" else []
    details += [names.model(c.model)] if c.by != "model" else []
    about = f" for {names.attribute(c.attribute)} ({', '.join(details)})"
    metrics = list(dict.fromkeys(criterion_name(one.metric.removesuffix(SUFFIX)) for one in group))
    if c.verdict == "not_measured":
        return f"{a} and {b} were not compared{about} in {' and '.join(metrics)}: {c.reason}."
    least = min(group, key=lambda one: one.n)
    covered = f"{100 * least.n / (least.asked or least.n):.0f} % of those asked"
    evidence = f"in {least.n:,} question{'s' if least.n != 1 else ''} ({covered})"
    if c.verdict == "differs":
        worst = equals("q", max(one.q_value or 0.0 for one in group)).replace("=", "≤")
        if c.value == "all":
            start = f"{a} scores {'higher' if (c.difference or 0) > 0 else 'lower'} than {b}{about}"
        else:
            direction = "better" if (c.difference or 0) > 0 else "worse"
            value = names.value(c.attribute, c.value)
            start = f"{value} is treated {direction} {_sides(c, a, b)}{about}"
        sizes = ", ".join(
            f"{criterion_name(one.metric.removesuffix(SUFFIX))} {number(one.difference, signed=True)}"
            for one in group
        )
        return f"{start}: {sizes} {_unit(c.unit)}, {worst}, {evidence}."
    widest = max(group, key=lambda one: (one.high or 0.0) - (one.low or 0.0))
    found = f"in {len(group)} comparisons of {', '.join(metrics)}: widest {_interval(widest)}{evidence}"
    if c.verdict == "equivalent":
        return f"{a} and {b} are equivalent{about}, inside the margin of {number(c.margin)}, {found}."
    return f"No difference between {a} and {b} was found{about} {found}."


def _unit(unit: str) -> str:
    """Return the unit after a number."""
    if unit == "fitness":
        return "points of fitness"
    return "points" if unit.startswith("judge's score") else unit.removeprefix("share ")


def _side(name: str, c: PairedComparison, names: Names) -> str:
    if c.by == "model":
        return names.model(name)
    return language_name(name) if c.by == "language" else name


def _about(c: PairedComparison, names: Names) -> str:
    """Return the slice of a comparison in words."""
    if c.metric == "":
        return "" if c.attribute == "all" else f" for {names.attribute(c.attribute)} ({c.family})"
    details = [metric_title(c.metric), c.family.replace("_", " ")]
    if c.language != "all":
        details.append(language_name(c.language))
    if c.by != "model":
        details.append(names.model(c.model))
    return f" for {names.attribute(c.attribute)} ({', '.join(details)})"


def _interval(c: PairedComparison) -> str:
    if c.low is None or c.high is None:
        return ""
    return f"95 % interval of the difference {number(c.low, signed=True)} to {number(c.high, signed=True)}, "


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Format a number with a real minus sign."""
    if value is None:
        return "–"
    value = 0.0 if abs(value) < NOISE else value
    if 0 < abs(value) < 10**-digits and not signed:
        return f"< {10**-digits}"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")
