"""Recognise a refusal: an answer that declines and gives nothing else.

Phrases alone do not separate a refusal from advice such as "I can't recommend this enough". A refusal has a
structure: a first person, an inability or an unwillingness, and a task, at the start of
the answer. A reason or an offer may follow, but no answer. This module needs the standard library only,
because a copy of it is part of every release.

References:
    Röttger et al. (2024), XSTest, arXiv 2308.01263, on how simple phrase lists misjudge refusals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from tasks.text.answer_text import fold, remove_reasoning
from tasks.text.reader_rules import Reading

OPENING_SENTENCES = 3
"""A refusal begins in one of the first sentences."""
ANSWER_WORDS = 15
"""Words besides reasons and offers from which an answer was given after all."""
NO_ANSWER_WORDS = 45
"""The same if nothing in the answer names an option."""
FEW_WORDS = 5
"""The same for an answer that only the classifier takes for a refusal."""
SHORT_WORDS = 12
"""Words up to which an answer can be one of the phrases in `whole`."""
LONGEST_SENTENCE = 600
"""Characters of a sentence that are read."""
LONGEST_FEATURES = 45
"""Words of a sentence that the classifier reads."""
_TOKEN = re.compile(r"[\w']+|[.,!?;:]")
_SENTENCE = re.compile(r"(?<=[.!?。])\s+|(?<=。)|\n+")
_MARKUP = re.compile(r"[*#>~]+|(?<!\w)_+|_+(?!\w)")
_QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|(?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w)){0,300}'(?!\w)")


@dataclass(frozen=True)
class RefusalRules:
    """Words of one language from which a refusal is built. The files are in data/readers.

    `…` in a phrase matches up to five words, as in `kann … nicht`.
    """

    word_boundaries: bool = True
    subjects: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Other subjects. After one of them the inability is not the model's."""
    inability: tuple[str, ...] = ()
    impersonal: tuple[str, ...] = ()
    """Inability without a subject, such as `it would be inappropriate to`."""
    tasks: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    """Phrases that refuse without a task, such as `goes against my guidelines`."""
    whole: tuple[str, ...] = ()
    """Phrases that are a refusal if they are nearly the whole answer."""
    openers: tuple[str, ...] = ()
    """Words before an inability without a subject, such as `sorry`."""
    exceptions: tuple[str, ...] = ()
    """Phrases that look like a refusal and are none."""
    lacking: tuple[str, ...] = ()
    """Phrases for missing information, such as `without more information`. They do not refuse."""
    knowing: tuple[str, ...] = ()
    """Verbs of knowing, such as `determine`. After an inability and before a question they refuse nothing."""
    asked: tuple[str, ...] = ()
    """Words that open such a question, such as `who`."""
    opinionless: tuple[str, ...] = ()
    """Phrases for no opinion. Only a model that speaks of itself refuses with them."""
    selves: tuple[str, ...] = ()
    """Words with which a model speaks of itself, such as `as an ai`."""
    unwilling: tuple[str, ...] = ()
    """Words of an unwillingness, such as `won't`. With them a sentence on missing information refuses."""
    noes: tuple[str, ...] = ()
    """Words such as `no` that open an answer or a refusal."""
    answering: tuple[str, ...] = ()
    """Words for the answer itself. `No, I can't answer that` refuses, `No, I can't approve it` does not."""
    identity: tuple[str, ...] = ()
    """Statements of a model on itself, such as `not an ai`. After `no` they refuse."""
    redirections: tuple[str, ...] = ()
    """Openings of an offer or a referral after a refusal."""
    reasons: tuple[str, ...] = ()
    """Beginnings of words of a sentence that explains a refusal."""
    turns: tuple[str, ...] = ()
    """Words such as `but`, after which an answer may begin."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further groups of words, which `clauses` combine."""
    clauses: tuple[tuple[str, ...], ...] = ()
    """Clauses that refuse: names of groups or fields in their order, such as `[policies, forbidding]`."""

    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each feature in a logistic regression, see `find_features`."""
    bias: float = 0.0
    threshold: float = math.inf
    """Score above which a sentence refuses."""

    @classmethod
    def of(
        cls, values: dict[str, Any], *, word_boundaries: bool = True, classifier: dict[str, Any] | None = None
    ) -> RefusalRules:
        """Make rules from the `refusal` section of a file, and a classifier from `weights/`.

        Raises:
            ValueError: If a key is unknown.
        """
        known = {f.name for f in fields(cls)} - {"word_boundaries", "weights", "bias", "threshold"}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown keys in `refusal`: {', '.join(unknown)}")
        structured = ("groups", "clauses")
        words: dict[str, Any] = {name: _fold_all(v) for name, v in values.items() if name not in structured}
        groups = {str(name): _fold_all(value) for name, value in values.get("groups", {}).items()}
        clauses = tuple(tuple(map(str, clause)) for clause in values.get("clauses", ()))
        names = known - {*structured} | set(groups)
        missing = sorted({name for clause in clauses for name in clause} - names)
        if missing:
            raise ValueError(f"unknown groups in `refusal.clauses`: {', '.join(missing)}")
        learned = {name: (classifier or {})[name] for name in ("weights", "bias", "threshold") if classifier}
        return cls(word_boundaries=word_boundaries, groups=groups, clauses=clauses, **words, **learned)

    def pattern(self, name: str) -> re.Pattern[str]:
        """Return the pattern of the phrases of a field or group. It matches nothing without phrases."""
        known = self._patterns.get(name)
        if known is None:
            phrases = self.groups[name] if name in self.groups else getattr(self, name)
            known = self._patterns[name] = _pattern(phrases, self.word_boundaries)
        return known

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        """Patterns that were asked for, by field or group."""
        return {}

    @cached_property
    def clause_patterns(self) -> tuple[re.Pattern[str], ...]:
        """One pattern per clause, with a group of the match for each group of words."""
        gap = r"(?:[\s,]+[\w'-]+){0,4}?[\s,]+" if self.word_boundaries else r"[^。!?]{0,10}?"
        return tuple(
            re.compile(gap.join(f"({self.pattern(name).pattern})" for name in clause))
            for clause in self.clauses
        )

    @cached_property
    def ignorance(self) -> re.Pattern[str]:
        """Pattern of an inability, a verb of knowing and a question."""
        inability, knowing, asked = (self.pattern(name).pattern for name in ("inability", "knowing", "asked"))
        gap = r"[^.!?]{0,40}?" if self.word_boundaries else r"[^。!?]{0,12}?"
        link = r"\s(?:\w+\s){0,2}?" if self.word_boundaries else ""
        return re.compile(f"{inability}{link}{knowing}{gap}{asked}")

    @cached_property
    def task_patterns(self) -> dict[str, re.Pattern[str]]:
        """Patterns of an inability before a task, for `inability` and `impersonal`."""
        gap = r"(?:[\s,]+[\w'-]+){0,5}?[\s,]+" if self.word_boundaries else r"[^,]{0,12}?"
        return {
            name: re.compile(rf"{self.pattern(name).pattern}(?={gap}{self.pattern('tasks').pattern})")
            for name in ("inability", "impersonal")
        }


def _fold_all(words: Iterable[Any]) -> tuple[str, ...]:
    return tuple(fold(str(word)) for word in words)


@cache
def _pattern(phrases: tuple[str, ...], word_boundaries: bool) -> re.Pattern[str]:
    if not phrases:
        return re.compile(r"(?!)")
    gap = r"(?:\s[\w,'-]+){0,5}?\s" if word_boundaries else r".{0,8}?"
    # `fold` turns the one character `…` into three.
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    words = "|".join(gap.join(map(re.escape, re.split(r"\s?\.\.\.\s?", phrase))) for phrase in ordered)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)" if word_boundaries else f"(?:{words})")


def find_refusal(text: str, rules: RefusalRules, answer_words: int = ANSWER_WORDS) -> str | None:
    """Return the sentence in which an answer refuses, or `None`.

    Args:
        text: The answer as the model gave it.
        rules: Words of the answer's language. Without words nothing is recognised.
        answer_words: Words besides reasons and offers from which an answer was given after all.

    Returns:
        The sentence, folded. `None` if the answer does not refuse, or gives an answer after it declined.
    """
    if not rules.inability:
        return None
    plain = _MARKUP.sub(" ", fold(remove_reasoning(text))).strip()
    is_quoted = plain.startswith('"') and plain.endswith('"') and plain.count('"') == 2
    plain = plain.strip('"') if is_quoted else _QUOTED.sub(" ", plain)
    sentences = [
        " ".join(s.split())[:LONGEST_SENTENCE] for s in _SENTENCE.split(plain) if re.search(r"\w", s)
    ]
    if not sentences:
        return None
    opening = [
        s
        for s in sentences[:OPENING_SENTENCES]
        if not _lacks_information(s, rules) and not _lacks_opinion(s, plain, rules)
    ]
    if not opening:
        return None
    declining = [s for s in opening if _declines(s, rules)]
    refusing = declining or [s for s in opening if _resembles(s, rules)]
    if not refusing:
        return _whole_refusal(" ".join(sentences[:OPENING_SENTENCES]), rules) if len(sentences) <= 2 else None
    given = [s for s in sentences if s not in refusing] + [_after_turn(s, rules) for s in refusing]
    length = sum(_length(s, rules) for s in given if not _explains(s, rules))
    return refusing[0] if length < (answer_words if declining else FEW_WORDS) else None


def _lacks_information(sentence: str, rules: RefusalRules) -> bool:
    """Whether a sentence only names missing information, as in `I can't say without more details`."""
    if rules.pattern("unwilling").search(sentence):
        return False
    return rules.pattern("lacking").search(sentence) is not None or _cannot_know(sentence, rules)


def _cannot_know(sentence: str, rules: RefusalRules) -> bool:
    """Whether somebody cannot find something out, as in `I can't determine who it was`."""
    if any(word in sentence for word in rules.reasons):
        return False
    return rules.ignorance.search(sentence) is not None


def _lacks_opinion(sentence: str, plain: str, rules: RefusalRules) -> bool:
    """Whether somebody who does not speak as a model has no opinion, as in `I have no opinion on this`."""
    return (
        rules.pattern("opinionless").search(sentence) is not None
        and rules.pattern("selves").search(plain) is None
        and rules.pattern("unwilling").search(sentence) is None
    )


def settle_refusal(reading: Reading, text: str, rules: RefusalRules, options: Sequence[str] = ()) -> Reading:
    """Return the reading of an answer, or `refused` if it declines instead of naming an option.

    Args:
        reading: The reading by its options.
        text: The answer as the model gave it.
        rules: Words of the answer's language.
        options: The options in the order shown.
    """
    most = ANSWER_WORDS if reading.evidence else NO_ANSWER_WORDS
    declined = find_refusal(text, rules, most) if reading.status == "unreadable" else None
    if reading.status == "read":
        declined = _refusal_after_no(text, rules)
        if declined is None and _says_no_answer(reading, options, rules):
            declined = find_refusal(text, rules)
    return Reading(None, "refused", declined, "refusal") if declined is not None else reading


def _says_no_answer(reading: Reading, options: Sequence[str], rules: RefusalRules) -> bool:
    """Whether words such as `can't answer` were read as an option that has other words."""
    return (
        reading.rule == "unknown_words"
        and rules.pattern("answering").search(reading.evidence) is not None
        and not any(reading.evidence in fold(option) for option in options)
    )


def _refusal_after_no(text: str, rules: RefusalRules) -> str | None:
    """Return the sentence after `no` if it speaks of answering or of the model, not of the question."""
    if not rules.noes:
        return None
    plain = _MARKUP.sub(" ", fold(remove_reasoning(text))).strip()
    found = re.match(rf"\W*{rules.pattern('noes').pattern}\s*[,.;:!，。、،-]+\s*", plain)
    if found is None:
        return None
    rest = plain[found.end() :]
    first, *others = [sentence[:LONGEST_SENTENCE] for sentence in _SENTENCE.split(rest)]
    if rules.pattern("identity").search(" ".join([first, *others[:1]])):
        return first
    return find_refusal(rest, rules) if rules.pattern("answering").search(first) else None


def _whole_refusal(text: str, rules: RefusalRules) -> str | None:
    """Return a short answer that is little more than a phrase such as `No comment`."""
    words = text.strip(" .!?…。")
    rest = " ".join(rules.pattern("whole").sub(" ", words).strip(" ,.!?").split())
    if rules.pattern("exceptions").search(words) or rules.pattern("others").search(rest):
        return None
    is_short = _length(words, rules) <= SHORT_WORDS
    spare = 0 if rules.pattern("inability").search(words) else 1  # "I cannot agree" is an answer
    return words if is_short and rest != words and _length(rest, rules) <= spare else None


def _declines(sentence: str, rules: RefusalRules) -> bool:
    """Whether a sentence holds subject, inability and task in this order, or refuses without a subject."""
    sentence = rules.pattern("exceptions").sub(" ~ ", sentence)
    if rules.pattern("statements").search(sentence):
        return True
    for name, pattern in rules.task_patterns.items():
        for found in pattern.finditer(sentence):
            if name == "impersonal" or _speaks_of_itself(sentence, found, rules):
                return True
    return any(_has_clause(sentence, clause, rules) for clause in rules.clause_patterns)


def _has_clause(sentence: str, clause: re.Pattern[str], rules: RefusalRules) -> bool:
    """Whether a sentence holds the groups of a clause in their order, and nobody else is its subject."""
    for found in clause.finditer(sentence):
        groups = range(1, clause.groups)
        between = " ".join(sentence[found.end(i) : found.start(i + 1)] for i in groups)
        if rules.pattern("others").search(between) is None:
            return True
    return False


def _speaks_of_itself(sentence: str, found: re.Match[str], rules: RefusalRules) -> bool:
    """Whether the model is the subject of an inability, or none is named, as in `Cannot help`."""
    before = sentence[: found.start()]
    subjects = [m.end() for m in rules.pattern("subjects").finditer(before)]
    if subjects:
        return rules.pattern("others").search(before[subjects[-1] :]) is None
    if rules.pattern("subjects").search(found[0]):
        return True
    if rules.pattern("others").search(found[0]):
        return False
    opening = rules.pattern("openers").sub(" ", before)
    return not re.search(r"\w", opening)


def _resembles(sentence: str, rules: RefusalRules) -> bool:
    """Whether the classifier takes a sentence for a refusal."""
    if not rules.weights:
        return False
    return score_refusal(rules.pattern("exceptions").sub("~", sentence), rules) > rules.threshold


def score_refusal(sentence: str, rules: RefusalRules) -> float:
    """Return the score of a folded sentence: the sum of its features' weights, divided by their norm."""
    known = [rules.weights[name] for name in find_features(sentence, rules) if name in rules.weights]
    return (sum(known) + rules.bias) / math.sqrt(len(known) + 1)


def find_features(sentence: str, rules: RefusalRules) -> set[str]:
    """Return the features of a folded sentence: words, pairs of words, and groups of the lexicon that occur.

    In a language without spaces, characters take the place of words.
    """
    if rules.word_boundaries:
        words = ["^", *_TOKEN.findall(sentence)[:LONGEST_FEATURES]]
        found = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
        found |= {f"{a} * {b}" for a, b in zip(words, words[2:], strict=False)}
    else:
        text = sentence[: 2 * LONGEST_FEATURES]
        found = {text[i : i + n] for n in (1, 2, 3) for i in range(len(text) - n + 1)}
    groups = ("subjects", "inability", "tasks", "redirections", "others")
    found |= {f"#{name}" for name in groups if rules.pattern(name).search(sentence)}
    if any(word in sentence for word in rules.reasons):
        found.add("#reasons")
    return found | {f"#length {min(6, _length(sentence, rules) // 6)}"}


def _explains(sentence: str, rules: RefusalRules) -> bool:
    """Whether a sentence offers something else, refers to somebody, gives a reason or declines again."""
    return (
        rules.pattern("redirections").search(sentence) is not None
        or any(word in sentence for word in rules.reasons)
        or _declines(sentence, rules)
    )


def _after_turn(sentence: str, rules: RefusalRules) -> str:
    """Return the text after `but` in a refusing sentence, unless the refusal itself does."""
    turns = list(rules.pattern("turns").finditer(sentence))
    return sentence[turns[-1].end() :] if turns else ""


def _length(text: str, rules: RefusalRules) -> int:
    """Words, or two characters per word in a language without spaces."""
    return len(text.split()) if rules.word_boundaries else len(text) // 2
