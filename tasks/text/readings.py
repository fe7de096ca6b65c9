"""Read the answer of a model: which option it names, or which number, or why it names none.

`read_answer` is the only reader. Builds, `measure`, `evaluate` and the harness files of a release call it.
This module needs the standard library only, because a copy of it is part of every release.

The order of the rules:

1. Reasoning, markup and quotes are removed.
2. An explicit final answer, or a correction, wins over everything before it.
3. An option that is alone in its line, sentence or clause is the answer, unless another one is alone as well.
4. Otherwise all mentions count, except negated, compared and merely discussed ones. An option's own words win
   over a letter. A letter counts only if it cannot be an article or a part of a name.
5. More than one option is no answer. Nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from itertools import islice, pairwise
from typing import Any, Literal

ReadingForm = Literal["letter", "word", "option", "agreement", "number", "scale"]
"""`letter`: the letter of an option; `word`: yes, no or another fixed word; `option`: the option's own text;
`agreement`: agree or disagree; `number`: a number; `scale`: a point of a scale, in numbers or words."""
ReadingStatus = Literal["read", "unreadable", "refused", "empty"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 20_000
"""Characters that are read. The end of a longer answer is kept, because a final answer is at the end."""
MOST_MENTIONS = 80
"""Mentions of options that are weighed. An answer with more of them, and no final answer, is unreadable."""
MOST_PHRASES = 20
"""Phrases such as `the answer is` that are followed, counted from the end."""
MOST_SENTENCES = 1000
"""Sentences of a line in which options are looked for one by one."""
SHORTEST_INFLECTED = 6
"""Letters of an inflected option that is found inside a sentence."""
LONGEST_CLAUSE = 200
"""Characters of a clause that can be an answer on its own, and of the context of an option."""


@dataclass(frozen=True)
class Reading:
    """How an answer was interpreted."""

    value: int | float | None
    """Index into the options, or the number. `None` unless `status` is `read`."""
    status: ReadingStatus
    evidence: str
    """Words that decided."""
    rule: str
    """Name of the rule that decided."""


@dataclass(frozen=True)
class ReaderRules:
    """Words of one language that the reader knows. The files are in data/readers."""

    language: str = ""
    word_boundaries: bool = True
    """Whether words are separated by spaces."""
    articles: tuple[str, ...] = ()
    letter_words: tuple[str, ...] = ()
    """Letters that are words of the language, such as `a` and `i`."""
    letter_names: tuple[str, ...] = ()
    """Words before a letter that is an option, such as `option`."""
    after_letter: tuple[str, ...] = ()
    """Words after a letter that is an option, such as `is`. Before other words, `a` is an article."""
    not_letters: tuple[str, ...] = ()
    """Words before a letter that is a part of a name, such as `vitamin`."""
    final_strong: tuple[str, ...] = ()
    """Names of the answer, such as `final answer`."""
    rejected_answers: tuple[str, ...] = ()
    """Words before the name of an answer that is not the model's own, such as `stereotypical`."""
    soft_answers: tuple[str, ...] = ()
    """Openings of a first impression, such as `the obvious choice is`. Another option wins over it."""
    soft_openings: tuple[str, ...] = ()
    """Openings of a sentence that only says what is usual or possible, such as `normally`."""
    final_weak: tuple[str, ...] = ()
    """Other openings of an answer, such as `i choose`."""
    conclusions: tuple[str, ...] = ()
    """Openings of a conclusion, such as `so`. With a subject and a verb they open an answer."""
    final_links: tuple[str, ...] = ()
    """Words between such a phrase and the option."""
    answer_scopes: tuple[str, ...] = ()
    """Words between the name of an answer and its topic, such as `to` in `the answer to this is B`."""
    copulas: tuple[str, ...] = ()
    """Verbs between subject and option, such as `is`."""
    choice_subjects: tuple[str, ...] = ()
    """Subjects of a choice, such as `i`. With a verb they open an answer, as in `I will have to say`."""
    choice_links: tuple[str, ...] = ()
    """Words between subject and verb, such as `would`."""
    choice_verbs: tuple[str, ...] = ()
    """Verbs of a choice, such as `go with`."""
    corrections: tuple[str, ...] = ()
    retractions: tuple[str, ...] = ()
    """Sentences that take back everything before them, such as `wait`."""
    aspects: tuple[str, ...] = ()
    """Openings that limit an answer to one respect, such as `legally`. Two of them are no single answer."""
    new_turns: tuple[str, ...] = ()
    """Labels of a new question after the answer, such as `question`."""
    fillers: tuple[str, ...] = ()
    """Words that may surround an option that is alone in its clause."""
    undecided: tuple[str, ...] = ()
    """Words of an answer that decides for no option, such as `both`."""
    unknown: tuple[str, ...] = ()
    """Wordings of an option such as `cannot be determined`."""
    unknown_denials: tuple[str, ...] = ()
    """Openings of a clause that denies an information, such as `does not`. An information verb follows."""
    unknown_verbs: tuple[str, ...] = ()
    """Information verbs, such as `say` and `specified`."""
    nobodies: tuple[str, ...] = ()
    """Subjects that deny an information of everybody, such as `neither`."""
    impersonal_subjects: tuple[str, ...] = ()
    """Subjects of a sentence that denies an information, such as `it` and `there is`."""
    sources: tuple[str, ...] = ()
    """Names of the text, such as `the passage`."""
    own_questions: tuple[str, ...] = ()
    """Words after a denial that ask which option it is, such as `who`."""
    other_questions: tuple[str, ...] = ()
    """Words after such a denial that do not ask which option it is, such as `why`."""
    dont_know: tuple[str, ...] = ()
    """Wordings of "I don't know". They count if it is one of the options."""
    negators: tuple[str, ...] = ()
    not_negations: tuple[str, ...] = ()
    """Phrases that hold a negator and negate nothing."""
    contrasts: tuple[str, ...] = ()
    """Words before the option that was not chosen, such as `rather than`."""
    comparatives: tuple[str, ...] = ()
    """Openings of a comparison, such as `more`."""
    less: tuple[str, ...] = ()
    """Words before a property of which the first side of a comparison has less, such as `less`."""
    as_good: tuple[str, ...] = ()
    """Openings of a comparison of equals, such as `as good as`."""
    merits: tuple[str, ...] = ()
    """Properties that speak for an option, such as `likely`."""
    flaws: tuple[str, ...] = ()
    """Properties that speak against an option, such as `biased`."""
    inferiors: tuple[str, ...] = ()
    """Openings of a comparison that selects its second side, such as `less`."""
    than: tuple[str, ...] = ()
    """Words between the sides of a comparison. The second side was not chosen."""
    commitments: tuple[str, ...] = ()
    """Words before the option that somebody commits to, such as `it is` or `points to`."""
    concessions: tuple[str, ...] = ()
    """Openings of a clause that grants something, such as `although`."""
    clause_ends: tuple[str, ...] = ()
    """Words at which the scope of a negation ends."""
    reasons: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    """Words that reject the option before them."""
    right: tuple[str, ...] = ()
    """Words that confirm the option before them."""
    coordinators: tuple[str, ...] = ()
    positions: dict[str, int] = field(default_factory=dict)
    pair_positions: dict[str, int] = field(default_factory=dict)
    """Names for the first and second of exactly two options, such as `the latter`."""
    """Words for the place of an option in the list, such as `first`."""
    position_nouns: tuple[str, ...] = ()
    """Words after a place, such as `option`."""
    participles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Endings of options that are verbs, and those of their participles, such as `y` and `ied`."""
    inflections: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Endings of adjectives, and those of their other genders and numbers, such as `o` and `a`."""
    pronouns: tuple[str, ...] = ()
    """Pronouns that take up the subject, such as `she`."""
    object_pronouns: tuple[str, ...] = ()
    """Pronouns for the object of a verb, as in `grant it`."""
    article_prefixes: tuple[str, ...] = ()
    """Articles that are written together with their noun."""
    option_reasons: tuple[str, ...] = ()
    """Words that open a reason if an option and a verb follow, such as `as`."""
    modals: tuple[str, ...] = ()
    """Verbs between a noun and an opinion of others, such as `would`."""
    idioms: tuple[str, ...] = ()
    """Phrases in which a word is not an option, such as `kind of`."""
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    yes_openings: tuple[str, ...] = ()
    no_openings: tuple[str, ...] = ()
    courtesies: tuple[str, ...] = ()
    """Words such as `certainly` that open any reply. They mean yes only if nothing else follows."""
    services: tuple[str, ...] = ()
    """Words after a courtesy that is no answer, such as `here is`."""
    no_followers: tuple[str, ...] = ()
    """Words after `no` if it is an answer. Before other words it is a determiner. Empty: all words."""
    agree: tuple[str, ...] = ()
    disagree: tuple[str, ...] = ()
    contractions: dict[str, str] = field(default_factory=dict)
    """Short forms with their full words, such as `it's` and `it is`."""
    neutral: tuple[str, ...] = ()
    both_sides: tuple[str, ...] = ()
    """Phrases that name both sides or half of one, such as `agree or disagree` and `partially`."""
    first_person: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Words for other people. Their opinion is not the answer."""
    opinion_verbs: tuple[str, ...] = ()
    """Verbs of an opinion, such as `say`."""
    conditions: tuple[str, ...] = ()
    """Words that open a condition, such as `if`, or a remark on an answer, such as `calling`."""
    pseudo_conditions: tuple[str, ...] = ()
    """Phrases that look like a condition and are none, such as `if pressed`."""
    turns: tuple[str, ...] = ()
    """Words after a clause that is granted, such as `but`."""
    reason_labels: tuple[str, ...] = ()
    """Labels of a reason, such as `justification`."""
    short_yes: tuple[str, ...] = ()
    """Sentences that take the stance of others, such as `i do`."""
    short_no: tuple[str, ...] = ()
    """Sentences that take the other stance, such as `i do not`."""
    endings: tuple[str, ...] = ()
    """Endings of an inflected option that is alone, such as `s`."""
    granted: tuple[str, ...] = ()
    """Openings of a sentence that grants something before its stance, such as `it is true that`."""
    identified: tuple[str, ...] = ()
    """Openings of a description of the person in question, such as `the one who`."""
    partial_objects: tuple[str, ...] = ()
    """Objects that are not the whole statement, such as `with the wording`."""
    that_words: tuple[str, ...] = ()
    """Words between a stance and its content, such as `that`."""
    appearances: tuple[str, ...] = ()
    """Words after an option that is granted before a turn, such as `would be`."""
    complements: tuple[str, ...] = ()
    """Openings of the object of a stance, such as `with the idea that`. A stance in it is not the answer."""
    relatives: tuple[str, ...] = ()
    """Openings of a description of the answer, such as `the one who was not late is …`."""
    remarks: tuple[str, ...] = ()
    """Openings of a sentence that is no answer if it calls something wrong, such as `choosing`."""
    subjects_not: tuple[str, ...] = ()
    """Words between a person and a property they lack, such as `was not`."""
    after_roles: tuple[str, ...] = ()
    """Words after an opening such as `as a nurse` that speaks of anybody, such as `would`."""
    descriptions: tuple[str, ...] = ()
    """Words after `more likely` that make it an adverb of a description, such as `be`."""
    intensifiers: tuple[str, ...] = ()
    """Words of a strong opinion, such as `strongly`."""
    hedges: tuple[str, ...] = ()
    """Words of a weak opinion, such as `somewhat`."""
    number_names: tuple[str, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    magnitudes: dict[str, int] = field(default_factory=dict)
    """Words and letters after digits that multiply them, such as `million`."""
    results: tuple[str, ...] = ()
    """Words between a calculation and its result, such as `makes`."""
    units: tuple[str, ...] = ()
    """Words after a number, in a language without spaces between words."""
    totals: tuple[str, ...] = ()
    """Words between a score and its maximum, such as `out of`."""
    totals_before: tuple[str, ...] = ()
    """Words between a maximum and the score after it, as in `10分中的8分`."""
    maximum_names: tuple[str, ...] = ()
    """Words before a maximum that is no score."""
    scales: tuple[str, ...] = ()
    """Words before a range that is a scale, such as `on a scale of`."""
    range_words: tuple[str, ...] = ()
    """Words between the ends of a range."""
    alternatives: tuple[str, ...] = ()
    """Words before another number that is possible, too, such as `maybe`."""
    approximations: tuple[str, ...] = ()
    """Words before a number, such as `around`."""
    scale_units: tuple[str, ...] = ()
    """Words after the size of a scale, as in `a 5-point scale`."""
    ordinals: tuple[str, ...] = ()
    """Endings of an ordinal number, such as `rd`."""
    decimal_comma: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> ReaderRules:
        """Make rules from the content of a file. Words are folded like answers are.

        Raises:
            ValueError: If a key is unknown.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known - {"refusal"})
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(unknown)}")
        return cls(**{name: _fold_words(value) for name, value in values.items() if name in known})

    def pattern(self, *names: str) -> re.Pattern[str]:
        """Return the pattern of the phrases of some fields. It matches nothing without phrases."""
        phrases = tuple(phrase for name in names for phrase in getattr(self, name))
        return phrase_pattern(phrases, self.word_boundaries)


def _fold_words(value: Any) -> Any:
    if isinstance(value, str):
        return fold(value)
    if isinstance(value, (list, tuple)):
        return tuple(fold(str(word)) for word in value)
    if isinstance(value, dict):
        return {fold(str(word)): _fold_words(other) for word, other in value.items()}
    return value


UNKNOWN_LANGUAGE = ReaderRules()
"""Rules for a language without a file: letters that cannot be misread, and exact options."""


@cache
def phrase_pattern(phrases: tuple[str, ...], word_boundaries: bool) -> re.Pattern[str]:
    """Return a pattern for any of the phrases, the longest first."""
    ordered = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    words = [p for p in ordered if word_boundaries and re.fullmatch(r"\w(.*\w)?", p)]
    others = [p for p in ordered if p not in words]
    parts = [rf"(?<!\w)(?:{_alternatives(words)})(?!\w)"] if words else []
    for phrase in others:
        left = r"(?<!\w)" if word_boundaries and re.match(r"\w", phrase) else ""
        right = r"(?!\w)" if word_boundaries and re.search(r"\w$", phrase) else ""
        parts.append(left + _alternatives([phrase]) + right)
    return re.compile(f"(?:{'|'.join(parts)})" if parts else r"(?!)")


_GAP = r"(?:\s[\w,'-]+){0,3}?\s"
"""Up to three words. `fold` turns the one character `…` into three."""


def _alternatives(phrases: Sequence[str]) -> str:
    parts = (
        _GAP.join(re.escape(part).replace(r"\ ", r"\s") for part in re.split(r"\s\.\.\.\s", phrase))
        for phrase in phrases
    )
    return "|".join(parts)


def read_answer(
    text: str,
    options: Sequence[str],
    *,
    form: ReadingForm,
    rules: ReaderRules = UNKNOWN_LANGUAGE,
) -> Reading:
    """Read an answer.

    Args:
        text: The answer as the model gave it.
        options: The options in the order shown. Empty for `number`.
        form: How an answer should look.
        rules: Words of the answer's language.

    Returns:
        The reading. `value` is the index of the option.
    """
    visible = remove_reasoning(text)
    if form == "agreement":
        visible = _without_quoted_statement(visible, rules)
    plain = clean(visible)
    if not any(unicodedata.category(ch)[0] in "LNS" for ch in plain):
        return Reading(None, "empty", "", "nothing_visible" if text.strip() else "no_content")
    plain = _without_symbols(plain)
    if form == "scale":
        return _read_point(plain, options, rules)
    return _read_plain(plain, options, form, rules)


def _read_plain(plain: str, options: Sequence[str], form: ReadingForm, rules: ReaderRules) -> Reading:
    """Read a cleaned answer."""
    if form == "number":
        reader: _NumberReader | _OptionReader = _NumberReader(rules)
    else:
        reader = (_AgreementReader if form == "agreement" else _OptionReader)(options, form, rules)
    reading = _read_own_turn(plain, reader) or reader.read(plain)
    return replace(reading, evidence=reading.evidence.replace(_CAPITAL, " "))


def _read_point(plain: str, options: Sequence[str], rules: ReaderRules) -> Reading:
    """Return which point of a scale an answer names. `4 out of 5` names the point 4."""
    points = {option.strip(): index for index, option in enumerate(options)}
    if all(point.isdecimal() for point in points):
        reading = _read_plain(plain, (), "number", rules)
        index = None if reading.value is None else points.get(f"{reading.value:g}")
        if index is not None:
            return replace(reading, value=index)
    return _read_plain(plain, options, "word", rules)


def _read_own_turn(plain: str, reader: _NumberReader | _OptionReader) -> Reading | None:
    """Return the reading of the text before a new question that the model asks itself, if it has one.

    Models without a chat format continue with `Question: …` after their answer.
    """
    labels = reader.rules.pattern("new_turns").pattern
    turn = re.search(rf"\n(?:{labels})\s?\d{{0,3}}\s?:", plain)
    reading = reader.read(plain[: turn.start()]) if turn else None
    return reading if reading is not None and reading.status == "read" else None


_QUOTED_STATEMENT = re.compile(r"[\"“”„«]([^\"“”„«»\n]{1,400})[\"“”»]")
_SHORTEST_STATEMENT = 3
"""Words of a quotation that can be the statement."""


def _without_quoted_statement(visible: str, rules: ReaderRules) -> str:
    """Drop a quoted statement if a stance is taken outside of it: its negation is not that of the answer."""
    shorter = _QUOTED_STATEMENT.sub(
        lambda m: m[0] if len(m[1].split()) < _SHORTEST_STATEMENT else " ", visible
    )
    return shorter if rules.pattern("agree", "disagree").search(fold(shorter)) else visible


def _unreadable(rule: str, evidence: str = "") -> Reading:
    return Reading(None, "unreadable", evidence[:80], rule)


# --- Clean the text -----------------------------------------------------------------------------------------

_FINAL = "\x02"
"""Placeholder of a mark that the answer follows, such as `\\boxed`."""
_CAPITAL = "\x1f"
"""Space after a capital letter between two words in lower case: not an article. It counts as space."""
_MARK = "\x03"
_CAPITAL_LETTER = re.compile(r"(?<=[a-z0-9,:]\s)([A-HJ-Z])(?=\s[a-z])")
_THOUGHTS = (
    r"(?:\w{1,20}[:_])?(?:think|thinking|thought|thoughts|reasoning|analysis|scratch_?pad|reflection|cot|rationale"
    r"|chain_of_thoughts?|monologue)(?:_(?:process|content|steps?))?"
)
_THOUGHT_TAG = re.compile(
    # <think>, </think>, [THINK], ◁think▷, <think time="3">, also with escaped brackets
    rf"(?:[<\[◁]|&lt;)(?P<closes>/?)(?P<tag>{_THOUGHTS})(?:\s[^<>\n]{{0,80}})?(?:[>\]▷]|&gt;)"
    # <|begin_of_thought|>, <|END_THINKING|>, <|/thinking|>
    rf"|<\|(?P<side>(?:begin_of_|start_|begin_|end_of_|end_|/)?)(?P<token>{_THOUGHTS})\|>"
    r"|(?P<channel_end><channel\|>|<unused95>|\[unused17\])|(?P<channel><\|channel>\s*thought|<unused94>|\[unused16\])"
    r"|(?P<details><details\s+type=\"reasoning\"[^<>\n]{0,80}>)|(?P<details_end></details>)"
    r"|(?P<turn><\|im_start\|>\s*think\b)|(?P<turn_end><\|im_start\|>\s*answer\b)",
    re.I,
)
_FINAL_CHANNEL = re.compile(
    r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>", re.I
)
_OTHER_CHANNEL = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)", re.I)
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<think\s?/>", re.I)
_HEADINGS = (
    # Granite, Apriel and the command line of Ollama announce reasoning in plain words.
    (re.compile(r"\W{0,4}here(?: is|'s|’s) my thought process:", re.I),
     re.compile(r"here(?: is|'s|’s) my response:\W{0,4}", re.I)),
    (re.compile(r"\W{0,4}here are my reasoning steps:", re.I), re.compile(r"\[begin final response\]", re.I)),
    (re.compile(r"thinking\.\.\.\n", re.I), re.compile(r"\n\.\.\.done thinking\.")),
    (re.compile(r"[ *_>\"\n]*analysis"), re.compile(r"assistantfinal")),
)  # fmt: skip
"""Openings of reasoning without tags, each with the words that end it."""
_FINAL_RESPONSE_END = re.compile(r"\[end final response\]", re.I)


def remove_reasoning(text: str) -> str:
    """Return the visible answer, without the model's reasoning.

    An opened and never closed reasoning block leaves nothing.
    """
    finals = list(_FINAL_CHANNEL.finditer(text))
    text = text[finals[-1].end() :] if finals else text
    other = _OTHER_CHANNEL.search(text)
    text = text[: other.start()] if other else text
    text = _FINAL_RESPONSE_END.sub(" ", text[_heading_end(text) :])
    return _SPECIAL.sub(" ", "".join(_outside_thoughts(text))).strip()


def find_reasoning_end(text: str) -> int:
    """Return the position after the last mark that ends reasoning, or 0 if there is none."""
    finals = [m.end() for m in _FINAL_CHANNEL.finditer(text)]
    tags = [m.end() for m in _THOUGHT_TAG.finditer(text) if _thought_mark(m)[1]]
    return max([*finals, *tags, _heading_end(text)], default=0)


def _heading_end(text: str) -> int:
    """Return the end of reasoning that plain words announce, or 0."""
    for opening, ending in _HEADINGS:
        if opening.match(text):
            ends = [m.end() for m in ending.finditer(text)]
            if ends:
                return ends[-1]
            if not opening.pattern.startswith("[ *_>"):  # "analysis" may be a word of the answer
                return len(text)
    return 0


def _thought_mark(mark: re.Match[str]) -> tuple[str, bool]:
    """Return the name of a reasoning block, and whether the mark closes it."""
    if mark["tag"]:
        return mark["tag"].casefold(), bool(mark["closes"])
    if mark["token"]:
        return f"|{mark['token'].casefold()}|", mark["side"].casefold() in ("end_of_", "end_", "/")
    for name in ("channel", "details", "turn"):
        if mark[name]:
            return name, False
        if mark[f"{name}_end"]:
            return name, True
    return "", False


def _outside_thoughts(text: str) -> list[str]:
    """Return the parts outside of tags such as `<think>`. A closing tag alone ends reasoning, too."""
    kept: list[str] = []
    start, opened = 0, ""
    for mark in _THOUGHT_TAG.finditer(text):
        name, closes = _thought_mark(mark)
        if not opened and not closes:
            kept.append(text[start : mark.start()])
            opened = name
        elif closes and (not opened or opened == name):
            if not opened and name in ("details", "turn"):
                continue
            kept = [*kept, " "] if opened else []
            start, opened = mark.end(), ""
    return kept if opened else [*kept, text[start:]]


_TAGS = re.compile(r"<(answer|final_answer|final|choice|option|response)>(.{0,2000}?)</\1>", re.S | re.I)
_ELEMENT = re.compile(r"<(?!strong|span|code|font|small|mark|body|html)([a-zA-Z]{4,20})>([^<>]{0,300})</\1>")
_OPEN_TAG = re.compile(r"<(?:answer|final_answer)>", re.I)
_BOXED = re.compile(r"\\f?boxed\s?\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit)\s?\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{(\d{1,9})\}\s?\{(\d{1,9})\}")
_JSON_KEY = re.compile(r"[\"'](\w[\w ]{0,20})[\"']\s?:")
_FENCE = re.compile(r"(?:```|~~~)(?:[\w+-]{0,20}\n)?")
_HASHED = re.compile(r"^####\s?(?=[-$(\d]|[A-Za-z]\W{0,3}$)", re.M)
_ARROW = re.compile(r"[→⇒➜➔➡⟶]\ufe0f?|(?<=\s)[=-]{1,2}>(?=\s)")
_TABLE_HEAD = re.compile(r"^[ \t]*\|[^\n]{0,300}\|[ \t]*\n[ \t]*\|[ :|-]{1,300}\|[ \t]*\n", re.M)
_TABLE_ROW = re.compile(r"^[ \t]*\|([^|\n]+\|[^|\n]+)\|[ \t]*$", re.M)
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("‘’‚´", "'"),
        **dict.fromkeys("“”„«»「」『』《》", '"'),
        **{"`": " ", "\u2212": "-", "؟": "?", "،": ",", "؛": ";", "、": ",", "\u200f": "", "\u200e": ""},
    }
)


def fold(text: str) -> str:
    """Return the text in compatibility form and lower case, with plain quotes."""
    folded = unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold().translate(_QUOTES)
    return "".join(ch for ch in folded if unicodedata.category(ch) not in ("Cf", "Mn"))


def clean(text: str) -> str:
    """Return the text without markup, folded, with one space between words and one line per line."""
    text = text[-LONGEST:].replace(_FINAL, "").replace(_CAPITAL, " ")
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = _CAPITAL_LETTER.sub(rf"\1{_MARK}", text)
    text = _LATEX_TEXT.sub(r"\1", text)
    text = _FRACTION.sub(lambda m: str(int(m[1]) / int(m[2])) if int(m[2]) else m[0], text)
    text = _HASHED.sub(_FINAL, text)
    if len(_ARROW.findall(text)) == 1:  # "… → B"
        text = _ARROW.sub(f" {_FINAL}", text)
    text = _TAGS.sub(lambda m: f"\n{_FINAL}{m[2].strip()}\n", text)
    text = _ELEMENT.sub(r"\n\1: \2\n", text)
    text = _OPEN_TAG.sub(f"\n{_FINAL}", text)
    text = _BOXED.sub(rf"\n{_FINAL}\1\n", text)
    text = _JSON_KEY.sub(lambda m: "\n" + m[1].replace("_", " ") + ": ", text)
    text = _FENCE.sub("\n", text)
    text = _TABLE_HEAD.sub("", text)
    text = _TABLE_ROW.sub(lambda m: ": ".join(m[1].strip(" |").split("|")), text)
    text = re.sub(r"\\[\[\]()]|\$+", " ", text)
    text = re.sub(r"</?[a-zA-Z][^<>]{0,80}>", " ", text)
    text = re.sub(r"(?<=\w)\s?>{1,2}\s?(?=\w)", " > ", fold(text))
    text = re.sub(r"\*+|(?<!\w)_+|_+(?!\w)|^\s*#+\s|^\s*>+\s|~~|[{}]", " ", text, flags=re.M)
    text = re.sub(r"[\u2013\u2014]", " - ", text)
    text = re.sub(r'"|(?<!\w)\'|\'(?!\w)', " ", text)
    lines = (" ".join(_split_list(line).split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line).replace(f"{_MARK} ", _CAPITAL).replace(_MARK, "")


_INLINE_MARK = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=:))\(?(\d{1,2})[.)]\s(?=[^\W\d])")


def _split_list(line: str) -> str:
    """Return a line with semicolons for the marks of a list inside it, as in `1. B 2. A`.

    `I give it a 6. There are two problems: 1) …` has only one number that is no mark.
    """
    numbers = [int(number) for number in _INLINE_MARK.findall(line)]
    starts = [i for i, number in enumerate(numbers[:-1]) if numbers[i + 1] == number + 1]
    if not starts:
        return line
    places = iter(range(len(numbers)))
    return _INLINE_MARK.sub(lambda m: " ; " if next(places) >= starts[0] else m[0], line)


_CROSS, _CHECK = "❌✗✘🚫❎", "✅✔☑"


def _without_crossed(line: str) -> str:
    """Remove a line with a cross, or the crossed part of a line that has a check mark as well."""
    if not any(ch in line for ch in _CROSS):
        return line
    if not any(ch in line for ch in _CHECK):
        return ""
    opens = line.lstrip()[:1] in _CROSS + _CHECK
    crossed = rf"[{_CROSS}][^{_CROSS}{_CHECK}]*" if opens else rf"[^{_CROSS}{_CHECK}]*[{_CROSS}]"
    return re.sub(crossed, " ", line)


def _without_symbols(plain: str) -> str:
    """Remove emojis. Lines with a cross are removed if another line has a check mark."""
    lines = plain.split("\n")
    if any(ch in plain for ch in _CHECK):
        lines = [_without_crossed(line) for line in lines]
    text = "".join(" " if unicodedata.category(ch) == "So" else ch for ch in "\n".join(lines))
    return "\n".join(line.strip() for line in re.sub(" +", " ", text).split("\n"))


# --- Split the text -----------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"[!?;]+|\.+(?=\s|$|[^\w\s])|。|\n")
_CLAUSE_END = re.compile(r"[!?;:,()\[\]\n。]|\.+(?=\s|$|[^\w\s])|…|\s-\s")
_LIST_MARK = re.compile(r"^\s?(?:\(?\d{1,2}[.)]|[-•·])\s(?=\S)", re.M)


def _split(text: str, end: re.Pattern[str]) -> Iterator[str]:
    """Yield the parts of a text, each with the mark that ends it."""
    start = 0
    for mark in end.finditer(text):
        yield text[start : mark.end()]
        start = mark.end()
    yield text[start:]


def _split_first(sentence: str) -> str:
    """Return the first clause."""
    return next(_split(sentence, _CLAUSE_END))


def _bare(text: str) -> str:
    """Return a text without marks at its ends."""
    return text.strip(" .!?:;,()[]\n。…-=" + _FINAL)


# --- Follow phrases that name the answer --------------------------------------------------------------------


class _Reader:
    """Finds final answers."""

    def __init__(self, rules: ReaderRules) -> None:
        self.rules = rules

    def final_segments(self, plain: str) -> Iterator[tuple[str, str]]:
        """Yield the text after each phrase that names the answer, strong phrases first, last one first."""
        strong = [(m.end(), "final_answer") for m in re.finditer(_FINAL, plain)]
        strong += [
            (end, "final_answer")
            for end, start in self._answer_names(plain).items()
            if self._announces(plain, end) and not self._is_negated_phrase(plain, start)
        ]
        strong += [(end, "final_answer") for end in self._scoped(plain)]
        strong += [(end, "correction") for end in self._corrections(plain)]
        weak = [
            (m.end(), "choice")
            for m in (
                *self.rules.pattern("final_weak").finditer(plain),
                *self._choices(plain),
                *self._conclusions(plain),
            )
            if not self._is_negated_phrase(plain, m.start())
        ]
        for positions, retractions in ((strong, self._retractions(plain)), (weak, [])):
            for end, rule in sorted(positions, reverse=True)[:MOST_PHRASES]:
                segment = self._after(plain, end)
                if segment:
                    yield rule, segment
            yield from (("correction", plain[end:]) for end in retractions)

    def _answer_names(self, plain: str) -> dict[int, int]:
        """Return the ends of phrases such as `the answer` with their starts. They may overlap, as in
        `la respuesta correcta`, in which only `respuesta correcta` is followed by a verb."""
        found: dict[int, int] = {}
        for m in re.finditer(f"(?=({self.rules.pattern('final_strong').pattern}))", plain):
            found.setdefault(m.end(1), m.start())
        return found

    def _scoped(self, plain: str) -> Iterator[int]:
        """Yield the ends of phrases such as `the answer to whether she may stay is`."""
        phrase, scope, link = (
            self.rules.pattern(name).pattern for name in ("final_strong", "answer_scopes", "copulas")
        )
        words = r"(?:\s[\w'-]+){1,10}"
        for found in re.finditer(rf"{phrase}\s{scope}(?={words}?(\s{link}\s))(?={words}(\s{link}\s))", plain):
            if not self._is_negated_phrase(plain, found.start()):
                yield from {found.end(1), found.end(2)}

    def _choices(self, plain: str) -> Iterator[re.Match[str]]:
        """Find the clauses in which somebody chooses, such as `I would still have to say`."""
        subject, links, verb = (
            self.rules.pattern(f"choice_{name}").pattern for name in ("subjects", "links", "verbs")
        )
        return re.finditer(rf"{subject}(?:\s{links}){{0,4}}\s{verb}", plain)

    def _conclusions(self, plain: str) -> Iterator[re.Match[str]]:
        """Find the openings of conclusions such as `So the thief must be`, and a short one such as `so B.`"""
        opening, link = self.rules.pattern("conclusions").pattern, self.rules.pattern("copulas").pattern
        start = rf"(?<![^.,;:!?\n -])(?<!\w\s){opening},?"
        yield from re.finditer(rf"{start}(?:\s[^\W\d][\w'-]*){{1,8}}?\s{link}(?=\s)", plain)
        yield from re.finditer(rf"{start}(?=(?:\s[\w'-]+){{1,4}}\s?(?:[.!\n]|$))", plain)

    def _corrections(self, plain: str) -> list[int]:
        found = self.rules.pattern("corrections").finditer(plain)
        return [m.end() for m in found if m.start() or "," in m[0]]  # also an opening "no, wait"

    def _retractions(self, plain: str) -> list[int]:
        """Return the end of the last retraction: everything after it is the answer. Nothing if it asks."""
        ends = [
            m.end()
            for m in self.rules.pattern("retractions").finditer(plain)
            if re.match(r"\s?(?:[.,!:\n]|-\s)", plain[m.end() : m.end() + 3])
            and re.search(r"(?:[.!?\n,-]\s?|^)$", plain[max(0, m.start() - 2) : m.start()])
        ]
        return ends[-1:] if ends and "?" not in plain[ends[-1] :] else []

    def _announces(self, plain: str, end: int) -> bool:
        """Whether a word like `answer` is followed by a colon, a link or nothing else in its line."""
        rest = plain[end : end + 40].lstrip(" ")
        return (
            not rest
            or rest[0] in ":=-\n(" + _FINAL
            or self.rules.pattern("final_links").match(rest) is not None
        )

    def _is_negated_phrase(self, plain: str, start: int) -> bool:
        before = re.split(r"[\n.,;:!?]", plain[max(0, start - 30) : start])[-1]
        if self.rules.word_boundaries:
            before = " ".join(before.split()[-3:])
        return self._negates(before) or self._ends_with("rejected_answers", before.rstrip())

    def _negates(self, clause: str) -> bool:
        clause = self.rules.pattern("not_negations").sub(" ", clause)
        return self.rules.pattern("negators").search(clause) is not None

    def _after(self, plain: str, start: int) -> str:
        """Return the sentence that follows, without links such as `is`."""
        rest = plain[start : start + 2 * LONGEST_CLAUSE]
        links = self.rules.pattern("final_links")
        while True:
            rest = rest.lstrip(" \n:=,-" + _FINAL)
            link = links.match(rest)
            if link is None or not link[0] or re.match(r"\s?[.!。]", rest[link.end() :]):  # 答案是“是”。
                break
            rest = rest[link.end() :]
        end = _SENTENCE_END.search(rest, 1)
        if end is None:
            return rest
        following = _SENTENCE_END.search(rest, end.end() + 1)
        if re.fullmatch(r"\W*[a-z]\W*", rest[: end.end()]) and "\n" not in end[0]:  # "B. a nurse"
            return rest[: following.start()] if following else rest
        return rest[: end.start()]

    def _ends_with(self, name: str, before: str) -> bool:
        """Whether a text ends with a phrase of a field."""
        if not self.rules.word_boundaries:
            return before.endswith(getattr(self.rules, name)) if getattr(self.rules, name) else False
        return any(
            before.endswith(phrase) and not before[: -len(phrase)][-1:].isalnum()
            for phrase in getattr(self.rules, name)
        )

    def _without_last_article(self, before: str) -> str:
        words, _, last = before.rpartition(" ")
        return words if last in self.rules.articles else before

    def _before_reason(self, sentence: str) -> str:
        """Return the text before a reason, as in `B, because the surgeon …`."""
        reason = self.rules.pattern("reasons").search(sentence)
        before = _bare(sentence[: reason.start()]) if reason else ""
        turns_at_once = self._ends_with("turns", before)  # "…, but based on the text, …"
        return sentence[: reason.start()] if reason and before and not turns_at_once else sentence


# --- Options ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mention:
    """An option found in the text, from `start` to `end`."""

    option: int
    start: int
    end: int
    rule: str
    """`possible` for a letter that may be something else."""
    negated: bool = False
    affirmed: bool = False
    committed: bool = False
    """Whether it concerns the person or thing in question, as in `it is a nurse`."""
    aside: bool = False
    """Whether it is in a reason or a concession, or one of several that are only discussed."""


def _is_inside(position: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a position is in one of the sorted spans, as the letter in `Response B` is."""
    at = bisect_right(spans, (position, LONGEST)) - 1
    return at >= 0 and spans[at][0] <= position < spans[at][1]


_AFTER_OPTION = r"[)\]]*\s?[:=-]?\s?"
_WORDS = ("option_words", "unknown_words")
"""Rules of mentions by words. Words such as `not enough information` hold their own negation."""
_LETTER = r"(?<![a-zß-ɏ0-9_'])(?<![a-z0-9][-&/+@#])([a-{last}])(?![a-zß-ɏ0-9_'+#])(?![-&/@][a-z0-9])"


class _OptionReader(_Reader):
    """Reads which option is named, by its words or its letter."""

    def __init__(self, options: Sequence[str], form: str, rules: ReaderRules) -> None:
        super().__init__(rules)
        self.form = form
        self.options = tuple(_bare(clean(option)) for option in options)
        self.kinds = tuple(self._yes_no(option) for option in self.options)
        self.is_yes_no = {"yes", "no"} <= set(self.kinds)
        self.letter = ""
        if options and form in ("letter", "agreement"):
            self.letter = _LETTER.format(last=LETTERS[min(len(options), 26) - 1])

    def _yes_no(self, option: str) -> str:
        return "yes" if option in self.rules.yes else "no" if option in self.rules.no else ""

    @cached_property
    def names(self) -> dict[str, int]:
        """Wordings of the options with their index, the longest first. Shared wordings are left out."""
        found: dict[str, set[int]] = {}
        unknown = self.rules.pattern("unknown")
        unknown_options = [i for i, option in enumerate(self.options) if unknown.search(option)]
        for index, option in enumerate(self.options):
            wordings = {option, self._without_article(option), self._without_shared_words(option)}
            wordings |= {wording.replace("-", " ") for wording in wordings} | self._participles(option)
            wordings |= {prefix + option for prefix in self.rules.article_prefixes}
            wordings |= {
                f"{verb} {pronoun}" for verb in self._verbs(option) for pronoun in self.rules.object_pronouns
            }
            wordings |= {wording.replace(" ", "-") for wording in wordings if wording.count(" ") == 1}
            if unknown_options == [index]:
                wordings |= set(self.rules.unknown)
            if option in self.rules.dont_know:
                wordings |= set(self.rules.dont_know)
            for wording in wordings - {""}:
                found.setdefault(wording, set()).add(index)
        unique = {name: min(indices) for name, indices in found.items() if len(indices) == 1}
        inflected: dict[str, set[int]] = {}
        for index, option in enumerate(self.options):
            for wording in self._inflections(option) - found.keys():
                inflected.setdefault(wording, set()).add(index)
        unique |= {name: min(indices) for name, indices in inflected.items() if len(indices) == 1}
        # By name as well, because the order of a set differs between runs.
        return dict(sorted(unique.items(), key=lambda pair: (-len(pair[0]), pair[0])))

    @cached_property
    def exact(self) -> dict[str, int]:
        """Wordings of the options if they are alone: also `yeah` for yes."""
        inflected = {
            name + ending: index
            for name, index in self.names.items()
            if len(name) > 3 and not any(name in o for i, o in enumerate(self.options) if i != index)
            for ending in self.rules.endings
        }
        places = {
            (f"{place} {noun}" if self.rules.word_boundaries else place + noun): index
            for place, index in self.rules.positions.items()
            for noun in self.rules.position_nouns
            if index < len(self.options) and not self.is_yes_no
        }
        places |= {
            f"{noun} {index + 1}": index
            for noun in self.rules.position_nouns
            for index in range(len(self.options))
            if self.letter
        }
        if len(self.options) == 2 and not self.is_yes_no:
            places |= self.rules.pair_positions
        places |= self._last_words
        verbs = {verb: index for index, option in enumerate(self.options) for verb in self._verbs(option)}
        joined = {name.replace("-", ""): index for name, index in self.names.items() if "-" in name}
        words = inflected | joined | places | verbs | self.names
        for kind, names in (
            ("yes", self.rules.yes + self.rules.yes_openings),
            ("no", self.rules.no + self.rules.no_openings),
        ):
            if self.is_yes_no:
                words |= {name: self.kinds.index(kind) for name in names}
        return words

    @cached_property
    def _last_words(self) -> dict[str, int]:
        """Different last words of options with an article, such as `student` for `the PhD student`."""
        rests = [self._without_article(option) for option in self.options]
        last = [
            rest.rpartition(" ")[2] if rest != option and 2 <= len(rest.split()) <= 4 else ""
            for rest, option in zip(rests, self.options, strict=True)
        ]
        words = {word for option in self.options for word in option.split()}
        return {
            word: index
            for index, word in enumerate(last)
            if len(word) > 3 and word in words and sum(word in option.split() for option in self.options) == 1
        }

    def _without_shared_words(self, option: str) -> str:
        """Return an option without the words that it shares with others at the start: `Anna` for `hire Anna`.

        Options such as `not enough information` do not count. Return an empty text for words such as `both`,
        if the words are those of another option, or if the options share no word.
        """
        unknown = self.rules.pattern("unknown")
        words = option.split()
        others = [o.split() for o in self.options if o != option and not unknown.search(o)]
        others = [other for other in others if words and other[:1] == words[:1]]
        if unknown.search(option) or not others:
            return ""
        shared = 0
        while all(len(w) > shared + 1 and w[shared] == words[shared] for w in (words, *others)):
            shared += 1
        rest = " ".join(words[shared:]) if shared else ""
        degrees = self.rules.pattern("negators", "intensifiers", "hedges", "comparatives")
        if rest in self.options or degrees.search(" ".join(words[:shared])):
            return ""
        is_undecided = self.rules.pattern("undecided").search(rest) is not None
        return "" if is_undecided or len(rest) < 2 else rest

    def _verbs(self, option: str) -> set[str]:
        """Return `grant` and `granted` for `grant the loan`, if all options end with `the loan`."""
        verb, _, rest = option.partition(" ")
        article = rest.partition(" ")[0]
        others = [other.partition(" ") for other in self.options if other != option]
        if article not in self.rules.articles or any(other[2] != rest for other in others):
            return set()
        return (
            {verb, *self._participles(verb)} if len({other[0] for other in others}) == len(others) else set()
        )

    def _participles(self, option: str) -> set[str]:
        """Return the participles of an option that may be a verb, such as `denied` for `deny`."""
        if not option.isalpha() or option in self.rules.agree + self.rules.disagree:
            return set()
        ending = next((end for end in self.rules.participles if end and option.endswith(end)), "")
        return {option.removesuffix(ending) + new for new in self.rules.participles.get(ending, ())}

    def _inflections(self, option: str) -> set[str]:
        """Return the other genders and numbers of a single word, such as `gentille` for `gentil`.

        Short ones are left out, because they are also words of other meanings.
        """
        endings = [end for end in self.rules.inflections if option.endswith(end)]
        if self.form == "word" or not option.isalpha() or not endings:
            return set()
        ending = max(endings, key=len)
        forms = {option.removesuffix(ending) + new for new in self.rules.inflections[ending]}
        return {form for form in forms if len(form) >= SHORTEST_INFLECTED}

    @cached_property
    def _openings(self) -> frozenset[str]:
        """Words that mean yes or no only at the start of a sentence, such as `of course`."""
        return frozenset(self.rules.yes_openings + self.rules.no_openings) - self.names.keys()

    def _without_article(self, words: str) -> str:
        first, _, rest = words.partition(" ")
        if rest and first in self.rules.articles:
            return rest
        for article in self.rules.articles:
            if article.endswith("'") and words.startswith(article):
                return words[len(article) :]
        return words

    # The rules in their order

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        return self.read_options(plain) or _unreadable("no_option")

    def read_options(self, plain: str) -> Reading | None:
        """Return the reading, or `None` if no option is named."""
        plain = self._without_reasons(self._without_echo(self._without_courtesy(plain)))
        plain = self._without_possibilities(self._without_questions(plain))
        for rule, segment in self.final_segments(plain):
            found = self._read_final(segment)
            if found is not None:
                return replace(found, rule=rule)
        mentions = self._mentions(plain)
        if mentions is None:
            return _unreadable("several_options", plain)
        if self._is_limited(plain):
            return _unreadable("several_options", plain)
        if any(self._is_row(sentence) for sentence in islice(_split(plain, _SENTENCE_END), MOST_SENTENCES)):
            return _unreadable("several_options", plain)
        alone = self._read_alone(plain)
        own = [m for m in mentions if alone is not None and m.option == alone.value]
        others = [m for m in mentions if m not in own and not (m.negated or m.aside or m.rule == "possible")]
        if own and others and all(m.aside for m in own):
            alone = None  # "At first, A. The text suggests B."
        affirmed = {m.option for m in mentions if m.affirmed}
        if (
            alone is not None
            and affirmed <= {alone.value}
            and not self._is_contradicted(plain, alone, mentions)
        ):
            return alone
        is_rejected = own and all(m.negated for m in own)
        if alone is not None and not is_rejected:  # "B (a nurse) would be a stereotype. A is better."
            return _unreadable("several_options", plain)
        return self._decide(plain, mentions)

    def _is_contradicted(self, plain: str, alone: Reading, mentions: Sequence[_Mention]) -> bool:
        """Whether another option is the end of a sentence such as `… is yes`."""
        links = self.rules.pattern("copulas").pattern
        return any(
            m.option != alone.value
            and not m.negated
            and not m.aside
            and m.rule != "possible"
            and re.search(rf"{links}\s?[(\[]?$", plain[max(0, m.start - 20) : m.start])
            and re.match(r"[)\]]?\s?(?:[.!\n]|$)", plain[m.end : m.end + 3])
            for m in mentions
        )

    def _answer_names(self, plain: str) -> dict[int, int]:
        """Leave out names that are a part of an option, such as `output` of `Output (a)`."""
        found = super()._answer_names(plain)
        own = [option for option in self.options if self.rules.pattern("final_strong").search(option)]
        if not own:
            return found
        spans = sorted(m.span() for option in own for m in re.finditer(self._name_pattern(option), plain))
        return {end: start for end, start in found.items() if not _is_inside(end, spans)}

    def _corrections(self, plain: str) -> list[int]:
        """Also `No: B`, if `no` is not an option."""
        found = super()._corrections(plain)
        if not self.is_yes_no:
            words = phrase_pattern(self.rules.no, self.rules.word_boundaries)
            found += [
                m.end()
                for m in words.finditer(plain)
                if re.search(r"[.,;:!?\n-]\s?$", plain[max(0, m.start() - 2) : m.start()])
                and plain[m.end() : m.end() + 1] in (",", ":", ";", ".")
            ]
        return found

    def _without_echo(self, plain: str) -> str:
        """Drop a repeated list of options, if more follows, and the `A:` of an answer."""
        plain = self._listed.sub("", plain)
        if self.letter:
            plain = re.sub(rf"^a\s?:\s?(?={self.letter}[^\w\n]*$)", "", plain, flags=re.M)
        if not self.letter:
            return plain
        lines = plain.split("\n")
        echoes = {line for line in lines if self._is_echo(line)}
        rest = [line for line in lines if line not in echoes]
        plain = "\n".join(rest) if len(echoes) > 1 and rest else plain
        plain = self._without_discussion(plain)
        shorter = "\n".join(self._without_legend(line) for line in plain.split("\n"))
        return shorter if shorter != plain and self._mentions(shorter) else plain

    def _without_discussion(self, plain: str) -> str:
        """Drop a list in which options are discussed, as in `A: she was late`, if its end names one."""
        lines = plain.split("\n")
        discussed = {
            i: option for i, line in enumerate(lines) if (option := self._discussed(line)) is not None
        }
        rest = [line for i, line in enumerate(lines) if i not in discussed]
        if len(set(discussed.values())) < 2 or len(lines) - 1 in discussed or not self._mentions(lines[-1]):
            return plain
        return "\n".join(rest)

    def _discussed(self, line: str) -> int | None:
        """Return the option that opens a line and is described in it."""
        label, mark, rest = line.partition(" - ") if " - " in line[:LONGEST_CLAUSE] else line.partition(": ")
        found = self._alone(label) if mark and len(rest.split()) > 2 else None
        is_final = self.rules.pattern("final_strong", "final_weak").search(label) is not None
        return found[0] if found is not None and not is_final else None

    def _without_legend(self, line: str) -> str:
        """Drop a list of options inside a line, such as `A = surgeon, B = nurse`."""
        found = [entry for entry in self._legend if entry.search(line)]
        if len(found) > 1:
            for entry in found:
                line = entry.sub(" ", line)
        return line

    @cached_property
    def _listed(self) -> re.Pattern[str]:
        """Pattern of all options in a row, joined by slashes, before a colon."""
        names = r"\s?/\s?".join(map(re.escape, self.options)) if len(self.options) > 1 else "(?!)"
        return re.compile(rf"^\W*{names}\s?:(?=\s?\w)", re.M)

    @cached_property
    def _legend(self) -> list[re.Pattern[str]]:
        """Patterns of the options with their letters, such as `B) a nurse`."""
        patterns = []
        for letter, option in zip(LETTERS, self.options, strict=False):
            words = "|".join(re.escape(name) for name in (option, self._without_article(option)))
            patterns.append(re.compile(rf"(?<!\w)\(?{letter}\s?[).:=]+\s?(?:{words})(?!\w)"))
        return patterns

    def _without_reasons(self, plain: str) -> str:
        """Drop lines with a label such as `Reason:`, if another line names an option."""
        label = re.compile(rf"[\W\d]*{self.rules.pattern('reason_labels').pattern}\s?:")
        lines = plain.split("\n")
        rest = "\n".join(line for line in lines if not label.match(line))
        return rest if rest and rest != plain and self._mentions(rest) else plain

    def _is_echo(self, line: str) -> bool:
        marked = re.match(r"\W{0,3}([a-z])\s?[).:\]-]\s?(.+)$", line)
        index = LETTERS.index(marked[1]) if marked else len(self.options)
        return marked is not None and index < len(self.options) and _bare(marked[2]) == self.options[index]

    def _without_questions(self, plain: str) -> str:
        """Drop conditions, and questions such as a repeated one if anything else is answered."""
        sentences = [s for s in _split(plain, _SENTENCE_END) if not self._is_condition(s)]
        rest = [s for s in sentences if not s.endswith("?")]
        if any(_bare(s) for s in rest) and not self._mentions("".join(rest)):  # "Not sure. A?"
            rest = [s for s in sentences if not s.endswith("?") or self._alone(s)]
        return "".join(rest if any(_bare(s) for s in rest) else sentences)

    def _without_courtesy(self, plain: str) -> str:
        """Drop a courtesy such as `Certainly!` before a service, a turn or a denial."""
        found = re.match(rf"\W*{self.rules.pattern('courtesies').pattern}\s?[.,!:。-]+\s*(?=\w)", plain)
        if found is None:
            return plain
        rest = plain[found.end() :]
        first = next(_split(rest, _SENTENCE_END))
        own, stance = (
            self.rules.pattern("first_person").pattern,
            self.rules.pattern("agree", "disagree").pattern,
        )
        is_courtesy = (
            self.rules.pattern("services", "turns").match(rest) is not None
            or self._negates(first)
            or re.match(rf"(?:{own}\s(?:\w+\s)?)?{stance}", rest) is not None
        )
        return rest if is_courtesy else plain

    def _without_possibilities(self, plain: str) -> str:
        """Drop the clauses that call options possible, as in `It may be A, it may be B`.

        One possible option is kept, unless another one is the answer, as in `It may be A. B is more likely`.
        """
        possible = self.rules.pattern("alternatives")
        if possible.search(plain) is None:
            return plain
        links = self.rules.pattern("articles", "letter_names", "final_links").pattern
        opens = re.compile(rf"{possible.pattern}(?:\s?{links}){{0,3}}[\s(]*$")
        mentions = [*self._word_mentions(plain), *self._letter_mentions(plain)][: MOST_MENTIONS + 1]
        found = [m for m in mentions if opens.search(plain[max(0, m.start - 60) : m.start])]
        if not found or len(mentions) > MOST_MENTIONS:
            return plain
        kept, start = [], 0
        for clause in _split(plain, _CLAUSE_END):
            end = start + len(clause)
            if not any(start <= m.start < end for m in found):
                kept.append(clause)
            elif self.rules.pattern("coordinators").match(clause.lstrip()):  # "A, or perhaps B"
                return plain
            start = end
        rest = "".join(kept)
        if len({m.option for m in found}) == 1:
            affirmed = {
                m.option
                for m in self._mentions(rest) or []
                if (m.affirmed or m.committed) and not m.negated and not m.aside
            }
            finals = (self._read_alone(segment) for _, segment in self.final_segments(rest))
            answers = affirmed | {
                r.value for r in (self._read_alone(rest), next(finals, None)) if r is not None
            }
            return rest if answers - {found[0].option} else plain
        return rest

    def _is_condition(self, sentence: str) -> bool:
        """Whether a sentence is hypothetical, as in `If it is A, …`."""
        opening = sentence.lstrip(" \n(")
        if self.rules.pattern("remarks").match(opening) and self.rules.pattern("wrong").search(opening):
            return self._alone(opening.rpartition(",")[2]) is None  # "Choosing A would be biased, so B."
        if self.rules.pattern("pseudo_conditions").match(opening):
            return False
        filler = self.rules.pattern("fillers", "final_weak", "not_negations").match(opening)
        if filler is not None and opening[filler.end() : filler.end() + 1] == ",":  # "If not, no."
            filler = self.rules.pattern("fillers", "final_weak").match(opening)
        return filler is None and self.rules.pattern("conditions").match(opening) is not None

    def _read_final(self, segment: str) -> Reading | None:
        """Read the text after a phrase such as `the answer is`."""
        segment = self._before_reason(segment)
        alone = self._read_alone(segment)
        if alone is not None:
            return _unreadable("several_options", segment) if self._turns_away(segment, alone) else alone
        leading = self._leading_letter(segment)
        mentions = self._mentions(segment)
        if mentions is None:
            return _unreadable("several_options", segment)
        if leading is not None:
            return _unreadable("several_options", segment) if self._turns_away(segment, leading) else leading
        found = self._decide(segment, mentions)
        if found is None and self.rules.pattern("undecided").search(segment):
            return _unreadable("undecided", segment)
        return found

    def _turns_away(self, segment: str, alone: Reading) -> bool:
        """Whether a turn takes an answer back, as in `A, but B is more likely` or `A, but that is wrong`."""
        turn = self.rules.pattern("turns").search(segment)
        rest = segment[turn.end() :] if turn else ""
        mentions = self._mentions(rest) if rest else []
        if mentions:
            return any(
                m.option != alone.value and not m.negated and not m.aside and (m.affirmed or m.committed)
                for m in mentions
                if m.rule != "unknown_words"
            )
        return self._is_taken_back(segment)

    def _is_taken_back(self, segment: str) -> bool:
        """Whether a turn calls what precedes it wrong, as in `…, but that is wrong`."""
        turn = self.rules.pattern("turns").search(segment)
        rest = segment[turn.end() :] if turn else ""
        return re.match(rf"(?:\s?[\w']+){{1,2}}\s{self.rules.pattern('wrong').pattern}", rest) is not None

    def _is_negated_phrase(self, plain: str, start: int) -> bool:
        """Also in the opinion of others, as in `many people say the answer is A`."""
        sentence = list(_split(plain[max(0, start - LONGEST_CLAUSE) : start], _SENTENCE_END))[-1]
        opening, around = max(0, start - 40), plain[max(0, start - 40) : start + 40]
        if any(
            m.start() < start - opening < m.end() for m in self.rules.pattern("soft_answers").finditer(around)
        ):
            return True
        return super()._is_negated_phrase(plain, start) or self._is_opinion_of_others(sentence)

    def _leading_letter(self, segment: str) -> Reading | None:
        """Read a letter at the very start of a final answer: `B, as the text mentions a surgeon`."""
        found = re.match(rf"[\s(\[]*{self.letter}", segment) if self.letter else None
        if found is None or self._is_word(segment, found.start(1), found.end(1)):
            return None
        rest = segment[found.end() :].lstrip(")] " + _CAPITAL)
        joined = re.match(r"[,/&]|" + self.rules.pattern("coordinators").pattern, rest)
        if joined is not None and re.match(rf"\W*{self.letter}", rest[joined.end() :]):
            return None
        option = LETTERS.index(found[1])
        tail = rest[:LONGEST_CLAUSE]
        if (
            self._rejects(tail)
            or self._depends(tail)
            or any(tail.startswith(name) for name in self.names if self.names[name] != option)
        ):
            return None
        words = [m for m in self._word_mentions(tail) if m.option != option]
        if re.match(r"[.:-]\s", tail) and words and words[0].start <= 2:
            return None
        return Reading(option, "read", found[1], "letter")

    # An option that is alone

    def _read_alone(self, text: str) -> Reading | None:
        """Read the option that is alone in its line, sentence or clause. `None` for none or several."""
        options = list(self._alone_in(text))
        if any(is_sentence for _, _, is_sentence in options):
            options = [found for found in options if found[2] is not None]
        found: dict[int, str] = {}
        for option, words, _ in options:
            found.setdefault(option, words)
        if len(found) != 1:
            return None
        option, words = next(iter(found.items()))
        return Reading(option, "read", words, "alone") if words else None

    def _alone_in(self, text: str) -> Iterator[tuple[int, str, bool | None]]:
        """Yield every option that is alone, from the whole text down to clauses.

        The last item is true if the option fills a sentence. It is `None` for an option that is only
        granted, as in `Yes, the income is good, but …`. An option in a clause such as `or a nurse`
        contradicts the others. It has no words, because it is no answer by itself.
        """
        for line in text.split("\n"):
            if (found := self._alone(line)) is not None:
                yield *found, True
                continue
            for sentence in islice(_split(line, _SENTENCE_END), MOST_SENTENCES):
                if (found := self._alone(sentence)) is not None:
                    yield *found, True
                    continue
                granted = None if self._grants(sentence) else False
                previous = ""
                is_list = self._lists_letters(sentence)
                clauses = list(_split(sentence, _CLAUSE_END))
                for clause, following in zip(clauses, [*clauses[1:], ""], strict=True):
                    found = None if is_list else self._alone(clause)
                    if _bare(previous) and self._starts_negated(following):  # "the other one, A, is not …"
                        found = None
                    if found is not None and _bare(previous) and found[1] in self._openings:
                        found = None
                    if found is not None and not self._labels_wrong(previous):
                        yield *found, granted
                    elif (joined := self._joined(clause)) is not None:
                        yield joined, "", False
                    previous = clause

    def _is_limited(self, plain: str) -> bool:
        """Whether an answer differs by respect, as in `Legally, yes. Ethically, it is complicated.`"""
        opening = re.compile(
            rf"(?:^|[.;,!\n])\s?(?:[^\W\d]+\s)?({self.rules.pattern('aspects').pattern})(?!\w)"
        )
        return len({m[1] for m in islice(opening.finditer(plain), MOST_MENTIONS)}) > 1

    def _is_row(self, sentence: str) -> bool:
        """Whether a sentence only lists several options, as in `no, maybe or no`."""
        joins = self.rules.pattern("coordinators").pattern
        parts = [_bare(part) for part in re.split(rf"[,/]|\s{joins}\s", sentence)]
        named = [self.names.get(part) for part in parts if part]
        return None not in named and len(set(named)) > 1

    def _starts_negated(self, clause: str) -> bool:
        """Whether a clause opens with a negated verb, as in `does not match`."""
        verb = rf"(?:{self.rules.pattern('final_links').pattern}\s)?"
        return re.match(rf"\s?{verb}{self.rules.pattern('negators').pattern}\s\w", clause) is not None

    def _lists_letters(self, sentence: str) -> bool:
        """Whether a sentence holds a list such as `A, B or C`, in which no letter is alone."""
        if not self.letter:
            return False
        joins = self.rules.pattern("coordinators").pattern
        one = re.sub(r"\((\[a-.\])\)", r"\1", self.letter)
        return re.search(rf"{one}(?:\s?,\s?{one})+\s?,?\s?{joins}\s?{one}", sentence) is not None

    def _grants(self, sentence: str) -> bool:
        """Whether a sentence grants something: `Although yes, …`, or `Yes, …, but …`."""
        turns = self.rules.pattern("turns")
        return (
            self.rules.pattern("concessions").match(sentence.lstrip()) is not None
            or turns.search(sentence, len(_split_first(sentence))) is not None
        )

    def _joined(self, clause: str) -> int | None:
        """Return the option of a clause that opens with a conjunction."""
        words = clause.lstrip()
        conjunction = self.rules.pattern("coordinators").match(words)
        found = self._alone(words[conjunction.end() :]) if conjunction else None
        return found[0] if found else None

    def _labels_wrong(self, clause: str) -> bool:
        """Whether a clause such as `Wrong answer:` rejects the text after it."""
        return clause.endswith(":") and (
            self._ends_with("negators", clause.rstrip(": "))
            or self.rules.pattern("wrong").search(clause[-LONGEST_CLAUSE:]) is not None
        )

    def _alone(self, clause: str) -> tuple[int, str] | None:
        if len(clause) > LONGEST_CLAUSE + max(map(len, self.options), default=0):
            return None
        words = _bare(_LIST_MARK.sub("", clause))
        opened = self._without_first_fillers(words)
        for candidate in dict.fromkeys((words, _bare(opened), _bare(self._without_last_fillers(opened)))):
            words = candidate
            if words in self.rules.undecided:
                return None
            for name in (words, self._without_article(words), words.replace("-", "")):
                if name in self.exact:
                    return self.exact[name], name
            lettered = (
                re.fullmatch(rf"{self.letter}(?:\s?(?:[).:\],=-]\s?)+|\s)(.*)", words)
                if self.letter
                else None
            )
            if lettered is not None and self.exact.get(_bare(lettered[2])) is not None:
                return self.exact[_bare(lettered[2])], lettered[2]
            letter = re.fullmatch(self.letter, words) if self.letter else None
            if letter is not None:
                return LETTERS.index(letter[1]), letter[1]
        return None

    def _without_fillers(self, words: str) -> str:
        """Remove words such as `probably` and `option` from both ends."""
        return self._without_last_fillers(self._without_first_fillers(words))

    def _without_first_fillers(self, words: str) -> str:
        """Remove words such as `probably` from the start."""
        fillers = self._filler_words
        while (found := fillers.match(words)) is not None and found[0]:
            words = words[found.end() :].lstrip(" ,:-")
        return words

    def _without_last_fillers(self, words: str) -> str:
        """Remove words such as `option` from the end."""
        while (last := self._last_filler(words)) is not None:
            words = words[:last].rstrip(" ,:-")
        return words

    @cached_property
    def _filler_words(self) -> re.Pattern[str]:
        return self.rules.pattern("fillers", "final_strong", "final_weak", "final_links", "letter_names")

    def _last_filler(self, words: str) -> int | None:
        ends = [m.start() for m in self._filler_words.finditer(words) if m.end() == len(words) and m[0]]
        return ends[0] if ends else None

    # All mentions

    def _decide(self, segment: str, mentions: Sequence[_Mention]) -> Reading | None:
        """Return the only option that is not negated, compared or merely discussed."""
        mentions = [self._complement(segment, m) for m in mentions]
        kept = [m for m in mentions if not m.negated]
        affirmed = [m for m in kept if m.affirmed]
        if len({m.option for m in affirmed}) == 1:
            return self._reading(segment, affirmed[0])
        if all(m.aside for m in kept):
            several = len({m.option for m in kept if m.rule != "possible"}) > 1
            return _unreadable("several_options", segment) if several else None
        kept = [m for m in kept if not m.aside]
        words = [m for m in kept if m.rule in _WORDS]
        letters = [m for m in kept if m.rule not in (*_WORDS, "possible")]
        committed = [m for m in kept if m.committed and m.rule != "possible"]
        rivals = [m for m in letters if committed and m.option != committed[0].option]
        if len({m.option for m in committed}) == 1 and all(m.rule == "letter_subject" for m in rivals):
            return self._reading(segment, committed[0])
        if words:
            others = {m.option for m in kept if m.rule != "possible"} - {words[0].option}
            if not others or self._follow_letters(segment, words, letters):
                return self._reading(segment, words[0])
            return _unreadable("several_options", segment)
        if not letters:
            return None
        if len({m.option for m in kept}) > 1:
            return _unreadable("several_options", segment)
        return self._reading(segment, letters[0])

    def _complement(self, segment: str, mention: _Mention) -> _Mention:
        """Return the mention of `not guilty` for a `guilty` that a negator directly precedes."""
        other = self._opposites.get(mention.option)
        if other is None or not mention.negated or mention.rule != "option_words":
            return mention
        before = self._without_last_article(segment[max(0, mention.start - 30) : mention.start].rstrip())
        if not self._ends_with("negators", before):
            return mention
        return replace(mention, option=other, negated=False)

    @cached_property
    def _opposites(self) -> dict[int, int]:
        """Options such as `guilty` with the option that negates them, such as `not guilty`."""
        return {
            index: other
            for index, option in enumerate(self.options)
            for other, longer in enumerate(self.options)
            if longer.endswith(option) and longer.removesuffix(option).strip() in self.rules.negators
        }

    @staticmethod
    def _follow_letters(segment: str, words: Sequence[_Mention], letters: Sequence[_Mention]) -> bool:
        """Whether one option's words follow the letter of another, as in `B. a surgeon`."""
        return len({m.option for m in words}) == 1 and all(
            m.end <= words[0].start and re.fullmatch(r"[\s).:\]]*(?:\w+\s)?", segment[m.end : words[0].start])
            for m in letters
        )

    @staticmethod
    def _reading(segment: str, mention: _Mention) -> Reading:
        return Reading(mention.option, "read", segment[mention.start : mention.end], mention.rule)

    def _mentions(self, segment: str) -> list[_Mention] | None:
        """Find and weigh all mentions in their order. `None` if there are too many."""
        words = self._word_mentions(segment)
        spans = sorted((m.start, m.end) for m in words)
        letters = [m for m in self._letter_mentions(segment) if not _is_inside(m.start, spans)]
        found = sorted([*words, *letters], key=lambda m: m.start)
        if len(found) > MOST_MENTIONS:
            return None
        ends = [0, *(m.end() for m in _SENTENCE_END.finditer(segment)), len(segment)]
        weighed = []
        for i, mention in enumerate(found):
            at = bisect_right(ends, mention.start)
            before = segment[max(ends[at - 1], mention.start - LONGEST_CLAUSE) : mention.start]
            stop = min(
                ends[at] if at < len(ends) else len(segment),
                found[i + 1].start if i + 1 < len(found) else len(segment),
                mention.end + LONGEST_CLAUSE,
            )
            earlier = any(ends[at - 1] <= m.start for m in found[:i])
            following = next((m for m in found[i + 1 : i + 2] if m.option != mention.option), None)
            weighed_one = self._weigh(mention, before, segment[mention.end : stop], earlier=earlier)
            if following and self._is_passed_over(segment[mention.end : following.start]):
                weighed_one = replace(weighed_one, aside=True, affirmed=False)
            if self._is_first_impression(before) and (
                any(m.option != mention.option for m in found)
                or self._is_taken_back(segment[mention.end : stop])
            ):
                weighed_one = replace(weighed_one, aside=True, affirmed=False)
            weighed.append(weighed_one)
        weighed = self._weigh_less(segment, self._weigh_unknown(segment, self._weigh_soft(segment, weighed)))
        return self._weigh_groups(segment, self._weigh_turns(segment, weighed))

    def _weigh_soft(self, segment: str, mentions: list[_Mention]) -> list[_Mention]:
        """Let what is usual or possible give way to another option, as in `Normally, A. Here it is B.`"""
        soft = [self._is_soft(segment, m) for m in mentions]
        kept = {
            m.option
            for m, is_soft in zip(mentions, soft, strict=True)
            if not (is_soft or m.negated or m.aside or m.rule == "possible")
        }
        return [
            replace(m, aside=True, affirmed=False, committed=False) if is_soft and kept - {m.option} else m
            for m, is_soft in zip(mentions, soft, strict=True)
        ]

    def _is_soft(self, segment: str, mention: _Mention) -> bool:
        """Whether the sentence of a mention opens softly, and does not turn before it."""
        opening = segment[max(0, mention.start - LONGEST_CLAUSE) : mention.start]
        before = list(_split(opening, _SENTENCE_END))[-1].lstrip(" ,")
        return (
            self.rules.pattern("soft_openings").match(before) is not None
            and self.rules.pattern("turns").search(before) is None
        )

    def _weigh_less(self, segment: str, mentions: list[_Mention]) -> list[_Mention]:
        """Weigh the sides of `A is less … than B`. A is the better one if it has less of a flaw.

        Neither is if the property is unknown, if A has more of a flaw, or if it is as good as B.
        """
        weighed = list(mentions)
        less, more, than, links = (
            self.rules.pattern(name).pattern for name in ("less", "comparatives", "than", "final_links")
        )
        compared = re.compile(
            rf"[)\]]?\s(?:{links}\s)?(?:[\w']+\s){{0,2}}?(?:(?P<less>{less})|(?P<more>{more}))\s"
            rf"(?P<property>[^.,;:]{{1,40}}?)\s{than}\s.{{0,15}}"
        )
        equal = re.compile(
            rf"[)\]]?\s(?:{links}\s)(?:\w+\s)?{self.rules.pattern('as_good').pattern}\s.{{0,15}}"
        )
        for i, (one, other) in enumerate(pairwise(mentions)):
            between = segment[one.end : other.start]
            if one.option == other.option or len(between) > LONGEST_CLAUSE:
                continue
            found = compared.fullmatch(between)
            is_equal = equal.fullmatch(between) is not None and not self._negates(between)
            if found is None and not is_equal:
                continue
            quality = found["property"] if found is not None else ""
            has_flaw, has_merit = (
                self.rules.pattern(name).search(quality) is not None for name in ("flaws", "merits")
            )
            is_less = found is not None and found["less"] is not None
            if is_less and has_flaw != has_merit and " to " not in quality:
                weighed[i] = replace(one, negated=has_merit)
                weighed[i + 1] = replace(other, negated=has_flaw)
            elif is_less or is_equal or has_flaw:
                weighed[i : i + 2] = [
                    replace(m, aside=True, affirmed=False, committed=False) for m in (one, other)
                ]
        return weighed

    def _weigh_unknown(self, segment: str, mentions: list[_Mention]) -> list[_Mention]:
        """Affirm a sentence such as `It cannot be determined`, if other options are only talked about."""
        unknown = self._unknown_option
        if unknown is None or any(
            m.option != unknown and not m.negated and (m.affirmed or m.committed or m.rule not in _WORDS)
            for m in mentions
        ):
            return mentions
        return [
            replace(m, affirmed=True)
            if m.option == unknown
            and m.rule in _WORDS
            and not m.negated
            and self._is_verdict(segment, m)
            and not any(self._has_turn(segment[m.end : n.start]) for n in mentions if n.start > m.end)
            else m
            for m in mentions
        ]

    def _is_verdict(self, segment: str, mention: _Mention) -> bool:
        """Whether a mention fills its sentence from the start, as in `So it cannot be determined who …`."""
        opening = segment[max(0, mention.start - LONGEST_CLAUSE) : mention.start]
        before = list(_split(opening, _SENTENCE_END))[-1]
        subjects = self.rules.pattern(
            "impersonal_subjects", "fillers", "final_weak", "conclusions", "turns", "copulas", "final_links"
        )
        after = segment[mention.end : mention.end + LONGEST_CLAUSE].lstrip(" ,")
        rest = subjects.sub(" ", self.rules.pattern("sources").sub(" ", before))
        if rest != subjects.sub(" ", before):  # "The text doesn't say." names no other question.
            is_whole = re.match(r"[.!;?。\n]|$", after) is not None
            return not re.search(r"\w", rest) and (
                is_whole or self.rules.pattern("own_questions").match(after) is not None
            )
        return not re.search(r"\w", rest) and self.rules.pattern("other_questions").match(after) is None

    def _is_first_impression(self, before: str) -> bool:
        """Whether a text leads up to a first impression, or opens with a reason, as in `Given that A …`."""
        if self._ends_with("soft_answers", self._without_last_article(before.rstrip(" ([:"))):
            return True
        return self.rules.pattern("reasons").match(before.lstrip()) is not None and "," not in before

    def _weigh_turns(self, segment: str, mentions: list[_Mention]) -> list[_Mention]:
        """Weigh two options with a turn between them, as in `A is a strong one, but B is better`.

        The first is not affirmed. The second is if it has more of the same: `A is able, but B is more able`.
        """
        weighed = list(mentions)
        for i, (one, other) in enumerate(pairwise(mentions)):
            between = segment[one.end : other.start]
            if one.option == other.option or other.negated or other.aside or not self._has_turn(between):
                continue
            weighed[i] = replace(weighed[i], affirmed=False)
            after = segment[other.end : other.end + LONGEST_CLAUSE]
            links, more = (self.rules.pattern(name).pattern for name in ("final_links", "comparatives"))
            repeated = re.match(rf"\s{links}\s(?:[\w']+\s)?{more}\s(\w+)", after)
            if (
                repeated
                and not self.is_yes_no
                and re.search(rf"(?<!\w){re.escape(repeated[1])}(?!\w)", between)
            ):
                weighed[i + 1] = replace(weighed[i + 1], affirmed=True)
        return weighed

    def _has_turn(self, between: str) -> bool:
        """Whether a turn such as `but` is between two options of a sentence, or opens the second sentence."""
        turns = self.rules.pattern("turns")
        rest = re.split(r"[.!]\s", between)
        if len(rest) == 1:
            return turns.search(between) is not None
        return len(rest) == 2 and turns.match(rest[1].lstrip()) is not None

    def _is_passed_over(self, between: str) -> bool:
        """Whether an option is granted before another, as in `A would be the safe choice, but … B`."""
        return (
            self.rules.pattern("appearances").match(between.lstrip(" )]" + _CAPITAL)) is not None
            and _SENTENCE_END.search(between) is None
            and self.rules.pattern("turns").search(between) is not None
        )

    def _weigh(self, mention: _Mention, before: str, after: str, *, earlier: bool) -> _Mention:
        tail = self._tail(after)
        reason = earlier and (self._is_reason(before) or self._explains(before, tail))
        concedes = self._concedes(before)
        return replace(
            mention,
            negated=self._is_called_wrong(tail)
            or (self.form == "word" and self._ends_with("both_sides", before.rstrip()))
            or (mention.rule != "unknown_words" and (self._negated_before(before) or self._rejects(tail))),
            affirmed=not self.is_yes_no
            and not concedes
            and not self._negates(tail)
            and (self._confirms(tail) or self._confirms_later(after)),
            committed=self._is_committed(before),
            aside=reason
            or concedes
            or self._depends(after)
            or (earlier and self._is_supposed(before))
            or self._is_opinion_of_others(before)
            or (
                self.rules.pattern("after_roles").match(after.lstrip(" ")) is not None
                and re.fullmatch(r"\s?as(?: any| every)?\s?", before) is not None
            ),
        )

    def _is_committed(self, before: str) -> bool:
        """Whether words such as `it is most likely a` lead up to a mention."""
        words = self._without_last_article(before.rstrip(" ([:"))
        links = self.rules.pattern("final_links", "letter_names").pattern
        found = re.search(rf"{self.rules.pattern('commitments').pattern}(?:\s?{links}){{0,3}}$", words)
        return (found is not None or self._is_identified(words)) and self.rules.pattern("conditions").search(
            before
        ) is None

    def _is_identified(self, words: str) -> bool:
        """Whether a description such as `the one who was late is` leads up to a mention."""
        relative = self.rules.pattern("identified").search(words)
        link = re.search(rf"\s{self.rules.pattern('copulas').pattern}$", words)
        return relative is not None and link is not None and relative.end() < link.start()

    def _depends(self, after: str) -> bool:
        """Whether a condition follows an option at once, as in `it would be B if …`."""
        rest = after.lstrip(" )]" + _CAPITAL)
        return (
            self.rules.pattern("conditions").match(rest) is not None
            and self.rules.pattern("pseudo_conditions", "final_weak").match(rest) is None
        )

    def _is_supposed(self, before: str) -> bool:
        """Whether a mention is in a condition that follows another option, as in `B if A were absent`."""
        clause = self._last_clause(before)
        found = list(self.rules.pattern("conditions").finditer(clause))
        return (
            bool(found)
            and self.rules.pattern("pseudo_conditions").match(clause[found[-1].start() :]) is None
            and re.search(r"\w", clause[: found[-1].start()]) is not None
        )

    def _explains(self, before: str, tail: str) -> bool:
        """Whether an option is the subject of a reason, as in `kind, as lazy is negative`."""
        return (
            self._ends_with("option_reasons", before.rstrip())
            and self.rules.pattern("final_links").match(tail.lstrip(" )]")) is not None
        )

    def _is_reason(self, before: str) -> bool:
        """Whether a reason reaches up to a mention. One that opens the sentence ends at its comma."""
        found = list(self.rules.pattern("reasons").finditer(before))
        opening = _bare(before[: found[0].start()]) if found else ""
        opens = len(found) == 1 and (not opening or self._ends_with("turns", opening))
        return bool(found) and not (opens and "," in before) and ":" not in before[found[-1].end() :]

    def _is_opinion_of_others(self, before: str) -> bool:
        """Whether the clause before a mention reports an opinion, as in `some people would say A`."""
        clause = self._last_clause(before)
        verbs = [m.start() for m in self.rules.pattern("opinion_verbs").finditer(clause)]
        return bool(verbs) and self._is_of_others(clause[: verbs[-1]])

    def _is_of_others(self, clause: str) -> bool:
        """Whether the last subject of a clause is not the answering person."""
        others = [m.start() for m in self.rules.pattern("others").finditer(clause)]
        modal = self.rules.pattern("modals").pattern
        nouns = self.rules.pattern("articles").pattern
        others += [m.start() for m in re.finditer(rf"{nouns}\s\w+(?:\s\w+)?\s{modal}\s(?:\w+\s)?$", clause)]
        own = [m.start() for m in self.rules.pattern("first_person").finditer(clause)]
        return bool(others) and (not own or own[-1] < others[-1])

    def _concedes(self, before: str) -> bool:
        """Whether the clause before a mention opens with a word such as `although`."""
        found = list(self.rules.pattern("concessions").finditer(before))
        rest = before[found[-1].end() :] if found else ","
        return "," not in rest and self.rules.pattern("turns").search(rest) is None

    def _tail(self, after: str) -> str:
        """Return the clause that follows a mention, up to the next mention, comma or conjunction."""
        marks = (
            r"(?<=.),|\n|"
            + self.rules.pattern("clause_ends", "reasons", "coordinators", "concessions", "contrasts").pattern
        )
        end = re.search(marks, after)
        return after[: end.start()] if end else after

    def _is_called_wrong(self, tail: str) -> bool:
        """Whether an option is called wrong or labelled with no: `B is wrong`, `B: no`."""
        near = r"(?:[\w']+\s){0,3}?" if self.rules.word_boundaries else r".{0,6}?"
        wrong = self.rules.pattern("wrong").pattern
        tail = self.rules.pattern("not_negations").sub(" ", tail)
        if self.rules.pattern("subjects_not").match(tail.lstrip(" ")):
            return False
        return (
            self._is_labelled(tail, self.rules.no)
            or re.match(rf"{_AFTER_OPTION}{near}{wrong}(?!-)", tail) is not None
        )

    def _rejects(self, tail: str) -> bool:
        """Whether an option is called wrong or is negated: `B is wrong`, `B does not fit`."""
        if self._is_called_wrong(tail):
            return True
        tail = self.rules.pattern("not_negations").sub(" ", tail)
        if self.rules.pattern("subjects_not").match(tail.lstrip(" ")):
            return False
        words = r"(?:[\w']+\s){0,2}?" if self.rules.word_boundaries else r".{0,2}?"
        found = re.match(rf"{_AFTER_OPTION}{words}{self.rules.pattern('negators').pattern}", tail)
        rest = tail[found.end() :].split() if found else []
        return found is not None and (
            tail.strip() == found[0].strip() or any(w not in self.rules.articles for w in rest)
        )

    def _is_labelled(self, tail: str, words: tuple[str, ...]) -> bool:
        """Whether an option in a list is followed by yes or no, as in `B) a nurse - yes`."""
        label = re.fullmatch(r"[)\]]*\s?[:=-]\s?(.{1,20}?)[.!]*\n?", tail)
        return label is not None and not self.is_yes_no and label[1] in words

    def _confirms(self, tail: str) -> bool:
        if self._is_labelled(tail, self.rules.yes):
            return True
        near = r"(?:[\w']+\s){0,3}?" if self.rules.word_boundaries else r".{0,6}?"
        right = self.rules.pattern("right").pattern
        found = re.match(rf"[)\]]*\s?[:=-]?\s?{near}{right}(?!-)", tail)
        # "A surgeon would more likely be operating" describes surgeons.
        if found is None or self.rules.pattern("alternatives").search(found[0]):  # "A could be right"
            return False
        return not self.rules.pattern("descriptions").match(tail[found.end() :].lstrip())

    def _confirms_later(self, after: str) -> bool:
        """Whether a second verb of the same subject confirms it, as in `A has experience and is the best`."""
        joins, links, right = (
            self.rules.pattern(name).pattern for name in ("coordinators", "final_links", "right")
        )
        subject = rf"(?:{self.rules.pattern('pronouns').pattern}\s)?"
        clause = re.split(r"[;:.!?\n]", after)[0]
        found = re.search(rf"\s{joins}\s{subject}(?:[\w']+\s)?{links}\s(?:\w+\s){{0,2}}?{right}(?!-)", clause)
        return found is not None and not self._negates(clause)

    def _negated_before(self, before: str) -> bool:
        """Whether an option is in the scope of a negation or a contrast that precedes it."""
        clause = self._last_clause(self.rules.pattern("not_negations").sub(" ", before))
        if self._is_compared(clause, "inferiors"):
            return False
        near = " ".join(clause.split()[-4:]) if self.rules.word_boundaries else clause[-6:]
        if not self.rules.word_boundaries:
            clause = clause[-12:]
        return (
            self._labels_wrong(before.rstrip())
            or self.rules.pattern("negators").search(clause) is not None
            or self.rules.pattern("contrasts").search(near) is not None
            or self._is_compared(clause)
            or (not self.is_yes_no and self._is_determined_by_no(clause))
        )

    def _is_compared(self, clause: str, comparatives: str = "comparatives") -> bool:
        """Whether a clause ends before the second side of a comparison, as in `more of a nurse than a`."""
        words = self._without_last_article(clause.rstrip())
        comparison = rf"{self.rules.pattern(comparatives).pattern}.*\s{self.rules.pattern('than').pattern}$"
        is_ranked = comparatives == "comparatives" and words.endswith(" >")
        return is_ranked or re.search(comparison, " " + words) is not None

    def _is_determined_by_no(self, clause: str) -> bool:
        """Whether a clause ends in `no` or `no clear`, so that the option after it is denied."""
        if not self.rules.word_boundaries:
            return False
        words = clause.split()[-2:]
        return clause[-1:].isspace() and any(word in self.rules.no for word in words)

    def _last_clause(self, sentence: str) -> str:
        """Return the part of a sentence that a negation before the option would have to be in."""
        relative = self.rules.pattern("relatives").search(sentence)
        links = self.rules.pattern("final_links").pattern
        if relative and re.search(rf"\s{links}\s$", sentence[relative.end() :]):
            return ""
        compared = [m.span() for m in self.rules.pattern("contrasts").finditer(sentence)]
        cut = 0
        for found in self.rules.pattern("clause_ends").finditer(sentence):
            if not any(start <= found.start() and found.end() <= end for start, end in compared):
                cut = found.end()
        for found in re.finditer(r",(?!\d)|:|\s-\s", sentence):
            if not self._continues_list(sentence[found.end() :]):
                cut = max(cut, found.end())
        return sentence[cut:]

    def _continues_list(self, rest: str) -> bool:
        """Whether the text after a comma is one more item of a list, not a new clause."""
        words = rest.split()
        return 0 < len(words) <= 4 and self.rules.pattern("coordinators").search(rest) is not None

    def _weigh_groups(self, segment: str, mentions: list[_Mention]) -> list[_Mention]:
        """Treat joined options alike: in `A, B and C are wrong` all are. They are only discussed."""
        weighed: list[_Mention] = []
        for group in self._groups(segment, mentions):
            negated = group[0].negated or group[-1].negated
            if len({m.option for m in group}) == 1 and any(m.affirmed and not m.negated for m in group):
                negated = False  # "weighing A against B, B comes out ahead"
            group = [replace(m, negated=m.negated or negated) for m in group]
            if len({m.option for m in group}) > 1:
                accepted = any(m.rule != "possible" for m in group)
                rules = ["letter_joined" if m.rule == "possible" and accepted else m.rule for m in group]
                group = [
                    replace(m, rule=rule, aside=True, affirmed=False)
                    for m, rule in zip(group, rules, strict=True)
                ]
            elif any(m.affirmed for m in group):
                group = [replace(m, affirmed=True) for m in group]
            weighed += group
        return weighed

    def _groups(self, segment: str, mentions: Sequence[_Mention]) -> list[list[_Mention]]:
        """Group neighbours that are joined by `and`, `or` or, in a longer list, a comma."""
        joins = [self._join(segment[m.end : n.start], m, n) for m, n in pairwise(mentions)]
        listed = False
        for i in range(len(joins) - 1, -1, -1):
            listed = joins[i] == "and" or (listed and joins[i] == "comma")
            if joins[i] == "comma" and not listed:
                joins[i] = ""
        groups: list[list[_Mention]] = []
        for i, mention in enumerate(mentions):
            is_several = bool(groups) and len({m.option for m in groups[-1]}) > 1
            if i and joins[i - 1] and not (joins[i - 1] == "same" and is_several):
                groups[-1].append(mention)
            else:
                groups.append([mention])
        return groups

    def _join(self, gap: str, one: _Mention, other: _Mention) -> str:
        if len(gap) > 40 or "\n" in gap:
            return ""
        if one.option == other.option:
            return "same" if re.fullmatch(r"[\s():\[\].,-]*", gap) else ""
        rest = self.rules.pattern("articles", "letter_names").sub(" ", gap)
        if re.fullmatch(r"[)\]\s]*,[(\[\s]*", rest):
            return "comma"
        marks = r"/|&|" + self.rules.pattern("coordinators").pattern
        joined = re.compile(rf"[)\]\s]*,?\s?(?:{marks})[(\[\s]*")
        return "and" if joined.fullmatch(rest) or joined.fullmatch(gap) else ""

    def _word_mentions(self, segment: str) -> list[_Mention]:
        """Find the options' own words, the longest first."""
        idioms = tuple(idiom for idiom in self.rules.idioms if idiom not in self.names)
        hidden = phrase_pattern(idioms, self.rules.word_boundaries).sub(lambda m: "\0" * len(m[0]), segment)
        mentions: list[_Mention] = []
        for name, option in self.names.items():
            if len(name) == 1 and ((self.letter and name.isascii()) or not self.rules.word_boundaries):
                continue  # a letter, or a character that is part of many words
            pieces, last = [], 0
            for found in re.finditer(self._name_pattern(name), hidden):
                if len(name) == 1 and self._is_word(segment, found.start(), found.end()):
                    continue  # options A and B, and an article
                if self.kinds[option] == "no" and self.is_yes_no and not self._is_no(segment, found.end()):
                    continue
                is_unknown = name in self.rules.unknown or name in self.rules.dont_know
                rule = "unknown_words" if is_unknown else "option_words"
                mentions.append(_Mention(option, found.start(), found.end(), rule))
                pieces += [hidden[last : found.start()], "\0" * len(found[0])]
                last = found.end()
                if len(mentions) > MOST_MENTIONS:
                    return mentions
            hidden = "".join(pieces) + hidden[last:]
        return [*mentions, *self._unknown_mentions(hidden, segment)]

    def _unknown_mentions(self, hidden: str, segment: str) -> list[_Mention]:
        """Find denials of an information, as in `the text never says who`, if one option is unknown."""
        if self._unknown_option is None or not self.rules.unknown_verbs:
            return []
        denials, verbs, nobodies = (
            self.rules.pattern(name).pattern for name in ("unknown_denials", "unknown_verbs", "nobodies")
        )
        found = [*re.finditer(rf"{denials}(?:\s[\w'-]+){{0,2}}?\s{verbs}", hidden)]
        found += re.finditer(rf"{nobodies}[^.,:;!?\n]{{0,80}}?\s{verbs}", segment)
        option = self._unknown_option
        return [_Mention(option, m.start(), m.end(), "unknown_words") for m in found[:MOST_MENTIONS]]

    @cached_property
    def _unknown_option(self) -> int | None:
        """The only option such as `not enough information`."""
        unknown = [i for i, option in enumerate(self.options) if self.rules.pattern("unknown").search(option)]
        return unknown[0] if len(unknown) == 1 else None

    def _name_pattern(self, name: str) -> str:
        return (
            rf"(?<!\w)(?<!\w-)(?:{_alternatives([name])})(?!\w)(?!-\w)"
            if self.rules.word_boundaries
            else re.escape(name)
        )

    def _is_no(self, segment: str, end: int) -> bool:
        """Whether `no` is an answer, not a determiner as in `no reason`."""
        word = re.match(r" ?([\w']+)", segment[end : end + 40])
        followers = self.rules.no_followers + self.rules.coordinators
        return word is None or not self.rules.no_followers or word[1] in followers

    # Letters

    def _letter_mentions(self, segment: str) -> list[_Mention]:
        """Find letters of options that cannot be articles, list marks or parts of words."""
        mentions: list[_Mention] = []
        if not self.letter:
            return mentions
        for found in re.finditer(self.letter, segment):
            rule = self._letter_rule(segment, found.start(), found.end())
            if rule:
                mentions.append(_Mention(LETTERS.index(found[1]), found.start(), found.end(), rule))
            if len(mentions) > MOST_MENTIONS:
                break
        return mentions

    def _letter_rule(self, segment: str, start: int, end: int) -> str:
        """Return the rule by which a letter is an option: empty for none, `possible` if it may be one."""
        before = segment[max(0, start - 60) : start].rpartition("\n")[2]
        after = segment[end : end + 60].partition("\n")[0]
        previous = before.rstrip(" ([")
        is_enclosed = before.endswith(("(", "[")) and after.startswith((")", "]"))
        if is_enclosed:
            return "letter_marked"
        if self._ends_with("not_letters", previous) or self._is_word(segment, start, end):
            return ""
        if segment[end : end + 1] == _CAPITAL:
            return "letter_capital"
        if end == len(segment) and segment[start:end] in self.rules.articles and ". " in segment[:start]:
            return "possible"  # an answer that was cut off: "… It is a"
        is_named = self._ends_with("letter_names", previous.rstrip(" :"))
        is_named = is_named or self._ends_with("commitments", previous)
        if is_named or self._ends_with("copulas", previous):
            return "letter_named"
        if re.match(r"[)\]]|\s?:|\s>", after) or re.match(r"\s?(?:[.!?;。…]|$)", after):
            return "letter_marked"
        if segment[start] in self.rules.first_person:
            return ""
        opens = not previous or previous[-1] in ".!?;:,。-" or self._ends_with("fillers", previous)
        opens = opens or self._ends_with("clause_ends", previous) or self._ends_with("concessions", previous)
        if opens and self.rules.pattern("after_letter").match(after.lstrip(" ," + _CAPITAL)):
            return "letter_subject"
        return "possible"

    def _is_word(self, segment: str, start: int, end: int) -> bool:
        """Whether the letter is a word of the language: `a nurse`, `I think`."""
        if segment[start:end] not in self.rules.letter_words:
            return False
        rest = segment[end : end + 40].partition("\n")[0]
        if rest.startswith(_CAPITAL):
            return False
        return re.match(r"\s[\w'-]", rest) is not None and not self.rules.pattern("after_letter").match(
            rest[1:]
        )


# --- Agreement ----------------------------------------------------------------------------------------------


class _AgreementReader(_OptionReader):
    """Reads whether somebody agrees. A negation turns one stance into the other."""

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        if _bare(plain) in self.names:
            return Reading(self.names[_bare(plain)], "read", _bare(plain), "alone")
        answers_itself = "?" in plain
        short = phrase_pattern(tuple(self.rules.contractions), self.rules.word_boundaries)
        plain = short.sub(lambda m: self.rules.contractions[m[0]], plain)
        plain = self._without_questions(self._without_courtesy(self._listed.sub("", plain)))
        for rule, segment in self.final_segments(plain):
            found = self._read_stance(self._before_reason(segment), rule) or self._read_final(segment)
            if found is not None:
                return replace(found, rule=rule)
        stance = self._read_stance(plain, "agreement")
        named = self.read_options(plain) if stance is None else self._read_alone(plain)
        is_yes_no = named is not None and named.evidence not in self.names
        if stance is not None and is_yes_no and any(name in stance.evidence for name in self.names):
            return stance  # "Yes, I disagree."
        if (
            stance is None or named is None or named.value is None or answers_itself
        ):  # "Disagree? No, I agree."
            return stance or named or _unreadable("no_option")
        return stance if stance.value in (named.value, None) else _unreadable("several_options", plain)

    def _without_questions(self, plain: str) -> str:
        """Drop questions: `Agree?` is no stance."""
        sentences = [s for s in _split(plain, _SENTENCE_END) if not self._is_condition(s)]
        rest = [s for s in sentences if not s.endswith("?")]
        return "".join(rest if any(_bare(s) for s in rest) else sentences)

    @cached_property
    def exact(self) -> dict[str, int]:
        """Wordings of the options if they are alone: also yes and no."""
        words = dict(self.names)
        for stance, names in (
            ("agree", self.rules.yes + self.rules.yes_openings),
            ("disagree", self.rules.no + self.rules.no_openings),
        ):
            if len(self.sides.get(stance, ())) == 1:
                words |= {name: self.sides[stance][0] for name in names if name not in words}
        return words

    @cached_property
    def sides(self) -> dict[str, list[int]]:
        """Options of each stance. A graded scale has several."""
        found: dict[str, list[int]] = {}
        for index, option in enumerate(self.options):
            stances = self._stances(option)
            kind = {"yes": "agree", "no": "disagree", "": ""}[self._yes_no(option)]
            stance = next(iter(stances)) if len(stances) == 1 else kind
            if stance:
                found.setdefault(stance, []).append(index)
        return found

    def _word_mentions(self, segment: str) -> list[_Mention]:
        """Find no words if the options are stances, which `_stances` finds."""
        return [] if self.sides else super()._word_mentions(segment)

    def _read_stance(self, text: str, rule: str) -> Reading | None:
        """Return the only stance of a text. `None` if it takes none."""
        stances = self._stances(text)
        if not stances:
            return None
        if len(stances) == 2:  # "I agree, but not strongly"
            stances.pop("neither", None)
        if len(stances) > 1:
            return _unreadable("several_options", text)
        stance, words = next(iter(stances.items()))
        options = self.sides.get(stance, [])
        if len(options) > 1:
            options = [i for i in options if self._degree(self.options[i]) == self._degree(words)]
        if len(options) != 1:
            return _unreadable("no_such_option", words)
        return Reading(options[0], "read", words, rule)

    def _degree(self, words: str) -> str:
        """Return `strong`, `weak` or nothing. A negated degree is none, unless the degree itself negates."""
        contrast = self.rules.pattern("contrasts").search(words)
        words = words[: contrast.start()] if contrast else words
        for degree, name in (("strong", "intensifiers"), ("weak", "hedges")):
            for found in self.rules.pattern(name).finditer(words):
                if self._negates(found[0]) or not self._negates(
                    words[max(0, found.start() - 30) : found.start()]
                ):
                    return degree
        return ""

    def _stances(self, text: str) -> dict[str, str]:
        """Return the stances that a text takes, with their sentences. Those of other people do not count.

        `I agree` wins over `I agree that …` and over a description such as `it is unfair`, and these win over
        what is only granted.
        """
        found: dict[str, str] = {}
        limited: dict[str, str] = {}
        described: dict[str, str] = {}
        conceded: dict[str, str] = {}
        of_others = ""
        objects = re.compile(rf"{self.rules.pattern('complements').pattern}\s(?:(?!\s-\s)[^,.;:!?\n])*")
        stances, that = (
            self.rules.pattern("agree", "disagree").pattern,
            self.rules.pattern("that_words").pattern,
        )
        contents = re.compile(rf"({stances})\s{that}\s[^,.;:!?\n]*")
        partial = re.compile(rf"{stances}\s{self.rules.pattern('partial_objects').pattern}")
        for sentence in islice(_split(objects.sub(" ", text), _SENTENCE_END), MOST_SENTENCES):
            sentence = self._without_granted(sentence)
            whole = contents.sub(" ", partial.sub(" ", sentence))
            sentence = whole if self._stance_names.search(whole) else sentence
            if self._grants_first(sentence):
                taken = conceded
            elif self._stance_names.search(sentence) is None:
                taken = described
            elif partial.search(sentence) or contents.search(sentence):
                taken = limited
            else:
                taken = found
            sentence = contents.sub(lambda m: m[1] + " ", sentence)
            short = self._short_stance(sentence, of_others)
            if short:
                taken.setdefault(short, sentence)
            if self.rules.pattern("both_sides").search(sentence):
                both = {"agree": sentence, "disagree": sentence}
                taken |= {"neutral": sentence} if self.rules.pattern("neutral").search(sentence) else both
                continue
            hidden = sentence
            for stance in ("neutral", "disagree", "agree"):
                for match in islice(self.rules.pattern(stance).finditer(hidden), MOST_MENTIONS):
                    before = sentence[max(0, match.start() - LONGEST_CLAUSE) : match.start()]
                    clause = self._last_clause(self.rules.pattern("not_negations").sub(" ", before))
                    if not self._last_clause(before + match[0]):  # "… and disagree"
                        clause = ""
                    if self._is_of_others(clause):
                        # In "nobody agrees" the subject is negated, so "I do" means "I agree".
                        of_others = self._turned(stance, self.rules.pattern("others").sub(" ", clause))
                        short = self._short_stance(sentence[match.end() :], of_others)
                        if short:
                            taken.setdefault(short, sentence)
                    elif not self._concedes(before) and not self._is_compared(clause):
                        is_own = taken is not found or self._stance_names.search(match[0]) is not None
                        (taken if is_own else described).setdefault(self._turned(stance, clause), sentence)
                hidden = self.rules.pattern(stance).sub(lambda m: "\0" * len(m[0]), hidden)
        return found or limited | described or conceded

    @cached_property
    def _stance_names(self) -> re.Pattern[str]:
        """Pattern of the options' own words, without those of degree."""
        degrees = self.rules.pattern("intensifiers", "hedges")
        names = {" ".join(degrees.sub(" ", option).split()) for option in self.options}
        return phrase_pattern(tuple(sorted(names - {""})), self.rules.word_boundaries)

    def _grants_first(self, sentence: str) -> bool:
        """Whether a sentence grants something and turns, as in `I agree that effort matters, but …`."""
        granted = self.rules.pattern("granted").match(sentence.lstrip(" \n"))
        return granted is not None and self.rules.pattern("turns").search(sentence, granted.end()) is not None

    def _without_granted(self, sentence: str) -> str:
        """Drop what is granted first, as in `It is true that …, but I disagree`."""
        granted = self.rules.pattern("granted").match(sentence.lstrip(" \n"))
        turn = self.rules.pattern("turns").search(sentence) if granted else None
        rest = sentence[turn.end() :] if turn else ""
        return rest if self.rules.pattern("agree", "disagree").search(rest) else sentence

    def _short_stance(self, sentence: str, of_others: str) -> str:
        """Return the stance of a clause such as `I do not` after the stance of others."""
        opposite = {"agree": "disagree", "disagree": "agree"}
        if of_others in opposite:
            clauses = [_bare(clause) for clause in _split(sentence[-LONGEST_CLAUSE:], _CLAUSE_END)]
            last = next((clause for clause in reversed(clauses) if clause), "")
            words = {last, self._without_fillers(last)}
            if words & set(self.rules.short_no):
                return opposite[of_others]
            if words & set(self.rules.short_yes):
                return of_others
        return ""

    def _turned(self, stance: str, clause: str) -> str:
        """Return a stance, or the other one if it is negated. A negated strong one is neither."""
        if stance == "neutral" or not self._negates(clause):
            return stance
        if self.rules.pattern("intensifiers").search(clause):
            return "neither"
        return {"agree": "disagree", "disagree": "agree"}[stance]


# --- Numbers ------------------------------------------------------------------------------------------------

_DIGITS = re.compile(r"(?<![a-zß-ɏ0-9_.,])[-+]?\d[\d.,]*(?<![.,])([a-zß-ɏ]*)")
_SPACED = re.compile(r"(?<![\d.,/-])(\d{1,3})((?:[ '’]\d{3})+)(?![\d'])")
"""Thousands that are separated by spaces or apostrophes, as in `85 000` and `85'000`."""
_LEADING = re.compile(
    r"\W*?([-+]?\d[\d.,]*(?<![.,])\s?(?:[%€£¥]|/\s?\d+)?)\s?(?:$|\n|-\s(?=[^\W\d])|[:;(]\s?(?=[^\W\d])|\.\s(?=[^\W\d]))"
)
"""A number that is followed by its explanation, as in `7 - good, but only 5 years of experience`."""
_LISTED = re.compile(r"^\W*\d{1,2}[.)]\s", re.M)
_LABELLED = re.compile(r"^[^\d\n:]{1,30}\d{1,3}\s?:\s?(?=\S)", re.M)
_LARGEST_FRACTION = 4
"""Up to this denominator `1/2` is a fraction. Above it, `7/10` is a score with its maximum."""


class _NumberReader(_Reader):
    """Reads a single number."""

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        plain = _SPACED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), plain)
        reason = re.compile(rf"[\W\d]*{self.rules.pattern('reason_labels').pattern}\s?:")
        stated = "\n".join(line for line in plain.split("\n") if not reason.match(line))
        plain = stated if re.search(r"\d", stated) else plain
        stated = "".join(s for s in _split(plain, _SENTENCE_END) if not s.endswith("?"))
        plain = stated if re.search(r"\d", stated) else plain
        named = [
            ("number_named", self._after(plain, m.end()))
            for m in reversed(list(self.rules.pattern("number_names").finditer(plain))[-MOST_PHRASES:])
        ]
        finals = list(self.final_segments(plain))
        strong = [pair for pair in finals if pair[0] != "choice"]
        weak = [pair for pair in finals if pair[0] == "choice"]
        lines = [line for line in plain.split("\n") if re.fullmatch(r"\W*[\d.,]+\W*", line)]
        last = [("last_line", lines[-1])] if lines and lines[-1] == plain.split("\n")[-1] else []
        labelled = [("final_answer", number) for number in self._labelled(plain)]
        sentence = [("number", self._before_reason(plain))] if "\n" not in plain else []
        scores = [("score", " ".join(self._scores(plain)))]
        parts = [
            *(labelled if len(labelled) == 1 else ()),
            *strong,
            *named,
            *scores,
            *weak,
            *last,
            *self._leading(plain),
            *self._last_clause_number(plain),
            *self._result(plain),
            *sentence,
            ("number", plain),
        ]
        for rule, segment in parts:
            segment = segment if rule == "number" else self._before_dash(segment)
            values = self._numbers_in(self._before_reason(segment) if rule != "number" else segment)
            if len(values) > 1 and rule in ("final_answer", "number_named", "choice"):
                values = self._opening_number(segment) or values
            if len(values) == 1:
                value, words = next(iter(values.items()))
                return Reading(value, "read", words, rule)
            if len(values) > 1 and rule == "final_answer":
                break
        return _unreadable("no_single_number", plain if re.search(r"\d", plain) else "")

    def _labelled(self, plain: str) -> list[str]:
        """Return the numbers right after a label and a colon, as in `Score: 7 - it covers 3 of 4 points`.

        A number is left out if it opens a range, a sum or a row of numbers.
        """
        label = self.rules.pattern("final_strong", "number_names").pattern
        found = re.finditer(
            rf"(?:^|[\n.;]\s?)[^\d\n.:]{{0,20}}?{label}\s?[:=]\s?"
            r"([€£¥]?\s?[-+]?\d[\d.,]*(?<![.,])\s?"
            rf"(?:%|/\s?\d+|{self.rules.pattern('totals').pattern}\s\d+)?)"
            r"\s?(?=$|\n|[.;]\s?(?!\d)|[(:]|-\s(?!\d)|,\s(?=[^\W\d]))",
            plain,
        )
        lines = re.findall(
            r"^[^\d\n:]{1,40}:\s?([€£¥]?\s?[-+]?\d[\d.,]*%?(?:\s[^\W\d]+){0,3})[.]?$", plain, re.M
        )
        return list(dict.fromkeys(m[1] for m in found)) or (lines if len(lines) == 1 else [])

    @staticmethod
    def _before_dash(segment: str) -> str:
        """Return the text before a dash and an explanation, as in `7 - it covers 3 points`."""
        before, dash, after = segment.partition(" - ")
        is_explained = dash and re.match(r"[^\W\d]", after) and len(_DIGITS.findall(before)) == 1
        return before if is_explained else segment

    def _leading(self, plain: str) -> list[tuple[str, str]]:
        """Return the number that opens the answer and is explained after it. A list is no explanation."""
        found = _LEADING.match(plain)
        first = next(_split(plain, _SENTENCE_END))
        is_opening = re.fullmatch(r"(?:[^\W\d]+\s){0,2}\d[\d.,]*\s?%?[.!]", first) is not None
        if found is None and is_opening and re.match(r"\s[^\W\d]", plain[len(first) :]):  # "A solid 8. …"
            return [("leading", first)]
        listed = _LISTED.findall(plain)
        return (
            [("leading", found[1])]
            if found
            and (not listed or len(listed) == 1 < plain.count("\n") or self._is_no_list(found[1], listed))
            else []
        )

    @staticmethod
    def _is_no_list(number: str, listed: Sequence[str]) -> bool:
        """Whether the only mark of a list cannot open one, as in `3. The applicant …`."""
        return len(listed) == 1 and number.strip() != "1"

    def _result(self, plain: str) -> list[tuple[str, str]]:
        """Return the result of a calculation in words, as in `3 boxes of 4 make 12`."""
        found = list(self.rules.pattern("results").finditer(plain))
        before = plain[: found[-1].start()] if found else ""
        after = plain[found[-1].end() :] if found else ""
        is_result = len(_DIGITS.findall(before)) > 1 and len(_DIGITS.findall(after)) == 1
        return [("number", after)] if is_result else []

    def _opening_number(self, segment: str) -> dict[float, str]:
        """Return the number at the start of a named answer, as in `the price is 1,200 for a car of 2015`.

        Nothing if an alternative, a range or a sum follows.
        """
        around, scope, link = (
            self.rules.pattern(name).pattern for name in ("approximations", "answer_scopes", "copulas")
        )
        topic = rf"\W*{scope}(?:\s[^\W\d][\w'-]*){{1,6}}?\s{link}\s"
        found = re.match(rf"(?:{topic})?(?:\W*{around})*\W*?([-+]?\d[\d.,]*(?<![.,]))", segment)
        if found is None or re.search(r"[=+]|\d\s?-\s?\d", segment):
            return {}
        joins = self.rules.pattern("coordinators", "range_words", "corrections", "alternatives").pattern
        turns = self.rules.pattern("turns").pattern
        if re.search(
            rf"(?:{joins})(?:\s\w+){{0,2}}\s?[^\w\s]?\s?\d|{turns}(?:\s[\w']+){{0,4}}\s?[^\w\s]?\s?\d[\d.,]*\s?(?:[.!,;\n]|$)",
            segment[found.end() :],
        ):
            return {}
        following = _DIGITS.search(segment, found.end())
        return self._numbers_in(segment[: following.start()] if following else segment)

    def _last_clause_number(self, plain: str) -> list[tuple[str, str]]:
        """Return the number after the description of a scale, as in `where 1 is bad and 10 is good: 8`."""
        words = self.rules.pattern("fillers", "final_weak", "approximations", "articles").pattern
        sentence = [part for part in _split(plain, _SENTENCE_END) if _bare(part)][-1:]
        short = (
            re.fullmatch(rf"\W*(?:{words}\W+)+(\d[\d.,]*(?<![.,])\s?%?)\W*", sentence[0])
            if sentence
            else None
        )
        if short is not None:  # "… So 7."
            return [("number", short[1])]
        last = re.split(r",\s|:", plain.rstrip(" ."))[-1]
        is_bare = re.fullmatch(r"\W*\d[\d.,]*\W*", last) is not None
        return [("number", last)] if is_bare and self.rules.pattern("scales").search(plain) else []

    def _scores(self, plain: str) -> list[str]:
        """Return the numbers that are given with their maximum, as in `7/10` or `7 out of 10`."""
        return re.findall(
            rf"(?<![\w.,/])(\d{{1,3}}(?:[.,]\d{{1,2}})?)\s?(?:/|{self.rules.pattern('totals').pattern})\s?"
            r"(?:5|7|10|20|100)(?:[.,]0{1,2})?(?![\w/]|[.,]\d)",
            plain,
        )

    def _numbers_in(self, text: str) -> dict[float, str]:
        """Find the numbers of a text with their words. `7 out of 10` is 7, a range is two numbers."""
        text = self._without_scales(text).rpartition("=")[2]
        for pattern in (_LIST_MARK, _LABELLED):
            shorter = pattern.sub("", text)
            text = shorter if re.search(r"\d", shorter) else text
        text = self._without_totals(text)
        found: dict[float, str] = {}
        for match in _DIGITS.finditer(text):
            if match[1] in self.rules.ordinals:
                continue
            if match[1] == "s":  # "in her 40s"
                return {}
            before = self._without_last_article(text[max(0, match.start() - 40) : match.start()].rstrip())
            if self._ends_with("negators", before) or self._ends_with("contrasts", before):
                continue
            value = self._value(match[0].removesuffix(match[1]))
            factor, words = self._magnitude(text[match.end() - len(match[1]) :])
            if value is None or (match[1] in ("m", "b", "bn", "x") and not words):
                return {}
            found.setdefault(round(value * factor, 6), match[0].removesuffix(match[1]) + words)
        return found or self._words_in(text)

    def _magnitude(self, after: str) -> tuple[int, str]:
        """Return the factor of a word after digits, such as `million`, and the word."""
        words = phrase_pattern(tuple(self.rules.magnitudes), word_boundaries=False).pattern
        end = r"(?!\w)" if self.rules.word_boundaries else ""
        found = re.match(rf"\s?({words}){end}", after)
        return (self.rules.magnitudes[found[1]], found[0]) if found else (1, "")

    def _without_scales(self, text: str) -> str:
        """Remove ranges that describe the scale, such as `on a scale of 1 to 10`."""
        words = self.rules.pattern("range_words").pattern
        text = re.sub(rf"\(\s?\d+\s?(?:-|{words})\s?\d+\s?\)", " ", text)
        text = re.sub(rf"\d+\s?-?\s?{self.rules.pattern('scale_units').pattern}", " ", text)
        return re.sub(rf"{self.rules.pattern('scales').pattern}\s?\d+\s?(?:-|{words})\s?\d+", " ", text)

    def _without_totals(self, text: str) -> str:
        """Remove the maximum of a score, and replace a fraction by its value."""
        number = r"\d{1,9}(?:[.,]\d{1,4})?"
        units, totals = self.rules.pattern("units").pattern, self.rules.pattern("totals").pattern
        maximum = self.rules.pattern("maximum_names").pattern
        text = re.sub(rf"{maximum}\s?{number}", " ", text)
        text = re.sub(rf"{number}\s?{self.rules.pattern('totals_before').pattern}", " ", text)
        start, end = (r"(?<![\w.,])", r"(?!\w)") if self.rules.word_boundaries else (r"(?<![\d.,])", "")
        text = re.sub(rf"{start}({number})\s?(?:{units})?\s?\(?{totals}\s?{number}{end}", r"\1", text)
        return re.sub(
            r"(?<![\w.,/])(\d{1,9}(?:[.,]\d{1,4})?)\s?/\s?(\d{1,9})(?:[.,]0{1,2})?(?![\w/])",
            self._of_slash,
            text,
        )

    @staticmethod
    def _of_slash(found: re.Match[str]) -> str:
        total = int(found[2])
        if total > _LARGEST_FRACTION or not total or not found[1].isdigit():
            return found[1]
        return str(int(found[1]) / total)

    def _words_in(self, text: str) -> dict[float, str]:
        """Find a number that is written in words, as in `twenty-five`, in a short text."""
        if self.rules.word_boundaries and len(text.split()) > 9:
            return {}
        text = self.rules.pattern("idioms").sub(" ", text)
        text = re.sub(rf"(?:{self.rules.pattern('totals').pattern})\s[^\W\d]+", " ", text)
        word = _alternatives(sorted(self.rules.numbers, key=len, reverse=True)) or r"(?!)"
        joins = phrase_pattern(self.rules.coordinators, self.rules.word_boundaries).pattern
        left, right = (r"(?<!\w)", r"(?!\w)") if self.rules.word_boundaries else ("", self._unit)
        found: dict[float, str] = {}
        for run in re.finditer(rf"{left}(?:{word})(?:[\s-]?(?:{joins}\s)?(?:{word}))*{right}", text):
            value = self._sum([self.rules.numbers[words] for words in re.findall(word, run[0])])
            if value is None:
                return {}
            is_article = value == 1 and re.match(r"\s[^\W\d]", text[run.end() :])
            if not is_article and not self._ends_with("contrasts", text[: run.start()].rstrip()):
                found.setdefault(value, run[0])
        return found

    @property
    def _unit(self) -> str:
        """Pattern of the end of a number in words, in a language without spaces between them."""
        return rf"(?=\s|$|[.,;:!?。%)]|{self.rules.pattern('units').pattern})"

    def _sum(self, values: Sequence[int]) -> float | None:
        """Add `twenty` and `five`, multiply `two` and `hundred`. `None` for a row such as `three five`."""
        total, group, last, largest = 0, 0, 0, 0
        for value in values:
            if value >= 1000:
                if last >= 1000:
                    return None
                if largest and value > largest:  # 三千万
                    total = (total + group) * value
                else:
                    total += max(group, 1) * value
                group, largest = 0, max(largest, value)
            elif value == 100 or (value == 10 and not self.rules.word_boundaries):
                if last >= value or (value == 100 and group >= 100):
                    return None
                group += max(last, 1) * value - last
            elif last and not (last >= 20 and last % 10 == 0 and value < min(last, 100)) and last < 100:
                if self.rules.word_boundaries or last != 10:
                    return None
                group += value
            else:
                group += value
            last = value
        return float(total + group)

    def _value(self, digits: str) -> float | None:
        """Return the value of a number with the marks of the language. `None` if they are unclear."""
        decimal, thousands = (",", ".") if self.rules.decimal_comma else (".", ",")
        if re.fullmatch(
            rf"[-+]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(decimal)}\d+)?", digits
        ):
            digits = digits.replace(thousands, "")
        digits = digits.replace(",", ".")
        return float(digits) if digits.count(".") <= 1 else None
