"""What a person sees of comparisons and evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.printing import OUT, plain, table

SHOWN = 5


def print_diff(result: Mapping[str, Any]) -> None:
    """Versions, counts by kind of change with some ids, and how scores moved."""
    OUT.print(f"[bold]{result['old_version']} → {result['new_version']}[/bold] ({result['bump']})")
    rows = table("change", "questions", "some of them", numbers=(1,))
    for kind in ("added", "removed", "reworded", "relabelled"):
        ids = result[kind]
        more = " …" if len(ids) > SHOWN else ""
        rows.add_row(kind, f"{len(ids):,}", plain(" ".join(ids[:SHOWN]) + more))
    rows.add_row("in both", f"{result['common']:,}", "")
    OUT.print(rows)
    for change in (*result["schema_changes"], *result["other_changes"]):
        OUT.print(plain(change))
    drift = result["score_drift"]
    if drift["n"]:
        OUT.print(
            f"fitness moved by {drift['value']:+.3f} ({drift['low']:+.3f} to {drift['high']:+.3f}) "
            f"over {drift['n']:,} questions that both judged"
        )


def print_evaluation(result: Mapping[str, Any]) -> None:
    """The leaderboard, and where the rest is."""
    columns = ("family", "metric", "model", "effect", "95 % interval", "A/A", "q", "n")
    rows = table(*columns, numbers=(3, 5, 6, 7))
    for row in result["leaderboard"]:
        floor = row["a_a_floor"]
        rows.add_row(
            row["family"],
            row["metric"],
            plain(row["model"]),
            f"{row['effect']:+.3f}",
            "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            "–" if floor is None else f"{floor:+.3f}",
            "–" if row["q_value"] is None else f"{row['q_value']:.3f}",
            str(row["n"]),
        )
    OUT.print(rows)
    OUT.print(plain(f"page, table and effects: {result['folder']}"))


def print_drift(result: Mapping[str, Any]) -> None:
    """Both benches side by side, and how far they agree."""
    rows = table("", "judges", "fitness", "floor", "mean", "found", numbers=(3, 4, 5))
    for name in ("old", "new"):
        side = result[name]
        mean = "–" if side["mean_fitness"] is None else f"{side['mean_fitness']:.3f}"
        judges = plain(", ".join(side["judges"]))
        rows.add_row(name, judges, side["fitness_form"], f"{side['floor']:.3f}", mean, str(side["found"]))
    OUT.print(rows)
    drift, kappa, rank = (result[key] for key in ("fitness_drift", "kappa", "rank_correlation"))
    said = [f"{result['questions']:,} questions judged by both"]
    if drift is not None:
        said.append(f"fitness {drift['value']:+.3f} ({drift['low']:+.3f} to {drift['high']:+.3f})")
    said.append("rank correlation " + ("not defined" if rank is None else f"{rank:.2f}"))
    said.append("kappa " + ("not defined" if kappa is None else f"{kappa:.2f}"))
    OUT.print("; ".join(said))
    for name in ("old", "new"):
        if ids := result[f"only_{name}_finds"]:
            OUT.print(plain(f"found by the {name} judges only: {' '.join(ids[:SHOWN])}"))
    OUT.print(plain(f"verdicts and figures: {result['folder']}"))


def print_published(result: Mapping[str, Any]) -> None:
    """What is where now, and what is left to do."""
    done = "is published" if result["new"] else "was there already, and is whole"
    if result["tag"] is None:
        done = "is proposed" if result["new"] else "was proposed already, and is whole"
    OUT.print(plain(f"{result['repo']} {result['version']} {done}: {result['files']} files read back"))
    OUT.print(plain(f"commit    {result['commit']}"))
    OUT.print(
        plain(f"tag       {result['tag'] or 'none yet: publish again when the pull request is merged'}")
    )
    OUT.print(plain(f"url       {result['url']}"))


def print_verified(result: Any) -> None:
    """One line for every file that differs, or that all is well."""
    for line in result.differences:
        OUT.print(plain(line), soft_wrap=True)
    if result.verified:
        told = f"{result.files} files, {sum(result.rows.values()):,} rows"
        OUT.print(plain(f"{result.release} is {result.name} {result.version}, whole: {told}"))
