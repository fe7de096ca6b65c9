"""Read answers and recognise refusals with the word lists of the answer's language (data/readers)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from schemas.errors import InputError
from tasks.text import readings
from tasks.text.reader_rules import UNKNOWN_LANGUAGE, ReaderRules, Reading, ReadingForm
from tasks.text.readings import read_answer as read_with_rules
from tasks.text.refusals import RefusalRules, find_refusal, settle_refusal

LANGUAGE_TAG = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,8}")
"""The language of a row is data, so it must not be a path."""


class LanguageRules(NamedTuple):
    """Rules and words of one language. A language without a file has no rules."""

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
    names = (language, language.split("-")[0]) if LANGUAGE_TAG.fullmatch(language) else ()
    known = [name for name in names if (folder / f"{name}.yaml").is_file()]
    if not known:
        return LanguageRules(UNKNOWN_LANGUAGE, RefusalRules(), is_known=False)
    path = folder / f"{known[0]}.yaml"
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        answers = ReaderRules.of(values)
        weights = folder / "weights" / path.name
        refusals = RefusalRules.of(
            values.get("refusal", {}),
            word_boundaries=answers.word_boundaries,
            classifier=yaml.safe_load(weights.read_text(encoding="utf-8")) if weights.is_file() else None,
        )
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

    Raises:
        InputError: If the form is unknown, or the options are one text.
    """
    if form not in get_args(ReadingForm):
        raise InputError(
            f"{form!r} is not a form of an answer", hint=f"use one of {', '.join(get_args(ReadingForm))}"
        )
    if isinstance(options, str):
        raise InputError("the options are a text", hint="give a list of texts, one per option")
    text = text or ""  # servers give null for an empty answer
    rules = read_language_rules(data_dir, language)
    reading = read_with_rules(text, options, form=form, rules=rules.answers)
    return settle_refusal(reading, text, rules.refusals, options)


def dont_know_words(language: str, data_dir: Path) -> tuple[str, ...]:
    """Return the wordings of "I don't know" in a language, the one that is shown first."""
    return read_language_rules(data_dir, language).answers.dont_know


def is_refusal(text: str, *, language: str = "en", data_dir: Path) -> bool:
    """Return whether an answer declines and gives nothing else. Without rules for the language: false."""
    return find_refusal(text, read_language_rules(data_dir, language).refusals) is not None


# --- A copy for the harness files of a release ------------------------------------------------

_COPIED = (
    "answer_text.py", "reader_rules.py", "final_answers.py", "option_mentions.py", "mention_weights.py",
    "option_reader.py", "agreement_reader.py", "number_reader.py", "readings.py", "refusals.py",
    "assignments.py",
)  # fmt: skip
"""Modules of the copy, each after those that it imports."""
_HEADER = '''"""How the answers to this release were read: a generated copy of Counterfoil's reader.

Needs the standard library only. `read_in_language` reads an answer in one of the languages of the release.
Apache-2.0.
"""

from __future__ import annotations
'''
_FOOTER = '''

def read_in_language(
    text: str, options: Sequence[str], *, form: ReadingForm, language: str = "en"
) -> Reading:
    """Read an answer with the rules of its language. `value` is the index of the option, or the number."""
    answers, refusals = RULES.get(language, (UNKNOWN_LANGUAGE, RefusalRules()))
    reading = read_answer(text, options, form=form, rules=answers)
    return settle_refusal(reading, text, refusals, options)
'''


def harness_source(languages: Iterable[str], data_dir: Path) -> str:
    """Return one Python module with the reader, the refusals and the rules of some languages.

    The module needs nothing of this project, so that a harness can load it from a release.

    Args:
        languages: Language tags. Those without a file are read with `UNKNOWN_LANGUAGE`.
        data_dir: The vocabulary folder.
    """
    folder = Path(readings.__file__).parent
    trees = [ast.parse((folder / name).read_text(encoding="utf-8")) for name in _COPIED]
    imports = {ast.unparse(node): None for tree in trees for node in tree.body if _is_shared_import(node)}
    bodies = [ast.unparse(_without_imports(tree)) for tree in trees]
    known = {name: read_language_rules(data_dir, name) for name in sorted(set(languages))}
    rules = [
        f"    {name!r}: (\n        {_literal(rules.answers)},\n        {_literal(rules.refusals)},\n    ),"
        for name, rules in known.items()
        if rules.is_known
    ]
    table = "\n".join(["RULES = {", *rules, "}"])
    return "\n".join([_HEADER, *imports, "", *bodies, "", table, _FOOTER])


def _is_shared_import(node: ast.stmt) -> bool:
    """Whether a statement imports from the standard library."""
    if isinstance(node, ast.ImportFrom):
        return not (node.module or "").startswith(("tasks", "__future__"))
    return isinstance(node, ast.Import)


def _without_imports(tree: ast.Module) -> ast.Module:
    """Return a module without its docstring and imports."""
    body = [node for node in tree.body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return ast.Module(body=body, type_ignores=[])


def _literal(rules: ReaderRules | RefusalRules) -> str:
    """Return the expression that makes the rules. Fields with their default are left out."""
    plain = type(rules)()
    values = {f.name: getattr(rules, f.name) for f in fields(rules)}
    changed = {name: value for name, value in values.items() if value != getattr(plain, name)}
    return f"{type(rules).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"
