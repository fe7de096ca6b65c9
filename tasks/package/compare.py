"""Decide what becomes of a refreshed release: nothing, a look by people, or publication."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.answers import EFFECTS, Effect
from schemas.errors import GateError
from schemas.recipe import Recipe
from schemas.release import Bump, RefreshDecision, ReleaseComparison, ReviewItem
from schemas.tables import derived_seed
from tasks.release import (
    CONFIGS,
    ERRATUM,
    FIRST_VERSION,
    QUESTION_CONFIGS,
    Contents,
    ReleaseRef,
    bump_version,
    open_release,
    parse_version,
    read_contents,
)
from tasks.run.store import Outcome, RunContext, Stage, TableRef
from tasks.stats.resampling import mean_with_interval

SLICES = ("attribute", "family")
"""Levels whose movement is a finding; single questions move by chance."""
MOST_REMOVED = 0.5
"""Share of the old questions that may go before people have to look."""


def decide(comparison: ReleaseComparison, old: Contents | None, new: Contents) -> RefreshDecision:
    """`unchanged` where the comparison finds nothing; `risky` where labels, metrics or columns changed, an
    effect of an attribute or family left its old interval, or most old questions are gone; else `safe`."""
    if comparison.bump == "none":
        return RefreshDecision(
            verdict="unchanged", reasons=("nothing differs from the last release",), review=()
        )
    review = [*_relabelled(comparison), *_schema(comparison)]
    if old is not None:
        review += moved_effects(old.rows(EFFECTS), new.rows(EFFECTS))
        review += _removed(comparison)
    reasons = tuple(dict.fromkeys(_reason(item) for item in review))
    if review:
        return RefreshDecision(verdict="risky", reasons=reasons, review=tuple(review))
    return RefreshDecision(verdict="safe", reasons=(_what_changed(comparison),), review=())


def moved_effects(old: Iterable[Effect], new: Iterable[Effect]) -> list[ReviewItem]:
    """Effects of attributes and families whose old and new 95 % intervals do not meet."""
    before = {_slice(e): e for e in old if e.level in SLICES}
    found = []
    for after in new:
        was = before.get(_slice(after))
        if was is not None and _apart(was, after):
            why = f"{was.value:+.3f} ({was.low:+.3f} to {was.high:+.3f}) became {after.value:+.3f}"
            subject = f"{after.name} · {after.metric} · {after.model}"
            found.append(ReviewItem(kind="effect_moved", subject=subject, why=why))
    return found


def _slice(e: Effect) -> tuple[str, ...]:
    return (e.level, e.name, e.family, e.attribute, e.model, e.condition, e.metric, e.unit)


def _apart(one: Effect, other: Effect) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _relabelled(comparison: ReleaseComparison) -> list[ReviewItem]:
    why = "carries another label than in the last release"
    return [ReviewItem(kind="relabelled", subject=i, why=why) for i in comparison.relabelled]


def _schema(comparison: ReleaseComparison) -> list[ReviewItem]:
    return [
        ReviewItem(kind="schema", subject=change, why="scores are not comparable across it")
        for change in comparison.schema_changes
    ]


def _removed(comparison: ReleaseComparison) -> list[ReviewItem]:
    before = comparison.common + len(comparison.removed) + len(comparison.reworded)
    if len(comparison.removed) <= MOST_REMOVED * before:
        return []
    why = f"one of {len(comparison.removed)} questions of {before} that are gone"
    return [ReviewItem(kind="removed", subject=i, why=why) for i in comparison.removed]


_WORDS: Mapping[str, str] = {
    "effect_moved": "an effect left its old interval",
    "relabelled": "questions changed their label",
    "removed": "most old questions are gone",
    "schema": "columns, metrics or judges changed",
}


def _reason(item: ReviewItem) -> str:
    return _WORDS[item.kind]


def _what_changed(comparison: ReleaseComparison) -> str:
    counts: dict[str, Any] = {
        "added": len(comparison.added),
        "removed": len(comparison.removed),
        "reworded": len(comparison.reworded),
    }
    told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return f"{comparison.bump} change: {told or 'answers or scores'}; no effect left its interval"


# Differences between the tables of two releases, whichever program versions wrote them.


Records = Mapping[str, Mapping[str, Any]]
"""Question rows by id, as they were written: an older release may lack a column."""


TEXT = ("template", "variants", "options")
"""Columns that make up what a question says."""


def question_records(contents: Contents) -> Records:
    """Every released question by id, whichever config it is in."""
    return {row["id"]: row for config in QUESTION_CONFIGS for row in contents.records(config)}


def measured_again(old: Contents, new: Contents, mended: Collection[str]) -> bool:
    """Whether questions whose text stands were answered or scored otherwise than before."""
    if not mended and _lines(old, new, "effects") != _lines(new, old, "effects"):
        return True
    return any(
        [r for r in before if r["question_id"] not in mended]
        != [r for r in after if r["question_id"] not in mended]
        for config in ("responses", "judgements")
        for before, after in [(_lines(old, new, config), _lines(new, old, config))]
    )


def column_changes(old: Contents, new: Contents) -> list[str]:
    """Columns that came, went, or hold another type."""
    changes = []
    for config in CONFIGS:
        before, after = column_types(old, config), column_types(new, config)
        for column in sorted(before.keys() | after.keys()):
            was, now = before.get(column), after.get(column)
            if was is None:
                changes.append(f"{config}.{column} is new")
            elif now is None:
                changes.append(f"{config}.{column} is gone")
            elif was != now:
                changes.append(f"{config}.{column} holds {now} instead of {was}")
    return changes


def column_types(contents: Contents, config: str) -> dict[str, pa.DataType]:
    table = contents.tables.get(config)
    return {field.name: field.type for field in table.schema} if table is not None else {}


def instrument_changes(old: Contents, new: Contents, *, mended: bool = False) -> list[str]:
    """Judges that came or went, and metrics that went: scores are not comparable across such a change.
    A metric that came leaves the others as they are; and one may go along with the answers to a mended
    text."""
    judges = _lost_and_found(_judges(old), _judges(new))
    metrics, _ = _differences(_metrics(old), _metrics(new))
    return judges + [f"metric {name} is no longer reported" for name in metrics if not mended]


def _judges(contents: Contents) -> set[str]:
    return {
        f"judge {j['judge']} with rubric {j['rubric']} ({j['rubric_hash'][:12]}), {j['fitness_form']} fitness"
        + (", pairwise" if j.get("pair") else "")
        for j in contents.records("judgements")
    }


def _metrics(contents: Contents) -> set[str]:
    return {f"{e['metric']} of {e['family']} in {e['unit']}" for e in contents.records("effects")}


def _differences(old: set[str], new: set[str]) -> tuple[list[str], list[str]]:
    return sorted(old - new), sorted(new - old)


def _lost_and_found(old: set[str], new: set[str]) -> list[str]:
    lost, found = _differences(old, new) if old and new else ([], [])
    return [f"{name} is gone" for name in lost] + [f"{name} is new" for name in found]


def row_changes(old: Contents, new: Contents) -> list[str]:
    """Per config: how many rows came, went or hold something else. Of questions only what else is known of
    them counts here: their ids, texts and labels are compared one by one."""
    changes = []
    for config, table in CONFIGS.items():
        before, after = ({r[table.key]: r for r in _lines(a, b, config)} for a, b in ((old, new), (new, old)))
        numbers = {
            "added": len(after.keys() - before.keys()),
            "removed": len(before.keys() - after.keys()),
            "with other content": sum(before[key] != after[key] for key in before.keys() & after.keys()),
        }
        told = [f"{n:,} {word}" for word, n in numbers.items() if n]
        if config in QUESTION_CONFIGS:
            told = [t for t in told if t.endswith("content")]
        if told:
            changes.append(f"{config}: rows " + ", ".join(told))
    return changes


def _lines(contents: Contents, other: Contents, config: str) -> list[dict[str, Any]]:
    """A config's rows, in the columns that both sides have: others are the schema's matter."""
    shared = column_types(contents, config).keys() & column_types(other, config).keys()
    if config in QUESTION_CONFIGS:
        shared = shared - {*TEXT, "label"}
    return [{name: row[name] for name in sorted(shared)} for row in contents.records(config)]


# Compare: what changed since the last release, by stable ids, and which version number follows.


def compare_releases(old: Contents, new: Contents, old_version: str) -> ReleaseComparison:
    """What changed from `old` to `new`; the version is the least that the policy allows."""
    before, after = question_records(old), question_records(new)
    common = before.keys() & after.keys()
    pairs = pair_reworded(before, after)
    mended = {i for i in common if said(before[i]) != said(after[i])} | pairs.keys()
    changes = ReleaseComparison(
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
    return changes.model_copy(update={"bump": bump, "new_version": bump_version(old_version, bump)})


def first_release() -> ReleaseComparison:
    """There is nothing to compare with."""
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


def with_recipe(comparison: ReleaseComparison, old: Mapping[str, Any], recipe: Recipe) -> ReleaseComparison:
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
    version = bump_version(comparison.old_version, "patch")
    return comparison.model_copy(update={"bump": "patch", "new_version": version})


def with_wanted_version(comparison: ReleaseComparison, wanted: str | None) -> ReleaseComparison:
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
    new = read_contents(assembled)
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
