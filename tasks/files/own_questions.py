"""Read questions that people wrote, from tables with a text and an attribute per row.

Every row is read before an error is raised, so that all faults are reported at once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.question import UNREVIEWED_TRANSLATION, Framing, Option, Question, new_question
from schemas.recipe import FAMILIES, OwnQuestions
from schemas.tables import derived_seed
from tasks.files.bbq_rows import is_published, read_published
from tasks.files.questions import explain_rows, is_cab, read_cab_rows, read_release_questions
from tasks.files.readers import read_language_rules
from tasks.files.slot_values import ValueWords, bind_text, value_words
from tasks.files.tables import read_table_file
from tasks.files.vocabulary import input_path, read_templates
from tasks.text.slots import expand_template
from tasks.text.slugs import slugify

COLUMNS = ("text", "attribute", "id", "language", "topic", "family", "options", "twin_of", "framing")
NO_TOPIC = "no_topic"
LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
REVIEW = "review"
"""Column of translations: `unreviewed`, and then `accepted`, or `rejected` to leave the row out."""
UNREVIEWED = "unreviewed"
ACCEPTED = "accepted"
REVIEWS = {"": None, UNREVIEWED: UNREVIEWED_TRANSLATION, ACCEPTED: "translate"}
"""Operator of a question by its review."""
REJECTED = "rejected"
MAX_CHARACTERS = 20_000
WITHOUT_OPTIONS = frozenset({"open", "autocomplete", "perplexity_pair"})
YES_NO = ("yes", "no")
SCALE = ("1", "2", "3", "4", "5")
"""Options of a rating that names none."""
FORMS = "`open` for free answers, `decision` for a choice between yes and no, `rating` for a point of a scale"
BBQ_COLUMNS = frozenset({"context", "question"})
DISCRIM_EVAL_COLUMNS = frozenset({"filled_template"})
TABLE_FILES = (".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")


class Place(Protocol):
    """Return the local path of a source. Raise `InputError` if it is not available."""

    def __call__(self, path: str, /) -> Path:
        """Return the path."""
        ...


@dataclass(frozen=True)
class ReadQuestion:
    """A question with the row that it comes from."""

    question: Question
    place: str
    source: int
    """Number of the source in the recipe, from 0."""
    text: str = ""
    """The text as it was written, for tables with a text."""


@dataclass(frozen=True)
class OwnTable:
    """All questions of the sources of a recipe, in the order of their rows."""

    rows: tuple[ReadQuestion, ...] = ()

    @property
    def questions(self) -> list[Question]:
        """All questions, exact repeats included."""
        return [row.question for row in self.rows]

    @property
    def repeats(self) -> list[tuple[ReadQuestion, ReadQuestion]]:
        """Rows that repeat an earlier row exactly, each with that row."""
        first: dict[str, ReadQuestion] = {}
        return [
            (row, first[row.question.id])
            for row in self.rows
            if first.setdefault(row.question.id, row) is not row
        ]

    def families(self) -> dict[str, list[int]]:
        """Return the numbers of the sources of each family."""
        found: dict[str, list[int]] = {}
        for row in self.rows:
            sources = found.setdefault(row.question.family, [])
            if row.source not in sources:
                sources.append(row.source)
        return found


def read_own_questions(
    sources: Sequence[OwnQuestions], data_dir: Path, place: Place = input_path
) -> OwnTable:
    """Read the questions of all sources of a recipe.

    Args:
        sources: The section `questions` of a recipe.
        data_dir: The vocabulary.
        place: Finds the file or folder of a source.

    Raises:
        InputError: If a file cannot be read, or rows cannot be used. All such rows are named.
    """
    rows: list[ReadQuestion] = []
    links: list[_Link] = []
    errors: list[InputError] = []
    for number, source in enumerate(sources):
        try:
            for path in source_files(place(source.path), source.path):
                read, linked, failed = _read_file(path, source, data_dir)
                rows += [ReadQuestion(q, at, number, text) for q, at, text in read]
                links += linked
                errors += failed
        except InputError as error:
            errors.append(error)
    rows, failed = _link_rows(rows, links)
    errors += failed
    if errors:
        raise explain_rows(errors)
    return OwnTable(tuple(rows))


def source_files(path: Path, name: str) -> list[Path]:
    """Return the file itself, or all tables of a folder, such as those of a downloaded dataset.

    Raises:
        InputError: If nothing is there.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TABLE_FILES and p.is_file())
        files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not files:
            raise InputError(
                "there is no table in it", place=name, hint=f"supported are {', '.join(TABLE_FILES)}"
            )
        own = path / "data" / "questions"
        return [p for p in files if own in p.parents] or files
    if not path.is_file():
        raise InputError(
            f"there is no {name}", place="questions", hint="paths are relative to the working directory"
        )
    return [path]


@dataclass(frozen=True)
class _Link:
    """The id, and the id of the twin, of one row."""

    id: str
    twin_of: str
    language: str
    question: str
    place: str


FileRows = tuple[list[tuple[Question, str, str]], list[_Link], list[InputError]]
"""Questions with place and text, links between rows, and the errors of rows that cannot be used."""


def _read_file(path: Path, source: OwnQuestions, data_dir: Path) -> FileRows:
    table = read_table_file(path)
    columns = table.column_names
    kind = source.format if source.format != "auto" else detect_layout(columns, source)
    if kind == "cab":
        questions, errors = read_cab_rows(path, data_dir, last_words=source.last_words)
        return [(q, at, q.template) for q, at in questions], [], errors
    if kind == "questions":
        return [(q, f"{path}, question {q.id}", q.template) for q in read_release_questions(path)], [], []
    records = table.to_pylist()
    if kind == "discrim_eval":
        from tasks.files.filled_questions import read_filled_rows

        return _read_records(read_filled_rows(records, path, data_dir), source, data_dir)
    if kind == "bbq" and records and all(map(is_published, records)):
        read, errors = read_published((r, f"{path}, row {n}") for n, r in enumerate(records, 1))
        return read, [], errors
    if kind == "bbq":
        rows, failed = [], []
        for number, record in enumerate(records, start=1):
            place = f"{path}, row {number}"
            try:
                rows.append((_bbq_row(record, place), place))
            except InputError as error:
                failed.append(error)
        read, links, errors = _read_records(rows, source, data_dir)
        return read, links, [*failed, *errors]
    names = _column_names(source, columns, path)
    rows = [
        ({key: record.get(name) for key, name in names.items()}, f"{path}, row {n}")
        for n, record in enumerate(records, 1)
        if any(cell(record, column) for column in columns)  # spreadsheets keep empty rows at the end
    ]
    return _read_records(rows, source, data_dir)


def detect_layout(columns: Sequence[str], source: OwnQuestions) -> str:
    """Return the format of a table by its columns: `cab`, `questions`, `discrim_eval`, `bbq` or `table`."""
    named = set(columns)
    if (source.columns.text or "text") in named:
        return "table"
    if is_cab(columns):
        return "cab"
    if {"template", "values", "variants"} <= named:
        return "questions"
    if named >= DISCRIM_EVAL_COLUMNS:
        return "discrim_eval"
    return "bbq" if named >= BBQ_COLUMNS else "table"


def _column_names(source: OwnQuestions, columns: Sequence[str], path: Path) -> dict[str, str]:
    """Return the column of each key. Raise `InputError` if a named or needed one is missing."""
    named = {key: name for key in COLUMNS if (name := getattr(source.columns, key)) is not None}
    missing = [name for name in named.values() if name not in columns]
    found = {key: named.get(key, key) for key in (*COLUMNS, REVIEW) if named.get(key, key) in columns}
    needed = ["text"] if source.attribute else ["text", "attribute"]
    missing += [key for key in needed if key not in found and key not in named]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=str(path),
            hint=f"the file has: {', '.join(columns)}. Name other columns under `columns`, as in "
            "`columns: {text: question, attribute: about}`",
        )
    return found


def _bbq_row(record: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a row with a context and options as a row of a table. Raise `InputError` if nothing varies."""
    answers = [record[name] for name in sorted(record) if name[:3] == "ans" and name[3:].isdigit()]
    text = " ".join(str(record.get(name) or "").strip() for name in ("context", "question")).strip()
    if "{" not in text:
        raise InputError(
            "the text has no slot",
            place=place,
            hint="mark what differs as {{a man/a woman}}, or give all columns of a published row of BBQ: "
            "context_condition, question_polarity, ans0, ans1, ans2, label, answer_info, additional_metadata",
        )
    kept = {key: record[key] for key in COLUMNS if record.get(key) is not None}
    topic = kept.get("topic") or record.get("category")
    given = kept.get("options") or answers or None
    return {
        **kept,
        "text": text,
        "topic": topic,
        "options": given,
        "id": kept.get("id") or record.get("example_id"),
    }


def _read_records(
    rows: Iterable[tuple[Mapping[str, Any], str]], source: OwnQuestions, data_dir: Path
) -> FileRows:
    reader = _RowReader(source, data_dir)
    read: list[tuple[Question, str, str]] = []
    links: list[_Link] = []
    errors: list[InputError] = []
    for row, place in rows:
        if cell(row, REVIEW).lower() == REJECTED:
            continue
        try:
            question = reader.question_of(row, place)
        except InputError as error:
            errors.append(error)
            continue
        read.append((question, place, cell(row, "text")))
        links.append(_Link(cell(row, "id"), cell(row, "twin_of"), question.language, question.id, place))
    return read, links, errors


def cell(row: Mapping[str, Any], name: str) -> str:
    """Return a cell as text without white space around it. Missing values and NaN are empty."""
    value = row.get(name)
    if value is None or value != value:
        return ""
    return str(value).strip()


@dataclass
class _RowReader:
    """Makes questions of rows. Attributes are read once."""

    source: OwnQuestions
    data_dir: Path
    words: dict[tuple[str, str], ValueWords] = field(default_factory=dict)

    def question_of(self, row: Mapping[str, Any], place: str) -> Question:
        """Return the question of a row. Raise `InputError` if it cannot be used."""
        text = cell(row, "text")
        if not text:
            raise InputError("the text is missing", place=place, hint="write the question, or remove the row")
        if len(text) > MAX_CHARACTERS:
            raise InputError(f"the text has {len(text):,} characters", place=place, hint="shorten it")
        family = self._family(row, place)
        words = self._words(row, place)
        attribute = words.attribute
        language = self._language(row, place) or attribute.language
        if "values" in row:  # the reader of the format knows them
            template, values = text, tuple(row["values"])
        else:
            template, values = bind_text(text, words, place, derived_seed(0, cell(row, "id"), text))
        framing = _framing(cell(row, "framing"), place)
        topic = slugify(cell(row, "topic")) if cell(row, "topic") else NO_TOPIC
        valences = [attribute.value(v).valence for v in values]
        own_id, review = cell(row, "id"), cell(row, REVIEW).lower()
        if review not in REVIEWS:
            raise InputError(
                f"the review is {review[:40]!r}",
                place=place,
                hint="it must be `unreviewed`, `accepted`, `rejected` or empty",
            )
        return new_question(
            family=family,
            attribute=attribute.id,
            framing=framing,
            superdomain=topic,
            domain=topic,
            topic=topic,
            language=language,
            template=template,
            values=values,
            variants=expand_template(template, values, valences),
            options=self._options(row, family, language, place),
            origin="imported",
            operator=REVIEWS[review],
            template_id=own_id or None,
            label="unlabelled" if family == "open" else "accepted",
        )

    def _language(self, row: Mapping[str, Any], place: str) -> str:
        language = cell(row, "language").lower().replace("_", "-") or self.source.language or ""
        if language and not LANGUAGE_CODE.fullmatch(language):
            raise InputError(
                f"{language[:40]!r} is no language code",
                place=place,
                hint="write codes such as en, es or pt-br",
            )
        return language

    def _family(self, row: Mapping[str, Any], place: str) -> str:
        family = cell(row, "family").lower() or self.source.family or "open"
        if family not in FAMILIES:
            raise InputError(
                f"unknown family {family[:40]!r}",
                place=place,
                hint=f"use {FORMS}; all families: {', '.join(FAMILIES)}",
            )
        return family

    def _words(self, row: Mapping[str, Any], place: str) -> ValueWords:
        name = cell(row, "attribute") or self.source.attribute or ""
        if not name:
            raise InputError(
                "the attribute is missing",
                place=place,
                hint="name one in the row, or under `attribute` of the file",
            )
        language = self._language(row, place)
        key = (slugify(name) if name != slugify(name).replace("_", "-") else name, language)
        if key not in self.words:
            self.words[key] = value_words(self.data_dir, name, language or None, place)
        return self.words[key]

    def _options(self, row: Mapping[str, Any], family: str, language: str, place: str) -> tuple[Option, ...]:
        given = read_options(row.get("options"), place)
        if family in WITHOUT_OPTIONS:
            if given:
                raise InputError(
                    f"questions of the family {family!r} have no options",
                    place=place,
                    hint="name a family with options in the column `family`, such as `decision` or `rating`, "
                    "or leave the options out",
                )
            return ()
        if family == "rating":
            return _scale(given)
        usual = default_options(self.data_dir, family, language)
        roles = [o.role for o in usual or default_options(self.data_dir, family, "en")]
        decides = set(roles) == set(YES_NO)
        if not given:
            if not usual:
                raise InputError(
                    f"the options are missing, and the family {family!r} has no usual ones in {language!r}",
                    place=place,
                    hint='write them as `[{"text": "Yes", "role": "yes"}, {"text": "No", "role": "no"}]`',
                )
            return usual
        known = yes_no_words(self.data_dir, language) if decides else {}
        known |= {o.text.casefold(): o.role for o in usual}
        options = tuple(_with_role(option, known, roles, family, place) for option in given)
        if decides and sorted(o.role for o in options) != sorted(YES_NO):
            raise InputError(
                f"the options have the roles {', '.join(o.role for o in options)[:80]}",
                place=place,
                hint=f"questions of the family {family!r} have one option with the role yes and one with the "
                "role no; use the family `rating` for a scale",
            )
        return options


def _framing(text: str, place: str) -> Framing:
    known: dict[str, Framing] = {"": "explicit", "expl": "explicit", "impl": "implicit"}
    framing = known.get(text.lower()[:4])
    if framing is None:
        raise InputError(
            f"the framing is {text[:40]!r}", place=place, hint="it must be `explicit` or `implicit`"
        )
    return framing


def read_options(given: Any, place: str) -> list[dict[str, Any]]:
    """Return the options of a cell: a list, a JSON list, or texts separated by `|`.

    Raises:
        InputError: If they cannot be read, or there are fewer than two.
    """
    if given is None or given == "" or given == [] or given != given:
        return []
    items: Any = given
    if isinstance(given, str):
        if given.lstrip().startswith("["):
            try:
                items = json.loads(given)
            except ValueError:
                raise InputError(
                    "the options are not valid JSON", place=place, hint="separate them by `|`"
                ) from None
        else:
            items = [part.strip() for part in given.split("|")]
    options = [{"text": item.strip()} if isinstance(item, str) else item for item in items]
    if len(options) < 2 or not all(
        isinstance(o, Mapping) and str(o.get("text") or "").strip() for o in options
    ):
        raise InputError("a forced choice needs two or more options with a text", place=place)
    texts = [" ".join(str(option["text"]).casefold().split()) for option in options]
    if len(set(texts)) < len(texts):
        raise InputError("two options have the same text", place=place, hint="remove one of them")
    return [dict(option) for option in options]


def _scale(given: Sequence[Mapping[str, Any]]) -> tuple[Option, ...]:
    """Return the points of a scale from worst to best. The role of a point is its place."""
    texts = [str(option["text"]).strip() for option in given] or SCALE
    return tuple(Option(text=text, role=str(place), valence=None) for place, text in enumerate(texts, 1))


def yes_no_words(data_dir: Path, language: str) -> dict[str, str]:
    """Return the role of each word for yes and no in a language, the usual one first."""
    rules = read_language_rules(data_dir, language).answers
    return {word: role for role, words in (("yes", rules.yes), ("no", rules.no)) for word in words}


def default_options(data_dir: Path, family: str, language: str) -> tuple[Option, ...]:
    """Return the options that the family's templates in this language share, if they have some.

    If those of English are yes and no, other languages have their words for them.
    """
    found = _default_options(data_dir, family)
    if language in found or {o.role for o in found.get("en", ())} != set(YES_NO):
        return found.get(language, ())
    first = {role: word for word, role in reversed(yes_no_words(data_dir, language).items())}
    if set(first) != set(YES_NO):
        return ()
    return tuple(Option(text=first[o.role].capitalize(), role=o.role) for o in found["en"])


@cache
def _default_options(data_dir: Path, family: str) -> dict[str, tuple[Option, ...]]:
    if not (data_dir / "templates" / family).is_dir():
        return {}
    try:
        files = read_templates(data_dir, family)
    except InputError:
        return {}
    return {file.language: file.options for file in reversed(files) if file.options}


def _with_role(
    option: Mapping[str, Any], known: Mapping[str, str], roles: Sequence[str], family: str, place: str
) -> Option:
    """Return an option with its role: the one it names, or the known one of its text."""
    text = str(option["text"]).strip()
    role = option.get("role") or known.get(text.casefold())
    if role is None:
        raise InputError(
            f"the option {text[:40]!r} has no role in the family {family!r}",
            place=place,
            hint='write `[{"text": …, "role": …}, …]`'
            + (f"; its roles are {', '.join(roles)}" if roles else "")
            + ("; use the family `rating` for a scale" if set(roles) == set(YES_NO) else ""),
        )
    try:
        return Option(text=text, role=str(role), valence=option.get("valence"))
    except ValidationError:
        raise InputError(
            f"the valence of the option {text[:40]!r} is not a whole number", place=place
        ) from None


def _link_rows(
    rows: Sequence[ReadQuestion], links: Sequence[_Link]
) -> tuple[list[ReadQuestion], list[InputError]]:
    """Link twins by the ids of their rows. A translation gets the id of its original.

    Rows of one language with the same id are a fault, unless they repeat each other.
    """
    by_place = {row.place: row.question for row in rows}
    known: dict[tuple[str, str], _Link] = {}
    errors: list[InputError] = []
    for link in links:
        if not link.id:
            continue
        first = known.setdefault((link.id, link.language), link)
        if first.question != link.question and not _may_share_id(by_place[first.place], by_place[link.place]):
            hint = "give each row of one language an id of its own"
            errors.append(
                InputError(f"the id {link.id!r} is that of {first.place}", place=link.place, hint=hint)
            )
    by_id: dict[str, list[_Link]] = {}
    for link in known.values():
        by_id.setdefault(link.id, []).append(link)
    twins: dict[str, str] = {}
    originals: dict[str, str] = {}
    for link in links:
        if not link.twin_of:
            continue
        others = by_id.get(link.twin_of, [])
        other = next((o for o in others if o.language == link.language), others[0] if others else None)
        if other is None:
            hint = "`twin_of` names the `id` of another row"
            errors.append(InputError(f"no row has the id {link.twin_of!r}", place=link.place, hint=hint))
            continue
        one, two = by_place[link.place], by_place[other.place]
        if other.language != link.language:
            originals[one.id] = two.template_id or two.id
        elif problem := _no_twins(one, two):
            errors.append(InputError(f"the row is no twin of {other.place}: {problem}", place=link.place))
        else:
            twins |= {one.id: two.id, two.id: one.id}
    linked = [
        replace(
            row,
            question=row.question.model_copy(
                update={
                    "twin_id": twins.get(row.question.id, row.question.twin_id),
                    "template_id": originals.get(row.question.id, row.question.template_id),
                }
            ),
        )
        for row in rows
    ]
    return linked, errors


def _may_share_id(one: Question, two: Question) -> bool:
    """Return whether two questions may have one id: the same question about other attributes or framings."""
    return (one.attribute, one.framing) != (two.attribute, two.framing)


def _no_twins(one: Question, two: Question) -> str | None:
    if one.framing == two.framing:
        return f"both are {one.framing}"
    for name in ("family", "attribute", "values", "topic"):
        if getattr(one, name) != getattr(two, name):
            return f"they differ in their {name}"
    return None


def translation_notes(questions: Iterable[Question]) -> list[str]:
    """Return how many questions of each language a model translated, and whether people accepted them."""
    words = {
        REVIEWS[UNREVIEWED]: "translated by a model and not reviewed",
        REVIEWS[ACCEPTED]: "translated and accepted",
    }
    counts = Counter((q.operator, q.language) for q in questions if q.operator in words)
    return [f"{n:,} in {language} {words[operator]}" for (operator, language), n in sorted(counts.items())]
