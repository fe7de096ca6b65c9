"""Read the answer of a model: which option it names, or which number, or why it names none.

`read_answer` is the only reader. Builds, `measure`, `evaluate` and the harness files of a release call it.
It and the modules that it imports need the standard library only, because a copy of them is part of every
release.

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
from collections.abc import Sequence
from dataclasses import replace

from tasks.text.agreement_reader import AgreementReader
from tasks.text.answer_text import CAPITAL, clean, fold, remove_reasoning, without_symbols
from tasks.text.number_reader import NumberReader
from tasks.text.option_reader import OptionReader
from tasks.text.reader_rules import LONGEST_CLAUSE, UNKNOWN_LANGUAGE, ReaderRules, Reading, ReadingForm


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
    plain = without_symbols(plain)
    if form == "scale":
        return _read_point(plain, options, rules)
    return _read_plain(plain, options, form, rules)


def _read_plain(plain: str, options: Sequence[str], form: ReadingForm, rules: ReaderRules) -> Reading:
    """Read a cleaned answer."""
    if form == "number":
        reader: NumberReader | OptionReader = NumberReader(rules)
    else:
        reader = (AgreementReader if form == "agreement" else OptionReader)(options, form, rules)
    reading = _read_own_turn(plain, reader) or reader.read(plain)
    return replace(reading, evidence=reading.evidence.replace(CAPITAL, " "))


def _read_point(plain: str, options: Sequence[str], rules: ReaderRules) -> Reading:
    """Return which point of a scale an answer names. `4 out of 5` names the point 4."""
    points = {option.strip(): index for index, option in enumerate(options)}
    if all(point.isdecimal() for point in points):
        reading = _read_plain(plain, (), "number", rules)
        index = None if reading.value is None else points.get(f"{reading.value:g}")
        if index is not None:
            return replace(reading, value=index)
    return _read_plain(plain, options, "word", rules)


def _read_own_turn(plain: str, reader: NumberReader | OptionReader) -> Reading | None:
    """Return the reading of the text before a new question that the model asks itself, if it has one.

    Models without a chat format continue with `Question: …` after their answer.
    """
    labels = reader.rules.pattern("new_turns").pattern
    topics = reader.rules.pattern("new_topics").pattern
    answers = reader.rules.pattern("final_strong", "place_nouns").pattern
    turn = re.search(
        rf"\n(?:{topics})\s?:[^\n]*(?:\n[^\n]*){{0,4}}?\n(?:{answers})\s?:", plain[: 2 * LONGEST_CLAUSE]
    )
    turn = turn or re.search(rf"(?:\n|[.!]\s)(?:{labels})\s?\d{{0,3}}\s?:", plain)
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
