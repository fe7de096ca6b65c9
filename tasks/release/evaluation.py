"""An evaluation: what a release showed of models that it was not made with. A folder of four files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.effect import EFFECTS, Effect
from schemas.ids import canonical_json
from schemas.manifest import Manifest
from tasks.formats.csv_file import write_csv
from tasks.release.leaderboard import by_model, leaderboard
from tasks.release.pictures import effect_forest
from tasks.release.report import report_environment
from tasks.release.report_effects import family_effects
from tasks.store import write_bytes, write_table

COLUMNS = (
    "family", "metric", "model", "effect", "low", "high", "p_value", "q_value", "a_a_floor", "n",
)  # fmt: skip


def write_evaluation(
    folder: Path, manifest: Manifest, effects: Sequence[Effect], form: str, data_dir: Path
) -> dict[str, Any]:
    """Write `evaluation.json`, `effects.parquet`, `leaderboard.csv`, `evaluation.html`; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    board = leaderboard(effects, form)
    result = {
        "release": manifest.name,
        "version": manifest.version,
        "fitness_form": form,
        "models": by_model(effects, form),
        "leaderboard": board,
    }
    write_table(folder / "effects.parquet", EFFECTS, effects)
    write_csv(folder / "leaderboard.csv", COLUMNS, [{c: _cell(row[c]) for c in COLUMNS} for row in board])
    write_bytes(folder / "evaluation.html", evaluation_page(manifest, effects, board, data_dir).encode())
    write_bytes(folder / "evaluation.json", (canonical_json(result) + "\n").encode())
    return result


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def evaluation_page(
    manifest: Manifest, effects: Sequence[Effect], board: Sequence[dict[str, Any]], data_dir: Path
) -> str:
    """The page: leaderboard, then every family's effects with intervals beside the A/A floor."""
    from markupsafe import Markup

    families = family_effects([e for e in effects if e.level != "question"])
    pictures = {
        panel.key: Markup(effect_forest(panel, family.models))  # noqa: S704 - our own drawing, text escaped
        for family in families
        for panel in family.panels
    }
    page = report_environment(data_dir).get_template("evaluation.html")
    return page.render(m=manifest, board=board, families=families, pictures=pictures)
