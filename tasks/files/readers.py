"""Read answers and recognise refusals with the word lists of the answer's language (data/readers)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from schemas.errors import InputError
from tasks.text.readings import UNKNOWN_LANGUAGE, ReaderRules, Reading, ReadingForm
from tasks.text.readings import read_answer as read_with_rules
from tasks.text.refusals import RefusalRules, find_refusal


class LanguageRules(NamedTuple):
    """What is known of one language. A language without a file has no rules."""

    answers: ReaderRules
    refusals: RefusalRules
    is_known: bool


def reader_languages(data_dir: Path) -> list[str]:
    """Return the languages that have a file in data/readers."""
    return sorted(path.stem for path in (data_dir / "readers").glob("*.yaml"))


@cache
def read_language_rules(data_dir: Path, language: str) -> LanguageRules:
    """Read the rules of a language. `pt-BR` uses `pt-BR.yaml`, or else `pt.yaml`.

    Raises:
        InputError: If the file is not valid.
    """
    folder = data_dir / "readers"
    known = [name for name in (language, language.split("-")[0]) if (folder / f"{name}.yaml").is_file()]
    if not known:
        return LanguageRules(UNKNOWN_LANGUAGE, RefusalRules(), is_known=False)
    path = folder / f"{known[0]}.yaml"
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        answers = ReaderRules.of(values)
        refusals = RefusalRules.of(values.get("refusal", {}), word_boundaries=answers.word_boundaries)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the rules of this language cannot be read: {error}", place=str(path)) from None
    return LanguageRules(answers, refusals, is_known=True)


def read_answer(
    text: str, options: Sequence[str], *, form: ReadingForm, language: str = "en", data_dir: Path
) -> Reading:
    """Read an answer with the rules of its language.

    Args:
        text: The answer as the model gave it.
        options: The options in the order shown. Empty for `number`.
        form: How an answer should look.
        language: Language tag of the answer. Without rules, letters and exact options are read only.
        data_dir: The vocabulary folder.

    Returns:
        The reading. `value` is the index of the option, or the number.
    """
    rules = read_language_rules(data_dir, language)
    reading = read_with_rules(text, options, form=form, rules=rules.answers)
    if reading.status == "unreadable" and (sentence := find_refusal(text, rules.refusals)) is not None:
        return Reading(None, "refused", sentence, "refusal")
    return reading


def is_refusal(text: str, *, language: str = "en", data_dir: Path) -> bool:
    """Return whether an answer declines and gives nothing else. Without rules for the language: false."""
    return find_refusal(text, read_language_rules(data_dir, language).refusals) is not None
