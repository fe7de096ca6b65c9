"""report.html: one page that a person reads, whole in one file, without script and without network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tasks.release.picture_style import without_controls
from tasks.release.pictures import (
    effect_forest,
    fitness_distribution,
    funnel_bars,
    round_bars,
    round_lines,
    shrinkage_scatter,
)
from tasks.release.report_data import ReportData
from tasks.release.report_effects import MOST_MODELS, metric_title
from tasks.release.report_headlines import MOST_HEADLINES
from tasks.release.report_links import VIEWS, floor_query, row_query, sql_literal, sql_where
from tasks.release.report_text import marked_template, plain_text

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MOST: Mapping[str, int] = MappingProxyType(
    {
        "attributes": 16,
        "changed": 5,
        "costs": 60,
        "domains": 80,
        "headlines": MOST_HEADLINES,
        "judges": 20,
        "metrics": 4,
        "operations": 60,
        "passports": 8,
        "probes": 40,
        "reasons": 40,
        "relabelled": 36,
        "rounds": 40,
        "warnings": 20,
    }
)
"""Rows of each kind that the page shows; the tables have all, and the page says so."""
LONGEST_NAME = 160
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write_report(path: Path, data: ReportData, data_dir: Path) -> None:
    """Fill data/report/report.html with a release's numbers and pictures."""
    path.write_text(render_report(data, data_dir), encoding="utf-8", newline="\n")


def render_report(data: ReportData, data_dir: Path) -> str:
    """The page. Whatever comes from the release is escaped; only the pictures we draw are put in as they
    are."""
    page = report_environment(data_dir).get_template("report.html")
    return page.render(
        data=data,
        m=data.manifest,
        pictures=draw_pictures(data),
        most_models=MOST_MODELS,
        most=MOST,
        warning=content_warning(data, data_dir),
        floor_value=data.floor.value if data.floor else 0.0,
    )


def content_warning(data: ReportData, data_dir: Path) -> str:
    """As the card has it."""
    import yaml

    sentences = yaml.safe_load((data_dir / "card_sentences.yaml").read_text(encoding="utf-8"))
    warning: str = sentences["warning"]["answers" if data.words_of_models else "questions"]
    return warning


def report_environment(data_dir: Path) -> SandboxedEnvironment:
    """Sandboxed, escaping everything, strict about names."""
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(data_dir / "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.update(views=VIEWS, where=sql_where, row_query=row_query, floor_query=floor_query)
    environment.filters.update(
        count=lambda n: f"{n:,}",
        fixed=_fixed,
        signed=lambda x: _fixed(x, signed=True),
        p=_p_value,
        usd=lambda x: f"${x:,.2f}",
        words=lambda name: without_controls(str(name).replace("_", " "))[:LONGEST_NAME],
        plain=without_controls,
        metric=lambda name: without_controls(metric_title(name))[:LONGEST_NAME],
        sql=sql_literal,
        slots=marked_template,
        evidence=lambda text, span: plain_text(text, evidence=[span]),
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    return environment


def draw_pictures(data: ReportData) -> dict[str, object]:
    """All pictures by name; a picture without data is left out."""
    from markupsafe import Markup

    svgs = {"funnel": funnel_bars(data.funnel)} if data.funnel else {}
    if data.fitness:
        svgs["fitness"] = fitness_distribution(data.fitness, data.floor)
    if data.phases:
        svgs["shrinkage"] = shrinkage_scatter(data.phases)
    if len(data.rounds) > 1:
        svgs["rounds_fitness"] = round_lines(data.rounds)
        svgs["rounds_accepted"] = round_bars(data.rounds)
    for family in data.effects:
        svgs.update({panel.key: effect_forest(panel, family.models) for panel in family.panels})
    return {name: Markup(svg) for name, svg in svgs.items()}  # noqa: S704 - our own drawing, text escaped


def _printable(value: object) -> object:
    """What HTML cannot hold is replaced."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _fixed(x: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a real minus sign; an en dash where there is none."""
    if x is None:
        return "–"
    return f"{x:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
