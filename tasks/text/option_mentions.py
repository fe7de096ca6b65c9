"""Find the mentions of options in an answer, by their words and letters."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.text.answer_text import (
    CAPITAL,
    LONGEST,
    bare,
    clean,
)
from tasks.text.final_answers import AnswerReader
from tasks.text.reader_rules import (
    LETTERS,
    MOST_MENTIONS,
    SHORTEST_INFLECTED,
    ReaderRules,
    alternatives,
    phrase_pattern,
)


@dataclass(frozen=True)
class Mention:
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


def is_inside(position: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a position is in one of the sorted spans, as the letter in `Response B` is."""
    at = bisect_right(spans, (position, LONGEST)) - 1
    return at >= 0 and spans[at][0] <= position < spans[at][1]


SHORTEST_NAME = 3
"""Letters of a first or last name that stands for an option."""
_FULL_NAME = re.compile(r"(?:[^\W\d_a-z][\w'’-]*\.?\s){1,3}[^\W\d_a-z][\w'’-]+")
AFTER_OPTION = r"[)\]]*\s?[:=-]?\s?"
BY_WORDS = ("option_words", "unknown_words")
"""Rules of mentions by words. Words such as `not enough information` hold their own negation."""
_LETTER = r"(?<![a-zß-ɏ0-9_'])(?<![a-z0-9][-&/+@#])([a-{last}])(?![a-zß-ɏ0-9_'+#])(?![-&/@][a-z0-9])"


class MentionFinder(AnswerReader):
    """Finds the options that a text mentions."""

    def __init__(self, options: Sequence[str], form: str, rules: ReaderRules) -> None:
        super().__init__(rules)
        self.form = form
        self.options = tuple(bare(clean(option)) for option in options)
        self.are_people = self._are_people(options)
        self.kinds = tuple(self._yes_no(option) for option in self.options)
        self.is_yes_no = {"yes", "no"} <= set(self.kinds)
        self.letter = ""
        if options and (form in ("letter", "agreement") or self._ends_in_letters()):
            self.letter = _LETTER.format(last=LETTERS[min(len(options), 26) - 1])

    def _ends_in_letters(self) -> bool:
        """Whether the options are `Response A`, `Response B` and perhaps one without a letter: `Tie`."""
        ends = [re.fullmatch(r"(?:.*\w )?([a-z])", option) for option in self.options]
        named = [(i, end[1]) for i, end in enumerate(ends) if end is not None]
        return len(named) > 1 and len(named) >= len(ends) - 1 and all(LETTERS.find(x) == i for i, x in named)

    def _are_people(self, options: Sequence[str]) -> bool:
        """Whether all options, apart from an unknown one, are names such as `Ana Ruiz` or `Mr. Ruiz`."""
        unknown = self.rules.pattern("unknown")
        named = [o for o, folded in zip(options, self.options, strict=True) if not unknown.search(folded)]
        return len(named) > 1 and all(_FULL_NAME.fullmatch(option.strip()) for option in named)

    def _name_words(self, option: str) -> set[str]:
        """Return the names of a person that no other option has, such as `ana` and `ruiz` for `Ana Ruiz`."""
        if not self.are_people:
            return set()
        others = {word for other in self.options if other != option for word in other.split()}
        words = {word for word in option.split() if word.isalpha() and len(word) >= SHORTEST_NAME}
        return words - others - self.rules.single_words

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
            wordings |= self._name_words(option) | self._gerunds(option)
            wordings |= {prefix + option for prefix in self.rules.article_prefixes}
            wordings |= {
                f"{verb} {pronoun}" for verb in self._verbs(option) for pronoun in self.rules.object_pronouns
            }
            wordings |= {f"{verb} {form}" for verb in self.rules.passives for form in self._verbs(option)}
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
            words: index
            for place, index in self.rules.positions.items()
            for noun in self.rules.position_nouns + self.rules.place_nouns
            for words in (
                (f"{place} {noun}", f"{noun} {place}") if self.rules.word_boundaries else (place + noun,)
            )
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
        degrees = self.rules.pattern("negators", "intensifiers", "hedges", "comparatives")
        is_verb = article in self.rules.articles or degrees.search(verb) is None
        if not rest or not is_verb or self.form == "agreement" or any(other[2] != rest for other in others):
            return set()
        return (
            {verb, *self._participles(verb)} if len({other[0] for other in others}) == len(others) else set()
        )

    def _participles(self, option: str) -> set[str]:
        """Return the participles of an option that may be a verb, such as `denied` for `deny`."""
        is_stance = self.form == "agreement" and option in self.rules.agree + self.rules.disagree
        if not option.isalpha() or is_stance:
            return set()
        parted = {form for prefix in self.rules.verb_prefixes for form in self._parted(option, prefix)}
        if parted:
            return parted
        ending = next((end for end in self.rules.participles if end and option.endswith(end)), "")
        return {option.removesuffix(ending) + new for new in self.rules.participles.get(ending, ())}

    def _gerunds(self, option: str) -> set[str]:
        """Return `asking for a guarantor` for the option `ask for a guarantor`."""
        verb, _, rest = option.partition(" ")
        if not rest or not verb.isalpha() or not self.rules.gerund or verb in self.rules.articles:
            return set()
        stems = {verb, verb.removesuffix("e"), verb + verb[-1]}
        return {f"{stem}{self.rules.gerund} {rest}" for stem in stems}

    @staticmethod
    def _parted(option: str, prefix: str) -> set[str]:
        """Return the forms of a verb with a separable prefix, such as `lehne ... ab` for `ablehnen`."""
        stem = option.removeprefix(prefix).removesuffix("en")
        if len(prefix) + len(stem) + 2 != len(option) or len(stem) < SHORTEST_NAME:
            return set()
        forms = {f"{prefix}ge{stem}t", f"{prefix}ge{stem}en", f"{prefix}zu{stem}en"}
        return forms | {f"{stem}{ending} ... {prefix}" for ending in ("e", "t", "en")}

    def _inflections(self, option: str) -> set[str]:
        """Return the other genders and numbers of a single word, such as `gentille` for `gentil`.

        Short ones are left out, because they are also words of other meanings.
        """
        noun = self._without_article(option)
        if noun != option and noun.isalpha() and len(noun) >= SHORTEST_INFLECTED - 1:
            return {noun + ending for ending in self.rules.noun_endings}
        endings = [end for end in self.rules.inflections if option.endswith(end)]
        if not option.isalpha() or not endings:
            return set()
        ending = max(endings, key=len)
        forms = {option.removesuffix(ending) + new for new in self.rules.inflections[ending]}
        shortest = SHORTEST_INFLECTED - 1 if self.form == "word" else SHORTEST_INFLECTED
        return {form for form in forms if len(form) >= shortest}

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

    def _word_mentions(self, segment: str) -> list[Mention]:
        """Find the options' own words, the longest first."""
        idioms = tuple(idiom for idiom in self.rules.idioms if idiom not in self.names)
        hidden = phrase_pattern(idioms, self.rules.word_boundaries).sub(lambda m: "\0" * len(m[0]), segment)
        mentions: list[Mention] = []
        for name, option in self.names.items():
            if len(name) == 1 and ((self.letter and name.isascii()) or not self.rules.word_boundaries):
                continue  # a letter, or a character that is part of many words
            if not all(word in hidden for word in name.split(" ") if word != "..."):
                continue  # a pattern takes far longer to compile than words to find
            pieces, last = [], 0
            for found in re.finditer(self._name_pattern(name), hidden):
                if len(name) == 1 and self._is_word(segment, found.start(), found.end()):
                    continue  # options A and B, and an article
                if self.kinds[option] == "no" and self.is_yes_no and not self._is_no(segment, found.end()):
                    continue
                is_unknown = name in self.rules.unknown or name in self.rules.dont_know
                rule = "unknown_words" if is_unknown else "option_words"
                mentions.append(Mention(option, found.start(), found.end(), rule))
                pieces += [hidden[last : found.start()], "\0" * len(found[0])]
                last = found.end()
                if len(mentions) > MOST_MENTIONS:
                    return mentions
            hidden = "".join(pieces) + hidden[last:]
        return [*mentions, *self._unknown_mentions(hidden, segment)]

    def _unknown_mentions(self, hidden: str, segment: str) -> list[Mention]:
        """Find denials of an information, as in `the text never says who`, if one option is unknown."""
        if self._unknown_option is None or not self.rules.unknown_verbs:
            return []
        denials, verbs, nobodies = (
            self.rules.pattern(name).pattern for name in ("unknown_denials", "unknown_verbs", "nobodies")
        )
        found = [*re.finditer(rf"{denials}(?:\s[\w'-]+){{0,2}}?\s{verbs}", hidden)]
        found += re.finditer(rf"{nobodies}[^.,:;!?\n]{{0,80}}?\s{verbs}", segment)
        option = self._unknown_option
        return [Mention(option, m.start(), m.end(), "unknown_words") for m in found[:MOST_MENTIONS]]

    @cached_property
    def _unknown_option(self) -> int | None:
        """The only option such as `not enough information`."""
        unknown = [i for i, option in enumerate(self.options) if self.rules.pattern("unknown").search(option)]
        return unknown[0] if len(unknown) == 1 else None

    def _name_pattern(self, name: str) -> str:
        return (
            rf"(?<!\w)(?<!\w-)(?:{alternatives([name])})(?!\w)(?!-\w)"
            if self.rules.word_boundaries
            else re.escape(name)
        )

    def _is_no(self, segment: str, end: int) -> bool:
        """Whether `no` is an answer, not a determiner as in `no reason`."""
        word = re.match(r" ?([\w']+)", segment[end : end + 40])
        followers = self.rules.no_followers + self.rules.coordinators
        return word is None or not self.rules.no_followers or word[1] in followers

    # Letters

    def _letter_mentions(self, segment: str) -> list[Mention]:
        """Find letters of options that cannot be articles, list marks or parts of words."""
        mentions: list[Mention] = []
        if not self.letter:
            return mentions
        for found in re.finditer(self.letter, segment):
            rule = self._letter_rule(segment, found.start(), found.end())
            if rule:
                mentions.append(Mention(LETTERS.index(found[1]), found.start(), found.end(), rule))
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
        if segment[end : end + 1] == CAPITAL:
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
        following = re.sub(r"^\w+ly\s", "", after.lstrip(" ," + CAPITAL))
        if opens and self.rules.pattern("after_letter").match(following):
            return "letter_subject"
        return "possible"

    def _is_word(self, segment: str, start: int, end: int) -> bool:
        """Whether the letter is a word of the language: `a nurse`, `I think`."""
        if segment[start:end] not in self.rules.letter_words:
            return False
        rest = segment[end : end + 40].partition("\n")[0]
        if rest.startswith(CAPITAL):
            return False
        following = re.sub(r"^\w+ly\s", "", rest[1:])  # "A narrowly beats B"
        return re.match(r"\s[\w'-]", rest) is not None and not self.rules.pattern("after_letter").match(
            following
        )
