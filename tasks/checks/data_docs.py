"""Data Docs: the pages of Great Expectations, readable offline and the same to the byte every time."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from schemas.validation import SuiteResult
from tasks.checks.suite import render_page

LAYOUT = "data_docs"


def write_pages(results: Iterable[SuiteResult], out: Path, data_dir: Path) -> list[Path]:
    """One page a table and an index, into `out`; their layout is `data/data_docs/offline_page.j2`."""
    out.mkdir(parents=True, exist_ok=True)
    ordered = sorted(results, key=lambda r: r.table)
    pages = {page_name(r): render_page(r, data_dir / LAYOUT) for r in ordered}
    pages["index.html"] = _index(ordered, data_dir / LAYOUT)
    for name, page in pages.items():
        (out / name).write_text(page, encoding="utf-8", newline="\n")
    return [out / name for name in sorted(pages)]


def page_name(result: SuiteResult) -> str:
    """`questions.variants.html`; what is no letter of a table's name becomes `_`."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in result.table)
    return f"{safe}.html"


def _index(results: Iterable[SuiteResult], layout: Path) -> str:
    lines = [
        f'<tr><td><a href="{page_name(r)}">{html.escape(r.table)}</a></td><td>{r.rows}</td>'
        f"<td>{r.expectations}</td><td>{r.failed}</td></tr>"
        for r in results
    ]
    page = (layout / "index.html").read_text(encoding="utf-8")
    return page.replace("<!-- rows -->", "\n".join(lines))
