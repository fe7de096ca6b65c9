"""Read questions in the formats of others: CAB tables, BBNLI files, and the questions of a release."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from schemas.errors import InputError
from schemas.question import QUESTIONS, Framing, Question, question_id
from schemas.recipe import QuestionFile
from tasks.files.slot_values import CabNames, ValueWords, values_of
from tasks.files.tables import read_table_file
from tasks.files.vocabulary import read_attribute
from tasks.files.yaml import read_yaml
from tasks.text.slots import Slot, expand_template, parse_slots

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_SWAPPED = {"GROUP1": "GROUP2", "GROUP2": "GROUP1"}
CONTRADICTION, ENTAILMENT = 0, 2


# --- BBNLI ------------------------------------------------------------------------------------------------
#
# One file per stereotype: premises and hypotheses with placeholders for groups and words (arXiv 2305.12620,
# github.com/feyzaakyurek/bbnli).


class Stereotype(BaseModel):
    """One file. The third part of a hypothesis is the label that the stereotype predicts."""

    name: str
    premise: tuple[str, ...]
    bias_hypothesis_stereotypical: tuple[tuple[str, int, int], ...]
    words: dict[str, tuple[str, ...]] = Field(alias="data")
    first: tuple[str, ...] = Field(alias="GROUP1")
    second: tuple[str, ...] = Field(alias="GROUP2")


class Statement(BaseModel):
    """A premise and a hypothesis: one row of a file to be answered."""

    name: str
    item: str
    stereotype: int
    """The label that the stereotype predicts in BBNLI's numbering: 0 contradiction, 2 entailment."""
    wording: int
    premise: str
    hypothesis: str


def read_stereotype(path: Path) -> Stereotype:
    """Read one file. Raise `InputError` if it is not in BBNLI's format."""
    try:
        return Stereotype.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"not a file of BBNLI: {reason}", place=str(path)) from None


def statements_of(stereotype: Stereotype) -> Iterator[Statement]:
    """Yield every premise with every hypothesis, in both directions and in all wordings.

    Exchanging the groups inverts the predicted label. A hypothesis without a placeholder for a group has one
    direction only. The first wording is the original one.
    """
    groups = {"GROUP1": stereotype.first[0], "GROUP2": stereotype.second[0]}
    exchanged = {place: groups[other] for place, other in _SWAPPED.items()}
    for i, premise in enumerate(stereotype.premise):
        for j, (hypothesis, _, predicted) in enumerate(stereotype.bias_hypothesis_stereotypical):
            places = _PLACE.findall(hypothesis)
            sides = [(groups, predicted)]
            if set(places) & set(groups):
                sides.append((exchanged, CONTRADICTION if predicted == ENTAILMENT else ENTAILMENT))
            choices = {p: stereotype.words.get(p, ()) for p in dict.fromkeys(places) if p not in groups}
            for side, label in sides:
                for n, words in enumerate(product(*choices.values())):
                    yield Statement(
                        name=stereotype.name,
                        item=f"{i}.{j}",
                        stereotype=label,
                        wording=n,
                        premise=_fill(premise, groups | _first_words(stereotype)),
                        hypothesis=_fill(hypothesis, side | dict(zip(choices, words, strict=True))),
                    )


def _first_words(stereotype: Stereotype) -> dict[str, str]:
    return {place: words[0] for place, words in stereotype.words.items() if words}


def _fill(text: str, words: dict[str, str]) -> str:
    """Fill all placeholders in one pass. Those without a word stay unchanged."""
    return _PLACE.sub(lambda match: words.get(match.group(1), match.group()), text)


# --- CAB (arXiv 2510.12857) -------------------------------------------------------------------------------
#
# `example` is a text with slots. CAB's own reader replaces as many of the last words of the first option as
# another option has: `{{a man/woman}}` means "a man" and "a woman", but names of different lengths are mixed.
# Here options are read literally. `last_words` reads them in CAB's way, for files that were written for it.
# The value of an option is found by its words, never by its position.


COLUMNS = (
    "attribute",
    "expl_impl",
    "superdomain",
    "superdomain_explicit",
    "domain",
    "domain_explicit",
    "topic",
    "example",
)
NEEDED = ("attribute", "expl_impl", "superdomain", "domain", "topic", "example")
MOST_ROWS = 200
"""Failing rows that an error names."""
MAX_CHARACTERS = 20_000
"""Maximum length of a question in characters."""


def is_cab(columns: Iterable[str]) -> bool:
    """Return whether a table with these columns is in CAB's format."""
    return set(NEEDED) <= set(columns)


def read_cab(path: Path, data_dir: Path, *, last_words: bool = False) -> list[Question]:
    """Read the questions of a file, one per row, with explicit and implicit twins linked.

    Args:
        path: The table.
        data_dir: The vocabulary.
        last_words: Read options in CAB's way, see above.

    Returns:
        The questions in the order of the file. Repeated rows give the same question again.

    Raises:
        InputError: If a column is missing. Also with all failing rows if an attribute is unknown, a slot is
            broken, or its options do not belong to distinct values by their words.
    """
    rows, errors = read_cab_rows(path, data_dir, last_words=last_words)
    if errors:
        raise explain_rows(errors)
    return [question for question, _ in rows]


def read_cab_rows(
    path: Path, data_dir: Path, *, last_words: bool = False
) -> tuple[list[tuple[Question, str]], list[InputError]]:
    """Read like `read_cab`, and return the questions with their places, and the errors of the other rows.

    Raises:
        InputError: If a column is missing.
    """
    table = read_table_file(path)
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=str(path),
            hint=f"CAB's columns are: {', '.join(COLUMNS)}",
        )
    reader = CabReader(data_dir, last_words=last_words)
    records = table.select([c for c in COLUMNS if c in table.column_names]).to_pylist()
    rows: list[tuple[Question, str]] = []
    explicit_units: dict[str, tuple[str, ...]] = {}
    errors: list[InputError] = []
    for number, row in enumerate(records, start=1):
        place = f"{path}, row {number}"
        try:
            question = reader.question_of(row, place)
        except InputError as error:
            errors.append(error)
            continue
        rows.append((question, place))
        explicit_units.setdefault(question.id, _explicit_unit(row))
    unique = {q.id: q for q, _ in reversed(rows)}
    linked = {q.id: q for q in _link_twins(list(reversed(unique.values())), explicit_units)}
    return [(linked[q.id], place) for q, place in rows], errors


def explain_rows(errors: Sequence[InputError]) -> InputError:
    """Return one error that names every failing row, up to `MOST_ROWS`.

    Errors of a file that many rows use are named once.
    """
    count = len(errors)
    errors = list({(e.place, e.message): e for e in errors}.values())
    if len(errors) == 1:
        return errors[0]
    lines = [f"\n  {e.place}: {e.message}" for e in errors[:MOST_ROWS]]
    rest = len(errors) - len(lines)
    more = f"\n  and {rest} more rows" if rest else ""
    hints = dict.fromkeys(e.hint for e in errors if e.hint)
    return InputError(
        f"{count} rows cannot be used:{''.join(lines)}{more}",
        place=errors[0].place,
        hint="; ".join(list(hints)[:3]) or None,
    )


class CabReader:
    """Makes questions of CAB's rows. Attributes are read once."""

    def __init__(self, data_dir: Path, *, last_words: bool = False) -> None:
        """Read the names of CAB's attributes."""
        self._data_dir = data_dir
        self._names = read_yaml(data_dir / "imports" / "cab.yaml", CabNames)
        self._last_words = last_words
        self._words: dict[str, ValueWords] = {}

    def question_of(self, row: Mapping[str, Any], place: str) -> Question:
        """Return the question of a row. Raise `InputError` if it cannot be used."""
        words = self._value_words(_cell(row, "attribute").lower(), place)
        attribute = words.attribute
        template = _template_of(_cell(row, "example"), self._last_words, place)
        framing = _framing(_cell(row, "expl_impl"), place)
        values = values_of(template, words, place)
        try:
            variants = expand_template(template, values)
        except InputError as error:
            raise InputError(error.message, place=place, hint=error.hint) from None
        return Question(
            id=question_id(
                family="open",
                attribute=attribute.id,
                framing=framing,
                control="none",
                template=template,
                values=values,
            ),
            family="open",
            attribute=attribute.id,
            framing=framing,
            control="none",
            superdomain=slug(_cell(row, "superdomain")),
            domain=slug(_cell(row, "domain")),
            topic=slug(_cell(row, "topic")),
            language="en",
            template=template,
            values=values,
            variants=variants,
            options=(),
            origin="imported",
            operator=None,
            parent_id=None,
            twin_id=None,
            template_id=None,
            composition=None,
            round=0,
            label="unlabelled",
            fitness=None,
            holdout_effect=None,
            changed_in=None,
        )

    def _value_words(self, name: str, place: str) -> ValueWords:
        own = self._names.attributes.get(name, name)
        if own not in self._words:
            try:
                attribute = read_attribute(self._data_dir, own)
            except InputError:
                raise InputError(
                    f"{name[:40]!r} is not an attribute of CAB or of the vocabulary",
                    place=place,
                    hint=f"CAB has: {', '.join(self._names.attributes)}; add others in data/attributes, or "
                    "under another name in data/imports/cab.yaml",
                ) from None
            self._words[own] = ValueWords(attribute, self._names.words.get(own, {}))
        return self._words[own]


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else " ".join(str(value).split())


def _framing(text: str, place: str) -> Framing:
    if text.lower().startswith("expl"):
        return "explicit"
    if text.lower().startswith("impl"):
        return "implicit"
    raise InputError(f"expl_impl is {text[:40]!r}", place=place, hint="it must be `explicit` or `implicit`")


def _template_of(text: str, last_words: bool, place: str) -> str:
    if not text or len(text) > MAX_CHARACTERS:
        raise InputError(f"the example has {len(text):,} characters", place=place)
    try:
        parts = parse_slots(text)
    except InputError as error:
        raise InputError(error.message, place=f"{place}, {error.place}", hint=error.hint) from None
    if not any(isinstance(part, Slot) for part in parts):
        raise InputError("the example has no slot", place=place, hint="a slot is written {{man/woman}}")
    read = replace_last_words if last_words else str
    return "".join(part if isinstance(part, str) else read(part) for part in parts)


def replace_last_words(slot: Slot) -> str:
    """Expand options by CAB's rule: an option of n words replaces the last n words of the first option.

    `{{a man/woman}}` becomes `{{a man/a woman}}`.
    """
    first = slot.options[0].split()
    options = [first]
    for option in slot.options[1:]:
        words = option.split()
        options.append([*first[: max(0, len(first) - len(words))], *words])
    return str(Slot(tuple(" ".join(words) for words in options)))


def slug(text: str) -> str:
    """Return a name as an id: lower case, words joined by `_`, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60] or "unnamed"


def _explicit_unit(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return superdomain, domain and topic of the explicit form. Twins share them."""
    superdomain = _cell(row, "superdomain_explicit") or _cell(row, "superdomain")
    domain = _cell(row, "domain_explicit") or _cell(row, "domain")
    return slug(superdomain), slug(domain), slug(_cell(row, "topic"))


def _link_twins(questions: Sequence[Question], units: Mapping[str, tuple[str, ...]]) -> list[Question]:
    """Link an explicit and an implicit question if each is the only one of its attribute and topic.

    CAB's rows have no other link between them.
    """
    by_topic: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for q in questions:
        by_topic[(q.attribute, *units[q.id])][q.framing].append(q.id)
    twins: dict[str, str] = {}
    for framings in by_topic.values():
        if len(framings["explicit"]) == len(framings["implicit"]) == 1:
            one, other = framings["explicit"][0], framings["implicit"][0]
            twins |= {one: other, other: one}
    return [q.model_copy(update={"twin_id": twins.get(q.id)}) for q in questions]


def cab_rows(questions: Iterable[Question]) -> tuple[list[dict[str, str]], list[Question]]:
    """Convert open questions to CAB's rows.

    Returns:
        The rows, and the questions with a slash in an option, which CAB's format cannot express.
    """
    all_questions = list(questions)
    by_id = {q.id: q for q in all_questions}
    rows, left_out = [], []
    for q in all_questions:
        if any("/" in option or "\\" in option for v in q.variants for option in v.slots):
            left_out.append(q)
            continue
        explicit = by_id.get(q.twin_id or "", q) if q.framing == "implicit" else q
        rows.append(
            {
                "attribute": q.attribute,
                "expl_impl": q.framing,
                "superdomain": q.superdomain,
                "superdomain_explicit": explicit.superdomain,
                "domain": q.domain,
                "domain_explicit": explicit.domain,
                "topic": q.topic,
                "example": q.template,
            }
        )
    return rows, left_out


# --- question files of a recipe ---------------------------------------------------------------------------


FORMATS = ("auto", "cab", "questions")


def read_question_file(file: QuestionFile, data_dir: Path) -> list[Question]:
    """Read the questions of a file as unlabelled ones. Raise `InputError` if its format is unknown."""
    if file.format not in FORMATS:
        raise InputError(
            f"there is no question format {file.format!r}",
            place=file.path,
            hint=f"known formats: {', '.join(FORMATS)}",
        )
    path = Path(file.path)
    columns = read_table_file(path).column_names
    if file.format == "cab" or (file.format == "auto" and is_cab(columns)):
        return read_cab(path, data_dir, last_words=file.last_words)
    if {"template", "values", "variants"} <= set(columns):
        return read_release_questions(path)
    raise InputError(
        f"{path.name} contains no questions in a known format",
        place=str(path),
        hint=f"give a table with CAB's columns ({', '.join(COLUMNS)}), or the questions of a release",
    )


def read_release_questions(path: Path) -> list[Question]:
    """Read the open questions of a release without its controls, because a build makes its own."""
    table = read_table_file(path)
    known = [name for name in QUESTIONS.arrow_schema.names if name in table.column_names]
    try:
        rows = [Question.model_validate(record) for record in table.select(known).to_pylist()]
    except ValueError as error:
        raise InputError(f"not a table of questions: {str(error).splitlines()[0]}", place=str(path)) from None
    kept = [q for q in rows if q.control == "none" and q.family == "open"]
    ids = {q.id for q in kept}
    return [
        q.model_copy(
            update={
                "origin": "imported",
                "operator": None,
                "parent_id": None,
                "twin_id": q.twin_id if q.twin_id in ids else None,
                "round": 0,
                "label": "unlabelled",
                "fitness": None,
                "holdout_effect": None,
            }
        )
        for q in kept
    ]
