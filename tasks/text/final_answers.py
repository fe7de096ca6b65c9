"""Follow phrases that name the answer, such as `the answer is`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.text.answer_text import FINAL, SENTENCE_END, bare
from tasks.text.reader_rules import LONGEST_CLAUSE, MOST_PHRASES, ReaderRules


class AnswerReader:
    """Finds final answers."""

    def __init__(self, rules: ReaderRules) -> None:
        self.rules = rules

    def final_segments(self, plain: str) -> Iterator[tuple[str, str]]:
        """Yield the text after each phrase that names the answer, strong phrases first, last one first."""
        strong = [(m.end(), "final_answer") for m in re.finditer(FINAL, plain)]
        strong += [
            (end, "final_answer")
            for end, start in self._answer_names(plain).items()
            if self._announces(plain, end) and not self._is_negated_phrase(plain, start)
        ]
        soft = [(end, "choice") for end, _ in strong if self._is_conditional(plain, end)]
        strong = [pair for pair in strong if (pair[0], "choice") not in soft]
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
        weak += soft
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
        return [
            m.end()
            for m in found
            if (m.start() or "," in m[0])  # also an opening "no, wait"
            and (self.rules.word_boundaries or not plain[m.start() - 1].isalnum())  # A不对
        ]

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
            or rest[0] in ":=-\n(" + FINAL
            or self.rules.pattern("final_links").match(rest) is not None
        )

    def _is_conditional(self, plain: str, end: int) -> bool:
        """Whether a sentence with a turn follows an answer such as `the answer would be A`."""
        if self.rules.pattern("would_be").match(plain[end : end + 40].lstrip(" ")) is None:
            return False
        rest = re.split(r"[.!\n]\s", plain[end : end + LONGEST_CLAUSE], maxsplit=1)
        return len(rest) > 1 and self.rules.pattern("turns").match(rest[1].lstrip()) is not None

    def _is_negated_phrase(self, plain: str, start: int) -> bool:
        before = re.split(r"[\n.,;:!?]", plain[max(0, start - 30) : start])[-1]
        if self.rules.word_boundaries:
            before = " ".join(before.split()[-3:])
        around = plain[start : start + 30]
        taken_back = self.rules.pattern("taken_back").search(around)
        if taken_back is not None and taken_back.start() < 10:  # "I take back A"
            return True
        return self._negates(before) or self._ends_with("rejected_answers", before.rstrip())

    def _negates(self, clause: str) -> bool:
        clause = self.rules.pattern("not_negations").sub(" ", clause)
        return self.rules.pattern("negators").search(clause) is not None

    def _after(self, plain: str, start: int) -> str:
        """Return the sentence that follows, without links such as `is`."""
        rest = plain[start : start + 2 * LONGEST_CLAUSE]
        links = self.rules.pattern("final_links")
        while True:
            rest = rest.lstrip(" \n:=,-" + FINAL)
            link = links.match(rest)
            if link is None or not link[0] or re.match(r"\s?[.!。]", rest[link.end() :]):  # 答案是“是”。
                break
            rest = rest[link.end() :]
        end = SENTENCE_END.search(rest, 1)
        if end is None:
            return rest
        following = SENTENCE_END.search(rest, end.end() + 1)
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
        before = bare(sentence[: reason.start()]) if reason else ""
        turns_at_once = self._ends_with("turns", before)  # "…, but based on the text, …"
        return sentence[: reason.start()] if reason and before and not turns_at_once else sentence
