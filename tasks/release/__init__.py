"""Release directories: configs, canary, versions, errata, and how they are read and verified."""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from schemas.answers import EFFECTS, JUDGEMENTS, PLAIN, RESPONSES, Judgement
from schemas.errors import InputError
from schemas.labels import DROPPED, LABEL_HISTORY
from schemas.question import QUESTIONS, SELECTED, Erratum, Question
from schemas.release import Bump, Manifest
from schemas.tables import R, Row, Table, file_hash
from tasks.files.bounded import MemoryBudget, read_parquet
from tasks.run.paths import inside
from tasks.run.store import TableRef, sync_path
from tasks.text.printable import printable

if TYPE_CHECKING:
    from datasets import Features

HARD_NEGATIVES: Table[Question] = Table("hard_negatives", Question, "id", QUESTIONS.references)
CONTROLS: Table[Question] = Table("controls", Question, "id", QUESTIONS.references)
RETIRED: Table[Question] = Table("retired", Question, "id")
"""Questions of earlier versions that are no longer asked."""

CONFIGS: Mapping[str, Table[Any]] = MappingProxyType(
    {
        table.name: table
        for table in (
            QUESTIONS,
            HARD_NEGATIVES,
            CONTROLS,
            RESPONSES,
            JUDGEMENTS,
            EFFECTS,
            LABEL_HISTORY,
            DROPPED,
            RETIRED,
        )
    }
)
"""The configs of a release in their fixed order. Each is one table and one file."""
QUESTION_CONFIGS = (QUESTIONS.name, HARD_NEGATIVES.name, CONTROLS.name)
"""Configs with question rows. Their rows have the canary."""

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
"""File with the hash of the manifest, as `sha256sum --check` reads it. Older releases have none."""
MANIFEST_SIGNATURE = f"{MANIFEST_HASH}.sig"
"""SSH signature of the hash, if the publisher signed the release."""
MAX_MANIFEST_BYTES = 16 << 20
MAX_SHARD_BYTES = 500_000_000
"""Maximum size of a data file before compression."""
MAX_ROW_GROUP_BYTES = 100_000_000
MAX_SHARDS = 10_000
MACHINE_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EIO}
)
"""Numbers of errors that the machine causes, not the content of a file."""
ERRATA = "errata.jsonl"
"""File with every text that was corrected since the first version, oldest first."""
ERRATUM = "erratum"
"""Operator of a question that was corrected after a release."""
FIRST_VERSION = "0.1.0"
CANARY_COLUMN = "canary"
_CANARY_NAMESPACE = uuid.UUID("5b0c54bb-8f43-5f2c-9a40-4a2c56d7c0f1")


# Reading


class ReleaseRef(Row):
    """The path of a release and the hash of its manifest, which holds the hashes of all other files."""

    path: str
    sha256: str
    """Of the manifest."""


@dataclass(frozen=True)
class Contents:
    """The tables of a release by config, without the canary column."""

    tables: Mapping[str, pa.Table]
    _kept: dict[str, list[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Rows of the smaller configs that were read before."""

    def rows(self, table: Table[R]) -> list[R]:
        """Return the rows of a config, or none if the release does not have it.

        Rows of all configs but responses and judgements are remembered, because many figures need them.

        Raises:
            InputError: If a row is not valid in this version of the program.
        """
        if table.name in (RESPONSES.name, JUDGEMENTS.name):
            return list(self.scan(table))
        if table.name not in self._kept:
            self._kept[table.name] = list(self.scan(table))
        return list(self._kept[table.name])

    @property
    def verdicts(self) -> list[Judgement]:
        """The judgements of plain answers without details (see `verdicts_everywhere`)."""
        return [j for j in self.verdicts_everywhere if j.condition == PLAIN]

    @property
    def verdicts_everywhere(self) -> list[Judgement]:
        """The judgements in all conditions without details (`drop_details`). They are remembered.

        Raises:
            InputError: If a row is not valid in this version of the program.
        """
        from tasks.judges.panel import drop_details  # imports the reader of the vocabulary

        if "verdicts" not in self._kept:
            self._kept["verdicts"] = [
                drop_details(j) for j in self.scan(JUDGEMENTS, without=("version_scores",))
            ]
        return list(self._kept["verdicts"])

    def scan(self, table: Table[R], without: Collection[str] = ()) -> Iterator[R]:
        """Yield the rows of a config, of which only some are in memory.

        Args:
            table: The config.
            without: Columns that are not read. Their fields get their defaults.

        Raises:
            InputError: If a row is not valid in this version of the program.
        """
        rows = self.tables.get(table.name)
        if rows is not None and without:
            rows = rows.select([name for name in rows.column_names if name not in without])
        try:
            yield from table.from_arrow(rows) if rows is not None else ()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            column = printable(".".join(str(part) for part in first["loc"]), 100)
            raise InputError(
                f"a row of {table.name} is not valid: {column}: {printable(first['msg'], 200)}",
                hint="`counterfoil validate` lists the faults of the release",
            ) from None

    def records(self, config: str) -> list[dict[str, Any]]:
        """Return the rows of a config without validation, for releases of any program version."""
        rows = self.tables.get(config)
        records: list[dict[str, Any]] = rows.to_pylist() if rows is not None else []
        return records

    def distinct_rows(self, config: str, *columns: str) -> set[tuple[Any, ...]]:
        """Return the distinct values of some columns of a config."""
        rows = self.tables.get(config)
        if rows is None:
            return set()
        if len(columns) == 1:  # grouping imports pandas, which takes longer than most commands
            return {(value,) for value in rows[columns[0]].unique().to_pylist()}
        groups = rows.select(list(columns)).group_by(list(columns)).aggregate([])
        return set(zip(*(groups[name].to_pylist() for name in columns), strict=True))

    def count(self, config: str) -> int:
        """Return the number of rows of a config."""
        rows = self.tables.get(config)
        return rows.num_rows if rows is not None else 0


@dataclass(frozen=True)
class ReleaseDirectory:
    """A verified release on disk."""

    path: Path
    manifest: Manifest
    contents: Contents


def open_release(path: Path, budget: MemoryBudget | None = None) -> ReleaseDirectory:
    """Open a release directory and verify its files.

    Args:
        path: The directory.
        budget: Memory for its tables. Default: the limit for files of others.

    Raises:
        InputError: If it is not a release, or a file does not match the manifest.
    """
    manifest = read_manifest(path)
    check_release_files(path, manifest)
    configs = [config for config in CONFIGS if config in manifest.rows]
    for config in configs:  # a table that no hash covers could be anything
        if not all(name in manifest.files for name in config_files(config, manifest.files)):
            raise InputError(
                f"the manifest names the table {config!r}, but not its file",
                place=str(path / MANIFEST),
                hint="restore the release from where it was published, or build it again",
            )
    budget = budget or MemoryBudget()
    tables = {config: _read_config(path, config_files(config, manifest.files), budget) for config in configs}
    return ReleaseDirectory(path, manifest, Contents(tables))


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a release without verifying the files.

    Raises:
        InputError: If the manifest is missing or invalid.
    """
    place = path / MANIFEST
    if not place.exists() and not place.is_symlink():
        raise InputError(
            f"{path} is not a release: it has no {MANIFEST}",
            hint="give the directory of one version, such as releases/<name>/1.0.0",
        )
    if place.is_symlink() or not place.is_file():
        raise InputError(f"the manifest cannot be read: {MANIFEST} is not a regular file", place=str(place))
    if place.stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(
            f"the manifest cannot be read: it is larger than {MAX_MANIFEST_BYTES >> 20} MiB", place=str(place)
        )
    return parse_manifest(place.read_bytes(), str(place))


def parse_manifest(content: bytes, place: str) -> Manifest:
    """Parse the bytes of a manifest. The parser bounds the depth of the JSON itself.

    Raises:
        InputError: If the manifest is invalid.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = printable(".".join(str(part) for part in first["loc"]), 200)
        message = printable(first["msg"].removeprefix("Value error, "), 300)
        raise InputError(
            f"the manifest cannot be read: {field + ': ' if field else ''}{message}",
            place=place,
            hint="it was edited by hand or written by a newer version of counterfoil",
        ) from None


def is_machine_error(error: BaseException) -> bool:
    """Return whether the machine caused an error (memory, disk, permission), not the content of a file."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in MACHINE_ERRORS


def describe_hash_difference(path: Path) -> str | None:
    """Return the difference between the manifest and its hash file, or `None` without one."""
    place, manifest = path / MANIFEST_HASH, path / MANIFEST
    if not place.is_file() or place.is_symlink() or not manifest.is_file() or manifest.is_symlink():
        return None
    with place.open("rb") as stream:
        words = stream.read(200).split()
    if words == [file_hash(manifest).encode(), MANIFEST.encode()]:
        return None
    return f"{MANIFEST}: it is not the manifest whose hash is in {MANIFEST_HASH}"


class FileDifferences(NamedTuple):
    """Relative paths of files that differ from the manifest."""

    missing: list[str]
    changed: list[str]
    unlisted: list[str]
    linked: list[str]
    """Symbolic links, which could lead out of the release, and other things that are neither files nor
    folders."""


def compare_files(path: Path, manifest: Manifest) -> FileDifferences:
    """Compare the files of a release with its manifest.

    Hidden files are ignored, because version control and the Hub client put theirs next to a download. So is
    the bytecode that Python writes if the files in evals/ are run.
    """
    files, linked = _list_files(path)
    under_link = [name for name in manifest.files if any(map(linked.__contains__, _parents(name)))]
    missing, changed = [], []
    for name, sha256 in sorted(manifest.files.items()):
        if name in linked or name in under_link:
            continue
        if name not in files and not (path / name).is_file():
            missing.append(name)
        elif file_hash(path / name) != sha256:
            changed.append(name)
    listed = {*manifest.files, MANIFEST, MANIFEST_HASH, MANIFEST_SIGNATURE}
    unlisted = [name for name in sorted(files) if name not in listed and not _is_ignored(name)]
    visible = [name for name in sorted(linked) if name in listed or not _is_ignored(name)]
    return FileDifferences(missing, changed, unlisted, visible)


def _list_files(path: Path) -> tuple[set[str], set[str]]:
    """Return the regular files of a folder, and everything that is neither a file nor a folder."""
    files, others = set(), set()
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            entry = Path(folder, name)
            mode = entry.lstat().st_mode
            relative = entry.relative_to(path).as_posix()
            if stat.S_ISREG(mode):
                files.add(relative)
            elif not stat.S_ISDIR(mode):
                others.add(relative)
    return files, others


def _parents(name: str) -> list[str]:
    return [parent.as_posix() for parent in PurePosixPath(name).parents]


def _is_ignored(name: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in PurePosixPath(name).parts)


def check_release_files(path: Path, manifest: Manifest) -> None:
    """Raise `InputError` if a file is missing, changed, a link, or not in the manifest."""
    hint = "restore the release from where it was published, or build it again"
    differences = compare_files(path, manifest)
    for name in differences.linked:
        raise InputError(f"{name} is a link, not a file", place=str(path / name), hint=hint)
    for name in differences.missing:
        raise InputError(f"the release lacks {name}", place=str(path), hint=hint)
    for name in differences.changed:
        raise InputError(f"{name} is not the file that was released", place=str(path / name), hint=hint)
    for name in differences.unlisted:
        file = path / name
        raise InputError(f"{file.name} does not belong to the release", place=str(file), hint=hint)


def _read_config(path: Path, names: Sequence[str], budget: MemoryBudget) -> pa.Table:
    shards = [_read_shard(path, name, budget) for name in names]
    if any(shard.schema != shards[0].schema for shard in shards):
        raise InputError(
            f"the shards of {PurePosixPath(names[0]).parent} have different columns",
            place=str(path / names[0]),
            hint="the files are damaged. Download the release again from where it was published",
        )
    return pa.concat_tables(shards)


def _read_shard(path: Path, name: str, budget: MemoryBudget) -> pa.Table:
    place = path / name
    try:
        table = read_parquet(place, budget=budget)
    except (pa.ArrowException, OSError) as error:
        if is_machine_error(error):
            raise
        raise InputError(
            f"{name} cannot be read: {printable(str(error), 200)}",
            place=str(place),
            hint="the file is damaged. Download the release again from where it was published",
        ) from None
    if CANARY_COLUMN in table.column_names:
        table = table.drop_columns([CANARY_COLUMN])
    return table


def find_last_release(releases: Path, name: str) -> ReleaseRef | None:
    """Return the highest version of a release that has a manifest, or `None`."""
    home = inside(releases, name)
    manifests = [p for p in home.glob(f"*/{MANIFEST}") if is_version(p.parent.name)]
    if not manifests:
        return None
    newest = max(manifests, key=lambda p: parse_version(p.parent.name))
    return ReleaseRef(path=str(newest.parent), sha256=file_hash(newest))


def find_earlier_release(release: ReleaseDirectory) -> ReleaseDirectory | None:
    """Return the version before a release, if it is in the folder beside it."""
    version = release.manifest.comparison.old_version
    if version is None:
        return None
    place = inside(release.path.resolve().parent, version)
    return open_release(place) if (place / MANIFEST).is_file() else None


def read_contents(refs: Iterable[TableRef]) -> Contents:
    """Read the assembled tables of a run, in the order of the configs."""
    by_name = {ref.table: ref for ref in refs}
    return Contents({name: pq.read_table(by_name[name].path) for name in CONFIGS if name in by_name})


# Configs


def config_file(config: str, shard: int = 0, shards: int = 1) -> str:
    """Return the path of a data file of a config, relative to the release."""
    return f"data/{config}/test-{shard:05}-of-{shards:05}.parquet"


def config_files(config: str, names: Collection[str]) -> list[str]:
    """Return the paths of all shards of a config, given the paths of the files of a release.

    The number of shards is read from the names. Shards that are missing are in the result too. Without any
    data file, it is the path of a single shard.
    """
    pattern = re.compile(rf"data/{re.escape(config)}/test-\d{{5}}-of-(\d{{5}})\.parquet")
    counts = {int(match[1]) for name in names if (match := pattern.fullmatch(name))}
    shards = min(max(counts, default=1), MAX_SHARDS) or 1
    return [config_file(config, i, shards) for i in range(shards)]


def list_config_files(release: Path, config: str) -> list[str]:
    """Return the paths of all shards of a config of a release on disk, as `config_files` does."""
    folder = release / "data" / config
    names = (
        [f"data/{config}/{path.name}" for path in folder.glob("test-*.parquet")] if folder.is_dir() else []
    )
    return config_files(config, names)


def assign_config(question: Question, answered: Collection[str]) -> str | None:
    """Return the config that a question is released in, or `None` if it is not released.

    Questions of templated families need no label, only answers, because they are not selected by a search.

    Args:
        question: The question.
        answered: Ids of the questions with answers.
    """
    if question.control != "none":
        return CONTROLS.name
    if question.label == "hard_negative":
        return HARD_NEGATIVES.name
    if question.label in SELECTED or (question.family != "open" and question.id in answered):
        return QUESTIONS.name
    return None


def dataset_features(config: str) -> Features:
    """Return the features of a config for `datasets`, including the canary."""
    from datasets import Features

    schema = CONFIGS[config].arrow_schema
    if config in QUESTION_CONFIGS:
        schema = schema.append(pa.field(CANARY_COLUMN, pa.string()))
    return Features.from_arrow_schema(schema)


def to_release_table(config: str, rows: pa.Table, canary: str) -> pa.Table:
    """Add the canary and the `huggingface` schema metadata to the rows of a config."""
    if config in QUESTION_CONFIGS:
        rows = rows.append_column(CANARY_COLUMN, pa.array([canary] * rows.num_rows, pa.string()))
    return rows.cast(dataset_features(config).arrow_schema)


def write_shards(root: Path, config: str, table: pa.Table) -> None:
    """Write the rows of a config to as many data files as their size requires."""
    shards = split_by_bytes(table, MAX_SHARD_BYTES)
    for i, shard in enumerate(shards):
        write_parquet(root / config_file(config, i, len(shards)), shard)


def count_shards(config: str, contents: Contents) -> int:
    """Return the number of data files that `write_shards` writes for a config."""
    table = contents.tables.get(config)
    if table is None:
        return 1
    if table.nbytes < MAX_SHARD_BYTES // 2:  # the canary at most doubles the size of a row
        return 1
    return len(split_by_bytes(to_release_table(config, table, derive_canary("")), MAX_SHARD_BYTES))


def split_by_bytes(table: pa.Table, limit: int) -> list[pa.Table]:
    """Halve a table until every part has at most `limit` bytes in memory, or one row."""
    if table.nbytes <= limit or table.num_rows < 2:
        return [table]
    half = table.num_rows // 2
    return [*split_by_bytes(table[:half], limit), *split_by_bytes(table[half:], limit)]


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write and sync a data file: zstd, page index, content-defined chunks. Equal rows give equal bytes.

    A row group has at most `MAX_ROW_GROUP_BYTES` in memory, so that the viewer of the Hub can show it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
    ) as writer:
        if table.num_rows:  # `datasets` rejects a row group without rows
            for group in split_by_bytes(table, MAX_ROW_GROUP_BYTES):
                writer.write_table(group)
    sync_path(path)


# Canary


def derive_canary(name: str) -> str:
    """Return the canary GUID of a release name. It is the same for all versions, on every machine."""
    return str(uuid.uuid5(_CANARY_NAMESPACE, name))


def render_canary_page(data_dir: Path, name: str) -> str:
    """Return the content of CANARY.md, which explains the GUID. Training data can be searched for it."""
    template = (data_dir / "canary.md").read_text(encoding="utf-8")
    return Template(template).substitute(name=name, canary=derive_canary(name))


# Errata


def read_errata(release: Path | None) -> tuple[Erratum, ...]:
    """Return the errata of a release. They are empty if there is no release or no erratum."""
    place = release / ERRATA if release else None
    if place is None or not place.is_file():
        return ()
    if place.stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(f"{ERRATA} is larger than {MAX_MANIFEST_BYTES >> 20} MiB", place=str(place))
    try:
        return tuple(Erratum.model_validate_json(line) for line in place.read_bytes().splitlines() if line)
    except ValidationError as error:
        raise InputError(
            f"{ERRATA} cannot be read: {printable(error.errors(include_url=False)[0]['msg'], 200)}",
            place=str(place),
            hint="restore the release from where it was published",
        ) from None


def write_errata(release: Path, errata: Iterable[Erratum]) -> None:
    """Write the errata of a release. Write no file if there are none."""
    lines = [erratum.model_dump_json() + "\n" for erratum in errata]
    if lines:
        (release / ERRATA).write_text("".join(lines), encoding="utf-8", newline="\n")


# Versions


def parse_version(text: str) -> tuple[int, int, int]:
    """Parse a version to (major, minor, patch).

    Raises:
        InputError: If the text is not a version.
    """
    numbers = text.split(".")
    if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise InputError(f"{text!r} is not a version", hint="write it as `major.minor.patch`, e.g. 1.2.0")
    major, minor, patch = (int(n) for n in numbers)
    return major, minor, patch


def is_version(text: str) -> bool:
    """Return whether the text is a version."""
    try:
        parse_version(text)
    except InputError:
        return False
    return True


def bump_version(old: str, bump: Bump) -> str:
    """Return the version after `old`. It is `old` itself if nothing changed."""
    major, minor, patch = parse_version(old)
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case "patch":
            return f"{major}.{minor}.{patch + 1}"
        case "none":
            return old
        case "first":
            return FIRST_VERSION
