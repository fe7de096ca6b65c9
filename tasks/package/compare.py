"""Compare two releases: changes by stable ids, the next version, and whether a refresh is safe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES
from schemas.errors import GateError
from schemas.question import QUESTIONS
from schemas.release import Bump, RefreshDecision, ReleaseComparison, ReviewItem
from tasks.files.vocabulary import vocabulary_dir
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
from tasks.release.fitness import select_fitness_form
from tasks.report.comparisons import Scored, compare_scored_releases, score_questions
from tasks.report.names import read_known_attributes
from tasks.run.store import Outcome, RunContext, Stage, TableRef
from tasks.stats.intervals import mean_interval

SEARCHED = frozenset({"accepted", "confirmed", "candidate"})
"""Labels of questions that a search selected. Fresh answers decide between the last two, by chance too."""
MOVED = 0.03
"""Highest q-value of an effect that moved. It is stricter than for a single comparison, so that fewer than
5 % of refreshes with equal models report a move."""
MOST_REMOVED = 0.5
"""Share of the old questions that may be removed without a review."""


def decide(
    comparison: ReleaseComparison, old: Contents | None, new: Contents, data_dir: Path | None = None
) -> RefreshDecision:
    """Decide whether a refreshed release is unchanged, safe or risky.

    It is risky if labels, metrics or columns changed, if an effect differs on the common questions, or if
    most old questions are removed.

    Args:
        comparison: Comparison of the releases.
        old: Tables of the last release, or None for the first one.
        new: Tables of the new release.
        data_dir: The vocabulary. Default: the program's own.
    """
    if comparison.bump == "none":
        return RefreshDecision(
            verdict="unchanged", reasons=("nothing differs from the last release",), review=()
        )
    review = [*_relabelled(comparison), *_schema(comparison)]
    if old is not None:
        review += moved_effects(old, new, data_dir)
        review += _removed(comparison)
    reasons = tuple(dict.fromkeys(_reason(item) for item in review))
    if review:
        return RefreshDecision(verdict="risky", reasons=reasons, review=tuple(review))
    return RefreshDecision(verdict="safe", reasons=(_what_changed(comparison),), review=())


def moved_effects(old: Contents, new: Contents, data_dir: Path | None = None) -> list[ReviewItem]:
    """Return the effects that differ between two releases on the questions that both have.

    The test is paired by question, counts twin families, and is corrected for all effects of a model. So a
    change of the questions alone moves no effect, and neither do two equal models.

    Args:
        old: Tables of the earlier release.
        new: Tables of the later release.
        data_dir: The vocabulary. Default: the program's own.
    """
    place = data_dir or vocabulary_dir()
    compared = compare_scored_releases(_scored(old, "old", place), _scored(new, "new", place), ("old", "new"))
    return [
        ReviewItem(
            kind="effect_moved",
            subject=f"{c.slice} · {c.metric} · {c.model}",
            why=f"{c.mean_a:+.3f} became {c.mean_b:+.3f} on {c.n} common questions (q = {c.q_value:.3f})",
        )
        for c in compared
        if c.q_value is not None and c.q_value <= MOVED
    ]


def _scored(contents: Contents, name: str, data_dir: Path) -> Scored:
    questions, judgements = contents.rows(QUESTIONS), contents.rows(JUDGEMENTS)
    return score_questions(
        questions,
        contents.rows(RESPONSES),
        judgements,
        contents.rows(EFFECTS),
        read_known_attributes(data_dir, {q.attribute for q in questions}),
        form=select_fitness_form(judgements),
        release=name,
    )


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
    "effect_moved": "an effect differs on the questions that both releases have",
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
    changes = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return f"{comparison.bump} change: {changes or 'answers or scores'}; no effect left its interval"


# Differences between the tables of two releases, which different program versions may have written.


Records = Mapping[str, Mapping[str, Any]]
"""Question rows by id. An older release may lack a column."""


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
    """Return the type of every column of a config."""
    table = contents.tables.get(config)
    return {field.name: field.type for field in table.schema} if table is not None else {}


def instrument_changes(old: Contents, new: Contents, *, mended: bool = False) -> list[str]:
    """Return added and removed judges, and removed metrics. Scores are not comparable across such a change.

    An added metric does not affect the others. With `mended`, a metric may be gone because the answers to a
    corrected text were removed, and is not reported.
    """
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
    """Return per config the numbers of added, removed and changed rows.

    Ids, texts and labels of questions are compared elsewhere. Only their other columns count here.
    """
    changes = []
    for config, table in CONFIGS.items():
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
        shared = shared - {*TEXT, "label"}
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

    Changed labels, metrics, judges or columns need a major version. Added, removed or newly measured
    questions need a minor one. Corrected texts and other changes need a patch.
    """
    if changes.relabelled or changes.schema_changes:
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


def relabelled_questions(before: Records, after: Records, reworded: Mapping[str, str]) -> list[str]:
    """Return the new ids of questions with another label than before."""
    return sorted(
        i
        for i, question in after.items()
        if (old := before.get(reworded.get(i, i))) is not None
        and old["label"] != question["label"]
        and not {old["label"], question["label"]} <= SEARCHED
    )


def mean_drift(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Return the mean of new − old over the pairs without None, or None if there are none."""
    moves = [new - old for old, new in pairs if old is not None and new is not None]
    return sum(moves) / len(moves) if moves else None


def with_recipe(
    comparison: ReleaseComparison, old: Mapping[str, Any], new: Mapping[str, Any]
) -> ReleaseComparison:
    """Add changes of title, description, licence and homepage. Such a change alone needs a patch version."""
    changed = [key for key in ("title", "description") if old.get(key) != new.get(key)]
    terms = ("licence", "homepage")
    changed += [key for key in terms if old.get("release", {}).get(key) != new.get("release", {}).get(key)]
    if not changed:
        return comparison
    changes = (*comparison.other_changes, "card: another " + ", another ".join(changed))
    comparison = comparison.model_copy(update={"other_changes": changes})
    if comparison.bump != "none" or comparison.old_version is None:
        return comparison
    version = bump_version(comparison.old_version, "patch")
    return comparison.model_copy(update={"bump": "patch", "new_version": version})


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


STAGE = Stage("compare", 1, run=compare, reads=("title", "description", "release"))
