"""Export a release to the formats of other tools: tables, evaluation harnesses, BBQ and CAB."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from schemas.errors import InputError
from schemas.options import ExportFormat
from schemas.question import QUESTIONS, Question
from schemas.release import Manifest
from tasks.families.ambiguous import right_role
from tasks.files.bbq_rows import CLEAR, NEGATIVE, OTHER, POSITIVE, ROLES, TARGET, UNKNOWN, question_of
from tasks.files.questions import COLUMNS, cab_rows
from tasks.files.tables import write_csv
from tasks.package.harness import harness_files, read_kinds
from tasks.release import (
    CONFIGS,
    CONTROLS,
    HARD_NEGATIVES,
    Contents,
    ReleaseDirectory,
    config_file,
    to_release_table,
    write_parquet,
)
from tasks.release.measuring import recorded_recipe
from tasks.run.paths import inside
from tasks.run.store import write_bytes
from tasks.text.slots import Slot, parse_slots

FORMATS: tuple[str, ...] = get_args(ExportFormat)
TABLE_SUFFIX = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "bbq": ".jsonl", "cab": ".csv"}
"""Formats that can be one file. `inspect` and `lm-eval` are always a folder."""
HARNESS_FILES = {"inspect": ("counterfoil_inspect.py",), "lm-eval": ()}
HARNESS_COMMON = ("eval.yaml", "paired.py", "reader.py")
HARNESS_TASKS = {"inspect": "inspect", "lm-eval": "lm_eval"}
"""Key of data/evals/families.yaml that a family needs, by format."""
BBQ_ROLES = {"entailment": "yes", "neutral": "unknown", "contradiction": "no"}
"""Answers of BBQ by the role of an option."""
ONE_FILE = "a file holds the questions only; give --out a folder for all tables"
_LAST_SENTENCE = re.compile(r"(?<=[.!?。؟])\s+(?=\S[^.!?。؟]*[.!?。؟]?$)")


@dataclass(frozen=True)
class LeftOut:
    """Rows that a format cannot hold."""

    kind: str
    """Family, control kind or config of the rows."""
    count: int
    reason: str


@dataclass
class Export:
    """The files of an export, and the rows that they leave out."""

    files: list[Path] = field(default_factory=list)
    written: int = 0
    """Questions, controls and hard negatives in the files."""
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, kinds: Iterable[str], reason: str) -> None:
        """Count rows by kind."""
        self.left_out += [LeftOut(kind, n, reason) for kind, n in sorted(Counter(kinds).items())]


def export_release(release: ReleaseDirectory, *, format: str, out: Path, data_dir: Path) -> dict[str, Any]:
    """Write a release in another format.

    Args:
        release: The release.
        format: One of `FORMATS`.
        out: A file for the questions, or a folder. `inspect` and `lm-eval` need a folder.
        data_dir: The vocabulary.

    Returns:
        The format, the files, the number of questions `written`, the number `left_out`, and the reasons.

    Raises:
        InputError: If the format is unknown, the name of the file does not fit, or nothing can be written.
    """
    check_target(format, out)
    done = WRITERS[format](release, out, data_dir)
    if not done.written:
        reasons = "; ".join(f"{left.kind}: {left.reason}" for left in done.left_out)
        raise InputError(
            f"no question can be written as {format}",
            place=str(release.path),
            hint=reasons or "the release has no questions",
        )
    return {
        "format": format,
        "out": str(out),
        "files": [str(path) for path in done.files],
        "questions": done.written,
        "written": done.written,
        "left_out": sum(left.count for left in done.left_out),
        "left_out_reasons": [
            {"kind": left.kind, "count": left.count, "reason": left.reason} for left in done.left_out
        ],
    }


def default_target(manifest: Manifest, format: str, home: Path) -> Path:
    """Return the place of an export: a folder, or a file for formats that are always one file."""
    folder = inside(home, "exports", f"{manifest.name}-{manifest.version}")
    return folder / f"{format}{TABLE_SUFFIX[format]}" if format in ("bbq", "cab") else folder / format


def target_files(manifest: Manifest, format: str, out: Path) -> tuple[Path, ...]:
    """Return the files with fixed names that an export may write."""
    if out.suffix and format in TABLE_SUFFIX:
        return (out,)
    if format in TABLE_SUFFIX:
        return tuple(out / f"{config}{TABLE_SUFFIX[format]}" for config in manifest.rows)
    names = [*HARNESS_COMMON, *HARNESS_FILES[format]]
    return tuple(out / "evals" / name for name in names)


def check_target(format: str, out: Path) -> None:
    """Raise `InputError` if the format is unknown, or the name of the output does not fit it."""
    if format not in FORMATS:
        raise InputError(f"there is no export format {format!r}", hint=f"choose one of: {', '.join(FORMATS)}")
    suffix = TABLE_SUFFIX.get(format)
    if suffix is None and out.suffix:
        raise InputError(f"{format} is written as a folder", place=str(out), hint="give --out a folder")
    if suffix is not None and out.suffix.lower() not in ("", suffix):
        raise InputError(
            f"{out.name} is not named {suffix}", place=str(out), hint=f"give --out a name ending in {suffix}"
        )
    if format in ("bbq", "cab") and not out.suffix:
        raise InputError(
            f"{format} is one file", place=str(out), hint=f"give --out a name ending in {suffix}"
        )


# Tables: one file per config, or the questions as one file.


def write_tables(format: str) -> Callable[[ReleaseDirectory, Path, Path], Export]:
    """Return the function that writes tables in a format."""

    def write(release: ReleaseDirectory, out: Path, data_dir: Path) -> Export:
        contents, done = release.contents, Export()
        if out.suffix:
            _write_table(format, QUESTIONS.name, release, out)
            done.files, done.written = [out], contents.count(QUESTIONS.name)
            others = {c: contents.count(c) for c in CONFIGS if c != QUESTIONS.name and contents.count(c)}
            done.left_out = [LeftOut(config, n, ONE_FILE) for config, n in others.items()]
            return done
        for config in CONFIGS:
            if config in contents.tables:
                path = out / f"{config}{TABLE_SUFFIX[format]}"
                _write_table(format, config, release, path)
                done.files.append(path)
        done.written = sum(contents.count(t.name) for t in (QUESTIONS, HARD_NEGATIVES, CONTROLS))
        return done

    return write


def _write_table(format: str, config: str, release: ReleaseDirectory, path: Path) -> None:
    """Write one table with its canary."""
    table = to_release_table(config, release.contents.tables[config], release.manifest.canary)
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "parquet":
        write_parquet(path, table)
    elif format == "jsonl":
        write_bytes(path, "".join(map(_line, _records(table))).encode())
    else:
        write_csv(path, table.column_names, map(_cells, _records(table)))


def _records(table: pa.Table) -> Iterable[dict[str, Any]]:
    for batch in table.to_batches():
        yield from batch.to_pylist()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row as text. Lists and records are JSON, and missing values are empty."""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


# Harnesses: the task files of the release, beside the tables that they read.


def write_harness(format: str) -> Callable[[ReleaseDirectory, Path, Path], Export]:
    """Return the function that writes the task files of a harness, and the tables that they read."""

    def write(release: ReleaseDirectory, out: Path, data_dir: Path) -> Export:
        contents, manifest, done = release.contents, release.manifest, Export()
        kinds = {f: k for f, k in read_kinds(data_dir).items() if HARNESS_TASKS[format] in k}
        rows = [q for table in (QUESTIONS, CONTROLS) for q in contents.rows(table)]
        done.written = sum(q.family in kinds for q in rows)
        done.leave_out(
            (q.family for q in rows if q.family not in kinds), f"{format} has no task for this family"
        )
        done.leave_out(("hard_negatives",) * contents.count(HARD_NEGATIVES.name), "the tasks do not ask them")
        if not done.written:
            return done
        files = harness_files(recorded_recipe(manifest), manifest, contents, data_dir, tuple(kinds))
        if not files:  # the tasks read one file per table
            done.leave_out((q.family for q in rows if q.family in kinds), "the tables have several files")
            done.written = 0
            return done
        wanted = (*HARNESS_COMMON, *HARNESS_FILES[format])
        tasks = () if format == "inspect" else tuple(n for n in files if n.endswith(".yaml"))
        for name, text in files.items():
            if name in wanted or name in tasks:
                done.files.append(out / "evals" / name)
                (out / "evals").mkdir(parents=True, exist_ok=True)
                write_bytes(out / "evals" / name, text.encode())
        for table in (QUESTIONS, CONTROLS):
            if contents.count(table.name):
                path = out / config_file(table.name)
                _write_table("parquet", table.name, release, path)
                done.files.append(path)
        return done

    return write


# BBQ: premises that leave a statement open, asked about two groups.


def write_bbq(release: ReleaseDirectory, out: Path, data_dir: Path) -> Export:
    """Write questions with two values and the options yes, unknown and no as BBQ's ambiguous items.

    The statement about the group of the stereotype has the polarity `neg`. The same statement about the other
    group has the polarity `nonneg`, because a stereotype predicts the denial. Questions about two people,
    such as rows of BBQ that were read, are written as they were, once per order of the people.
    """
    done = Export()
    rows: list[dict[str, Any]] = []
    unfit: dict[str, list[str]] = {}
    for q in release.contents.rows(QUESTIONS):
        if reason := _bbq_fault(q):
            unfit.setdefault(reason, []).append(q.family)
            continue
        rows += bbq_rows(q, start=len(rows))
        done.written += 1
    for reason, families in sorted(unfit.items()):
        done.leave_out(families, reason)
    _leave_out_others(done, release.contents, "BBQ has no controls and no hard negatives")
    if done.written:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, "".join(map(_line, rows)).encode())
        done.files = [out]
    return done


def _bbq_fault(question: Question) -> str | None:
    """Return why a question is no item of BBQ, or `None`."""
    if not question.options:
        return "the answer is free text, and BBQ has three options"
    if question.family == "ambiguous":
        return None if two_people_rows(question) else "a row of BBQ with its texts would be another question"
    if sorted(o.role for o in question.options) != sorted(BBQ_ROLES):
        return "the options are not yes, unknown and no"
    if len(question.variants) != 2:
        return "BBQ compares two groups"
    if not all(_LAST_SENTENCE.search(v.text) for v in question.variants):
        return "the text has no context before its last sentence"
    return None


def bbq_rows(question: Question, start: int = 0) -> list[dict[str, Any]]:
    """Return one item per value of a question, numbered from `start`."""
    if question.family == "ambiguous":
        return two_people_rows(question, start)
    target, other = (v.value for v in question.variants)
    tags = {"entailment": target, "contradiction": other, "neutral": "unknown"}
    names = [f"ans{i}" for i in range(len(question.options))]
    unknown = next(i for i, o in enumerate(question.options) if BBQ_ROLES[o.role] == "unknown")
    rows: list[dict[str, Any]] = []
    for v, polarity in zip(question.variants, ("neg", "nonneg"), strict=True):
        context, statement = _LAST_SENTENCE.split(v.text, maxsplit=1)
        rows.append(
            {
                "example_id": start + len(rows),
                "question_index": question.id,
                "question_polarity": polarity,
                "context_condition": "ambig",
                "category": question.attribute,
                "answer_info": {
                    name: [o.text, tags[o.role]] for name, o in zip(names, question.options, strict=True)
                },
                "additional_metadata": {
                    "subcategory": question.topic,
                    "stereotyped_groups": [target],
                    "version": question.language,
                    "source": question.template_id or question.id,
                },
                "context": context,
                "question": statement,
                **{name: o.text for name, o in zip(names, question.options, strict=True)},
                "label": unknown,
            }
        )
    return rows


def two_people_rows(question: Question, start: int = 0) -> list[dict[str, Any]]:
    """Return the rows of a question about two people, one per order, numbered from `start`.

    Only rows that are read back as this question are returned. Questions of the project's own templates have
    no names of groups, so their groups are called by their role.
    """
    item, context, polarity = [*(question.template_id or "").split("."), "", ""][:3]
    slots = [part for part in parse_slots(question.template) if isinstance(part, Slot)]
    roles = [option.role for option in question.options]
    if len(slots) != 2 or sorted(roles) != sorted(ROLES) or polarity not in (NEGATIVE, POSITIVE):
        return []
    people = {
        TARGET: [_without_article(slots[0].options[0]), TARGET],
        OTHER: [_without_article(slots[0].options[1]), OTHER],
        UNKNOWN: [UNKNOWN, UNKNOWN],
    }
    named = json.loads(question.composition or "{}")
    people |= {role: pair for role, pair in named.get("groups", {}).items() if role in people}
    index = named.get("question_index") or item.removeprefix(f"{question.superdomain}-")
    category = named.get("category") or question.superdomain
    is_clear = context.partition("_")[0] == CLEAR
    rows: list[dict[str, Any]] = []
    for variant in question.variants:
        parts = _LAST_SENTENCE.split(variant.text, maxsplit=1)
        if len(parts) != 2:
            continue
        row = {
            "example_id": start + len(rows),
            "question_index": index,
            "question_polarity": "neg" if polarity == NEGATIVE else "nonneg",
            "context_condition": "disambig" if is_clear else "ambig",
            "category": category,
            "answer_info": {f"ans{i}": people[role] for i, role in enumerate(roles)},
            "additional_metadata": {
                "subcategory": named.get("subcategory", question.topic),
                "stereotyped_groups": named.get("stereotyped_groups") or [TARGET],
                "version": question.language,
                "source": question.template_id,
            },
            "context": parts[0],
            "question": parts[1],
            **{f"ans{i}": option.text for i, option in enumerate(question.options)},
            "label": roles.index(right_role(context, polarity)),
            "language": question.language,
        }
        if _is_read_as(row, question):
            rows.append(row)
    return rows


def _without_article(words: str) -> str:
    return re.sub(r"^(the|an?)\s+", "", words, flags=re.IGNORECASE)


def _is_read_as(row: Mapping[str, Any], question: Question) -> bool:
    """Return whether a row of BBQ is read back with the texts, options and right answer of a question."""
    try:
        found = question_of(row, "")
    except InputError:
        return False
    context, polarity = (found.template_id or "").split(".")[1:]
    return (
        [v.text for v in found.variants] == [v.text for v in question.variants]
        and [(o.text, o.role) for o in found.options] == [(o.text, o.role) for o in question.options]
        and (question.template_id or "").endswith(f".{context}.{polarity}")
    )


# CAB: open questions.


def write_cab(release: ReleaseDirectory, out: Path, data_dir: Path) -> Export:
    """Write the open questions with the columns of CAB."""
    done = Export()
    questions = release.contents.rows(QUESTIONS)
    rows, unwritable = cab_rows(q for q in questions if q.family == "open")
    done.written = len(rows)
    done.leave_out((q.family for q in questions if q.family != "open"), "CAB has open questions only")
    done.leave_out((q.family for q in unwritable), "CAB cannot express a slash in an option")
    _leave_out_others(done, release.contents, "CAB has no controls and no hard negatives")
    if rows:
        write_csv(out, COLUMNS, rows)
        done.files = [out]
    return done


def _leave_out_others(done: Export, contents: Contents, reason: str) -> None:
    for table in (HARD_NEGATIVES, CONTROLS):
        done.leave_out((table.name,) * contents.count(table.name), reason)


WRITERS: Mapping[str, Callable[[ReleaseDirectory, Path, Path], Export]] = {
    "csv": write_tables("csv"),
    "jsonl": write_tables("jsonl"),
    "parquet": write_tables("parquet"),
    "inspect": write_harness("inspect"),
    "lm-eval": write_harness("lm-eval"),
    "bbq": write_bbq,
    "cab": write_cab,
}
