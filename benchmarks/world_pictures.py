"""Build six worlds with known biases and take a picture of the first screen of each report.

    python -m benchmarks.world_pictures FOLDER [--world NAME]… [--home DIR]

The worlds are those of `benchmarks.world_builds`. The releases are built over HTTP and kept in `--home`.
Needs Chromium. Prints one line per world: confirmed questions, the test of the fresh answers, and findings.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.world_builds import WORLDS, build_world, slug_of
from schemas.answers import JUDGEMENTS
from schemas.question import QUESTIONS
from tasks.files.vocabulary import vocabulary_dir
from tasks.release import CONTROLS, open_release
from tasks.release.fitness import holdout_test
from tasks.report import report_data, write_report
from tests.browser import open_browser

SIZE = {"width": 1180, "height": 1560}
"""Size of the first screen in pixels."""
COLOURS = 48
"""Colours of a picture, to keep its file small."""


def take_picture(report: Path, picture: Path) -> None:
    """Save the first screen of a report as PNG with few colours."""
    from PIL import Image

    with open_browser() as browser:
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)
    with Image.open(picture) as image:
        reduced = image.convert("RGB").quantize(COLOURS)
    reduced.save(picture, optimize=True)


def describe(release: Path) -> str:
    """Return the statements of the first screen in one line."""
    contents = open_release(release).contents
    questions = contents.rows(QUESTIONS)
    fresh = holdout_test(questions, contents.rows(CONTROLS), contents.rows(JUDGEMENTS))
    confirmed = sum(q.label == "confirmed" for q in questions)
    p = "none" if fresh is None or fresh.p_value is None else f"{fresh.p_value:.3f}"
    return f"{confirmed} of {len(questions)} confirmed, p of fresh answers {p}"


def render_again(release: Path, folder: Path) -> Path:
    """Write the report of a release with the present code, and return its path."""
    opened = open_release(release)
    page = folder / f"{opened.manifest.name}.html"
    write_report(page, report_data(opened.manifest, opened.contents), vocabulary_dir())
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the pictures")
    parser.add_argument("--world", action="append", choices=sorted(WORLDS), help="default: all six")
    parser.add_argument("--home", type=Path, help="keep the releases there; those it has are not built again")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home.mkdir(parents=True, exist_ok=True)
        for name in options.world or WORLDS:
            shown = build_world(name, home)
            release = Path(shown["release"])
            take_picture(render_again(release, home), options.folder / f"world-{slug_of(name)}.png")
            differing = [
                f"{f['value']} {f['contrast']:+.2f}"
                for f in shown["findings"]
                if f["verdict"] == "differs" and f["topic"] == f["framing"] == "all"
            ]
            print(f"{name}: {describe(release)}; {', '.join(differing) or 'no finding'}", flush=True)


if __name__ == "__main__":
    main()
