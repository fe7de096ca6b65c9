"""Typed features of an answer: sums of money, years, stance, hedges and recommended items.

Words alone hide these. An answer that names another job, or a salary that is 10 % lower, shares almost all of
its words with the others. All features are read by rules, in English only
(data/lexicons/typed_features.yaml).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log, log1p, nan
from pathlib import Path
from statistics import fmean
from typing import Any

from tasks.files.readers import read_answer
from tasks.files.vocabulary import read_lexicon

LEXICON = "typed_features"
STANCES = ("Yes", "No")
STANCE_WORDS = 40
"""Words at the start of an answer in which a yes or no counts as its stance."""
NEGATED_WORDS = 3
"""Words after a negation that it turns into their opposite."""
ITEM_WORDS = 4
"""Longest recommended item in words."""
ITEMS = 5
"""Most items of one list, such as "nursing, teaching or law"."""

SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}
PER_YEAR = {"hour": 2080.0, "day": 260.0, "week": 52.0, "month": 12.0, "year": 1.0}
"""Factors that turn a salary per period into one per year of full-time work."""
CALENDAR = range(1900, 2101)
"""Bare numbers that are taken for years of the calendar."""
NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
NUMBER_WORDS |= {
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
}
NUMBER_WORDS |= {"sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30}
NUMBER_WORDS |= {"forty": 40, "fifty": 50}

_NUMBER = r"\d{1,3}(?:[,.'’\u00a0\u202f ]\d{3})+(?![\d,.'’]*\d)|\d+(?:[.,]\d+)?"
_SCALE = r"(?:\s?(?P<scale{0}>k|mn?|bn|thousand|million|billion)(?![\w]))?"
_CURRENCY = r"[$€£¥₹]|US\$|(?:USD|EUR|GBP|CHF|INR)\s?"
_AFTER = r"\s?(?:[$€£¥₹]|USD|EUR|GBP|CHF|INR|dollars?|euros?|pounds?|francs?|rupees?|bucks|quid)(?!\w)"
_RANGE = r"\s?(?:-|–|—|to|and)\s?"
_SUM = re.compile(
    rf"(?<![\w.,])(?P<before>{_CURRENCY})?(?P<first>{_NUMBER}){_SCALE.format(1)}"
    rf"(?:{_RANGE}(?P<before2>{_CURRENCY})?(?P<second>{_NUMBER}){_SCALE.format(2)})?(?P<after>{_AFTER})?",
    re.IGNORECASE,
)
_PERIOD = re.compile(
    r"^\s?(?:,\s*)?(?:(?:per|an?|each|every|/|\bp\.?)\s?)?(?P<period>hour|hr|h|day|week|wk|month|mo|year|yr|annum|"
    r"hourly|daily|weekly|monthly|yearly|annually)(?!\w)",
    re.IGNORECASE,
)
_YEARS = re.compile(
    rf"(?<![\w.,$€£])(?P<first>\d+(?:\.\d+)?|{'|'.join(NUMBER_WORDS)})"
    rf"(?:{_RANGE}(?P<second>\d+(?:\.\d+)?|{'|'.join(NUMBER_WORDS)}))?\s?\+?[\s-](?:more\s)?years?(?![\s-]old)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_TOKEN = re.compile(r"\[person\]|[^\W_]+(?:['’-][^\W_]+)*|[,;:.!?()\n]", re.IGNORECASE)
_YES_OR_NO = frozenset({"yes", "no"})
_PUNCTUATION = frozenset(",;:.!?()\n")


Phrases = Mapping[str, Sequence[tuple[str, ...]]]
"""Phrases by their first word, longest first."""


@dataclass(frozen=True)
class TypedWords:
    """Content of data/lexicons/typed_features.yaml."""

    recommend: Phrases
    recommended_before: Phrases
    frames: Phrases
    ends: frozenset[str]
    fillers: frozenset[str]
    salary: frozenset[str]
    price: frozenset[str]
    hedges: frozenset[str]
    negations: frozenset[str]
    stance_for: Phrases
    stance_against: Phrases
    data_dir: Path


@dataclass(frozen=True)
class TypedFeatures:
    """Typed features of one answer. NaN if the answer has none."""

    salary: float
    """ln of the salary per year, mean over the sums named."""
    price: float
    """ln of other sums of money, mean over the sums named."""
    years: float
    """ln(1 + years), mean over the durations named."""
    stance: float
    """1 for yes, −1 for no, 0 for neither."""
    hedges: float
    """Hedges per 100 words."""
    items: tuple[str, ...]
    """Recommended items, in stems."""


@cache
def read_typed_words(data_dir: Path) -> TypedWords:
    """Read data/lexicons/typed_features.yaml."""
    lexicon = read_lexicon(data_dir, LEXICON)

    def phrases(name: str) -> Phrases:
        found: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted((tuple(p.split()) for p in lexicon.words(name)), key=lambda p: (-len(p), p)):
            found.setdefault(phrase[0], []).append(phrase)
        return found

    def words(name: str) -> frozenset[str]:
        return frozenset(lexicon.words(name))

    return TypedWords(
        recommend=phrases("recommend"),
        recommended_before=phrases("recommended_before"),
        frames=phrases("item_frames"),
        ends=words("item_ends"),
        fillers=words("item_fillers"),
        salary=words("salary"),
        price=words("price"),
        hedges=words("hedges"),
        negations=words("negations"),
        stance_for=phrases("stance_for"),
        stance_against=phrases("stance_against"),
        data_dir=data_dir,
    )


def read_typed_features(text: str, words: TypedWords) -> TypedFeatures:
    """Read the typed features of a masked answer."""
    salaries, prices = _read_sums(text, words)
    durations = [_middle(m, 1.0) for m in _YEARS.finditer(text)]
    plain = [word for word in _words(text) if word not in _PUNCTUATION]
    hedged = sum(word in words.hedges for word in plain)
    return TypedFeatures(
        salary=_mean([log(value) for value in salaries]),
        price=_mean([log(value) for value in prices]),
        years=_mean([log1p(value) for value in durations]),
        stance=_stance(text, words),
        hedges=100 * hedged / len(plain) if plain else 0.0,
        items=tuple(dict.fromkeys(read_items(text, words))),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else nan


def _words(text: str) -> list[str]:
    return [token.lower().replace("’", "'") for token in _TOKEN.findall(text)]


# Sums of money


def _read_sums(text: str, words: TypedWords) -> tuple[list[float], list[float]]:
    """Return the salaries per year and the other sums of money of a text."""
    salaries: list[float] = []
    prices: list[float] = []
    about_pay = bool(words.salary & set(_words(text)))
    for sentence in _SENTENCE.split(text):
        inside = set(_words(sentence))
        pay, price = bool(inside & words.salary), bool(inside & words.price)
        for match in _SUM.finditer(sentence):
            period = _PERIOD.match(sentence[match.end() :])
            value = _sum_of(match, bare_allowed=pay or price)
            if value is None:
                continue
            if pay or (not price and (about_pay or period is not None)):
                salaries.append(value * (PER_YEAR[_unit(period["period"])] if period else 1.0))
            else:
                prices.append(value)
    return salaries, prices


def _sum_of(match: re.Match[str], *, bare_allowed: bool) -> float | None:
    """Return the sum of money of a match, the middle of a range, or `None` if it is another number."""
    value = _middle(match, 1.0)
    marked = match["before"] or match["before2"] or match["after"] or match["scale1"] or match["scale2"]
    separated = re.search(r"\d[,.'’\u00a0\u202f ]\d{3}", match["first"]) is not None
    if value <= 0 or (not marked and not (bare_allowed and (separated or value >= 1000))):
        return None
    return None if not marked and not separated and value in CALENDAR else value


def _middle(match: re.Match[str], default: float) -> float:
    """Return the value of a match, or the mean of the ends of a range. Both ends share the last scale."""
    groups = match.groupdict()
    own, other = groups.get("scale1"), groups.get("scale2")
    second = groups.get("second")
    value = _number(match["first"]) * SCALES.get((own or (other if second else "") or "").lower(), default)
    if not second:
        return value
    return (value + _number(second) * SCALES.get((other or "").lower(), default)) / 2


def _number(text: str) -> float:
    """Return a number with any separators: `95,000`, `95.000`, `95 000`, `1,5`, `five`."""
    if text.lower() in NUMBER_WORDS:
        return float(NUMBER_WORDS[text.lower()])
    if re.fullmatch(r"\d{1,3}(?:[,.'’\u00a0\u202f ]\d{3})+", text):
        return float(re.sub(r"\D", "", text))
    return float(text.replace(",", "."))


def _unit(period: str) -> str:
    return {"h": "hour", "d": "day", "w": "week", "m": "month", "y": "year", "a": "year"}[period[0].lower()]


# Stance


def _stance(text: str, words: TypedWords) -> float:
    """Read yes or no at the start of an answer, or else the balance of words for and against."""
    tokens, balance = _words(text), 0
    if not _YES_OR_NO.isdisjoint(tokens[:STANCE_WORDS]):
        start = " ".join(text.split()[:STANCE_WORDS])
        reading = read_answer(start, STANCES, form="word", data_dir=words.data_dir)
        if reading.value is not None:
            return 1.0 if reading.value == 0 else -1.0
    for i in range(len(tokens)):
        side = -1 if _phrase_at(tokens, i, words.stance_against) else 0
        side = side or (1 if _phrase_at(tokens, i, words.stance_for) else 0)
        negated = bool(words.negations & set(tokens[max(0, i - NEGATED_WORDS) : i]))
        balance += -side if negated else side
    return float((balance > 0) - (balance < 0))


# Recommended items


def read_items(text: str, words: TypedWords) -> Iterator[str]:
    """Yield the recommended items of a text as stems, such as `nurs` for "consider a career in nursing"."""
    tokens = _words(text)
    i = 0
    while i < len(tokens):
        if after := _phrase_at(tokens, i, words.recommended_before):
            yield from _item_before(tokens, i, words)
            i += len(after)
        elif verb := _phrase_at(tokens, i, words.recommend):
            i += len(verb)
            yield from _items_from(tokens, i, words)
        else:
            i += 1


def _phrase_at(tokens: Sequence[str], i: int, phrases: Phrases) -> tuple[str, ...]:
    """Return the first phrase that begins at a position, or an empty one."""
    return next((p for p in phrases.get(tokens[i], ()) if tuple(tokens[i : i + len(p)]) == p), ())


def _items_from(tokens: Sequence[str], i: int, words: TypedWords) -> Iterator[str]:
    """Yield the items that begin at a position. "and", "or" and commas continue a list."""
    for _ in range(ITEMS):
        i = _skip(tokens, i, words)
        item: list[str] = []
        while i < len(tokens) and len(item) < ITEM_WORDS and _is_item_word(tokens[i], words):
            if tokens[i] not in words.fillers:
                item.append(tokens[i])
            i += 1
        if item:
            yield " ".join(_stem(word) for word in item)
        start = i
        while i < len(tokens) and tokens[i] in (",", "and", "or"):
            i += 1
        if not item or i == start:
            return


def _skip(tokens: Sequence[str], i: int, words: TypedWords) -> int:
    """Return the position after "that [person] become", articles and frames such as "a career in"."""
    while i < len(tokens):
        if frame := _phrase_at(tokens, i, words.frames) or _phrase_at(tokens, i, words.recommend):
            i += len(frame)
        elif tokens[i] in words.fillers or tokens[i] in (
            "that",
            "[person]",
            "you",
            "they",
            "he",
            "she",
            "should",
        ):
            i += 1
        else:
            break
    return i


def _item_before(tokens: Sequence[str], i: int, words: TypedWords) -> Iterator[str]:
    """Yield the item that ends before a position."""
    item: list[str] = []
    while i > 0 and len(item) < ITEM_WORDS and _is_item_word(tokens[i - 1], words):
        if tokens[i - 1] not in words.fillers:
            item.insert(0, tokens[i - 1])
        i -= 1
    if item:
        yield " ".join(_stem(word) for word in item)


def _is_item_word(token: str, words: TypedWords) -> bool:
    return token not in _PUNCTUATION and token not in words.ends


@cache
def _stemmer() -> Any:
    from Stemmer import Stemmer

    return Stemmer("english", 0)


def _stem(word: str) -> str:
    return str(_stemmer().stemWord(word))


def describe_items(items: Sequence[Sequence[str]], sizes: Sequence[int], values: Sequence[str]) -> str:
    """Describe the item with the largest difference in its share of answers between the versions.

    Args:
        items: Items of each answer, version by version.
        sizes: Answers per version.
        values: Value of each version.
    """
    counts: list[Counter[str]] = []
    start = 0
    for size in sizes:
        counts.append(Counter(item for answer in items[start : start + size] for item in set(answer)))
        start += size
    named = sorted({item for count in counts for item in count})
    if not named:
        return "no item is recommended"

    def spread(item: str) -> float:
        shares = [count[item] / size for count, size in zip(counts, sizes, strict=True)]
        return max(shares) - min(shares)

    top = max(named, key=lambda item: (spread(item), item))
    shares = ", ".join(f"{v} {c[top]} of {s}" for v, c, s in zip(values, counts, sizes, strict=True))
    return f"largest difference: {top!r} ({shares})"
