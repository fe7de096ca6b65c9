"""The card (README.md) and the changelog of a release."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import pyarrow.compute as pc
import yaml

from schemas.answers import EFFECTS, RESPONSES, ValueFinding
from schemas.gate import Finding
from schemas.labels import DROPPED
from schemas.question import QUESTIONS, Origin, Question
from schemas.recipe import Recipe
from schemas.release import Manifest, ReleaseComparison
from tasks.families import form_of
from tasks.files.own_questions import translation_notes
from tasks.judges.passports import audit_warnings, deciding_judges, without_endpoints
from tasks.package.harness import harness_commands
from tasks.release import (
    CONFIGS,
    CONTROLS,
    HARD_NEGATIVES,
    Contents,
    config_file,
    count_shards,
    dataset_features,
)
from tasks.release.fitness import (
    FitnessFloor,
    classify_judges,
    compute_fitness_floor,
    count_drop_reasons,
    measure_shrinkage,
    pair_fitness_by_phase,
)
from tasks.report import view_release
from tasks.report.coverage import release_coverage
from tasks.report.findings_view import MOST_COMPARISONS, FindingsView
from tasks.report.names import Names
from tasks.report.sentences import criterion_name, language_name, number
from tasks.text.model_names import short_name
from tasks.text.printable import printable

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")


def escape_markdown(text: str) -> str:
    """Return text as one line without markup: no HTML, link, emphasis, table cell or heading."""
    return _SPECIAL.sub(r"\\\1", printable(text))


Sentences = Mapping[str, Mapping[str, str]]

QUESTION_TABLES = (QUESTIONS, HARD_NEGATIVES, CONTROLS)
TAGS = ("bias", "fairness", "benchmark", "evaluation", "counterfactual", "counterfoil")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(
    recipe: Recipe,
    manifest: Manifest,
    contents: Contents,
    data_dir: Path,
    found: FindingsView | None = None,
) -> str:
    """Return the README.md of a release: front matter, then data/card.md with its values.

    `found` are the findings and comparisons, if they are computed already.
    """
    found = found or view_release(manifest, contents, data_dir)
    matter = yaml.safe_dump(
        front_matter(recipe, manifest, contents), sort_keys=False, allow_unicode=True, width=1000
    )
    body = Template((data_dir / "card.md").read_text(encoding="utf-8"))
    sentences = yaml.safe_load((data_dir / "card_sentences.yaml").read_text(encoding="utf-8"))
    commands = harness_commands(manifest, contents, data_dir)
    values = card_values(recipe, manifest, contents, sentences, found.names) | {
        "harness": _harness(commands, sentences),
        "findings": _findings(found),
        "results": _results(found),
    }
    return f"---\n{matter}---\n\n{body.substitute(values)}"


def front_matter(recipe: Recipe, manifest: Manifest, contents: Contents) -> dict[str, Any]:
    """Return the front matter. Configs without rows are left out, because `datasets` cannot load them."""
    filled = [config for config in CONFIGS if contents.count(config)]
    questions = [q for config in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(config)]
    tags = [*TAGS, "not-for-all-audiences"] if has_free_text(contents) else list(TAGS)
    return {
        "license": recipe.release.licence.lower(),
        "language": sorted({q.language for q in questions}),
        "pretty_name": printable(recipe.title or recipe.name),
        "size_categories": [size_category(sum(contents.count(c) for c in filled))],
        "task_categories": ["text-generation"],
        "tags": tags,
        "configs": [_config(config, contents, default=config == QUESTIONS.name) for config in filled],
        "dataset_info": [_info(config, contents) for config in filled],
    }


def _config(config: str, contents: Contents, *, default: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"config_name": config}
    if default:
        entry["default"] = True
    shards = count_shards(config, contents)
    names = [config_file(config, i, shards) for i in range(shards)]
    return {**entry, "data_files": [{"split": "test", "path": names if shards > 1 else names[0]}]}


def _info(config: str, contents: Contents) -> dict[str, Any]:
    split = {
        "name": "test",
        "num_bytes": contents.tables[config].nbytes,
        "num_examples": contents.count(config),
    }
    return {"config_name": config, "features": dataset_features(config)._to_yaml_list(), "splits": [split]}


def size_category(rows: int) -> str:
    """Return the size category of the Hub for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "1M<n<10M")


def has_free_text(contents: Contents) -> bool:
    """Return whether free text of models is released."""
    families = {q.id: q.family for config in QUESTION_TABLES for q in contents.rows(config)}
    rows = contents.tables.get(RESPONSES.name)
    if rows is None:
        return False
    answered = pc.unique(rows.filter(pc.not_equal(rows["text"], ""))["question_id"]).to_pylist()
    return any(form_of(families.get(question, "open")) == "text" for question in answered)


def card_values(
    recipe: Recipe, manifest: Manifest, contents: Contents, sentences: Sentences, names: Names
) -> dict[str, str]:
    """Return the value of every `$name` of data/card.md. Untrusted text is escaped."""
    questions = contents.rows(QUESTIONS)
    everything = [*questions, *contents.rows(HARD_NEGATIVES), *contents.rows(CONTROLS)]
    kind = classify_judges(manifest.judged_by)
    return {
        "title": escape_markdown(recipe.title or recipe.name),
        "description": escape_markdown(recipe.description),
        "name": manifest.name,
        "version": manifest.version,
        "warning": sentences["warning"]["answers" if has_free_text(contents) else "questions"],
        "attributes": _listed(names.attribute(q.attribute) for q in everything if q.control != "placebo"),
        "families": _listed(q.family for q in everything),
        "family_notes": _family_notes(everything, sentences),
        "languages": _listed(q.language for q in everything),
        "config_rows": _config_rows(contents, sentences),
        "load": _load_arguments(recipe, manifest),
        "load_comment": "# from the Hub" if recipe.release.repo else "# in the folder of this file",
        "generator": _origins(recipe, questions),
        "answerers": _listed(names.model(m) for (m,) in contents.distinct_rows(RESPONSES.name, "model")),
        "judges": _listed(names.model(judge) for judge in manifest.judged_by),
        "judged_plainly": "\n\n".join(
            [
                *_parameter_changes(manifest, sentences),
                sentences["judged"][kind],
                *_audit(recipe, manifest, sentences),
                *_people(manifest, sentences),
            ]
        ),
        "coverage": _coverage(manifest, contents, sentences, names),
        "holdout": _holdout(contents, sentences),
        "apart": _apart(manifest, sentences),
        "funnel": _funnel(manifest),
        "reasons": _reasons(contents),
        "gate": _gate(manifest, sentences),
        "controls": _controls(contents.rows(CONTROLS), sentences),
        "licence": escape_markdown(recipe.release.licence),
        "citation": _citation(recipe, manifest),
        "canary": manifest.canary,
    }


def _parameter_changes(manifest: Manifest, sentences: Sentences) -> list[str]:
    """List the parameters that servers refused, if there are any."""
    changes = [
        f"- {escape_markdown(c.model)}: {escape_markdown(c.change)}" for c in manifest.parameter_changes
    ]
    return ["\n".join([sentences["parameters"]["refused"].strip(), "", *changes])] if changes else []


def _family_notes(questions: Iterable[Question], sentences: Sentences) -> str:
    """Describe each family and its metric."""
    families = sorted({q.family for q in questions})
    return "\n".join(
        f"- **{family.replace('_', ' ')}**: {' '.join(sentences['families'][family].split())}"
        for family in families
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(escape_markdown(name) for name in sorted(set(names))) or "none"


def _config_rows(contents: Contents, sentences: Sentences) -> str:
    return "\n".join(
        f"| `{config}` | {sentences['configs'][config]} | {contents.count(config):,} |" for config in CONFIGS
    )


def _load_arguments(recipe: Recipe, manifest: Manifest) -> str:
    if recipe.release.repo:
        return f'"{recipe.release.repo}", "questions", split="test", revision="v{manifest.version}"'
    return '"parquet", data_files={"test": "data/questions/*.parquet"}, split="test"'


def _origins(recipe: Recipe, questions: Iterable[Question]) -> str:
    """Describe the sources of the questions, with their numbers."""
    questions = list(questions)
    counts = Counter(q.origin for q in questions)
    model = recipe.models.generator
    recombines = model == "recombine"
    writer = escape_markdown(short_name(model))
    words: dict[Origin, str] = {
        "imported": "from files of the recipe",
        "template": "from templates",
        "seed": "combined from the taxonomy, without a model" if recombines else "drawn from the taxonomy",
        "evolved": "recombined in a search, without a model"
        if recombines
        else f"written by {writer} in a search",
    }
    told = [f"{counts[origin]:,} {words[origin]}" for origin in words if counts[origin]]
    return "; ".join([*told, *translation_notes(questions)]) or "none"


FIGURE = "findings.png"
MOST_RESULTS = 30
"""Rows of the table of results."""


def _findings(found: FindingsView) -> str:
    """Return the findings in sentences, those that were not measured first, and the paired differences."""
    told = ["".join(_emphasise(text, strong) for text, strong in s.parts) for s in found.sentences]
    told += [
        f"- {escape_markdown(sentence)}"
        for c, sentence in found.comparisons[:MOST_COMPARISONS]
        if c.verdict == "differs"
    ]
    if not found.sentences:
        return "This release has no answers with a better and a worse side, so that nobody can be compared."
    paragraphs = [line for line in told if not line.startswith("- ")]
    compared = "\n".join(line for line in told if line.startswith("- "))
    return "\n\n".join([*paragraphs, *([compared] if compared else [])])


def _emphasise(text: str, strong: bool) -> str:
    return f"*{escape_markdown(text)}*" if strong else _escape_inside(text)


def _escape_inside(text: str) -> str:
    """Return a part of a sentence without markup, with the spaces at its ends."""
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{start}{escape_markdown(text)}{end}" if text.strip() else text


def _results(found: FindingsView) -> str:
    """Return the figure, and one table row per model, attribute, value and metric."""
    measured = [f for f in found.rows if f.contrast is not None]
    if not measured:
        return ""
    names = found.names
    rows = [
        f"| {escape_markdown(names.model(f.model))} | {escape_markdown(names.attribute(f.attribute))} "
        f"| {escape_markdown(names.value(f.attribute, f.value))} "
        f"| {escape_markdown(criterion_name(f.metric))} ({escape_markdown(language_name(f.language))}) "
        f"| {number(f.contrast, signed=True)} | {_range(f)} | {f.n:,} | {escape_markdown(f.words)} |"
        for f in measured[:MOST_RESULTS]
    ]
    picture = [f"![Treatment by value and model, with 95 % intervals]({FIGURE})"] if found.panels else []
    more = len(measured) - len(rows)
    return "\n".join(
        [
            *picture,
            "",
            "| model | attribute | value | metric | contrast | 95 % interval | questions | verdict |",
            "|---|---|---|---|---:|---:|---:|---|",
            *rows,
            *([f"\n{more:,} more rows are in the config `effects`."] if more > 0 else []),
            "",
            "A contrast is the score of a value minus the mean of all values. Below 0, the value is treated "
            "worse.",
        ]
    )


def _range(finding: ValueFinding) -> str:
    if finding.low is None or finding.high is None:
        return "–"
    return f"{number(finding.low, signed=True)} to {number(finding.high, signed=True)}"


def _audit(recipe: Recipe, manifest: Manifest, sentences: Sentences) -> list[str]:
    """Describe the audit of the judges, if there are judgements."""
    if not deciding_judges(recipe) or not manifest.judged_by:
        return []
    if not (warnings := audit_warnings(recipe, manifest.passports)):
        return [sentences["audit"]["passed"]]
    shown = without_endpoints(recipe, warnings)
    listed = "\n".join(f"> - {escape_markdown(words)}" for words in shown)
    return [f"> {sentences['audit']['warning']}\n>\n{listed}"]


def _people(manifest: Manifest, sentences: Sentences) -> list[str]:
    """Describe the reviews and the agreement of reviewers, if there are reviews."""
    if (review := manifest.review) is None:
        return []
    words = sentences["review"]
    figures = {
        name: f"{value:,}"
        for name, value in review.model_dump(exclude_none=True, exclude={"treatment"}).items()
    }
    sentences_of_review = [Template(words["looked"]).substitute(figures)]
    if review.alpha is None or review.alpha_low is None:
        sentences_of_review.append(Template(words["unmeasured"]).substitute(figures))
    else:
        alpha = f"{review.alpha:.2f} (95 % interval {review.alpha_low:.2f} to {review.alpha_high:.2f})"
        sentences_of_review.append(Template(words["agreement"]).substitute(figures, alpha=alpha))
    warning = [Template(words["contested"]).substitute(figures)] if review.contested else []
    return [" ".join(sentences_of_review), *(f"> {line}" for line in warning)]


def _coverage(manifest: Manifest, contents: Contents, sentences: Sentences, names: Names) -> str:
    """Return the missing measurements, then the lost answers and the coverage by language and judge."""
    cover, words = release_coverage(contents, manifest.counts), sentences["coverage"]
    if not cover.asked:
        return words["nothing"]
    paragraphs = [words["measured"]]
    if cover.unmeasured:
        effects = sum(u.effects for u in cover.unmeasured)
        rows = [
            f"- {escape_markdown(u.family)} in {escape_markdown(u.language)}, "
            f"{escape_markdown(names.model(u.model))} "
            f"({', '.join(map(escape_markdown, u.metrics))}): {escape_markdown(u.reason)}"
            for u in cover.unmeasured
        ]
        paragraphs = [Template(words["unmeasured"]).substitute(effects=f"{effects:,}"), "\n".join(rows)]
    paragraphs += [
        f"Unequal coverage: {escape_markdown(u.family)}, {escape_markdown(names.attribute(u.attribute))}, "
        f"{escape_markdown(names.model(u.model))}: the coverage of the values differs by {u.difference:.1%} "
        f"(p = {u.p_value:.3f}{'' if u.q_value is None else f', q = {u.q_value:.3f}'})."
        for u in cover.unequal
    ]
    lost = {s: f"{cover.lost(s):,}" for s in ("failed", "empty", "unreadable", "refused")}
    sentences_on_losses = [Template(words["losses"]).substitute(asked=f"{cover.asked:,}", **lost)]
    if cover.comparisons:
        sentences_on_losses.append(
            Template(words["abstained"]).substitute(
                comparisons=f"{cover.comparisons:,}", abstained=f"{cover.abstained:,}"
            )
        )
    rows = [f"| answers in {escape_markdown(x)} | {read:,} | {n:,} |" for x, read, n in cover.by_language()]
    rows += [
        f"| verdicts of {escape_markdown(names.model(j.judge))} in {escape_markdown(j.language)} "
        f"| {j.judged:,} | {j.asked:,} |"
        for j in cover.judges
    ]
    if cover.topics:
        rows.append(f"| proposals of topics | {cover.topics.usable:,} | {cover.topics.asked:,} |")
    table = "\n".join(["| coverage of | usable | asked |", "|---|---:|---:|", *rows])
    return "\n\n".join([*paragraphs, " ".join(sentences_on_losses), table])


def _holdout(contents: Contents, sentences: Sentences) -> str:
    found = measure_shrinkage(pair_fitness_by_phase(contents.rows(QUESTIONS), contents.verdicts))
    if found is None:
        return sentences["holdout"]["absent"]
    # The effect is signed, so that chance differences cancel out. The mean of the scores is above 0.
    signed = [e.value for e in contents.rows(EFFECTS) if e.metric == "holdout_fitness" and e.is_measured]
    return Template(sentences["holdout"]["measured"]).substitute(
        search=f"{found.search:.3f}", holdout=f"{signed[0] if signed else found.holdout:.3f}"
    )


def _apart(manifest: Manifest, sentences: Sentences) -> str:
    """Describe the comparison with earlier releases, and the held-back questions."""
    told = [
        Template(sentences["apart"]["clear_of"]).substitute(
            name=escape_markdown(c.name), compared=f"{c.compared:,}", overlapping=f"{c.overlapping:,}"
        )
        for c in manifest.clear_of
    ]
    if not told:
        told = [sentences["apart"]["nothing"]]
    if private := manifest.hold_back:
        numbers = {"questions": private.questions, "ghosts": private.ghosts or 0}
        shown = {name: f"{number:,}" for name, number in numbers.items()}
        told += [
            Template(sentences["apart"][name]).substitute(shown, sha256=f"`{private.sha256}`")
            for name, number in zip(("hold_back", "ghosts"), numbers.values(), strict=True)
            if number
        ]
    return "\n\n".join(told)


def _harness(commands: Sequence[str], sentences: Sentences) -> str:
    """Describe how to run the harness files."""
    if not commands:
        return sentences["harness"]["absent"]
    return "\n".join([sentences["harness"]["present"], "", "```bash", *commands, "```"])


def _funnel(manifest: Manifest) -> str:
    return "\n".join(
        f"| {escape_markdown(c.stage)} ({escape_markdown(c.unit)}) "
        f"| {c.rows:,} | {c.kept:,} | {c.dropped:,} | {c.failed:,} |"
        for c in manifest.counts
    )


def _reasons(contents: Contents) -> str:
    return "\n".join(
        f"| {escape_markdown(stage)}: {escape_markdown(reason.replace('_', ' '))} | {rows:,} |"
        for stage, reason, rows in count_drop_reasons(contents.rows(DROPPED))
    )


def _gate(manifest: Manifest, sentences: Sentences) -> str:
    """Describe the warnings of the gate and the quarantined questions."""
    told = [sentences["gate"]["warned" if manifest.warnings else "clean"]]
    if manifest.warnings:
        told.append("\n".join(f"- {_warning(f)}" for f in manifest.warnings))
    if (found := manifest.quarantine) and found.taken:
        taken = Template(sentences["gate"]["quarantine"])
        told.append(taken.substitute(taken=f"{found.taken:,}", questions=f"{found.questions:,}"))
    return "\n\n".join(told)


def _warning(finding: Finding) -> str:
    rows = "1 row" if finding.count == 1 else f"{finding.count:,} rows"
    return f"{escape_markdown(finding.table)}: {escape_markdown(finding.message)} ({rows})"


def _controls(controls: list[Question], sentences: Sentences) -> str:
    if not controls:
        return sentences["controls"]["absent"]
    count = Counter(q.control for q in controls)
    return Template(sentences["controls"]["present"]).substitute(
        a_a=f"{count['a_a']:,}",
        placebo=f"{count['placebo']:,}",
        neutral=f"{count['neutral']:,}",
        floor=_floor(compute_fitness_floor(controls), sentences),
    )


def _floor(floor: FitnessFloor | None, sentences: Sentences) -> str:
    if floor is None:
        return sentences["controls"]["no_floor"]
    return Template(sentences["controls"]["floor"]).substitute(value=f"{floor.value:.3f}")


def _citation(recipe: Recipe, manifest: Manifest) -> str:
    """Return a BibTeX entry. Characters that could end the entry or its code block are removed."""
    title = printable(recipe.title or recipe.name)
    for character in "{}\\`<>":
        title = title.replace(character, "")
    address = recipe.release.homepage or (
        f"https://huggingface.co/datasets/{recipe.release.repo}" if recipe.release.repo else None
    )
    lines = [f"@misc{{{manifest.name},", f"  title = {{{title}}},", f"  version = {{{manifest.version}}},"]
    if address:
        lines.append(f"  howpublished = {{{printable(address)}}},")
    return "\n".join([*lines, "  note = {Built with Counterfoil}", "}"])


# CHANGELOG.md: the changes of this version above those of earlier versions.


SHOWN = 50
"""Ids shown per kind of change. The manifest has all of them."""

_TITLE = "# Changes\n"


def write_changelog(comparison: ReleaseComparison, earlier: str | None) -> str:
    """Return CHANGELOG.md. `earlier` is that of the previous release, which is kept below."""
    past = earlier.removeprefix(_TITLE).strip("\n") if earlier else ""
    return "\n".join([_TITLE, version_section(comparison), *([past, ""] if past else [])])


def version_section(comparison: ReleaseComparison) -> str:
    """Return the section of a version: every kind of change with count and ids."""
    lines = [f"## {comparison.new_version}", ""]
    if comparison.old_version is None:
        return "\n".join([*lines, "First release.", ""])
    lines += [f"Compared with {comparison.old_version} ({comparison.bump}).", ""]
    for kind in ("added", "removed", "reworded", "relabelled"):
        ids: tuple[str, ...] = getattr(comparison, kind)
        if ids:
            lines.append(f"- {len(ids):,} {kind}: {_some(ids)}")
    for changes in (comparison.schema_changes, comparison.recipe_changes, comparison.other_changes):
        lines += [f"- {escape_markdown(change)}" for change in changes]
    if comparison.fitness_drift is not None:
        common = f"{comparison.common:,} questions in both versions"
        lines.append(f"- Mean change of fitness over the {common}: {comparison.fitness_drift:+.3f}")
    return "\n".join([*lines, ""])


def _some(ids: tuple[str, ...]) -> str:
    rest = f" and {len(ids) - SHOWN:,} more (see manifest.json)" if len(ids) > SHOWN else ""
    return ", ".join(escape_markdown(i) for i in ids[:SHOWN]) + rest
