"""Read the answer of a model: which option it names, or which number, or why it names none.

`read_answer` is the only reader. Builds, `measure`, `evaluate` and the harness files of a release call it.
This module needs the standard library only, because a copy of it is part of every release.

The order of the rules:

1. Reasoning, markup and quotes are removed.
2. An explicit final answer wins over everything before it.
3. An option's own words win over its letter. A letter counts only if it cannot be an article or a list mark.
4. A negated option is not an answer.
5. More than one option is no answer. Nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

ReadingForm = Literal["letter", "word", "option", "agreement", "number"]
"""`letter`: the letter of an option; `word`: yes, no or another fixed word; `option`: the option's own text;
`agreement`: agree or disagree; `number`: a number."""
ReadingStatus = Literal["read", "unreadable", "refused", "empty"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 20_000
"""Characters that are read. The end of a longer answer is kept, because a final answer is at the end."""


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
    final_strong: tuple[str, ...] = ()
    final_weak: tuple[str, ...] = ()
    final_links: tuple[str, ...] = ()
    letter_names: tuple[str, ...] = ()
    not_negations: tuple[str, ...] = ()
    negators: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    clause_ends: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    coordinators: tuple[str, ...] = ()
    fillers: tuple[str, ...] = ()
    idioms: tuple[str, ...] = ()
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    yes_openings: tuple[str, ...] = ()
    no_openings: tuple[str, ...] = ()
    no_followers: tuple[str, ...] = ()
    agree: tuple[str, ...] = ()
    disagree: tuple[str, ...] = ()
    neutral: tuple[str, ...] = ()
    agreement_breakers: tuple[str, ...] = ()
    """Phrases that name both sides, such as `agree or disagree`."""
    halves: tuple[str, ...] = ()
    """Words of half an agreement, such as `partially`."""
    of_total: tuple[str, ...] = ()
    first_person: tuple[str, ...] = ()
    number_names: tuple[str, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    number_ranges: tuple[str, ...] = ()
    decimal_comma: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> ReaderRules:
        """Make rules from the content of a file. Words are folded like answers are."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known - {"refusal"})
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(unknown)}")
        folded = {
            name: tuple(fold(str(word)) for word in value) if isinstance(value, (list, tuple)) else value
            for name, value in values.items()
            if name in known
        }
        return cls(**folded)

    @cached_property
    def boundary(self) -> str:
        """Pattern on both sides of a word."""
        return r"(?<!\w){}(?!\w)" if self.word_boundaries else "{}"


UNKNOWN_LANGUAGE = ReaderRules()
"""Rules for a language without a file: letters that cannot be misread, and exact options."""


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
    plain = clean(visible)
    if not re.search(r"\w", plain):
        return Reading(None, "empty", "", "no_content" if not text.strip() else "nothing_visible")
    reader = _Reader(tuple(options), form, rules)
    return reader.read(visible, plain)


# --- Clean the text -----------------------------------------------------------------------------------------

_REASONING = re.compile(
    r"<(think|thinking|thought|reasoning|analysis|scratchpad|reflection)>.*?</\1>", re.S | re.I
)
_OPEN_REASONING = re.compile(r"<(think|thinking|thought|reasoning|analysis|scratchpad)>.*\Z", re.S | re.I)
_CLOSED_REASONING = re.compile(r"\A.*</(think|thinking|thought|reasoning|analysis|scratchpad)>", re.S | re.I)
_FINAL_CHANNEL = re.compile(r".*<\|channel\|>\s*final\s*(?:<\|[a-z_]+\|>[^<]*)*?<\|message\|>", re.S | re.I)
_ANY_CHANNEL = re.compile(r"<\|channel\|>\s*(?:analysis|commentary).*\Z", re.S | re.I)
_BARE_CHANNEL = re.compile(r"\Aanalysis.*assistantfinal", re.S)
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]")


def remove_reasoning(text: str) -> str:
    """Return what a reader sees: the answer without the model's reasoning.

    An opened and never closed reasoning block leaves nothing.
    """
    text = text[-LONGEST:]
    if _FINAL_CHANNEL.match(text):
        text = _FINAL_CHANNEL.sub("", text, count=1)
    text = _ANY_CHANNEL.sub("", text)
    text = _BARE_CHANNEL.sub("", text)
    text = _REASONING.sub(" ", text)
    text = _CLOSED_REASONING.sub(" ", text)
    text = _OPEN_REASONING.sub(" ", text)
    return _SPECIAL.sub(" ", text).strip()


_TAGS = re.compile(r"<(answer|final_answer|final|choice|option|response)>(.*?)</\1>", re.S | re.I)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_JSON_KEY = re.compile(r"[\"'](\w[\w ]{0,20})[\"']\s*:\s*")
_FENCE = re.compile(r"```[\w+-]*\n?|~~~[\w+-]*\n?")
_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "`": " "}
)


def fold(text: str) -> str:
    """Return the text in compatibility form and lower case, with plain quotes."""
    folded = unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold().translate(_QUOTES)
    return "".join(ch for ch in folded if unicodedata.category(ch) not in ("Cf", "Mn") or ch == "\u0307")


def clean(text: str) -> str:
    """Return the text without markup, folded, with one space between words and one line per line."""
    text = _TAGS.sub(r"\nanswer: \2\n", text)
    text = _LATEX_TEXT.sub(r"\1", text)
    text = _BOXED.sub(r"\nfinal answer: \1\n", text)
    text = _JSON_KEY.sub(r"\n\1: ", text)
    text = _FENCE.sub("\n", text)
    text = re.sub(r"\\[\[\]()]|\$+", " ", text)
    text = re.sub(r"</?[a-zA-Z][^<>]{0,80}>", " ", text)
    text = fold(text)
    text = re.sub(r"\*+|(?<!\w)_+|_+(?!\w)|^\s*#+\s*|^\s*>+\s*|~~", " ", text, flags=re.M)
    text = re.sub(r"\s*[\u2013\u2014]\s*", " - ", text)
    text = re.sub(r'"', " ", text)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


# --- Find options -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mention:
    """An option found in the text, from `start` to `end`."""

    option: int
    start: int
    end: int
    rule: str
    negated: bool = False


_SENTENCE_END = re.compile(r"[.!?;。！？；]+(?=\s|$|[^\w\s])|[。！？；]|\n")
_LIST_MARK = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|[-•*·])\s+", re.M)


class _Reader:
    """Reads one answer."""

    def __init__(self, options: tuple[str, ...], form: ReadingForm, rules: ReaderRules) -> None:
        self.rules = rules
        self.form = form
        self.options = tuple(clean(option).strip(" .!:;,") for option in options)
        self.names = self._names()
        self.letters = len(options) if form in ("letter", "agreement") else 0
        yes_no = [self._yes_no(option) for option in self.options]
        self.yes_no = tuple(yes_no) if {"yes", "no"} <= set(yes_no) else ()

    # Words of the options

    def _names(self) -> list[tuple[str, int]]:
        """Pair every wording of an option with its index. Wordings that two options share are left out."""
        found: dict[str, set[int]] = {}
        for index, option in enumerate(self.options):
            for wording in {option, self._without_article(option)}:
                if wording:
                    found.setdefault(wording, set()).add(index)
        unique = [(name, next(iter(indices))) for name, indices in found.items() if len(indices) == 1]
        return sorted(unique, key=lambda pair: -len(pair[0]))

    def _without_article(self, option: str) -> str:
        first, _, rest = option.partition(" ")
        return rest if rest and first in self.rules.articles else option

    def _yes_no(self, option: str) -> str:
        return "yes" if option in self.rules.yes else "no" if option in self.rules.no else ""

    # The rules in their order

    def read(self, visible: str, plain: str) -> Reading:
        if self.form == "number":
            return self._read_number(plain)
        if self.form == "agreement":
            return self._read_agreement(plain)
        exact = [i for i, option in enumerate(self.options) if _letters_of(option) == _letters_of(plain)]
        if len(exact) == 1 and not self.letters:
            return Reading(exact[0], "read", plain, "exact")
        plain = self._without_echo(plain)
        for rule, segment in self._final_segments(plain):
            found = self._read_segment(segment, strict=False)
            if found is not None:
                return Reading(found.value, found.status, found.evidence, rule)
        opening = self._read_opening(plain)
        if opening is not None:
            return opening
        found = self._read_segment(plain, strict=True)
        if found is not None:
            return found
        return Reading(None, "unreadable", "", "no_option")

    def _without_echo(self, plain: str) -> str:
        """Drop a repeated list of options, if more follows."""
        if self.form != "letter":
            return plain
        lines = plain.split("\n")
        echoes = [line for line in lines if self._is_echo(line)]
        rest = [line for line in lines if line not in echoes]
        return "\n".join(rest) if len(set(echoes)) > 1 and rest else plain

    def _is_echo(self, line: str) -> bool:
        marked = re.match(r"^\W*([a-z])\s*[).:\]-]\s*(.+?)\W*$", line)
        if marked is None or LETTERS.index(marked[1]) >= len(self.options):
            return False
        return marked[2].strip() == self.options[LETTERS.index(marked[1])]

    # Final answers

    def _final_segments(self, plain: str) -> Iterable[tuple[str, str]]:
        """Yield what follows each phrase that names the answer: strong phrases first, the last one first."""
        for rule, phrases in (("final_answer", self.rules.final_strong), ("choice", self.rules.final_weak)):
            if not phrases:
                continue
            pattern = self._any(phrases)
            for found in reversed(list(re.finditer(pattern, plain))):
                if rule == "final_answer" and not self._announces(plain, found):
                    continue
                segment = self._after(plain, found.end())
                if segment and not self._is_negated_phrase(plain, found.start()):
                    yield rule, segment

    def _announces(self, plain: str, found: re.Match[str]) -> bool:
        """Whether a word like `answer` is followed by a colon, a link or nothing else in its line."""
        rest = plain[found.end() :]
        if re.match(r"\s*(?:[:=\-]|\n|\()", rest):
            return True
        if re.match(r"\s*(?:is|was|are|would|will|has|must|should|might|'s|'d)(?!\w)", rest):
            return True
        return bool(self._links and re.match(rf"\s*(?:{self._links})", rest)) or not rest.strip()

    def _is_negated_phrase(self, plain: str, start: int) -> bool:
        before = plain[max(0, start - 25) : start].split("\n")[-1]
        return (
            bool(re.search(r"(?:not|n't|never|no|cannot)\s*(?:\w+\s*)?$", before))
            if self.rules.negators
            else False
        )

    @cached_property
    def _links(self) -> str:
        return self._any(self.rules.final_links) if self.rules.final_links else ""

    def _after(self, plain: str, start: int) -> str:
        """Return the sentence that follows, without links such as `is`."""
        rest = plain[start:].lstrip(" \n:=-,.(")
        while True:
            link = re.match(rf"(?:{self._links})[\s:,]*", rest) if self._links else None
            if link is None or not link[0]:
                break
            rest = rest[link.end() :].lstrip(" \n:=-,(")
        end = _SENTENCE_END.search(rest, 1)
        if end is not None and re.fullmatch(r"\W*[a-z]\W*", rest[: end.end()]):
            following = _SENTENCE_END.search(rest, end.end() + 1)  # "B. a nurse": the words belong to it
            end = following if following is not None and "\n" not in rest[end.start() : end.end()] else end
        return rest[: end.start()] if end is not None else rest

    # One segment of the answer

    def _read_segment(self, segment: str, *, strict: bool) -> Reading | None:
        """Read one stretch of text. `None` means that it names no option.

        Args:
            segment: The text.
            strict: Whether a letter needs a mark or a name. At the start of a final answer it needs none.
        """
        head = self._before_reason(segment)
        if head != segment:
            found = self._read_segment(head, strict=strict)
            if found is not None:
                return found
        words = self._word_mentions(segment)
        kept = {m.option for m in words if not m.negated}
        letters = self._letter_mentions(segment, strict=strict) if self.letters else []
        named = {m.option for m in letters if not m.negated}
        if len(kept) == 1:
            return self._reading(segment, next(m for m in words if not m.negated))
        if len(kept) > 1:
            leading = [m for m in letters if not m.negated and m.rule == "letter_leading"]
            if len({m.option for m in leading}) == 1 and len(named) == 1 and not strict:
                return self._reading(segment, leading[0])
            return Reading(None, "unreadable", segment[:80], "several_options")
        if len(named) == 1:
            return self._reading(segment, next(m for m in letters if not m.negated))
        if len(named) > 1:
            return Reading(None, "unreadable", segment[:80], "several_options")
        return None

    def _before_reason(self, segment: str) -> str:
        """Return what stands before a reason, as in `B, because the surgeon …`, if it is one sentence."""
        if not self.rules.reasons or _SENTENCE_END.search(segment.rstrip(" .!?\n")):
            return segment
        found = re.search(self._any(self.rules.reasons), segment)
        return segment[: found.start()] if found is not None and segment[: found.start()].strip() else segment

    @staticmethod
    def _reading(segment: str, mention: _Mention) -> Reading:
        return Reading(mention.option, "read", segment[mention.start : mention.end], mention.rule)

    def _word_mentions(self, segment: str) -> list[_Mention]:
        """Find the options' own words, the longest first."""
        hidden = list(self._blank(segment, self.rules.idioms))
        mentions: list[_Mention] = []
        for name, option in self.names:
            for found in re.finditer(self.rules.boundary.format(re.escape(name)), "".join(hidden)):
                if self.yes_no and not self._is_yes_no_answer(segment, found, option):
                    continue
                if self.form == "letter" and len(name) == 1 and name.isascii():
                    continue
                hidden[found.start() : found.end()] = "\0" * len(found[0])
                negated = self._is_negated(segment, found.start(), found.end())
                mentions.append(_Mention(option, found.start(), found.end(), "option_words", negated))
        return sorted(mentions, key=lambda m: m.start)

    def _blank(self, segment: str, phrases: Sequence[str]) -> str:
        """Hide phrases in which a word is not an option."""
        for phrase in phrases:
            if any(phrase == name for name, _ in self.names):
                continue
            segment = re.sub(
                self.rules.boundary.format(re.escape(phrase)), lambda m: "\0" * len(m[0]), segment
            )
        return segment

    def _is_yes_no_answer(self, segment: str, found: re.Match[str], option: int) -> bool:
        """Whether `no` is an answer, not a determiner as in `no reason`."""
        if self.yes_no[option] != "no" or not self.rules.no_followers:
            return True
        rest = segment[found.end() :]
        if not rest.strip() or not re.match(r"\s*\w", rest):
            return True
        word = re.match(r"\s*([\w']+)", rest)
        return word is not None and word[1] in self.rules.no_followers + self.rules.coordinators

    def _letter_mentions(self, segment: str, *, strict: bool) -> list[_Mention]:
        """Find letters of options that cannot be articles, list marks or parts of words."""
        last = LETTERS[self.letters - 1]
        letter = rf"[a-{last}]"
        text = _LIST_MARK.sub(lambda m: " " * len(m[0]), segment)
        patterns = [
            ("letter_alone", rf"(?:^|(?<=[\n.!?;]))[\s(\[]*({letter})[)\]]?\s*(?=$|\n|[.!?,;](?:\s|$))"),
            (
                "letter_marked",
                rf"[(\[]\s*({letter})\s*[)\]]|(?:(?<=^)|(?<=[\s\n]))({letter})(?:\)|\.(?=\s|$)|:)",
            ),
        ]
        copula = r"(?:is|was|seems|fits|looks|sounds|makes|would|appears|because|since)"
        patterns.append(("letter_subject", rf"(?:^|(?<=[\n.!?;,] )|(?<=\n))({letter})\s+{copula}(?!\w)"))
        if self.rules.letter_names:
            names = self._any(self.rules.letter_names)
            patterns.append(
                ("letter_named", rf"(?:{names})\s*:?\s*[(\[]?\s*({letter})[)\]]?(?![\w'])(?!\s+\w+ing\b)")
            )
        if not strict:
            patterns.insert(0, ("letter_leading", rf"^\W*({letter})(?![\w'])"))
        mentions: dict[int, _Mention] = {}
        for rule, pattern in patterns:
            for found in re.finditer(pattern, text):
                group = next(i for i in range(1, (found.re.groups or 1) + 1) if found.group(i))
                start, end = found.start(group), found.end(group)
                if rule in ("letter_named", "letter_leading") and self._is_article(text, start, end):
                    continue
                if start in mentions:
                    continue
                negated = self._is_negated(segment, start, end)
                mentions[start] = _Mention(LETTERS.index(text[start:end]), start, end, rule, negated)
        self._add_coordinated(text, segment, letter, mentions)
        return sorted(mentions.values(), key=lambda m: m.start)

    def _add_coordinated(self, text: str, segment: str, letter: str, mentions: dict[int, _Mention]) -> None:
        """Find letters that are joined to a found one: `A or B`, `A/B`, `A and B`."""
        if not self.rules.coordinators:
            joins = r"/|&|,"
        else:
            joins = "|".join([self._any(self.rules.coordinators), "/", "&", ","])
        negations = self._any((*self.rules.contrasts, "not")) if self.rules.contrasts else "not"
        join = rf"\s*[)\]]?\s*(?:,?\s*(?:{joins}))\s*(?:{negations}\s+)?[(\[]?\s*({letter})(?![\w'])"
        for mention in list(mentions.values()):
            found = re.compile(join).match(text, mention.end)
            if found is not None and found.start(1) not in mentions:
                start, end = found.start(1), found.end(1)
                if self._is_article(text, start, end):
                    continue
                mentions[start] = _Mention(
                    LETTERS.index(found[1]),
                    start,
                    end,
                    "letter_joined",
                    self._is_negated(segment, start, end),
                )
        before = rf"(?<![\w'])({letter})\s*[)\]]?\s*(?:{joins})\s*[(\[]?\s*$"
        for mention in list(mentions.values()):
            head = text[: mention.start]
            found = re.search(before, head)
            if found is not None and found.start(1) not in mentions:
                start, end = found.start(1), found.end(1)
                mentions[start] = _Mention(
                    LETTERS.index(found[1]),
                    start,
                    end,
                    "letter_joined",
                    self._is_negated(segment, start, end),
                )

    def _is_article(self, text: str, start: int, end: int) -> bool:
        """Whether the letter is an article: `a nurse`. Also `i` as a pronoun."""
        letter = text[start:end]
        followed = re.match(r"\s+([\w'-]+)", text[end:])
        if followed is None:
            return False
        if letter in self.rules.articles or letter == "i":
            connectors = {
                "because",
                "since",
                "is",
                "as",
                "would",
                "seems",
                "but",
                "for",
                "and",
                "or",
                "over",
                "rather",
                "than",
                "instead",
                "not",
                "if",
                "fits",
                "was",
                "given",
                "here",
                "best",
                "to",
                "in",
            }
            return followed[1] not in connectors
        return False

    # Negation

    def _is_negated(self, segment: str, start: int, end: int) -> bool:
        """Whether an option is in the scope of a negation or a contrast, or is called wrong."""
        return self._negated_before(segment, start) or self._negated_after(segment, end)

    def _negated_before(self, segment: str, start: int) -> bool:
        rules = self.rules
        if not rules.negators:
            return False
        sentence = _SENTENCE_END.split(segment[:start])[-1]
        sentence = self._without_phrases(sentence, rules.not_negations)
        clause = self._last_clause(sentence)
        if not rules.word_boundaries:
            return any(clause.rstrip().endswith(word) or word in clause[-12:] for word in rules.negators)
        if re.search(self._any(rules.negators), clause):
            return True
        if re.search(r"n't(?!\w)", clause):
            return True
        near = " ".join(clause.split()[-4:])
        if rules.contrasts and re.search(self._any(rules.contrasts), near):
            return True
        return False

    def _last_clause(self, sentence: str) -> str:
        """Return the part of a sentence that a negation before the option would have to be in."""
        ends = self.rules.clause_ends
        cut = 0
        if ends:
            for found in re.finditer(self._any(ends), sentence):
                cut = max(cut, found.start() if " " in found[0] or "'" in found[0] else found.end())
        for found in re.finditer(r",(?!\d)|:| - ", sentence):
            if not self._continues_list(sentence[found.end() :]):
                cut = max(cut, found.end())
        return sentence[cut:]

    def _continues_list(self, rest: str) -> bool:
        """Whether what follows a comma is one more item of a list, not a new clause."""
        rest = rest.strip()
        if not rest:
            return False
        words = rest.split()
        return len(words) <= 4 and any(word in ("or", "nor") for word in words)

    def _negated_after(self, segment: str, end: int) -> bool:
        rules = self.rules
        rest = segment[end:]
        if not rules.wrong:
            return False
        wrong = self._any(rules.wrong)
        copula = r"(?:is|are|was|were|seems|would be|looks|sounds|'s|may be|might be)"
        if re.match(rf"[)\]]?\s*(?:\w+\s+)?{copula}\s+(?:\w+\s+)?(?:{wrong})", rest):
            return True
        return bool(
            re.match(
                r"[)\]]?\s*(?:is|are|was|were|does|do|would|should|can|could|will)\s*(?:not|n't)(?!\w)(?!\s+only)",
                rest,
            )
        ) or bool(
            re.match(
                r"[)\]]?\s*(?:isn't|aren't|wasn't|weren't|doesn't|don't|wouldn't|shouldn't|can't|cannot|couldn't|won't)(?!\w)",
                rest,
            )
        )

    def _without_phrases(self, text: str, phrases: Sequence[str]) -> str:
        return re.sub(self._any(phrases), " ", text) if phrases else text

    # The opening of an answer

    def _read_opening(self, plain: str) -> Reading | None:
        """Read an option at the very start, if no other option answers on its own later."""
        first = re.match(r"^[\s\W]*", plain)
        start = first.end() if first is not None else 0
        body = plain[start:]
        lettered = self._read_opening_letter(plain)
        if lettered is not None:
            return lettered
        candidates = [
            (name, option) for name, option in self.names if not (self.form == "letter" and len(name) == 1)
        ]
        candidates += self._yes_no_openings()
        for name, option in sorted(candidates, key=lambda pair: -len(pair[0])):
            found = re.match(self.rules.boundary.format(re.escape(name)), body)
            if found is None:
                continue
            rest = body[found.end() :]
            if not re.match(r"\s*(?:$|[.,!:;)\n]|-\s)", rest):
                continue
            if self._answers_again(rest, option):
                return Reading(None, "unreadable", body[:80], "several_options")
            return Reading(option, "read", name, "opening")
        return None

    def _read_opening_letter(self, plain: str) -> Reading | None:
        """Read a marked letter at the very start: `B`, `(B)`, `B.`, `B: a nurse`, `B, because …`."""
        if not self.letters:
            return None
        last = LETTERS[self.letters - 1]
        text = _LIST_MARK.sub(lambda m: " " * len(m[0]), plain)
        found = re.match(rf"^[\s(\[]*([a-{last}])(?![\w'])\s*([)\].:,-]|$|\n)", text)
        if found is None:
            return None
        option = LETTERS.index(found[1])
        rest = text[found.end() :]
        line = re.split(r"[\n]|(?<=[.!?])\s", rest.strip(), maxsplit=1)[0].strip(" .!?:;,)-")
        named = [index for name, index in self.names if line == name and len(name) > 1]
        if named and named[0] != option:
            return Reading(named[0], "read", line, "option_words")
        others = [m for m in self._letter_mentions(rest, strict=True) if m.option != option and not m.negated]
        if (
            others
            or self._answers_again(rest, option)
            or self._is_negated(text, found.start(1), found.end(1))
        ):
            return Reading(None, "unreadable", plain[:80], "several_options")
        return Reading(option, "read", found[1], "opening")

    def _yes_no_openings(self) -> list[tuple[str, int]]:
        found = []
        for option, kind in enumerate(self.yes_no):
            words = self.rules.yes + self.rules.yes_openings if kind == "yes" else ()
            words = self.rules.no + self.rules.no_openings if kind == "no" else words
            found += [(word, option) for word in words]
        return found

    def _answers_again(self, rest: str, option: int) -> bool:
        """Whether another option stands alone in a later clause: `Yes. Actually, no.`"""
        for clause in re.split(r"[.,!?:;()\n]| - ", rest):
            words = clause
            for filler in sorted(self.rules.fillers, key=len, reverse=True):
                words = re.sub(self.rules.boundary.format(re.escape(filler)), " ", words)
            words = " ".join(words.split())
            others = [(name, index) for name, index in self.names if index != option]
            if any(words == name for name, _ in others):
                return True
        joined = (
            re.match(rf"\s*,?\s*(?:{self._any(self.rules.coordinators)})\s*(.*)", rest)
            if self.rules.coordinators
            else None
        )
        others = [name for name, index in self.names if index != option]
        return joined is not None and joined[1].startswith((*others, *self.rules.negators))

    # Agreement and numbers

    def _read_agreement(self, plain: str) -> Reading:
        """Read a stance: the option itself, a final answer, what the first person says, or the only
        stance."""
        for name, option in self.names:
            if re.fullmatch(rf"\W*{re.escape(name)}\W*", plain):
                return Reading(option, "read", name, "exact")
        segments = [*self._final_segments(plain), ("first_person", self._first_person_part(plain))]
        for rule, segment in [*segments, ("agreement", plain)]:
            stances = self._stances(segment)
            if len(stances) == 1:
                return self._stance_reading(stances, rule)
        if not self._stances(plain):
            return self._read_letter(plain) or self._no_stance(plain)
        return self._no_stance(plain)

    def _read_letter(self, plain: str) -> Reading | None:
        """Read the letter of an option, or the first word of an answer such as `Yes, …`."""
        for rule, segment in self._final_segments(plain):
            found = self._read_segment(segment, strict=False)
            if found is not None:
                return Reading(found.value, found.status, found.evidence, rule)
        return self._read_opening(plain) or self._read_segment(plain, strict=True)

    def _stance_reading(self, stances: dict[str, str], rule: str) -> Reading:
        stance, words = next(iter(stances.items()))
        option = self._sides().get(stance)
        if option is None:
            return Reading(None, "unreadable", words, "no_such_option")
        return Reading(option, "read", words, rule)

    def _no_stance(self, plain: str) -> Reading:
        several = len(self._stances(plain)) > 1
        return Reading(
            None, "unreadable", plain[:80] if several else "", "several_options" if several else "no_option"
        )

    def _first_person_part(self, plain: str) -> str:
        """Return the clauses in which the model speaks of itself: `While some agree, I disagree`."""
        if not self.rules.first_person:
            return ""
        clauses = re.split(r"(?<=[.!?;,:\n])\s*", plain)
        return " ".join(c for c in clauses if re.search(self._any(self.rules.first_person), c))

    def _sides(self) -> dict[str, int]:
        """Map each stance to its option. A graded scale has no single option for a stance."""
        found: dict[str, list[int]] = {}
        for index, option in enumerate(self.options):
            stances = self._stances(option) or self._yes_no_stance(option)
            if len(stances) == 1:
                found.setdefault(next(iter(stances)), []).append(index)
        return {stance: indices[0] for stance, indices in found.items() if len(indices) == 1}

    def _yes_no_stance(self, option: str) -> dict[str, str]:
        kind = self._yes_no(option)
        return {"agree": option} if kind == "yes" else {"disagree": option} if kind == "no" else {}

    def _stances(self, text: str) -> dict[str, str]:
        """Return the stances that a text takes, with their words. A negation turns one into the other."""
        rules = self.rules
        if rules.agreement_breakers and re.search(self._any(rules.agreement_breakers), text):
            neutral = re.search(self._any(rules.neutral), text) if rules.neutral else None
            rest = self._without_phrases(text, rules.agreement_breakers)
            stances = {} if neutral else self._stances(rest)
            halves = re.search(self._any(rules.halves), text) if rules.halves else None
            if len(stances) == 1 and halves is None:
                return stances
            return {"neutral": neutral[0]} if neutral else {"agree": "", "disagree": ""}
        found: dict[str, str] = {}
        hidden = text
        for stance, phrases in (
            ("neutral", rules.neutral),
            ("disagree", rules.disagree),
            ("agree", rules.agree),
        ):
            if not phrases:
                continue
            for match in list(re.finditer(self._any(phrases), hidden)):
                negated = stance != "neutral" and self._negated_before(text, match.start())
                turned = {"agree": "disagree", "disagree": "agree"}[stance] if negated else stance
                words = match[0]
                if negated:
                    words = text[max(0, match.start() - 12) : match.end()].strip()
                found.setdefault(turned, words)
                hidden = hidden[: match.start()] + "\0" * len(match[0]) + hidden[match.end() :]
        return found

    def _read_number(self, plain: str) -> Reading:
        named = [("number_named", self._after(plain, found.end())) for found in self._number_names(plain)]
        for rule, segment in [*self._final_segments(plain), *named]:
            values = self._numbers_in(self._before_reason(segment))
            if len(values) == 1:
                return Reading(values[0][0], "read", values[0][1], rule)
        lines = [line for line in plain.split("\n") if line.strip()]
        for segment, rule in ((lines[-1], "last_line"), (lines[0], "first_line"), (plain, "number")):
            values = self._numbers_in(segment)
            if len({value for value, _ in values}) == 1 and (
                rule == "number" or re.match(r"^\W*[-+]?[\d.,]+\W*$", segment)
            ):
                return Reading(values[0][0], "read", values[0][1], rule)
        return Reading(None, "unreadable", plain[:80] if self._numbers_in(plain) else "", "no_single_number")

    def _number_names(self, plain: str) -> list[re.Match[str]]:
        names = self.rules.number_names
        return list(reversed(list(re.finditer(self._any(names), plain)))) if names else []

    def _numbers_in(self, text: str) -> list[tuple[float, str]]:
        """Find numbers. `7 out of 10` is 7; a range is two numbers."""
        total = self._any(self.rules.of_total) if self.rules.of_total else "/"
        text = re.sub(
            rf"((?<![\w.,])[-+]?\d+(?:[.,]\d+)?)\s*(?:{total}|/)\s*\d+(?:[.,]\d+)?(?!\w)", r"\1", text
        )
        found = [
            (self._value(match[0]), match[0])
            for match in re.finditer(r"(?<![\w.,])[-+]?\d+(?:[.,]\d+)*(?![\w])", text)
        ]
        if not found and self.rules.numbers:
            words = re.finditer(self._any(tuple(self.rules.numbers)), text)
            found = [(float(self.rules.numbers[match[0]]), match[0]) for match in words]
        return found

    def _value(self, digits: str) -> float:
        """Return the value of a number with the marks of the language."""
        decimal, thousands = (",", ".") if self.rules.decimal_comma else (".", ",")
        if re.fullmatch(
            rf"[-+]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(decimal)}\d+)?", digits
        ):
            digits = digits.replace(thousands, "")
        digits = digits.replace(",", ".")
        if digits.count(".") > 1:
            digits = digits.replace(".", "")
        return float(digits)

    def _any(self, phrases: Sequence[str]) -> str:
        """Return a pattern for any of the phrases, the longest first, cached by content."""
        return _pattern(tuple(phrases), self.rules.word_boundaries)


def _letters_of(text: str) -> str:
    """Return a text without marks, so that `st. louis` equals `st louis`."""
    return " ".join(re.sub(r"[.,!?:;'\"-]", "", text).split())


_PATTERNS: dict[tuple[tuple[str, ...], bool], str] = {}


def _pattern(phrases: tuple[str, ...], boundaries: bool) -> str:
    key = (phrases, boundaries)
    if key not in _PATTERNS:
        parts = []
        for phrase in sorted(phrases, key=len, reverse=True):
            escaped = re.escape(phrase).replace(r"\ ", r"\s+")
            left = r"(?<![\w])" if boundaries and re.match(r"\w", phrase) else ""
            right = r"(?!\w)" if boundaries and re.search(r"\w$", phrase) else ""
            parts.append(left + escaped + right)
        _PATTERNS[key] = "(?:" + "|".join(parts) + ")"
    return _PATTERNS[key]
