"""Weigh the mentions of options: negated, compared, supposed, conceded, confirmed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tasks.text.answer_text import (
    CAPITAL,
    CLAUSE_END,
    SENTENCE_END,
    bare,
    split,
)
from tasks.text.option_mentions import AFTER_OPTION, BY_WORDS, Mention, MentionFinder, is_inside
from tasks.text.reader_rules import (
    LONGEST_CLAUSE,
    MOST_MENTIONS,
    phrase_pattern,
)

LONGEST_LABEL = 7
"""Words of a label that calls what follows wrong, as in `The option that is wrong:`."""
SHORTEST_LABEL = 2
"""Words of a label that ends in a negator, as in `Answer not:`."""


class MentionWeigher(MentionFinder):
    """Decides what the mentions of options in a text mean."""

    def _mentions(self, segment: str) -> list[Mention] | None:
        """Find and weigh all mentions in their order. `None` if there are too many."""
        words = self._word_mentions(segment)
        spans = sorted((m.start, m.end) for m in words)
        letters = [m for m in self._letter_mentions(segment) if not is_inside(m.start, spans)]
        found = sorted([*words, *letters], key=lambda m: m.start)
        if len(found) > MOST_MENTIONS:
            return None
        ends = [0, *(m.end() for m in SENTENCE_END.finditer(segment)), len(segment)]
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
        weighed = self._weigh_sides(segment, weighed)
        weighed = self._weigh_less(segment, self._weigh_unknown(segment, self._weigh_soft(segment, weighed)))
        return self._weigh_groups(segment, self._weigh_turns(segment, weighed))

    def _weigh_soft(self, segment: str, mentions: list[Mention]) -> list[Mention]:
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

    def _is_soft(self, segment: str, mention: Mention) -> bool:
        """Whether the sentence of a mention opens softly, and does not turn before it."""
        opening = segment[max(0, mention.start - LONGEST_CLAUSE) : mention.start]
        before = list(split(opening, SENTENCE_END))[-1].lstrip(" ,")
        turns, impressions = self.rules.pattern("turns"), self.rules.pattern("impressions")
        if turns.search(before) is not None:
            return False
        if self.rules.pattern("soft_openings").match(before) is not None or impressions.search(before):
            return True
        after = next(split(segment[mention.end : mention.end + LONGEST_CLAUSE], CLAUSE_END))
        turn = turns.search(after)
        return impressions.search(after[: turn.start()] if turn else after) is not None

    def _weigh_sides(self, segment: str, mentions: list[Mention]) -> list[Mention]:
        """Let neither side count in `A is cheaper, while B is faster`."""
        weighed = list(mentions)
        links, more = (self.rules.pattern(name).pattern for name in ("contrasting", "comparatives"))
        merit = rf"(?:{more}\s|\w{{3,}}(?:er|ier)\s)"
        for i, (one, other) in enumerate(pairwise(mentions)):
            between = segment[one.end : other.start]
            is_firm = any(m.affirmed or m.committed or m.negated for m in (one, other))
            if one.option == other.option or is_firm or len(between) > LONGEST_CLAUSE:
                continue
            sides = re.fullmatch(rf"(?P<first>[^.!?\n]*),?\s{links}\s(?:[^\W\d]+\s)?[(\[]?", between)
            if sides is not None and re.search(merit, sides["first"] + " "):
                weighed[i : i + 2] = [replace(m, aside=True) for m in (one, other)]
        return weighed

    def _weigh_less(self, segment: str, mentions: list[Mention]) -> list[Mention]:
        """Weigh the sides of `A is less … than B`. A is the better one if it has less of a flaw.

        Neither is if the property is unknown, if A has more of a flaw, or if it is as good as B.
        """
        weighed = list(mentions)
        less, more, than, like, links = (
            self.rules.pattern(name).pattern
            for name in ("less", "comparatives", "than", "like", "final_links")
        )
        compared = re.compile(
            rf"[)\]]?\s(?:{links}\s)?(?:[\w']+\s){{0,2}}?(?:(?P<less>{less})|(?P<more>{more}))\s"
            rf"(?P<property>[^.,;:]{{1,40}}?)\s(?:{than}|{like})\s.{{0,15}}"
        )
        fits = self.rules.pattern("suits").pattern
        fitting = re.compile(rf"[)\]]?\s(?:[\w']+\s)?{fits}\s(?:\w+\s)?{less}\s(?:\w+\s)?{than}\s.{{0,15}}")
        equal = re.compile(
            rf"[)\]]?\s(?:{links}\s)(?:\w+\s)?{self.rules.pattern('as_good').pattern}\s.{{0,15}}"
        )
        for i, (one, other) in enumerate(pairwise(mentions)):
            between = segment[one.end : other.start]
            if one.option == other.option or len(between) > LONGEST_CLAUSE:
                continue
            if fitting.fullmatch(between):
                weighed[i : i + 2] = [replace(one, negated=True), replace(other, negated=False)]
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

    def _weigh_unknown(self, segment: str, mentions: list[Mention]) -> list[Mention]:
        """Affirm a sentence such as `It cannot be determined`, if other options are only talked about."""
        unknown = self._unknown_option
        if unknown is None or any(
            m.option != unknown and not m.negated and (m.affirmed or m.committed or m.rule not in BY_WORDS)
            for m in mentions
        ):
            return mentions
        return [
            replace(m, affirmed=True)
            if m.option == unknown
            and m.rule in BY_WORDS
            and not m.negated
            and self._is_verdict(segment, m)
            and not any(self._has_turn(segment[m.end : n.start]) for n in mentions if n.start > m.end)
            else m
            for m in mentions
        ]

    def _is_verdict(self, segment: str, mention: Mention) -> bool:
        """Whether a mention fills its sentence from the start, as in `So it cannot be determined who …`."""
        opening = segment[max(0, mention.start - LONGEST_CLAUSE) : mention.start]
        before = list(split(opening, SENTENCE_END))[-1]
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

    def _weigh_turns(self, segment: str, mentions: list[Mention]) -> list[Mention]:
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
            self.rules.pattern("appearances").match(between.lstrip(" )]" + CAPITAL)) is not None
            and SENTENCE_END.search(between) is None
            and self.rules.pattern("turns").search(between) is not None
        )

    def _weigh(self, mention: Mention, before: str, after: str, *, earlier: bool) -> Mention:
        tail = self._tail(after)
        if self.is_yes_no and self.rules.pattern("first_person").match(tail.lstrip()):
            tail = ""  # "No I would not"
        reason = earlier and (self._is_reason(before) or self._explains(before, tail))
        concedes = self._concedes(before)
        return replace(
            mention,
            negated=self._is_called_wrong(tail)
            or self._is_parted(before, tail)
            or (self.form == "word" and self._ends_with("both_sides", before.rstrip()))
            or (mention.rule != "unknown_words" and (self._negated_before(before) or self._rejects(tail))),
            affirmed=not self.is_yes_no
            and not concedes
            and not self._is_opinion_of_others(before, tail)
            and not self._negates(tail)
            and (self._confirms(tail) or self._confirms_later(after)),
            committed=self._is_committed(before),
            aside=reason
            or concedes
            or self._depends(after)
            or (earlier and self._is_supposed(before))
            or self._is_opinion_of_others(before, tail)
            or (
                self.rules.pattern("after_roles").match(after.lstrip(" ")) is not None
                and re.fullmatch(r"\s?as(?: any| every)?\s?", before) is not None
            ),
        )

    def _is_parted(self, before: str, tail: str) -> bool:
        """Whether both parts of a rejecting verb surround a mention, as in `ich schließe A aus`."""
        clause = self._last_clause(before)
        return any(
            re.search(rf"(?<!\w){verb}(?!\w)", clause) is not None
            and re.match(rf"\W*(?:[\w']+\s){{0,2}}{particle}(?!\w)", tail) is not None
            for verb, particle in self.rules.separable.items()
        )

    def _is_committed(self, before: str) -> bool:
        """Whether words such as `it is most likely a` lead up to a mention."""
        words = self._without_last_article(before.rstrip(" ([:"))
        links = self.rules.pattern("final_links", "letter_names").pattern
        found = re.search(rf"{self.rules.pattern('commitments').pattern}(?:\s?{links}){{0,3}}$", words)
        subject, modals = (self.rules.pattern(f"choice_{name}").pattern for name in ("subjects", "links"))
        is_own = (
            not self.is_yes_no and re.search(rf"(?<!\w){subject}(?:\s{modals}){{1,4}}$", words) is not None
        )
        return (found is not None or is_own or self._is_identified(words)) and self.rules.pattern(
            "conditions"
        ).search(before) is None

    def _is_identified(self, words: str) -> bool:
        """Whether a description such as `the one who was late is` leads up to a mention."""
        relative = self.rules.pattern("identified").search(words)
        link = re.search(rf"\s{self.rules.pattern('copulas').pattern}$", words)
        return relative is not None and link is not None and relative.end() < link.start()

    def _depends(self, after: str) -> bool:
        """Whether a condition follows an option at once, as in `it would be B if …`."""
        rest = after.lstrip(" )]" + CAPITAL)
        return (
            self.rules.pattern("conditions").match(rest) is not None
            and self.rules.pattern("pseudo_conditions", "final_weak", "remarks").match(rest) is None
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
        opening = bare(before[: found[0].start()]) if found else ""
        opens = len(found) == 1 and (not opening or self._ends_with("turns", opening))
        return bool(found) and not (opens and "," in before) and ":" not in before[found[-1].end() :]

    def _is_opinion_of_others(self, before: str, tail: str = "") -> bool:
        """Whether the clause of a mention reports an opinion, as in `some people would say A`."""
        clause = self._last_clause(before)
        opinions = self.rules.pattern("opinion_verbs")
        verbs = [m.start() for m in opinions.finditer(clause)]
        if verbs and self._is_of_others(clause if self.rules.has_first_verbs else clause[: verbs[-1]]):
            return True
        if self.rules.has_last_verbs and opinions.match(tail.lstrip(" )]")) and self._is_of_others(clause):
            return True
        crowds, modals, fillers, origins, people = (
            self.rules.pattern(name).pattern
            for name in ("crowds", "modals", "fillers", "sources_of_others", "others")
        )
        words = self._without_last_article(clause.rstrip())
        if re.search(rf"{crowds}\s(?:[\w'-]+\s){{0,2}}?{modals}(?:\s{fillers})?$", words):
            return True  # "most banks would deny"
        foils = self.rules.pattern("foils").pattern
        reported = rf"{origins}\s(?:[\w'-]+\s)?(?:{people}|{foils})"
        found = re.search(rf"{reported}(?:\s[\w'-]+)*,?(?:\s[\w'-]+)*\s?$", before)
        is_own = found is not None and self.rules.pattern("turns").search(found[0]) is not None
        return found is not None and not is_own

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
        openings, articles, links, negators, nouns = (
            self.rules.pattern(name).pattern
            for name in ("option_reasons", "articles", "copulas", "negators", "position_nouns")
        )
        reason = rf"\s{openings}\s(?:{articles}\s)?(?!{nouns})[\w'-]+\s(?:{links}|{negators})"
        end = re.search(f"{marks}|{reason}", after)
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
            or re.match(rf"{AFTER_OPTION}{near}{wrong}(?!-)", tail) is not None
        )

    def _rejects(self, tail: str) -> bool:
        """Whether an option is called wrong or is negated: `B is wrong`, `B does not fit`."""
        if self._is_called_wrong(tail):
            return True
        tail = self.rules.pattern("not_negations").sub(" ", tail)
        if self.rules.pattern("subjects_not").match(tail.lstrip(" ")):
            return False
        most = 4 if self.rules.negators_after else 2
        words = rf"(?:[\w']+\s){{0,{most}}}?" if self.rules.word_boundaries else r".{0,2}?"
        found = re.match(rf"{AFTER_OPTION}{words}{self.rules.pattern('negators').pattern}", tail)
        rest = tail[found.end() :].split() if found else []
        return found is not None and (
            tail.strip() == found[0].strip() or any(w not in self.rules.articles for w in rest)
        )

    def _is_labelled(self, tail: str, words: tuple[str, ...]) -> bool:
        """Whether an option in a list is followed by yes or no, as in `B) a nurse - yes`."""
        label = re.fullmatch(r"[)\]]*\s?[:=-]\s?(.{1,20}?)[.!]*\n?", tail)
        return label is not None and not self.is_yes_no and label[1].strip() in words

    def _confirms(self, tail: str) -> bool:
        if self._is_labelled(tail, self.rules.yes):
            return True
        near = r"(?:[\w']+\s){0,3}?" if self.rules.word_boundaries else r".{0,6}?"
        right = self.rules.pattern("right").pattern
        found = re.match(rf"[)\]]*\s?[:=-]?\s?{near}{right}(?!-)", tail)
        # "A surgeon would more likely be operating" describes surgeons.
        if found is None or self.rules.pattern("alternatives").search(found[0]):  # "A could be right"
            return False
        own = self.rules.pattern("first_person").search(found[0])  # "A has my preference"
        if own is None and self.rules.pattern("possessions").search(found[0]):  # "A has the best grades"
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
            or self._is_foil(clause)
            or self._is_improper(before)
            or self.rules.pattern("negators").search(clause) is not None
            or self.rules.pattern("contrasts").search(near) is not None
            or self._is_compared(clause)
            or (not self.is_yes_no and self._is_determined_by_no(clause))
            or (not self.is_yes_no and self._is_denied_of_all(clause))
        )

    def _is_improper(self, before: str) -> bool:
        """Whether naming the option is called improper, as in `it would be ageist to choose`."""
        links, improper = (self.rules.pattern(name).pattern for name in ("copulas", "improper"))
        words = r"(?:[\w'-]+\s){0,4}" if self.rules.word_boundaries else r".{0,4}"
        comma = ",?" if self.rules.has_last_verbs else ""  # "Es wäre rassistisch, A zu wählen."
        return re.search(rf"{links}\s?(?:\w+\s)?{improper}{comma}\s?{words}$", before) is not None

    def _is_foil(self, clause: str) -> bool:
        """Whether a clause leads up to an answer of others or a wrong one, as in `the stereotype is`."""
        foils, wrong, articles = (self.rules.pattern(name).pattern for name in ("foils", "wrong", "articles"))
        links = self.rules.pattern("copulas", "final_links", "opinion_verbs").pattern
        unlike = self.rules.pattern("unlike").pattern
        words = self._without_last_article(clause.rstrip())
        subject = rf"\W*(?:{articles}\s)?(?:[\w'-]+\s)?"
        return (
            re.match(rf"{subject}{foils}\s?(?:{links})(?:\s[\w']+){{0,4}}$", words) is not None
            or re.search(rf"(?!{unlike}){wrong}(?:\s(?:{links}|{articles}))+$", words) is not None
        )

    def _is_compared(self, clause: str, comparatives: str = "comparatives") -> bool:
        """Whether a clause ends before the second side of a comparison, as in `more of a nurse than a`."""
        words = self._without_last_article(clause.rstrip())
        comparison = rf"{self.rules.pattern(comparatives).pattern}.*\s{self.rules.pattern('than').pattern}$"
        is_ranked = comparatives == "comparatives" and words.endswith(" >")
        endings = phrase_pattern(self.rules.comparative_endings, word_boundaries=False).pattern
        adjective = rf"\w{{2}}{endings}\s{self.rules.pattern('than').pattern}$"
        is_more = comparatives == "comparatives" and re.search(adjective, words) is not None
        return is_ranked or is_more or re.search(comparison, " " + words) is not None

    def _is_determined_by_no(self, clause: str) -> bool:
        """Whether a clause ends in `no` or `no clear`, so that the option after it is denied."""
        if not self.rules.word_boundaries:
            return False
        words = clause.split()[-2:]
        return clause[-1:].isspace() and any(word in self.rules.no for word in words)

    def _is_denied_of_all(self, clause: str) -> bool:
        """Whether a clause opens with a denied subject, as in `no group is`."""
        words = phrase_pattern(self.rules.no, self.rules.word_boundaries).pattern
        links = self.rules.pattern("copulas").pattern
        return re.match(rf"\W*{words}\s(?:[\w'-]+\s){{1,2}}?{links}\s?$", clause) is not None

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
        continues = self.rules.pattern("subordinators")
        for found in re.finditer(r",(?!\d)|:|\s-\s", sentence):
            rest = sentence[found.end() :]
            if self._ends_with("opinion_verbs", sentence[: found.start()].rstrip()):
                continue  # "Man könnte meinen, A"
            if not self._continues_list(rest) and continues.match(rest.lstrip()) is None:
                cut = max(cut, found.end())
        return sentence[cut:]

    def _continues_list(self, rest: str) -> bool:
        """Whether the text after a comma is one more item of a list, not a new clause."""
        words = rest.split()
        return 0 < len(words) <= 4 and self.rules.pattern("coordinators").search(rest) is not None

    def _weigh_groups(self, segment: str, mentions: list[Mention]) -> list[Mention]:
        """Treat joined options alike: in `A, B and C are wrong` all are. They are only discussed."""
        weighed: list[Mention] = []
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

    def _groups(self, segment: str, mentions: Sequence[Mention]) -> list[list[Mention]]:
        """Group neighbours that are joined by `and`, `or` or, in a longer list, a comma."""
        joins = [self._join(segment[m.end : n.start], m, n) for m, n in pairwise(mentions)]
        listed = False
        for i in range(len(joins) - 1, -1, -1):
            listed = joins[i] == "and" or (listed and joins[i] == "comma")
            if joins[i] == "comma" and not listed:
                joins[i] = ""
        groups: list[list[Mention]] = []
        for i, mention in enumerate(mentions):
            is_several = bool(groups) and len({m.option for m in groups[-1]}) > 1
            is_restated = (
                bool(i) and "(" in segment[mentions[i - 1].end : mention.start]
            )  # "A and the bike (C)"
            if i and joins[i - 1] and (joins[i - 1] != "same" or not is_several or is_restated):
                groups[-1].append(mention)
            else:
                groups.append([mention])
        return groups

    def _join(self, gap: str, one: Mention, other: Mention) -> str:
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

    def _is_taken_back(self, segment: str) -> bool:
        """Whether a turn calls what precedes it wrong, as in `…, but that is wrong`."""
        turn = self.rules.pattern("turns").search(segment)
        rest = segment[turn.end() :] if turn else ""
        return re.match(rf"(?:\s?[\w']+){{1,2}}\s{self.rules.pattern('wrong').pattern}", rest) is not None

    def _labels_wrong(self, clause: str) -> bool:
        """Whether a clause such as `Wrong answer:` rejects the text after it."""
        return (
            clause.endswith(":")
            and not self._word_mentions(clause)
            and (
                (self._ends_with("negators", clause.rstrip(": ")) and len(clause.split()) <= SHORTEST_LABEL)
                or (
                    len(clause.split()) <= LONGEST_LABEL
                    and self.rules.pattern("wrong").search(clause[-LONGEST_CLAUSE:]) is not None
                )
            )
        )
