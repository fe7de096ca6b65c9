"""Compare two releases: changes by stable ids, and the next version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.errors import GateError
from schemas.question import LIFECYCLE
from schemas.release import Bump, ReleaseComparison
from tasks.families.coverage import MAIN_METRICS
from tasks.package.decide import failed_links
from tasks.release import (
    CONFIGS,
    ERRATUM,
    FIRST_VERSION,
    QUESTION_CONFIGS,
    RETIRED,
    Contents,
    ReleaseRef,
    bump_version,
    open_release,
    parse_version,
    read_contents,
)
from tasks.release.recipe_changes import meaning_changes
from tasks.run.store import Outcome, RunContext, Stage, TableRef
from tasks.stats.intervals import mean_interval

BY_CHANCE = frozenset({"accepted", "confirmed", "candidate", "hard_negative"})
"""Labels that a search and fresh answers decide, by chance too. A change among them is no change of the
benchmark, unless people decided it."""
PEOPLE = "review"
"""Stage of label changes that people decided."""

# Differences between the tables of two releases, which different program versions may have written.


Records = Mapping[str, Mapping[str, Any]]
"""Question rows by id. An older release may lack a column."""


COMPARED = {config: table for config, table in CONFIGS.items() if table is not RETIRED}
"""Configs with compared rows. Retired questions follow from the others."""
TEXT = ("template", "variants", "options")
"""Columns with the text of a question."""


def question_records(contents: Contents) -> Records:
    """Return every released question of all configs by id."""
    return {row["id"]: row for config in QUESTION_CONFIGS for row in contents.records(config)}


def measured_again(old: Contents, new: Contents, mended: Collection[str]) -> bool:
    """Return whether answers or scores of questions with unchanged text differ."""
    if not mended and _lines(old, new, "effects") != _lines(new, old, "effects"):
        return True
    return any(
        [r for r in before if r["question_id"] not in mended]
        != [r for r in after if r["question_id"] not in mended]
        for config in ("responses", "judgements")
        for before, after in [(_lines(old, new, config), _lines(new, old, config))]
    )


def column_changes(old: Contents, new: Contents) -> list[str]:
    """Return added and removed columns, and columns with another type."""
    changes = []
    for config in COMPARED:
        before, after = column_types(old, config), column_types(new, config)
        for column in sorted((before.keys() | after.keys()) - set(LIFECYCLE)):
            was, now = before.get(column), after.get(column)
            if was is None:
                changes.append(f"{config}.{column} is new")
            elif now is None:
                changes.append(f"{config}.{column} is gone")
            elif was != now:
                changes.append(f"{config}.{column} holds {now} instead of {was}")
    return changes


def column_types(contents: Contents, config: str) -> dict[str, pa.DataType]:
    """Return the type of every column of a config."""
    table = contents.tables.get(config)
    return {field.name: field.type for field in table.schema} if table is not None else {}


def instrument_changes(old: Contents, new: Contents, *, mended: bool = False) -> list[str]:
    """Return added and removed judges, and main metrics that are gone. Such scores are not comparable.

    Other metrics depend on the answers and on the values of controls, so that they come and go. With
    `mended`, a metric may be gone because the answers to a corrected text were removed, and is not reported.
    """
    judges = _lost_and_found(_judges(old), _judges(new))
    asked = {e["family"] for e in new.records("effects")}
    lost = sorted(m for m in _main_metrics(old) - _main_metrics(new) if m.family in asked)
    return judges + [f"metric {metric} is no longer reported" for metric in lost if not mended]


def _judges(contents: Contents) -> set[str]:
    return {
        f"judge {j['judge']} with rubric {j['rubric']} ({j['rubric_hash'][:12]}), {j['fitness_form']} fitness"
        + (", pairwise" if j.get("pair") else "")
        for j in contents.records("judgements")
    }


class _Metric(NamedTuple):
    name: str
    family: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} of {self.family} in {self.unit}"


def _main_metrics(contents: Contents) -> set[_Metric]:
    """Return the main metric of every family, without the names of values."""
    found = set()
    for e in contents.records("effects"):
        name = e["metric"].partition(":")[0]
        if name == MAIN_METRICS.get(e["family"]):
            found.add(_Metric(name, e["family"], e["unit"]))
    return found


def _differences(old: set[str], new: set[str]) -> tuple[list[str], list[str]]:
    return sorted(old - new), sorted(new - old)


def _lost_and_found(old: set[str], new: set[str]) -> list[str]:
    lost, found = _differences(old, new) if old and new else ([], [])
    return [f"{name} is gone" for name in lost] + [f"{name} is new" for name in found]


def row_changes(old: Contents, new: Contents) -> list[str]:
    """Return per config the numbers of added, removed and changed rows.

    Ids, texts and labels of questions are compared elsewhere. Only their other columns count here.
    """
    changes = []
    for config, table in COMPARED.items():
        before, after = ({r[table.key]: r for r in _lines(a, b, config)} for a, b in ((old, new), (new, old)))
        numbers = {
            "added": len(after.keys() - before.keys()),
            "removed": len(before.keys() - after.keys()),
            "with other content": sum(before[key] != after[key] for key in before.keys() & after.keys()),
        }
        counts = [f"{n:,} {word}" for word, n in numbers.items() if n]
        if config in QUESTION_CONFIGS:
            counts = [count for count in counts if count.endswith("content")]
        if counts:
            changes.append(f"{config}: rows " + ", ".join(counts))
    return changes


def _lines(contents: Contents, other: Contents, config: str) -> list[dict[str, Any]]:
    """Return the rows of a config with the columns that both releases have."""
    shared = column_types(contents, config).keys() & column_types(other, config).keys()
    if config in QUESTION_CONFIGS:
        shared = shared - {*TEXT, "label", *LIFECYCLE}
    return [{name: row[name] for name in sorted(shared)} for row in contents.records(config)]


# Compare: changes since the last release by stable ids, and the next version.


def compare_releases(old: Contents, new: Contents, old_version: str) -> ReleaseComparison:
    """Compare two releases. The new version is the lowest that the version policy allows."""
    before, after = question_records(old), question_records(new)
    common = before.keys() & after.keys()
    pairs = pair_reworded(before, after)
    mended = {i for i in common if text_of(before[i]) != text_of(after[i])} | pairs.keys()
    changes = ReleaseComparison(
        old_version=old_version,
        new_version=old_version,
        bump="none",
        added=tuple(sorted(after.keys() - before.keys() - pairs.keys())),
        removed=tuple(sorted(before.keys() - after.keys() - set(pairs.values()))),
        reworded=tuple(sorted(mended)),
        relabelled=tuple(relabelled_questions(before, after, pairs, reviewed_subjects(new))),
        schema_changes=tuple(column_changes(old, new) + instrument_changes(old, new, mended=bool(pairs))),
        other_changes=tuple(row_changes(old, new)),
        common=len(common),
        fitness_drift=mean_drift(
            [(before[i].get("fitness"), after[i].get("fitness")) for i in sorted(common)]
        ),
    )
    bump = required_bump(changes, measured_again=measured_again(old, new, mended | set(pairs.values())))
    return changes.model_copy(update={"bump": bump, "new_version": bump_version(old_version, bump)})


def first_release() -> ReleaseComparison:
    """Return the comparison of a first release."""
    return ReleaseComparison(
        old_version=None,
        new_version=FIRST_VERSION,
        bump="first",
        added=(),
        removed=(),
        reworded=(),
        relabelled=(),
        schema_changes=(),
        common=0,
        fitness_drift=None,
    )


def required_bump(changes: ReleaseComparison, *, measured_again: bool) -> Bump:
    """Return the part of the version that the changes increase.

    Labels that people changed, metrics, judges, columns, and changes of the recipe that change the meaning of
    scores need a major version. Added, removed or newly measured questions need a minor one. Corrected texts
    and other changes need a patch.
    """
    if changes.relabelled or changes.schema_changes or changes.recipe_changes:
        return "major"
    if changes.added or changes.removed or measured_again:
        return "minor"
    return "patch" if changes.reworded or changes.other_changes else "none"


def text_of(question: Mapping[str, Any]) -> list[Any]:
    """Return the text columns of a question."""
    return [question.get(column) for column in TEXT]


def pair_reworded(before: Records, after: Records) -> dict[str, str]:
    """Return the old id of each reworded question by its new id.

    The text is part of the id, so a reworded question has a new id. It is recognised by its lineage (template
    or composition, with its binding), if exactly one question of the lineage was removed and one was added. A
    corrected question names the old one itself.
    """
    removed = by_lineage(before[i] for i in sorted(before.keys() - after.keys()))
    added = by_lineage(after[i] for i in sorted(after.keys() - before.keys()))
    mended = {
        i: after[i]["parent_id"]
        for i in sorted(after.keys() - before.keys())
        if after[i].get("operator") == ERRATUM and after[i]["parent_id"] in before.keys() - after.keys()
    }
    return mended | {
        added[key][0]: ids[0] for key, ids in removed.items() if len(ids) == len(added.get(key, ())) == 1
    }


def by_lineage(questions: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[str]]:
    """Return the ids of questions with a template or a composition, by lineage."""
    lineages: dict[tuple[Any, ...], list[str]] = {}
    for q in questions:
        if q.get("template_id") or q.get("composition"):
            binding = (q["family"], q["attribute"], q["framing"], q["control"], tuple(q["values"]))
            key = (q.get("template_id"), q.get("composition"), *binding)
            lineages.setdefault(key, []).append(q["id"])
    return lineages


def relabelled_questions(
    before: Records, after: Records, reworded: Mapping[str, str], reviewed: Collection[str] = ()
) -> list[str]:
    """Return the new ids of questions with another label than before, without changes by chance.

    Args:
        before: Questions of the old release.
        after: Questions of the new release.
        reworded: Old id of each reworded question.
        reviewed: Ids of questions with labels that reviewers changed.
    """
    return sorted(
        i
        for i, question in after.items()
        if (old := before.get(reworded.get(i, i))) is not None
        and old["label"] != question["label"]
        and (i in reviewed or not {old["label"], question["label"]} <= BY_CHANCE)
    )


def reviewed_subjects(contents: Contents) -> set[str]:
    """Return the ids of questions and passages with labels that reviewers changed."""
    return {change["subject_id"] for change in contents.records("label_history") if change["stage"] == PEOPLE}


def mean_drift(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Return the mean of new − old over the pairs without None, or None if there are none."""
    moves = [new - old for old, new in pairs if old is not None and new is not None]
    return sum(moves) / len(moves) if moves else None


def with_recipe(
    comparison: ReleaseComparison, old: Mapping[str, Any], new: Mapping[str, Any]
) -> ReleaseComparison:
    """Add the changes of the recipe.

    Changes of the meaning need a major version. A change of title, description, licence or homepage alone
    needs a patch version.
    """
    if comparison.old_version is None:
        return comparison
    meaning = meaning_changes(old, new)
    if meaning:
        version = bump_version(comparison.old_version, "major")
        comparison = comparison.model_copy(
            update={"recipe_changes": tuple(meaning), "bump": "major", "new_version": version}
        )
    changed = [key for key in ("title", "description") if old.get(key) != new.get(key)]
    terms = ("licence", "homepage")
    changed += [key for key in terms if old.get("release", {}).get(key) != new.get("release", {}).get(key)]
    if not changed:
        return comparison
    changes = (*comparison.other_changes, "card: another " + ", another ".join(changed))
    comparison = comparison.model_copy(update={"other_changes": changes})
    if comparison.bump != "none":
        return comparison
    version = bump_version(comparison.old_version or FIRST_VERSION, "patch")
    return comparison.model_copy(update={"bump": "patch", "new_version": version})


def with_failed_links(comparison: ReleaseComparison, failed: Sequence[str]) -> ReleaseComparison:
    """Add the metrics without a common scale. Their scores are not comparable: a major version."""
    if not failed or comparison.old_version is None:
        return comparison
    return comparison.model_copy(
        update={
            "schema_changes": (*comparison.schema_changes, *failed),
            "bump": "major",
            "new_version": bump_version(comparison.old_version, "major"),
        }
    )


def with_wanted_version(comparison: ReleaseComparison, wanted: str | None) -> ReleaseComparison:
    """Set the version of the recipe. Raise `GateError` if the changes need a higher one."""
    if wanted is None:
        return comparison
    if comparison.bump != "first" and parse_version(wanted) < parse_version(comparison.new_version):
        raise GateError(
            f"the recipe asks for version {wanted}; the last release is {comparison.old_version}, and the "
            f"changes since ({comparison.bump}) need at least {comparison.new_version}",
            place="release.version",
            hint=f"set it to {comparison.new_version} or higher, or leave it out",
        )
    return comparison.model_copy(update={"new_version": wanted})


def compare(context: RunContext, *, assembled: Sequence[TableRef], previous: ReleaseRef | None) -> Outcome:
    """Compare the assembled tables with the last release. The comparison is in the notes."""
    new = read_contents(assembled)
    if previous is None:
        comparison = first_release()
    else:
        old = open_release(Path(previous.path))
        comparison = compare_releases(old.contents, new, old.manifest.version)
        comparison = with_failed_links(comparison, failed_links(old.contents, new, Path(context.data_dir)))
        comparison = with_recipe(
            comparison, old.manifest.recipe, context.recipe.model_dump(mode="json", by_alias=True)
        )
        comparison = comparison.model_copy(update={"old_manifest": previous.sha256})
    comparison = with_wanted_version(comparison, context.recipe.release.version)
    return Outcome(tables={}, counts=(), notes=comparison.model_dump_json())


def diff_releases(old: Path, new: Path) -> dict[str, Any]:
    """Compare two release directories.

    Returns:
        The fields of a `ReleaseComparison`, with `released_as`, the version of the new release, and
        `score_drift`, the mean change of fitness (new − old) with its interval.
    """
    before, after = open_release(old), open_release(new)
    comparison = compare_releases(before.contents, after.contents, before.manifest.version)
    comparison = with_recipe(comparison, before.manifest.recipe, after.manifest.recipe)
    return comparison.model_dump(mode="json") | {
        "released_as": after.manifest.version,
        "score_drift": score_drift(before.contents, after.contents),
    }


def score_drift(old: Contents, new: Contents) -> dict[str, Any]:
    """Return the mean change of fitness over questions judged in both, with its interval."""
    before, after = question_records(old), question_records(new)
    moves = [
        after[i]["fitness"] - before[i]["fitness"]
        for i in sorted(before.keys() & after.keys())
        if None not in (before[i].get("fitness"), after[i].get("fitness"))
    ]
    if not moves:
        return {"value": None, "low": None, "high": None, "n": 0}
    interval = mean_interval(moves)
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


STAGE = Stage(
    "compare",
    3,
    run=compare,
    reads=(
        "title",
        "description",
        "attributes",
        "superdomains",
        "selection",
        "models",
        "families",
        "evolve",
        "judging",
        "release",
    ),
)
