"""Read whether an answer agrees or disagrees."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise

from tasks.text.answer_text import CLAUSE_END, SENTENCE_END, bare, split
from tasks.text.option_mentions import Mention
from tasks.text.option_reader import OptionReader
from tasks.text.reader_rules import (
    LONGEST_CLAUSE,
    MOST_MENTIONS,
    MOST_SENTENCES,
    Reading,
    phrase_pattern,
    unreadable,
)


class AgreementReader(OptionReader):
    """Reads whether somebody agrees. A negation turns one stance into the other."""

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        if bare(plain) in self.names:
            return Reading(self.names[bare(plain)], "read", bare(plain), "alone")
        answers_itself = "?" in plain
        short = phrase_pattern(tuple(self.rules.contractions), self.rules.word_boundaries)
        plain = short.sub(lambda m: self.rules.contractions[m[0]], plain)
        reasons = self.rules.pattern("reason_labels").pattern
        plain = re.sub(rf"(?<=\w)([.;])\s{reasons}\s?:[^\n]*", r"\1", plain)
        plain = self._with_own_answers(self._listed.sub("", plain))
        plain = self._without_questions(self._without_courtesy(plain))
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
            return stance or named or self._read_neutral(plain) or unreadable("no_option")
        return stance if stance.value in (named.value, None) else unreadable("several_options", plain)

    def _read_neutral(self, plain: str) -> Reading | None:
        """Read the option between the two stances by its own words, as in `No opinion on that`."""
        for index in self.sides.get("neutral", ()):
            found = re.search(self._name_pattern(self.options[index]), plain)
            if found is not None and not self._negates(plain[: found.start()]):
                return Reading(index, "read", found[0], "option_words")
        return None

    def _with_own_answers(self, plain: str) -> str:
        """Take the stance of a question that the answer answers itself, as in `Do I agree? No.`"""
        words = phrase_pattern((*self.rules.yes, *self.rules.no), self.rules.word_boundaries).pattern
        sentences = list(split(plain, SENTENCE_END))
        for i, (question, reply) in enumerate(pairwise(sentences[:MOST_SENTENCES])):
            found = re.match(rf"\s?({words})\s?(?:[.,!\n]|$)", reply) if question.endswith("?") else None
            stance = self.rules.pattern("disagree").search(question) or self.rules.pattern("agree").search(
                question
            )
            own = self.rules.pattern("first_person").search(question)
            if found is None or stance is None or own is None or self._negates(question[: stance.start()]):
                continue
            turned = self.rules.negators[0] + " " if found[1] in self.rules.no else ""
            sentences[i] = f" {turned}{stance[0]}. "
            sentences[i + 1] = reply[found.end() :]
        return "".join(sentences)

    def _without_questions(self, plain: str) -> str:
        """Drop questions: `Agree?` is no stance."""
        sentences = [s for s in split(plain, SENTENCE_END) if not self._is_condition(s)]
        rest = [s for s in sentences if not s.endswith("?")]
        return "".join(rest if any(bare(s) for s in rest) else sentences)

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
        rest = set(range(len(self.options))) - {index for indices in found.values() for index in indices}
        if {"agree", "disagree"} <= found.keys() and "neutral" not in found and len(rest) == 1:
            found["neutral"] = list(rest)  # "Neither" between "Agree" and "Disagree"
        return found

    def _word_mentions(self, segment: str) -> list[Mention]:
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
            return unreadable("several_options", text)
        stance, words = next(iter(stances.items()))
        options = self.sides.get(stance, [])
        if len(options) > 1:
            options = [i for i in options if self._degree(self.options[i]) == self._degree(words)]
        if len(options) != 1:
            return unreadable("no_such_option", words)
        return Reading(options[0], "read", words, rule)

    def _degree(self, words: str) -> str:
        """Return `strong`, `weak` or nothing. A negated degree is none, unless the degree itself negates."""
        hidden = self.rules.pattern("not_negations").sub(lambda m: "\0" * len(m[0]), words)
        contrast = self.rules.pattern("contrasts").search(hidden)
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
        for sentence in islice(split(objects.sub(" ", text), SENTENCE_END), MOST_SENTENCES):
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
                    elif self._concedes(before):  # "As much as I would like to agree, I can't."
                        short = self._short_stance(sentence[match.end() :], self._turned(stance, clause))
                        if short:
                            taken.setdefault(short, sentence)
                    elif not self._is_compared(clause):
                        is_own = taken is not found or self._stance_names.search(match[0]) is not None
                        after = self._negated_after.match(sentence, match.end())
                        inner = ""
                        if stance == "agree" and self.rules.negators_after:  # "stimme in keiner Weise zu"
                            inner = self.rules.pattern("not_negations").sub(" ", match[0])
                        turned = self._turned(stance, f"{clause}{inner}{after[0] if after else ''}")
                        (taken if is_own else described).setdefault(turned, sentence)
                hidden = self.rules.pattern(stance).sub(lambda m: "\0" * len(m[0]), hidden)
        return found or limited | described or conceded

    @cached_property
    def _stance_names(self) -> re.Pattern[str]:
        """Pattern of the options' own words, without those of degree."""
        degrees = self.rules.pattern("intensifiers", "hedges")
        names = {" ".join(degrees.sub(" ", option).split()) for option in self.options}
        return phrase_pattern(tuple(sorted(names - {""})), self.rules.word_boundaries)

    @cached_property
    def _negated_after(self) -> re.Pattern[str]:
        """Pattern of a negator after its verb, as in `ich widerspreche dem nicht`."""
        words = phrase_pattern(self.rules.negators_after, self.rules.word_boundaries).pattern
        return re.compile(rf"\s(?:[^\W\d]+\s){{0,2}}?{words}")

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
            clauses = [bare(clause) for clause in split(sentence[-LONGEST_CLAUSE:], CLAUSE_END)]
            last = next((clause for clause in reversed(clauses) if clause), "")
            words = {last, self._without_fillers(last)}
            if words & set(self.rules.short_no):
                return opposite[of_others]
            if words & set(self.rules.short_yes):
                return of_others
        return ""

    def _turned(self, stance: str, clause: str) -> str:
        """Return a stance, or the other one if it is negated. A negated strong one is neither."""
        hard = self.rules.pattern("hardness")
        is_negated = self._negates(hard.sub(" ", clause)) != (hard.search(clause) is not None)
        if stance == "neutral" or not is_negated:
            return stance
        if self.rules.pattern("intensifiers").search(clause):
            return "neither"
        return {"agree": "disagree", "disagree": "agree"}[stance]
