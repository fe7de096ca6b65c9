"""Read which option an answer names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise

from tasks.text.answer_text import (
    CAPITAL,
    CLAUSE_END,
    LIST_MARK,
    SENTENCE_END,
    bare,
    split,
    split_first,
)
from tasks.text.mention_weights import MentionWeigher
from tasks.text.option_mentions import BY_WORDS, Mention, is_inside
from tasks.text.reader_rules import (
    LETTERS,
    LONGEST_CLAUSE,
    MOST_MENTIONS,
    MOST_SENTENCES,
    Reading,
    phrase_pattern,
    unreadable,
)

PAIR = 2
"""Options to which `the former` can refer."""


class OptionReader(MentionWeigher):
    """Reads which option is named, by its words or its letter."""

    def read(self, plain: str) -> Reading:
        """Return the reading of a cleaned answer."""
        return self.read_options(plain) or unreadable("no_option")

    def read_options(self, plain: str) -> Reading | None:
        """Return the reading, or `None` if no option is named."""
        plain = self._without_reasons(self._without_echo(self._without_courtesy(plain)))
        plain = self._without_doubt(plain)
        plain = self._with_preferences(self._with_places(self._with_own_answers(plain)))
        plain = self._without_possibilities(self._without_questions(plain))
        for rule, segment in self.final_segments(plain):
            found = self._read_final(segment)
            if found is not None:
                return replace(found, rule=rule)
        best = self._read_ranking(plain) or self._read_place(plain)
        if best is not None:
            return best
        mentions = self._mentions(plain)
        if mentions is None:
            return unreadable("several_options", plain)
        if self._is_limited(plain):
            return unreadable("several_options", plain)
        if any(self._is_row(sentence) for sentence in islice(split(plain, SENTENCE_END), MOST_SENTENCES)):
            return unreadable("several_options", plain)
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
            return unreadable("several_options", plain)
        if self._unknown_option is None and self.rules.pattern("torn").search(plain):
            return unreadable("undecided", plain)
        return self._decide(plain, mentions) or (None if mentions else self._read_object(plain))

    def _with_own_answers(self, plain: str) -> str:
        """Label the option of a question with its answer, as in `Is it A? No. Is it B? Yes.`"""
        if self.is_yes_no or "?" not in plain:
            return plain
        accepts = self.rules.pattern("yes", "yes_openings", "right")
        rejects = self.rules.pattern("no", "no_openings", "wrong", "doubts")
        sentences = list(split(plain, SENTENCE_END))
        for i, (question, reply) in enumerate(pairwise(sentences[:MOST_SENTENCES])):
            words = bare(self._without_first_fillers(bare(reply))) or bare(reply)
            label = self.rules.no[:1] if rejects.fullmatch(words) or rejects.fullmatch(bare(reply)) else ()
            label = label or (self.rules.yes[:1] if accepts.fullmatch(words) else ())
            if not question.endswith("?") or not label:
                continue
            mentions = [m for m in self._mentions(question) or [] if m.rule != "possible"]
            if len({m.option for m in mentions}) == 1 and not any(m.negated for m in mentions):
                m = mentions[0]
                answer = f" {question[m.start : m.end]}.\n" if label[0] == self.rules.yes[0] else ""
                sentences[i : i + 2] = [answer, ""]
        return "".join(sentences)

    def _with_places(self, plain: str) -> str:
        """Replace `the former` by the option that the text names first, if it names two before."""
        places = self.rules.pair_positions
        found = phrase_pattern(tuple(places), self.rules.word_boundaries).search(plain) if places else None
        if found is None:
            return plain
        named = [
            m
            for m in sorted(
                [*self._word_mentions(plain), *self._letter_mentions(plain)], key=lambda m: m.start
            )
            if m.rule != "possible" and m.end <= found.start()
        ]
        order = list(dict.fromkeys(m.option for m in named))
        if len(order) != PAIR:
            return plain
        mention = next(m for m in named if m.option == order[places[found[0]]])
        return f"{plain[: found.start()]}{plain[mention.start : mention.end]}{plain[found.end() :]}"

    def _without_doubt(self, plain: str) -> str:
        """Drop a doubt before the only other option of its sentence, as in `Unclear, but probably B`."""
        unknown = {
            i
            for i, option in enumerate(self.options)
            if self.rules.pattern("unknown").search(option) or option in self.rules.dont_know
        }
        if len(unknown) != 1:
            return plain
        sentences = list(split(plain, SENTENCE_END))
        for i, sentence in enumerate(sentences[:MOST_SENTENCES]):
            turned = self._after_doubt(sentence, unknown)
            if turned is not None:
                sentences[i] = turned
                continue
            first, comma, rest = sentence.partition(",")
            doubted = self.names.get(bare(self._without_first_fillers(bare(first)))) if comma else None
            if doubted not in unknown or not (self._alone(rest) or self._is_hedged(rest)):
                continue
            named = [m for m in self._mentions(rest) or [] if m.rule != "possible"]
            if len({m.option for m in named}) == 1 and named[0].option != doubted and not named[0].negated:
                sentences[i] = rest
        return "".join(sentences)

    def _after_doubt(self, sentence: str, unknown: set[int]) -> str | None:
        """Return the text after a turn that names an option firmly, if only a doubt is before the turn."""
        turn = self.rules.pattern("turns").search(sentence)
        before = self._mentions(sentence[: turn.start()]) if turn else None
        if turn is None or not before or {m.option for m in before} != unknown:
            return None
        rest = sentence[turn.end() :]
        after = [m for m in self._mentions(rest) or [] if not m.negated and m.rule != "possible"]
        firm = any(m.affirmed or m.committed for m in after)
        one = {m.option for m in after} - unknown
        return rest if firm and len(one) == 1 and len({m.option for m in after}) == 1 else None

    def _is_hedged(self, clause: str) -> bool:
        """Whether a clause opens with a turn or calls something possible."""
        return (
            self.rules.pattern("turns").match(clause.lstrip()) is not None
            or self.rules.pattern("alternatives").match(clause.lstrip()) is not None
        )

    def _read_object(self, plain: str) -> Reading | None:
        """Read `home care is the right call` as the option `provide home care`, if nothing else is named."""
        links, right = (self.rules.pattern(name).pattern for name in ("copulas", "right"))
        found: dict[int, str] = {}
        for index, option in enumerate(self.options):
            verb, _, rest = option.partition(" ")
            if " " not in rest or {verb, rest.partition(" ")[0]} & set(self.rules.articles):
                continue
            verdict = re.search(rf"(?<!\w){re.escape(rest)}\s{links}\s(?:\w+\s){{0,2}}?{right}", plain)
            if verdict is not None and not self._negates(verdict[0]):
                found[index] = rest
        if len(found) != 1:
            return None
        index, words = next(iter(found.items()))
        return Reading(index, "read", words, "option_words")

    def _read_place(self, plain: str) -> Reading | None:
        """Read an answer that is only the place of an option, as in `The second.`"""
        words = bare(plain)
        place = self._without_article(words)
        option = self.rules.positions.get(place)
        is_place = place != words or not self.rules.word_boundaries
        if option is None or not is_place or option >= len(self.options) or self.is_yes_no:
            return None
        return Reading(option, "read", words, "alone")

    def _read_ranking(self, plain: str) -> Reading | None:
        """Return the first option of a ranking, as in `Ranking: A, then B`."""
        names = self.rules.pattern("rankings").pattern
        found = re.search(rf"(?:^|[\n.;]\s?)(?:[^\W\d]+\s){{0,2}}{names}[^\n:.]{{0,30}}:", plain)
        rest = plain[found.end() :] if found else ""
        words = [*self._word_mentions(rest), *self._letter_mentions(rest)]
        mentions = sorted((m for m in words if m.rule != "possible"), key=lambda m: m.start)
        several = len({m.option for m in mentions}) > 1
        return self._reading(rest, mentions[0]) if several else None

    def _with_preferences(self, plain: str) -> str:
        """Name the contrast of `I prefer A to B`."""
        verbs = phrase_pattern(tuple(self.rules.preferences), self.rules.word_boundaries)
        if not self.rules.preferences or not self.rules.contrasts or verbs.search(plain) is None:
            return plain
        mentions = sorted([*self._word_mentions(plain), *self._letter_mentions(plain)], key=lambda m: m.start)
        articles = self.rules.pattern("articles").pattern
        for one, other in reversed(list(pairwise(mentions[:MOST_MENTIONS]))):
            verb = verbs.search(plain, max(0, one.start - LONGEST_CLAUSE // 4), one.start)
            link = self.rules.preferences[verb[0]] if verb else ""
            between = re.fullmatch(rf"([)\]]?\s){link}(\s(?:{articles}\s?)?)", plain[one.end : other.start])
            if verb and between and one.option != other.option:
                contrast = f"{between[1]}{self.rules.contrasts[0]}{between[2]}"
                plain = plain[: one.end] + contrast + plain[other.start :]
        return plain

    def _is_contradicted(self, plain: str, alone: Reading, mentions: Sequence[Mention]) -> bool:
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
        return {end: start for end, start in found.items() if not is_inside(end, spans)}

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
            return self._without_echoed_lines(plain)
        if not self.is_yes_no:  # "A) no B) yes"
            words = self.rules.pattern("yes", "no").pattern
            plain = re.sub(rf"{self.letter}\)\s({words})(?=[\s.,;]|$)", r"\1: \2;", plain)
        plain = self._without_discussion(self._without_echoed_lines(plain))
        shorter = "\n".join(self._without_legend(line) for line in plain.split("\n"))
        return shorter if shorter != plain and self._mentions(shorter) else plain

    def _without_echoed_lines(self, plain: str) -> str:
        """Drop the lines of a repeated list of options, if other lines follow."""
        lines = plain.split("\n")
        echoes = {line for line in lines if self._is_echo(line)}
        rest = [line for line in lines if line not in echoes]
        shorter = "\n".join(rest) if len(echoes) > 1 and rest else plain
        return shorter if self.letter or self._mentions(shorter) else plain

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
        numbered = re.match(r"\W{0,3}\d{1,2}\s?[).:]\s(.+)$", line)
        if numbered is not None:
            return bare(numbered[1]) in self.options
        marked = re.match(r"\W{0,3}([a-z])\s?[).:\]-]\s?(.+)$", line)
        index = LETTERS.index(marked[1]) if marked else len(self.options)
        return marked is not None and index < len(self.options) and bare(marked[2]) == self.options[index]

    def _without_questions(self, plain: str) -> str:
        """Drop conditions, and questions such as a repeated one if anything else is answered."""
        sentences = [self._without_exception(s) for s in split(plain, SENTENCE_END)]
        sentences = [s for s in sentences if not self._is_condition(s)]
        rest = [s for s in sentences if not s.endswith("?")]
        told = self._mentions("".join(rest)) if any(bare(s) for s in rest) else None
        if told is not None and all(m.rule == "unknown_words" for m in told):  # "Not sure. A?"
            asked = [s for s in sentences if s.endswith("?") and self._alone(s)]
            if told and asked:
                return "".join(asked)
            rest = [s for s in sentences if not s.endswith("?") or self._alone(s)]
        return "".join(rest if any(bare(s) for s in rest) else sentences)

    def _without_exception(self, sentence: str) -> str:
        """Drop an exception before an answer, as in `Unless the text is wrong, A`."""
        opening = self.rules.pattern("unless").match(sentence.lstrip(" \n"))
        return sentence.rpartition(",")[2] if opening and "," in sentence else sentence

    def _without_courtesy(self, plain: str) -> str:
        """Drop a courtesy such as `Certainly!` before a service, a turn or a denial."""
        found = re.match(rf"\W*{self.rules.pattern('courtesies').pattern}\s?[.,!:。-]+\s*(?=\w)", plain)
        if found is None:
            return plain
        rest = plain[found.end() :]
        first = next(split(rest, SENTENCE_END))
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
        for clause in split(plain, CLAUSE_END):
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
        condition, comma, _ = opening.partition(",")
        if comma and self.rules.pattern("mine").search(condition):  # "If the vote were mine, A."
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
            return unreadable("several_options", segment) if self._turns_away(segment, alone) else alone
        place = self._read_place(segment)
        if place is not None:
            return place
        leading = self._leading_letter(segment)
        mentions = self._mentions(segment)
        if mentions is None:
            return unreadable("several_options", segment)
        if leading is not None:
            return unreadable("several_options", segment) if self._turns_away(segment, leading) else leading
        found = self._decide(segment, mentions)
        if found is None and self.rules.pattern("undecided").search(segment):
            return unreadable("undecided", segment)
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

    def _is_negated_phrase(self, plain: str, start: int) -> bool:
        """Also in the opinion of others, as in `many people say the answer is A`."""
        sentence = list(split(plain[max(0, start - LONGEST_CLAUSE) : start], SENTENCE_END))[-1]
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
        rest = segment[found.end() :].lstrip(")] " + CAPITAL)
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
            for sentence in islice(split(line, SENTENCE_END), MOST_SENTENCES):
                if (found := self._alone(sentence)) is not None:
                    yield *found, True
                    continue
                granted = None if self._grants(sentence) else False
                previous = ""
                is_list = self._lists_letters(sentence)
                clauses = list(split(sentence, CLAUSE_END))
                for clause, following in zip(clauses, [*clauses[1:], ""], strict=True):
                    found = None if is_list else self._alone(clause)
                    if bare(previous) and self._starts_negated(following):  # "the other one, A, is not …"
                        found = None
                    if found is not None and bare(previous) and found[1] in self._openings:
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
        parts = [bare(part) for part in re.split(rf"[,/]|\s{joins}\s", sentence)]
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
            or turns.search(sentence, len(split_first(sentence))) is not None
        )

    def _joined(self, clause: str) -> int | None:
        """Return the option of a clause that opens with a conjunction."""
        words = clause.lstrip()
        conjunction = self.rules.pattern("coordinators").match(words)
        found = self._alone(words[conjunction.end() :]) if conjunction else None
        return found[0] if found else None

    def _alone(self, clause: str) -> tuple[int, str] | None:
        if len(clause) > LONGEST_CLAUSE + max(map(len, self.options), default=0):
            return None
        words = bare(LIST_MARK.sub("", clause))
        opened = self._without_first_fillers(words)
        for candidate in dict.fromkeys((words, bare(opened), bare(self._without_last_fillers(opened)))):
            words = candidate
            if words in self.rules.undecided and words not in self.names:
                return None
            for name in (words, self._without_article(words), words.replace("-", "")):
                if name in self.exact:
                    return self.exact[name], name
            lettered = (
                re.fullmatch(rf"{self.letter}(?:\s?(?:[).:\],=-]\s?)+|\s)(.*)", words)
                if self.letter
                else None
            )
            if lettered is not None and self.exact.get(bare(lettered[2])) is not None:
                return self.exact[bare(lettered[2])], lettered[2]
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

    @cached_property
    def _last_filler_words(self) -> re.Pattern[str]:
        return self.rules.pattern("fillers", "final_strong", "final_weak", "final_links")

    def _last_filler(self, words: str) -> int | None:
        fillers = self._last_filler_words
        ends = [m.start() for m in fillers.finditer(words) if m.end() == len(words) and m[0]]
        return ends[0] if ends else None

    # All mentions

    def _decide(self, segment: str, mentions: Sequence[Mention]) -> Reading | None:
        """Return the only option that is not negated, compared or merely discussed."""
        mentions = [self._complement(segment, m) for m in mentions]
        kept = [m for m in mentions if not m.negated]
        affirmed = [m for m in kept if m.affirmed]
        if len({m.option for m in affirmed}) == 1:
            return self._reading(segment, affirmed[0])
        if all(m.aside for m in kept):
            several = len({m.option for m in kept if m.rule != "possible"}) > 1
            return unreadable("several_options", segment) if several else None
        kept = [m for m in kept if not m.aside]
        words = [m for m in kept if m.rule in BY_WORDS]
        letters = [m for m in kept if m.rule not in (*BY_WORDS, "possible")]
        committed = [m for m in kept if m.committed and m.rule != "possible"]
        rivals = [m for m in letters if committed and m.option != committed[0].option]
        if len({m.option for m in committed}) == 1 and all(m.rule == "letter_subject" for m in rivals):
            return self._reading(segment, committed[0])
        if words:
            others = {m.option for m in kept if m.rule != "possible"} - {words[0].option}
            if not others or self._follow_letters(segment, words, letters):
                return self._reading(segment, words[0])
            return unreadable("several_options", segment)
        if not letters:
            return None
        if len({m.option for m in kept}) > 1:
            return unreadable("several_options", segment)
        return self._reading(segment, letters[0])

    def _complement(self, segment: str, mention: Mention) -> Mention:
        """Return the mention of `not guilty` for a `guilty` that a negator directly precedes."""
        other = self._opposites.get(mention.option)
        if other is None or not mention.negated or mention.rule != "option_words":
            return mention
        before = segment[max(0, mention.start - LONGEST_CLAUSE) : mention.start]
        clause = self._last_clause(list(split(before, SENTENCE_END))[-1])
        is_denied = self.rules.pattern("denials").search(clause) is not None
        if not is_denied and not self._ends_with("negators", self._without_last_article(before.rstrip())):
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
    def _follow_letters(segment: str, words: Sequence[Mention], letters: Sequence[Mention]) -> bool:
        """Whether one option's words follow the letter of another, as in `B. a surgeon`."""
        return len({m.option for m in words}) == 1 and all(
            m.end <= words[0].start and re.fullmatch(r"[\s).:\]]*(?:\w+\s)?", segment[m.end : words[0].start])
            for m in letters
        )

    @staticmethod
    def _reading(segment: str, mention: Mention) -> Reading:
        return Reading(mention.option, "read", segment[mention.start : mention.end], mention.rule)
