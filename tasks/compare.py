"""Compare: what changed since the last release, by stable ids, and which version number follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.comparison import Bump, Comparison
from schemas.errors import GateError
from schemas.ids import derived_seed
from schemas.recipe import Recipe
from tasks.release.differences import (
    ERRATUM,
    TEXT,
    Records,
    column_changes,
    instrument_changes,
    measured_again,
    question_records,
    row_changes,
)
from tasks.release.reading import Contents, ReleaseRef, contents_of, open_release
from tasks.release.versions import FIRST, next_version, parse_version
from tasks.stats.bootstrap import mean_with_interval
from tasks.store import Outcome, RunContext, Stage, TableRef


def compare_releases(old: Contents, new: Contents, old_version: str) -> Comparison:
    """What changed from `old` to `new`; the version is the least that the policy allows."""
    before, after = question_records(old), question_records(new)
    common = before.keys() & after.keys()
    pairs = pair_reworded(before, after)
    mended = {i for i in common if said(before[i]) != said(after[i])} | pairs.keys()
    changes = Comparison(
        old_version=old_version,
        new_version=old_version,
        bump="none",
        added=tuple(sorted(after.keys() - before.keys() - pairs.keys())),
        removed=tuple(sorted(before.keys() - after.keys() - set(pairs.values()))),
        reworded=tuple(sorted(mended)),
        relabelled=tuple(relabelled_questions(before, after, pairs)),
        schema_changes=tuple(column_changes(old, new) + instrument_changes(old, new, mended=bool(pairs))),
        other_changes=tuple(row_changes(old, new)),
        common=len(common),
        fitness_drift=mean_drift(
            [(before[i].get("fitness"), after[i].get("fitness")) for i in sorted(common)]
        ),
    )
    bump = required_bump(changes, measured_again=measured_again(old, new, mended | set(pairs.values())))
    return changes.model_copy(update={"bump": bump, "new_version": next_version(old_version, bump)})


def first_release() -> Comparison:
    """There is nothing to compare with."""
    return Comparison(
        old_version=None,
        new_version=FIRST,
        bump="first",
        added=(),
        removed=(),
        reworded=(),
        relabelled=(),
        schema_changes=(),
        common=0,
        fitness_drift=None,
    )


def required_bump(changes: Comparison, *, measured_again: bool) -> Bump:
    """Labels, metrics or schema: major. Questions that came or went, or were measured again: minor. Mended
    texts with what follows from them, or records of what was dropped: patch."""
    if changes.relabelled or changes.schema_changes:
        return "major"
    if changes.added or changes.removed or measured_again:
        return "minor"
    return "patch" if changes.reworded or changes.other_changes else "none"


def said(question: Mapping[str, Any]) -> list[Any]:
    """What a question says, without where it comes from and how it scored."""
    return [question.get(column) for column in TEXT]


def pair_reworded(before: Records, after: Records) -> dict[str, str]:
    """New id to old id of questions that say the same thing in other words.

    A text is part of the id, so a mended question has a new one. It is known by its lineage (template or
    composition, and what it is bound to), where exactly one question of that lineage went and one came; or
    it says itself which one it mends.
    """
    gone = by_lineage(before[i] for i in sorted(before.keys() - after.keys()))
    came = by_lineage(after[i] for i in sorted(after.keys() - before.keys()))
    mended = {
        i: after[i]["parent_id"]
        for i in sorted(after.keys() - before.keys())
        if after[i].get("operator") == ERRATUM and after[i]["parent_id"] in before.keys() - after.keys()
    }
    return mended | {
        came[key][0]: gone[key][0] for key in gone if len(gone[key]) == 1 and len(came.get(key, ())) == 1
    }


def by_lineage(questions: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[str]]:
    """Ids of questions that stem from a template or a composition, by lineage."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for q in questions:
        if q.get("template_id") or q.get("composition"):
            binding = (q["family"], q["attribute"], q["framing"], q["control"], tuple(q["values"]))
            key = (q.get("template_id"), q.get("composition"), *binding)
            found.setdefault(key, []).append(q["id"])
    return found


def relabelled_questions(before: Records, after: Records, reworded: Mapping[str, str]) -> list[str]:
    """Ids (the new ones) of questions that carry another label than before."""
    return sorted(
        i
        for i, question in after.items()
        if (old := before.get(reworded.get(i, i))) is not None and old["label"] != question["label"]
    )


def mean_drift(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Mean of new − old where both are there."""
    moves = [new - old for old, new in pairs if old is not None and new is not None]
    return sum(moves) / len(moves) if moves else None


def with_recipe(comparison: Comparison, old: Mapping[str, Any], recipe: Recipe) -> Comparison:
    """Tell what the card says otherwise than before; such a change alone is a patch."""
    new = recipe.model_dump(mode="json", by_alias=True)
    changed = [key for key in ("title", "description") if old.get(key) != new[key]]
    terms = ("licence", "homepage")
    changed += [key for key in terms if old.get("release", {}).get(key) != new["release"][key]]
    if not changed:
        return comparison
    told = (*comparison.other_changes, "card: another " + ", another ".join(changed))
    comparison = comparison.model_copy(update={"other_changes": told})
    if comparison.bump != "none" or comparison.old_version is None:
        return comparison
    version = next_version(comparison.old_version, "patch")
    return comparison.model_copy(update={"bump": "patch", "new_version": version})


def with_wanted_version(comparison: Comparison, wanted: str | None) -> Comparison:
    """The version that the recipe asks for. Raises `GateError` where the changes need a higher one."""
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
    """The comparison with the last release (`last_release` finds it), as JSON in the notes."""
    new = contents_of(assembled)
    if previous is None:
        comparison = first_release()
    else:
        old = open_release(Path(previous.path))
        comparison = compare_releases(old.contents, new, old.manifest.version)
        comparison = with_recipe(comparison, old.manifest.recipe, context.recipe)
        comparison = comparison.model_copy(update={"old_manifest": previous.sha256})
    comparison = with_wanted_version(comparison, context.recipe.release.version)
    return Outcome(tables={}, counts=(), notes=comparison.model_dump_json())


def diff_releases(old: Path, new: Path) -> dict[str, Any]:
    """The comparison of two release directories: `bump` is what the changes need, `new_version` what follows
    from that, and `score_drift` the mean change of fitness (new − old) with its interval."""
    before, after = open_release(old), open_release(new)
    comparison = compare_releases(before.contents, after.contents, before.manifest.version)
    comparison = with_recipe(comparison, before.manifest.recipe, Recipe.model_validate(after.manifest.recipe))
    return comparison.model_dump(mode="json") | {
        "released_as": after.manifest.version,
        "score_drift": score_drift(before.contents, after.contents),
    }


def score_drift(old: Contents, new: Contents) -> dict[str, Any]:
    """Mean change of fitness over the questions that both judged, with a bootstrap interval over them."""
    before, after = question_records(old), question_records(new)
    moves = [
        after[i]["fitness"] - before[i]["fitness"]
        for i in sorted(before.keys() & after.keys())
        if None not in (before[i].get("fitness"), after[i].get("fitness"))
    ]
    if not moves:
        return {"value": None, "low": None, "high": None, "n": 0}
    interval = mean_with_interval(moves, derived_seed("score drift"))
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


STAGE = Stage("compare", 1, run=compare, reads=("title", "description", "release"))
