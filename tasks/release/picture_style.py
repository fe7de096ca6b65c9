"""How pictures look, and how a matplotlib figure becomes SVG inside a page: the same bytes every time,
text as text, and colours that follow the page's light or dark scheme."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
