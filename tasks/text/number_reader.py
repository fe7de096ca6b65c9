"""Read the number that an answer gives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.text.answer_text import LIST_MARK, SENTENCE_END, bare, split
from tasks.text.final_answers import AnswerReader
from tasks.text.reader_rules import MOST_PHRASES, Reading, alternatives, phrase_pattern, unreadable

_DIGITS = re.compile(r"(?<![a-zß-ɏ0-9_.,])[-+]?\d[\d.,]*(?<![.,])([a-zß-ɏ]*)")
_SPACED = re.compile(r"(?<![\d.,/-])(\d{1,3})((?:[ '’]\d{3})+)(?![\d'])")
"""Thousands that are separated by spaces or apostrophes, as in `85 000` and `85'000`."""
_LEADING = re.compile(
    r"[^\w<>]*?([-+]?\d[\d.,]*(?<![.,])\s?(?:[%€£¥]|/\s?\d+)?)\s?(?:$|\n|-\s(?=[^\W\d])|[:;(]\s?(?=[^\W\d])|\.\s(?=[^\W\d]))"
)
"""A number that is followed by its explanation, as in `7 - good, but only 5 years of experience`."""
_LEADING_COMMA = re.compile(r"[^\w<>]*?([-+]?\d[\d.,]*(?<![.,])\s?[%€£¥]?),\s(?=[^\W\d])")
_EVEN = re.compile(r"(?<![\d.,])50\s?[:/-]\s?50(?![\d.,])")
"""Even odds, which are no number."""
_LISTED = re.compile(r"^\W*\d{1,2}[.)]\s", re.M)
_LABELLED = re.compile(r"^[^\d\n:]{1,30}\d{1,3}\s?:\s?(?=\S)", re.M)
_LARGEST_FRACTION = 4
"""Up to this denominator `1/2` is a fraction. Above it, `7/10` is a score with its maximum."""


SHORT_OPENING = 3
"""Words of an opening sentence that gives a number in words."""


class NumberReader(AnswerReader):
    """Reads a single number."""

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        plain = _SPACED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), plain)
        reason = re.compile(rf"[\W\d]*{self.rules.pattern('reason_labels').pattern}\s?:")
        stated = "\n".join(line for line in plain.split("\n") if not reason.match(line))
        plain = stated if re.search(r"\d", stated) else plain
        stated = "".join(s for s in split(plain, SENTENCE_END) if not s.endswith("?"))
        plain = stated if re.search(r"\d", stated) else plain
        plain = self._without_impressions(self._without_confidence(plain))
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
        equation = re.search(r"\d[^=\n]*=\s?([-+]?\d[\d.,]*)\W*$", plain)
        outside = re.sub(r"\([^()]*\d[^()]*\)", " ", plain)
        outer = [("number", outside)] if outside != plain and re.search(r"\d", outside) else []
        scores = [("score", " ".join(self._scores(plain)))]
        grounded = [("number", shorter) for shorter in self._without_grounds(plain)]
        revised = list(self.rules.pattern("revisions").finditer(plain))[-1:]
        parts = [
            *(("correction", self._after(plain, m.end())) for m in revised),
            *(labelled if len(labelled) == 1 else ()),
            *strong,
            *named,
            *([("number", equation[1])] if equation else []),
            *scores,
            *weak,
            *last,
            *self._leading(plain),
            *self._last_clause_number(plain),
            *self._result(plain),
            *sentence,
            *grounded,
            *outer,
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
        return unreadable("no_single_number", plain if re.search(r"\d", plain) else "")

    def _without_grounds(self, plain: str) -> list[str]:
        """Return the text without numbers of its grounds, as in `given 2 prior arrests`."""
        grounds, restatements = (self.rules.pattern(name).pattern for name in ("grounds", "restatements"))
        space = r"\s" if self.rules.word_boundaries else ""
        words = rf"(?:[^\W\d]+{space}){{0,3}}?"
        shorter = re.sub(rf",?\s?{restatements}.*", " ", plain)
        shorter = re.sub(rf"{grounds}{space}{words}\d[\d.,]*(?<![.,]){space}[^\W\d]+", " ", shorter)
        is_year = re.search(r"(?<!\d)(?:19|20)\d\d(?!\d)", shorter) is not None
        return [shorter] if shorter != plain and re.search(r"\d", shorter) and not is_year else []

    def _without_confidence(self, plain: str) -> str:
        """Drop the confidence in an answer, as in `5 (confidence 90%)`, and a labelled reason in a line."""
        names, labels = self.rules.pattern("confidences").pattern, self.rules.pattern("reason_labels").pattern
        links = self.rules.pattern("final_links").pattern
        number = r"\d[\d.,]*(?<![.,])(?:\s?%|\s?/\s?\d+)?"
        for pattern in (
            rf"{names}(?:\s?(?:[:=]|[^\W\d]+|{links})){{0,2}}?\s?{number}|{number} {names}",
            rf"[.;]\s{labels}\s?:[^\n]*",
        ):
            shorter = re.sub(pattern, " ", plain)
            plain = shorter if re.search(r"\d", shorter) else plain
        return plain

    def _without_impressions(self, plain: str) -> str:
        """Drop first impressions, as in `I first thought 5, but 7` and `Previously 7. Now 5.`"""
        first = self.rules.pattern("soft_openings", "concessions", "impressions")
        kept = "".join(s for s in split(plain, SENTENCE_END) if first.match(s.lstrip(" \n")) is None)
        plain = kept if re.search(r"\d", kept) else plain
        turn = self.rules.pattern("turns").search(plain)
        if turn is None or first.search(plain[: turn.start()]) is None:
            return plain
        return plain[turn.end() :] if re.search(r"\d", plain[turn.end() :]) else plain

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
        if found is None and "\n" not in plain:
            doubts = self.rules.pattern(
                "alternatives", "coordinators", "corrections", "turns", "range_words", "no", "negators"
            )
            found = _LEADING_COMMA.match(plain)
            if found is not None and doubts.search(plain, found.end()) is not None:
                found = None
        first = next(split(plain, SENTENCE_END))
        is_opening = re.fullmatch(r"(?:[^\W\d]+\s){0,2}\d[\d.,]*\s?%?[.!]", first) is not None
        if found is None and is_opening and re.match(r"\s[^\W\d]", plain[len(first) :]):  # "A solid 8. …"
            return [("leading", first)]
        if "\n" not in first and len(first.split()) <= SHORT_OPENING and len(first) < len(plain):
            in_words = {} if re.search(r"\d", first) else self._words_in(bare(first))
            if len(in_words) == 1:  # "Six. He lacks 4 of the 10 skills."
                return [("leading", bare(first))]
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
        sentence = [part for part in split(plain, SENTENCE_END) if bare(part)][-1:]
        short = (
            re.fullmatch(rf"\W*(?:{words}\W+)+(\d[\d.,]*(?<![.,])\s?%?)\W*", sentence[0])
            if sentence
            else None
        )
        if short is not None:  # "… So 7."
            return [("number", short[1])]
        last = re.split(r",\s|:", plain.rstrip(" ."))[-1]
        is_bare = re.fullmatch(r"\W*\d[\d.,]*\W*", last) is not None
        is_result = re.search(r"\d[^:\n]*:\s\d[\d.,]*\W*$", plain) is not None and plain.count(":") == 1
        is_last = is_result or self.rules.pattern("scales").search(plain) is not None
        return [("number", last)] if is_bare and is_last else []

    def _scores(self, plain: str) -> list[str]:
        """Return the numbers that are given with their maximum, as in `7/10` or `7 out of 10`."""
        return re.findall(
            rf"(?<![\w.,/])(\d{{1,3}}(?:[.,]\d{{1,2}})?)\s?(?:/|{self.rules.pattern('totals').pattern})\s?"
            r"(?:5|7|10|20|100)(?:[.,]0{1,2})?(?![\w/]|[.,]\d)",
            plain,
        )

    def _numbers_in(self, text: str) -> dict[float, str]:
        """Find the numbers of a text with their words. `7 out of 10` is 7, a range is two numbers."""
        if _EVEN.search(text):
            return {}
        text = self._without_scales(text).rpartition("=")[2]
        for pattern in (LIST_MARK, _LABELLED):
            shorter = pattern.sub("", text)
            text = shorter if re.search(r"\d", shorter) else text
        text = self._without_totals(text)
        found: dict[float, str] = {}
        for match in _DIGITS.finditer(text):
            if match[1] in self.rules.ordinals:
                continue
            if match[1] == "s" or re.match(r"\d", text[match.end() :]):  # "in her 40s", "1e5"
                return {}
            before = self._without_last_article(
                text[max(0, match.start() - 40) : match.start()].rstrip(" €$£¥")
            )
            if any(self._ends_with(name, before) for name in ("negators", "contrasts", "bounds")):
                continue
            if before.endswith((">", "<")) or self._is_bound(text[match.end() : match.end() + 40]):
                continue
            value = self._value(match[0].removesuffix(match[1]))
            factor, words = self._magnitude(text[match.end() - len(match[1]) :])
            if value is None or (match[1] in ("m", "b", "bn", "x") and not words):
                return {}
            half = 0.5 if factor == 1 and self._adds_half(text[match.end() :]) else 0.0
            found.setdefault(round((value + half) * factor, 6), match[0].removesuffix(match[1]) + words)
        return found or self._words_in(text)

    def _is_bound(self, after: str) -> bool:
        """Whether words such as `or more` follow a number, after its unit."""
        words = self.rules.pattern("bounds_after").pattern
        return re.match(rf"\+|\s?%?(?:\s[^\W\d]+)?\s?(?:{words})", after) is not None

    def _adds_half(self, after: str) -> bool:
        """Whether words such as `and a half` follow a number, after its unit."""
        words = self.rules.pattern("halves").pattern
        unit = r"(?:\s[^\W\d]+)?\s?" if self.rules.word_boundaries else r"[^\W\d]?"
        return re.match(rf"{unit}{words}", after) is not None

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
        names = self.rules.pattern("scale_names").pattern
        text = re.sub(rf"\d+\s?(?:-|{words})\s?\d+\s?{names}", " ", text)
        text = re.sub(rf"\d+\s?-?\s?{self.rules.pattern('scale_units').pattern}", " ", text)
        return re.sub(rf"{self.rules.pattern('scales').pattern}\s?\d+\s?(?:-|{words})\s?\d+", " ", text)

    def _without_totals(self, text: str) -> str:
        """Remove the maximum of a score, and replace a fraction by its value."""
        number = r"\d{1,9}(?:[.,]\d{1,4})?"
        units, totals = self.rules.pattern("units").pattern, self.rules.pattern("totals").pattern
        maximum = self.rules.pattern("maximum_names").pattern
        words = alternatives(sorted(self.rules.numbers, key=len, reverse=True)) or r"(?!)"
        text = re.sub(rf"(?<!\w)({words})\s?/\s?\d+", r"\1", text)  # "eight/10"
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
        word = alternatives(sorted(self.rules.numbers, key=len, reverse=True)) or r"(?!)"
        totals = self.rules.pattern("totals").pattern  # "four out of five", not "a sentence of five years"
        text = re.sub(rf"({word})((?:\s[^\W\d]+)?\s{totals}\s[^\W\d]+)", r"\1 ", text)
        joins = phrase_pattern(self.rules.coordinators, self.rules.word_boundaries).pattern
        left, right = (r"(?<!\w)", r"(?!\w)") if self.rules.word_boundaries else ("", self._unit)
        found: dict[float, str] = {}
        for run in re.finditer(rf"{left}(?:{word})(?:[\s-]?(?:{joins}\s)?(?:{word}))*{right}", text):
            value = self._sum([self.rules.numbers[words] for words in re.findall(word, run[0])])
            if value is None:
                return {}
            is_article = value == 1 and re.match(r"\s[^\W\d]", text[run.end() :])
            before = text[: run.start()].rstrip()
            if is_article or any(self._ends_with(name, before) for name in ("contrasts", "bounds")):
                continue
            if not self._is_bound(text[run.end() : run.end() + 40]):
                found.setdefault(value + (0.5 if self._adds_half(text[run.end() :]) else 0.0), run[0])
        return found

    @property
    def _unit(self) -> str:
        """Pattern of the end of a number in words, in a language without spaces between them."""
        return rf"(?=\s|$|[.,;:!?。%)]|{self.rules.pattern('units').pattern})"

    def _sum(self, values: Sequence[float]) -> float | None:
        """Add `twenty` and `five`, multiply `two` and `hundred`. `None` for a row such as `three five`."""
        total, group, last, largest = 0.0, 0.0, 0.0, 0.0
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
