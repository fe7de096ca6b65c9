"""Read news items and documents from files, feeds and tables. They are untrusted text.

Sizes, numbers of items and the depth of XML are bounded. XML with a document type, which could define
entities, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from schemas.errors import InputError
from schemas.tables import Row
from tasks.files.own_questions import source_files
from tasks.files.tables import read_table_file
from tasks.text.printable import printable

Format = Literal["auto", "text", "feed", "table"]

MAX_BYTES = 8 << 20
"""Largest feed or document."""
MAX_ITEMS = 1000
"""Items of a feed or rows of a table that are looked at."""
MAX_DEPTH = 32
"""Deepest nesting of a feed."""
MAX_TEXT = 4000
"""Characters of an item that are used."""
FEEDS = (".xml", ".rss", ".atom")
TEXTS = (".txt", ".md")
TITLE_COLUMNS = ("title", "headline")
DATE_COLUMNS = ("date", "published", "updated", "day")
_TAG = re.compile(r"<[^<>]{0,2000}>")
"""A tag. Without `<` inside, a text of many `<` is read in one pass."""


class MaterialItem(Row):
    """A news item or a document."""

    title: str
    text: str
    date: str
    """As written in the source. Empty if it has none."""
    source: str
    """Address or name of the source."""


def read_material(
    path: Path, name: str, *, format: Format = "auto", column: str = "text", limit: int = 20
) -> list[MaterialItem]:
    """Read the first items of a file, or of the tables of a folder.

    Args:
        path: The file or folder.
        name: Name of the source in the result.
        format: Format of the file. `auto` decides by its suffix.
        column: Column of the text in a table.
        limit: Number of items.

    Raises:
        InputError: If the source cannot be read or has no items.
    """
    kind = detect_format(path) if format == "auto" else format
    if kind == "table":
        items = [item for file in source_files(path, name) for item in _read_table(file, name, column)]
    else:
        content = read_bounded(path)
        items = parse_feed(content, name) if kind == "feed" else [_read_document(content, path, name)]
    found = [item for item in items if item.text.strip()][:limit]
    if not found:
        raise InputError("the material has no text", place=name, hint="check the file and its `column`")
    return found


def detect_format(path: Path) -> Format:
    """Return the format of a file by its suffix."""
    suffix = path.suffix.lower()
    if suffix in FEEDS:
        return "feed"
    return "text" if suffix in TEXTS else "table"


def read_bounded(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        InputError: If it does not exist, is no file, or is larger than `MAX_BYTES`.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", hint="paths are relative to the working directory")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"the file is larger than {MAX_BYTES >> 20} MiB", place=str(path))
    return content


def _read_document(content: bytes, path: Path, name: str) -> MaterialItem:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8 text", place=str(path)) from None
    first = next((line.strip("# ").strip() for line in text.splitlines() if line.strip()), "")
    return make_item(first, text, "", name)


def _read_table(path: Path, name: str, column: str) -> list[MaterialItem]:
    table = read_table_file(path)
    if column not in table.column_names:
        raise InputError(
            f"there is no column {column!r}",
            place=str(path),
            hint=f"set `column`; the columns are {', '.join(map(printable, table.column_names[:20]))}",
        )
    title = next((c for c in TITLE_COLUMNS if c in table.column_names), None)
    date = next((c for c in DATE_COLUMNS if c in table.column_names), None)
    wanted = [c for c in (column, title, date) if c]
    return [
        make_item(
            str(row.get(title or "") or ""), str(row[column] or ""), str(row.get(date or "") or ""), name
        )
        for row in table.select(wanted).slice(0, MAX_ITEMS).to_pylist()
    ]


def make_item(title: str, text: str, date: str, source: str) -> MaterialItem:
    """Return an item with plain, bounded texts."""
    return MaterialItem(
        title=_plain(title, 200),
        text=_plain(text, MAX_TEXT),
        date=_plain(date, 40),
        source=printable(source, 500),
    )


def _plain(text: str, length: int) -> str:
    """Return text without markup and control characters, on one line."""
    return printable(" ".join(_TAG.sub(" ", unescape(text[: 4 * length])).split()), length)


# Feeds: RSS 2.0, RSS 1.0 and Atom.


_FIELDS = {
    "title": "title",
    "description": "text",
    "summary": "text",
    "content": "text",
    "encoded": "text",
    "pubDate": "date",
    "published": "date",
    "updated": "date",
    "date": "date",
    "link": "link",
}
"""Part of an item by the name of the element."""


@dataclass
class _FeedReader:
    """Collect the items of a feed. Every other part of it is ignored."""

    source: str
    items: list[MaterialItem] = field(default_factory=list)
    _path: list[str] = field(default_factory=list)
    _entry: dict[str, list[str]] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        self._path.append(tag.rpartition(":")[2])
        if len(self._path) > MAX_DEPTH:
            raise _RefusedFeedError(f"it is nested more than {MAX_DEPTH} deep")
        if self._path[-1] in ("item", "entry"):
            if len(self.items) >= MAX_ITEMS:
                raise _EnoughItemsError
            self._entry = {"title": [], "text": [], "date": [], "link": []}
        elif self._entry is not None and self._path[-1] == "link" and attributes.get("href"):
            self._entry["link"].append(attributes["href"])

    def text(self, text: str) -> None:
        """Collect text of an entry. Its length is bounded by that of the file."""
        if self._entry is None:
            return
        name = _FIELDS.get(self._path[-1])
        if name:
            self._entry[name].append(text)

    def end(self, tag: str) -> None:
        """Close an element."""
        closed = self._path.pop()
        if closed in ("item", "entry") and self._entry is not None:
            e = {name: "".join(parts).strip() for name, parts in self._entry.items()}
            place = f"{self.source} {e['link']}".strip()
            text = f"{e['title']}. {e['text']}" if e["text"] else e["title"]
            self.items.append(make_item(e["title"], text, e["date"], place))
            self._entry = None


class _RefusedFeedError(Exception):
    """The feed is refused for a stated reason."""


class _EnoughItemsError(Exception):
    """The feed has more items than are looked at."""


def parse_feed(content: bytes, source: str) -> list[MaterialItem]:
    """Return the items of an RSS or Atom feed.

    Raises:
        InputError: If it is not well-formed, declares a document type or entities, or is nested too deep.
    """
    reader = _FeedReader(source)
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(*_: object) -> int:
        raise _RefusedFeedError("it declares a document type or entities")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(content, True)
    except _EnoughItemsError:
        pass
    except _RefusedFeedError as error:
        raise InputError(f"the feed is refused: {error}", place=source) from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise InputError(
            f"the feed is not well-formed XML: {printable(str(error), 200)}", place=source
        ) from None
    return reader.items


def unique_items(items: Iterable[MaterialItem]) -> list[MaterialItem]:
    """Return the items without repeated texts."""
    return list({item.text: item for item in items}.values())
