"""The words of a language that the reader knows, its limits, and its result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, Literal

from tasks.text.answer_text import fold

ReadingForm = Literal["letter", "word", "option", "agreement", "number", "scale"]
"""`letter`: the letter of an option; `word`: yes, no or another fixed word; `option`: the option's own text;
`agreement`: agree or disagree; `number`: a number; `scale`: a point of a scale, in numbers or words."""
ReadingStatus = Literal["read", "unreadable", "refused", "empty"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
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
    would_be: tuple[str, ...] = ()
    """Conditional verbs after the name of an answer, such as `would be`. A later turn wins over it."""
    has_first_verbs: bool = False
    """Whether a verb of an opinion may come before its subject."""
    comparative_endings: tuple[str, ...] = ()
    """Endings of comparative adjectives, such as `er` of `nervöser`."""
    noun_endings: tuple[str, ...] = ()
    """Endings of the cases of a noun, such as `en` of `Patienten`."""
    copulas: tuple[str, ...] = ()
    """Verbs between subject and option, such as `is`."""
    choice_subjects: tuple[str, ...] = ()
    """Subjects of a choice, such as `i`. With a verb they open an answer, as in `I will have to say`."""
    choice_links: tuple[str, ...] = ()
    """Words between subject and verb, such as `would`."""
    choice_verbs: tuple[str, ...] = ()
    """Verbs of a choice, such as `go with`."""
    corrections: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    """Verbs that reject an option and open like a choice, such as `take back`."""
    retractions: tuple[str, ...] = ()
    """Sentences that take back everything before them, such as `wait`."""
    aspects: tuple[str, ...] = ()
    """Openings that limit an answer to one respect, such as `legally`. Two of them are no single answer."""
    new_topics: tuple[str, ...] = ()
    """Labels of the text of a new question, such as `next sentence`. An answer with a label follows."""
    new_turns: tuple[str, ...] = ()
    """Labels of a new question after the answer, such as `question`."""
    fillers: tuple[str, ...] = ()
    """Words that may surround an option that is alone in its clause."""
    undecided: tuple[str, ...] = ()
    """Words of an answer that decides for no option, such as `both`."""
    torn: tuple[str, ...] = ()
    """Phrases of somebody who cannot decide between options, such as `i'm torn`."""
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
    negators_after: tuple[str, ...] = ()
    """Negators that follow a verb, such as `nicht` in `ich widerspreche nicht`."""
    negators: tuple[str, ...] = ()
    hardness: tuple[str, ...] = ()
    """Words that negate a stance, and turn a negated one back, such as `hard`."""
    denials: tuple[str, ...] = ()
    """Negations of a verb, which turn `guilty` into the option `not guilty`."""
    not_negations: tuple[str, ...] = ()
    """Phrases that hold a negator and negate nothing."""
    contrasts: tuple[str, ...] = ()
    """Words before the option that was not chosen, such as `rather than`."""
    comparatives: tuple[str, ...] = ()
    """Openings of a comparison, such as `more`."""
    less: tuple[str, ...] = ()
    """Words before a property of which the first side of a comparison has less, such as `less`."""
    contrasting: tuple[str, ...] = ()
    """Words between two sides that both have a merit, such as `while`."""
    like: tuple[str, ...] = ()
    """Words before the other side of `not as good as`."""
    as_good: tuple[str, ...] = ()
    """Openings of a comparison of equals, such as `as good as`."""
    merits: tuple[str, ...] = ()
    """Properties that speak for an option, such as `likely`."""
    suits: tuple[str, ...] = ()
    """Verbs of a merit, such as `fits` in `A fits less than B`."""
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
    possessions: tuple[str, ...] = ()
    """Verbs before a merit that is a part of an option, as in `A has the best grades`."""
    right: tuple[str, ...] = ()
    """Words that confirm the option before them."""
    coordinators: tuple[str, ...] = ()
    positions: dict[str, int] = field(default_factory=dict)
    place_nouns: tuple[str, ...] = ()
    """Nouns after a place that is an answer only if it is alone, as in `the first sentence`."""
    pair_positions: dict[str, int] = field(default_factory=dict)
    """Names for the first and second of exactly two options, such as `the latter`."""
    """Words for the place of an option in the list, such as `first`."""
    position_nouns: tuple[str, ...] = ()
    """Words after a place, such as `option`."""
    verb_prefixes: tuple[str, ...] = ()
    """Separable prefixes of verbs, such as `ab` of `ablehnen`."""
    gerund: str = ""
    """Ending of a gerund, such as `ing`."""
    passives: tuple[str, ...] = ()
    """Verbs before a participle, as in `bail should be denied` for `deny bail`."""
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
    has_last_verbs: bool = False
    """Whether such a verb may follow the option, as in `viele würden A sagen`."""
    crowds: tuple[str, ...] = ()
    """Openings of a group of other people, as in `most banks would deny`."""
    unlike: tuple[str, ...] = ()
    """Words for an option that does not belong, which a question may ask for, such as `unrelated`."""
    improper: tuple[str, ...] = ()
    """Words that call it improper to name an option, such as `racist`."""
    foils: tuple[str, ...] = ()
    """Names of an answer that is not the model's own, such as `stereotype`."""
    sources_of_others: tuple[str, ...] = ()
    """Words before such people or names, such as `according to`."""
    subordinators: tuple[str, ...] = ()
    """Words after a comma at which the scope of a negation does not end, such as `dass`."""
    separable: dict[str, str] = field(default_factory=dict)
    """Verbs that reject the option between them and their second part, such as `schließe` and `aus`."""
    rankings: tuple[str, ...] = ()
    """Names of a row of options, the best first, such as `ranking`."""
    preferences: dict[str, str] = field(default_factory=dict)
    """Verbs of a preference with the word before the other option, such as `prefer` and `to`."""
    impressions: tuple[str, ...] = ()
    """Words of a clause on a first impression, such as `at first`. Another option wins over it."""
    doubts: tuple[str, ...] = ()
    """Replies that mean no after a question, such as `i doubt it`."""
    unless: tuple[str, ...] = ()
    """Words that open an exception, such as `unless`. What follows its comma is asserted."""
    conditions: tuple[str, ...] = ()
    """Words that open a condition, such as `if`, or a remark on an answer, such as `calling`."""
    mine: tuple[str, ...] = ()
    """Words of a condition that only says who decides, such as `mine`."""
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
    numbers: dict[str, float] = field(default_factory=dict)
    halves: tuple[str, ...] = ()
    """Words after a number that add a half to it, such as `and a half`."""
    bounds: tuple[str, ...] = ()
    """Words before a number that is only a bound, such as `less than`."""
    bounds_after: tuple[str, ...] = ()
    """Words after such a number, such as `or more`."""
    grounds: tuple[str, ...] = ()
    """Words before a number that is a ground of the answer, such as `given`."""
    restatements: tuple[str, ...] = ()
    """Words before another form of a number, such as `i.e.`"""
    revisions: tuple[str, ...] = ()
    """Words before a number that replaces an earlier one, such as `raise that to`."""
    confidences: tuple[str, ...] = ()
    """Names of the confidence in an answer, whose number is not the answer."""
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
    scale_names: tuple[str, ...] = ()
    """Words after a range that is a scale, as in `the 1-7 scale`."""
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

    @cached_property
    def single_words(self) -> frozenset[str]:
        """All phrases of one word, which are no names."""
        values = [getattr(self, f.name) for f in fields(self)]
        return frozenset(word for value in values if isinstance(value, tuple) for word in value)

    def pattern(self, *names: str) -> re.Pattern[str]:
        """Return the pattern of the phrases of some fields. It matches nothing without phrases."""
        known = self._patterns.get(names)
        if known is None:
            phrases = tuple(phrase for name in names for phrase in getattr(self, name))
            known = self._patterns[names] = phrase_pattern(phrases, self.word_boundaries)
        return known

    @cached_property
    def _patterns(self) -> dict[tuple[str, ...], re.Pattern[str]]:
        """Patterns that were asked for. The phrases are many, and one answer asks for a hundred patterns."""
        return {}


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
    parts = [rf"(?<!\w)(?:{alternatives(words)})(?!\w)"] if words else []
    for phrase in others:
        left = r"(?<!\w)" if word_boundaries and re.match(r"\w", phrase) else ""
        right = r"(?!\w)" if word_boundaries and re.search(r"\w$", phrase) else ""
        parts.append(left + alternatives([phrase]) + right)
    return re.compile(f"(?:{'|'.join(parts)})" if parts else r"(?!)")


_GAP = r"(?:\s[\w,'-]+){0,4}?\s"
"""Up to four words. `fold` turns the one character `…` into three."""


def alternatives(phrases: Sequence[str]) -> str:
    parts = (
        _GAP.join(re.escape(part).replace(r"\ ", r"\s") for part in re.split(r"\s\.\.\.\s", phrase))
        for phrase in phrases
    )
    return "|".join(parts)


def unreadable(rule: str, evidence: str = "") -> Reading:
    return Reading(None, "unreadable", evidence[:80], rule)
