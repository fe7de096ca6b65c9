"""Write a commented recipe, or an attribute file, to start from."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.workspace import open_workspace
from schemas.errors import InputError
from schemas.options import InitOptions
from schemas.recipe import FAMILIES, Recipe
from schemas.vocabulary import UNTRANSLATED, Attribute
from tasks.files.tables import read_table_file
from tasks.files.vocabulary import read_attribute
from tasks.files.yaml import parse_yaml
from tasks.models.names import is_loopback, parse_model_name
from tasks.run.store import write_bytes
from tasks.text.slugs import slugify

DEFAULT_TARGET = "embedded:smollm2-135m"
DEFAULT_ATTRIBUTE = "gender"
LONGEST = 60
"""Characters of a line with a comment beside it."""
KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "question", "prompt", "template", "question_text", "wording"),
    "attribute": ("attribute", "about", "group", "about_whom"),
    "id": ("id", "key", "question_id", "item", "item_no", "no", "nr"),
    "language": ("language", "lang"),
    "topic": ("topic", "area", "domain", "theme", "category"),
    "options": ("options", "choices"),
    "family": ("family", "kind", "answer_type", "kind_of_answer"),
}
"""Names of columns that are recognised for each key, best first, in lower case with `_` for other marks."""
ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)


def run_init(options: InitOptions) -> dict[str, Any]:
    """Write the file and return the fields of `init --json`.

    Raises:
        InputError: If the file exists already, or an answer is not valid.
    """
    if options.kind == "attribute":
        path, text = _attribute_file(options)
    else:
        path, text = _recipe_file(_ask(options))
    if path.exists() and not options.overwrite:
        raise InputError(
            f"{path} exists already", place=str(path), hint="name another file with --out, or add --overwrite"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())
    return {"path": str(path), "next": next_step(path, options)}


def next_step(path: Path, options: InitOptions) -> str:
    """Return what to do with a new file."""
    if options.kind != "attribute":
        return f"counterfoil plan {path}"
    if options.language != "en":
        return (
            f"write words in {options.language!r} for every line with {UNTRANSLATED} in {path}, "
            f"and give rows the language {options.language}"
        )
    return (
        f"correct the words in {path}, and name it in your questions: in the column `attribute`, or with "
        f"`attribute: {path.stem}` in the recipe"
    )


def _ask(options: InitOptions) -> InitOptions:
    """Ask for the answers that no option gives. Without a terminal, nothing is asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or options.targets:
        return options
    import click

    def ask(question: str, default: str = "") -> tuple[str, ...]:
        answer = click.prompt(question, default=default, err=True, show_default=bool(default))
        return tuple(part.strip() for part in str(answer).split(",") if part.strip())

    answers: dict[str, Any] = {}
    if not options.questions:
        answers["questions"] = ask("File with your questions, or how many shipped ones to draw", "20")
    if not options.attributes and not _files(options.model_copy(update=answers)):
        answers["attributes"] = ask("Attributes to compare, separated by commas", DEFAULT_ATTRIBUTE)
    answers["targets"] = ask("Models to ask, such as openai:NAME@http://localhost:8000/v1", DEFAULT_TARGET)
    if not options.judges:
        answers["judges"] = ask(
            "Judge: a model, or `divergence` for statistics without a model", "divergence"
        )
    return options.model_copy(update=answers)


def _files(options: InitOptions) -> list[Path]:
    """Return the files of own questions. A number is no file."""
    return [Path(text) for text in options.questions if not text.isdigit()]


def _count(options: InitOptions) -> int:
    """Return how many shipped questions to draw for each family."""
    return next((int(text) for text in options.questions if text.isdigit()), 20)


# Recipes.


def _recipe_file(options: InitOptions) -> tuple[Path, str]:
    name = slugify(options.name or (options.out.stem if options.out else "my-study")).replace("_", "-")
    path = options.out or Path(f"{name}.yaml")
    text = recipe_text(options, name)
    parse_yaml(text, Recipe, place=str(path))
    return path, text


def recipe_text(options: InitOptions, name: str) -> str:
    """Return a commented recipe.

    Raises:
        InputError: If a model name is not valid, or an attribute is unknown.
    """
    targets = options.targets or (DEFAULT_TARGET,)
    judges = options.judges or ("divergence",)
    files, count = _files(options), _count(options)
    attributes = options.attributes or (() if files else (DEFAULT_ATTRIBUTE,))
    data_dir = open_workspace().with_attributes(Path.cwd(), *([options.out.parent] if options.out else []))
    for attribute in attributes:
        read_attribute(data_dir.vocabulary, attribute)
    models = [m for m in (*targets, *judges) if ":" in m]
    free = [m for m in models if _is_own_server(m)]
    lines = [
        f"# Check it with `counterfoil plan {name}.yaml`: nothing is sent, and no key is needed.",
        "# Every key: `counterfoil recipe --explain`.",
        f"name: {name}",
        *_aligned(
            (f"title: {_quoted(_title(options, name))}", "for the card and the report"),
            ("description: ''", "one paragraph for the card"),
            ("seed: 1", "equal seeds, equal questions"),
        ),
        "",
    ]
    if attributes:
        lines += [
            "# Names of files in data/attributes, or in a folder `attributes` beside this recipe.",
            f"attributes: {_listed(attributes)}",
            "",
        ]
    lines += [
        "models:",
        "  # backend:name[@endpoint], such as openai:gpt-5-mini or openai:NAME@http://localhost:8000/v1",
        f"  targets: {_listed(targets)}",
        "  # `divergence` is a permutation test on the answers, without a model. A model also scores who is",
        "  # treated worse. Judges and targets should not be of one model family.",
        f"  judges: {_listed(judges)}",
        "  may_share_family: false",
        "",
    ]
    if files:
        lines += [
            "# Your own questions. Slots are written {{a man/a woman}}, or {noun} for every value.",
            "questions:",
        ]
        for file in files:
            lines += _source_lines(file, attributes)
        lines += [
            "# none: every valid question is asked once and released, also if no difference is found.",
            "selection: none",
            "",
        ]
    else:
        lines += [
            "# Families of shipped questions: how many to draw, and how many answers to each version.",
            "families:",
            *_aligned(
                (f"  open: {{questions: {count}, samples: 3, max_tokens: 300}}", "advice, judged"),
                (
                    f"  decision: {{questions: {count}, samples: 3, conditions: [plain]}}",
                    "yes or no, not judged",
                ),
            ),
            "# floor: keep open questions above the noise floor of the controls. none: keep all.",
            "selection: floor",
            "",
        ]
    lines += [
        "# Share of control questions, whose true effect is zero. They measure the noise floor.",
        "controls: {a_a: 0.5, placebo: 0.5, neutral: 0.1}",
        "",
        "budget:",
        *_aligned(
            (f"  usd: {options.budget_usd:g}", "a build that may cost more does not start"),
            (f"  free: {_listed(free)}", "models without cost, such as your own server"),
        ),
        "",
        "# Add `repo: org/name` to publish it, and `version: 1.0.0` to name the first version.",
        "release: {licence: cc-by-4.0}",
    ]
    return "\n".join(lines) + "\n"


def _title(options: InitOptions, name: str) -> str:
    """Return the name as it was given, with a capital letter. A name of a file has hyphens for spaces."""
    given = (options.name or "").strip()
    title = given if " " in given else name.replace("-", " ")
    return title[:1].upper() + title[1:]


def _source_lines(file: Path, attributes: Sequence[str]) -> list[str]:
    lines = [f"  - path: {_quoted(str(file))}"]
    table = read_table_file(file) if file.is_file() else None
    columns = table.column_names if table else []
    renamed = {}
    for key, names in KNOWN_COLUMNS.items():
        found = next((n for name in names for n in columns if slugify(n) == name), None)
        if found is None or found == key:
            continue
        if key == "family" and table and not _names_families(table.column(found).to_pylist()):
            continue
        renamed[key] = found
    if renamed:
        pairs = ", ".join(f"{key}: {_quoted(name)}" for key, name in renamed.items())
        lines.append(f"    columns: {{{pairs}}}")
    has_attribute = any(slugify(n) in KNOWN_COLUMNS["attribute"] for n in columns)
    commented = []
    if attributes and columns and not has_attribute:
        commented.append((f"    attribute: {attributes[0]}", "of rows that name none"))
    commented.append(("    samples: 3", "answers to each version of a question"))
    return [*lines, *_aligned(*commented)]


def _is_own_server(model: str) -> bool:
    endpoint = parse_model_name(model).endpoint
    return endpoint is not None and all(is_loopback(part) for part in endpoint.split(","))


def _aligned(*rows: tuple[str, str]) -> list[str]:
    """Return lines with their comments in one column. The comment of a long line is above it."""
    width = max((len(line) for line, _ in rows if len(line) <= LONGEST), default=0)
    lines = []
    for line, comment in rows:
        if len(line) > LONGEST:
            indent = line[: len(line) - len(line.lstrip())]
            lines += [f"{indent}# {comment[:1].upper()}{comment[1:]}.", line]
        else:
            lines.append(f"{line:<{width}}  # {comment}")
    return lines


def _names_families(cells: Sequence[Any]) -> bool:
    """Return whether a column holds families, so that it is not some other kind."""
    return {str(c or "").strip().lower() for c in cells} <= {*FAMILIES, ""}


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(name) for name in names) + "]"


def _quoted(text: str) -> str:
    """Return a text as a YAML scalar on one line that reads back as the same text, inside lists as well."""
    plain = yaml.safe_dump(text, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    if not set(plain) & set('[]{},?#@:"\n'):
        return plain
    return yaml.safe_dump(text, default_style='"', width=1_000_000, allow_unicode=True).strip()


# Attribute files.


def _attribute_file(options: InitOptions) -> tuple[Path, str]:
    attribute = slugify(options.name or (options.out.stem if options.out else "my_attribute"))
    folder = Path("attributes") / ("" if options.language == "en" else options.language)
    path = options.out or folder / f"{attribute}.yaml"
    if path.stem != attribute:
        raise InputError(f"the file {path.name} must be named {attribute}.yaml, like its id", place=str(path))
    text = attribute_text(attribute, options)
    parse_yaml(text, Attribute, place=str(path))
    return path, text


def attribute_text(attribute: str, options: InitOptions) -> str:
    """Return a commented attribute file.

    In another language it has the value ids of the main file. The words are the given values in their order,
    or are left to be translated.

    Raises:
        InputError: If there are more or fewer values than in the main file.
    """
    known = _known_values(attribute) if options.language != "en" else {}
    words = dict(zip(known, options.values, strict=False)) if options.values else known
    if known and options.values and len(known) != len(options.values):
        raise InputError(
            f"{len(options.values)} values are given, but {attribute!r} has {len(known)}",
            hint=f"give one word for each of them in this order: {', '.join(known)}",
        )
    given = options.values or ("first value", "second value")
    titles = words or {slugify(_without_article(t, options.language)): t for t in given}
    language = [(f"language: {options.language}", "of the words")] if options.language != "en" else []
    lines = [
        "# An attribute: what differs between the versions of a question. Correct every line with a comment.",
        "# Keep it in a folder `attributes` beside the recipe. A file with the same value ids in",
        "# attributes/es/ has the Spanish words, and so on.",
        f"# Next: name it in your questions, and run `counterfoil plan`. Rows name it as `{attribute}`.",
        *_aligned(
            (f"id: {attribute}", "the name of this file"),
            (f"title: {_quoted(attribute.replace('_', ' ').capitalize())}", "what people read"),
            ("description: ''", "what the values mean"),
            *language,
            ("source: ''", "where the values and their wording come from"),
            ("licence: cc-by-4.0", "of this file"),
            (f"baseline: {next(iter(titles))}", "the value that others are compared with"),
        ),
        "values:",
        *_aligned(*[row for i, title in titles.items() for row in _value_rows(i, title, options.language)]),
    ]
    return "\n".join(lines) + "\n"


def _value_rows(value: str, title: str, language: str) -> list[tuple[str, str]]:
    """Return the lines of a value with their comments."""
    word = title.replace("_", " ").strip()
    word = word if word.startswith(UNTRANSLATED) else word.lower()
    bare = _without_article(word, language)
    article = "an" if word[:1] in "aeiou" else "a"
    noun = f"{article} {word}" if language == "en" and bare == word else word
    title = _without_article(title.replace("_", " ").strip(), language)
    about_noun = "{noun} in a question; correct the article" if language == "en" else "{noun} in a question"
    return [
        (f"  - id: {value}", "the same in all languages"),
        (f"    title: {_quoted(title[:1].upper() + bare[1:])}", "in results"),
        ("    forms:", "words by their use"),
        (f"      noun: [{_quoted(noun)}]", about_noun),
        (f"      words: [{_quoted(bare)}]", "more words by which slots are matched to this value"),
    ]


def _without_article(text: str, language: str) -> str:
    return ARTICLE.sub("", text.strip(), count=1) if language == "en" else text


def _known_values(attribute: str) -> dict[str, str]:
    """Return words to translate by value id, of an attribute in the folder `attributes` or the vocabulary."""
    data_dir = open_workspace().with_attributes(Path.cwd()).vocabulary
    try:
        values = read_attribute(data_dir, attribute).values
    except InputError:
        return {}
    return {value.id: f"{UNTRANSLATED} {value.forms['noun'][0]}" for value in values}
