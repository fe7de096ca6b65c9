"""How pictures look, and how a matplotlib figure becomes SVG inside a page: the same bytes every time,
text as text, and colours that follow the page's light or dark scheme."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schemas.question import Variant
from tasks.release import CONFIGS, data_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 360
"""Points. Panels are drawn for a phone's width; a wide page sets them side by side."""

INK, MUTED, RULE, BAND = "#101112", "#606162", "#c0c1c2", "#e0e1e2"
SERIES = ("#1f6f8b", "#b5541c", "#6b4fa0", "#3d7a3a")
"""Stand-ins: `_follow_scheme` turns each into a CSS variable of the page."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    BAND: "--band",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)},
}
CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
"""With the characters that turn the direction of what follows: a picture has no way to keep them apart."""


@contextmanager
def drawn_plainly() -> Iterator[None]:
    """Everything that is drawn in the block has our style, and depends on nothing but its data."""
    import matplotlib

    style: dict[Any, Any] = {
        "svg.hashsalt": "counterfoil",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "text.usetex": False,
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 10.5,
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.8,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": INK,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
    }
    with matplotlib.rc_context(style):
        yield


def panel(height: float) -> tuple[Figure, Axes]:
    """A figure of one set of axes, `WIDTH` wide and `height` points high."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03)
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout=margins)
    return figure, figure.add_subplot()


def without_controls(text: str) -> str:
    """The text without what XML cannot hold or what turns the direction of its surroundings."""
    return CONTROL_CHARACTERS.sub("", text)


def clean_label(text: str, most: int = 24) -> str:
    """One line of at most `most` characters that XML can hold."""
    line = " ".join(without_controls(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def to_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """The figure as an SVG element with its text alternative. `key` keeps its ids apart from others'."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;", "", svg)
    svg = _keep_used_ids(_follow_scheme(svg), key)
    head = re.match(r"<svg[^>]*>", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert head is not None
    assert box is not None
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} '
        f'role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{html.escape(title)}</title>'
        f'<desc id="{key}-desc">{html.escape(description)}</desc>'
    )
    return opening + re.sub(r"\n\s*", "\n", svg[head.end() :])


def _follow_scheme(svg: str) -> str:
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _keep_used_ids(svg: str, key: str) -> str:
    """Drop ids that nothing refers to, and make the others the picture's own."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", svg))

    def settle(match: re.Match[str]) -> str:
        return f' id="{key}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r' id="([^"]+)"', settle, svg)
    return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{key}-", svg)


# Texts of others on the page: cut where they are long, with slots and evidence marked.


LONGEST = 600
"""Characters of one text that the page shows."""
SHORTEST_EVIDENCE = 6
"""Characters that a quotation needs to say anything."""

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|«([^»]+)»|„([^“]+)“|‘([^’]+)’|(?<!\w)'([^']+)'(?!\w)")


@dataclass(frozen=True)
class QuoteSpan:
    """Part of a text; `slot`: whether it is what stands in a slot, or what decided."""

    text: str
    slot: bool


@dataclass(frozen=True)
class Quotation:
    """What the page shows of a text. `of`: characters of the whole, where it is cut."""

    pieces: tuple[QuoteSpan, ...]
    of: int | None = None
    where: str = ""
    """The query that gives the whole text."""


def shown(pieces: Sequence[QuoteSpan], where: str = "", most: int = LONGEST) -> Quotation:
    """The first `most` characters."""
    whole = sum(len(p.text) for p in pieces)
    kept: list[QuoteSpan] = []
    left = most
    for piece in pieces:
        if left > 0:
            kept.append(replace(piece, text=piece.text[:left]))
            left -= len(piece.text)
    return Quotation(tuple(kept), whole if whole > most else None, where)


def plain_text(text: str, where: str = "", evidence: Iterable[str] = (), most: int = LONGEST) -> Quotation:
    """The beginning of a text, with every stretch of it that is evidence marked."""
    found = shown([QuoteSpan(text, False)], where, most)
    return replace(found, pieces=mark_spans(text[:most], evidence))


def mark_spans(text: str, spans: Iterable[str]) -> tuple[QuoteSpan, ...]:
    """The text cut where one of the spans begins or ends, whatever their case; the longest first."""
    ordered = sorted({s for s in spans if len(s) >= SHORTEST_EVIDENCE}, key=lambda s: (-len(s), s))
    if not ordered:
        return (QuoteSpan(text, False),)
    parts = re.split("(" + "|".join(map(re.escape, ordered)) + ")", text, flags=re.IGNORECASE)
    return tuple(QuoteSpan(part, bool(i % 2)) for i, part in enumerate(parts) if part)


def quotations(text: str) -> list[str]:
    """What stands between quotation marks."""
    return [next(filter(None, found)).strip(" .,;…") for found in _QUOTED.findall(text)]


def marked(variant: Variant, template: str) -> tuple[QuoteSpan, ...]:
    """The text cut at its slots; in one piece where template and slots do not give the text."""
    around = _SLOT.split(template)
    if len(around) != len(variant.slots) + 1:
        return (QuoteSpan(variant.text, False),)
    pieces = [QuoteSpan(around[0], False)]
    for slot, after in zip(variant.slots, around[1:], strict=True):
        pieces += [QuoteSpan(slot, True), QuoteSpan(after, False)]
    if "".join(p.text for p in pieces) != variant.text:
        return (QuoteSpan(variant.text, False),)
    return tuple(p for p in pieces if p.text)


def marked_template(template: str, where: str = "") -> Quotation:
    """A template cut at its slots, each with all of its options."""
    around, slots = _SLOT.split(template), _SLOT.findall(template)
    pieces = [QuoteSpan(around[0], False)]
    for slot, after in zip(slots, around[1:], strict=True):
        pieces += [QuoteSpan(slot[2:-2], True), QuoteSpan(after, False)]
    return shown([p for p in pieces if p.text], where)


# Where a number of the report comes from: a file of the release, and the query that gives it again.


MANIFEST = "manifest.json"
VIEWS: Mapping[str, str] = MappingProxyType(
    {**{config: data_file(config) for config in CONFIGS}, "manifest": MANIFEST}
)
"""What queries call the files of a release; data/report/tables.sql adds `released`, `judged`, `lost`."""


def sql_literal(value: object) -> str:
    """A value as a query writes it: text between quotes, however hostile it is; characters that a page cannot
    show as they are by their number."""
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    quoted = "'" + str(value).replace("'", "''") + "'"
    return CONTROL_CHARACTERS.sub(lambda found: f"' || chr({ord(found.group())}) || '", quoted)


def sql_where(**columns: object) -> str:
    """`a = 'x' and b = 1`, with `is null` where there is no value."""
    return " and ".join(
        f"{name} is null" if value is None else f"{name} = {sql_literal(value)}"
        for name, value in columns.items()
    )


def row_query(column: str, view: str, row_id: str) -> str:
    """The query for one column of one row."""
    return f"select {column} from {view} where {sql_where(id=row_id)}"  # noqa: S608 - shown, never run


FLOOR_ENDS: Mapping[str, str] = MappingProxyType(
    {
        "low": "least(min(low), min(value))",
        "high": "greatest(max(high), max(value))",
        "n": "cast(sum(n) as bigint)",
    }
)


def floor_query(end: str, metric: str, **columns: object) -> str:
    """The query for the `low` or `high` end of what A/A controls show in a metric, or for their number."""
    slices = sql_where(level="control", name="a_a", **columns)
    pairs = f"split_part(metric, ':', 1) = {sql_literal(metric)}"
    return f"select {FLOOR_ENDS[end]} from effects where {slices} and {pairs}"  # noqa: S608 - shown, never run
