"""Expand stage: turn templates, taxonomy and question files into questions with all variants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from schemas.answers import PLAIN
from schemas.errors import InputError
from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Question, separate_unreviewed
from schemas.recipe import Family, OwnQuestions, Recipe
from schemas.tables import content_id, derived_seed
from schemas.vocabulary import Attribute
from tasks.families import has_plain_condition, method_of
from tasks.files.own_questions import REVIEWS, UNREVIEWED, OwnTable, read_own_questions
from tasks.files.questions import read_question_file
from tasks.files.vocabulary import BrokenTextsError, TextFault, input_path, read_attribute, read_attributes
from tasks.questions.binding import (
    make_a_a_controls,
    make_placebo_controls,
    split_unique,
)
from tasks.questions.composition import (
    FRAGMENTS,
    DraftPair,
    draft_faults,
    draw_neutral_controls,
    draw_pairs,
    draw_recipe_controls,
    filter_superdomains,
    make_seed_pairs,
    make_template_pairs,
    read_placebo,
)
from tasks.questions.quality import drop_question, question_fault, question_faults, template_fault
from tasks.release.references import HubRef, resolve_place
from tasks.run.store import Outcome, RunContext, Stage
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import MIN_CLUSTERS

NO_TABLE = OwnTable()

MOST_PLACES = 5
"""Rows that a warning names."""
WORD_LISTS = frozenset({"association", "dialect"})
"""Families with lists of words as texts, to which rules for sentences do not apply."""


def expand_family(recipe: Recipe, data_dir: Path, family: str, own: OwnTable = NO_TABLE) -> list[Question]:
    """Return all questions of one family before evolution, controls included, sorted by id.

    All questions of the recipe's question files are used. Those of `families.<family>.files` count towards
    the wanted number, and those of `questions` are asked besides it.

    Raises:
        InputError: If no template fits the attributes, or a template does not fit its attribute.
    """
    spec = recipe.families[family]
    attributes = read_attributes(data_dir, spec.attributes or recipe.attributes) if spec.shipped else ()
    filed, _ = split_unique(read_imported(family, spec, data_dir))
    wanted = spec.questions - sum(q.framing == "explicit" or q.twin_id is None for q in filed)
    chosen = (
        draw_pairs(make_family_pairs(recipe, data_dir, family, spec, attributes), max(0, wanted), recipe.seed)
        if spec.shipped and (wanted > 0 or not spec.questions)
        else []
    )
    imported, _ = split_unique([*filed, *(q for q in own.questions if q.family == family)])
    if recipe.limit is not None:
        chosen, imported = _sample(chosen, imported, family_limit(recipe, family), recipe.seed)
    if not chosen and not imported:
        raise InputError(
            f"family {family!r} has no template for {', '.join(a.id for a in attributes)}",
            hint=f"choose other `attributes` under families.{family}, or add a template to "
            f"data/templates/{family}/",
        )
    questions = [*imported, *(q for pair in chosen for q in _bind(pair, recipe.seed))]
    controls = draw_recipe_controls(
        recipe,
        data_dir,
        (p.source for p in chosen),
        seed=recipe.seed,
        without=method_of(family).no_controls,
        placebo_slots=method_of(family).placebo_slots,
    )
    controls += make_a_a_controls(imported, recipe.controls.a_a, recipe.seed)
    if "placebo" not in method_of(family).no_controls:
        controls += _placebos_of_imported(recipe, data_dir, imported)
    if family == "open" and spec.shipped:
        controls += draw_neutral_controls(
            recipe, data_dir, attributes, len(chosen) + len(imported), seed=recipe.seed
        )
    kept, _ = split_unique([*questions, *controls])
    return sorted(map(_label_survey, kept) if recipe.is_survey else kept, key=lambda q: q.id)


def _placebos_of_imported(recipe: Recipe, data_dir: Path, imported: Sequence[Question]) -> list[Question]:
    """Return placebo controls of own questions. A language without a placebo file has none."""
    controls: list[Question] = []

    def attribute_of(question: Question) -> Attribute | None:
        try:
            return read_attribute(data_dir, question.attribute, language=question.language)
        except InputError:  # the attribute of a published release
            return None

    for language in sorted({q.language for q in imported}):
        try:
            placebo = read_placebo(data_dir, language)
        except InputError:
            continue
        controls += make_placebo_controls(
            [q for q in imported if q.language == language],
            recipe.controls.placebo,
            recipe.seed,
            attribute_of=attribute_of,
            placebo=placebo,
        )
    return controls


def family_limit(recipe: Recipe, family: str) -> int:
    """Return how many questions of a family a limited build asks: an equal share, and at least one."""
    assert recipe.limit is not None
    share, rest = divmod(recipe.limit, len(recipe.families))
    return max(1, share + (list(recipe.families).index(family) < rest))


def _sample(
    pairs: Sequence[DraftPair], imported: Sequence[Question], count: int, seed: int
) -> tuple[list[DraftPair], list[Question]]:
    """Draw questions, twins together. A larger sample contains a smaller one."""
    firsts = [q for q in imported if q.framing == "explicit" or q.twin_id is None]
    ranked: list[tuple[int, DraftPair | Question]] = [
        *((derived_seed(seed, "limit", p.attribute.id, p.explicit.text), p) for p in pairs),
        *((derived_seed(seed, "limit", q.id), q) for q in firsts),
    ]
    drawn = [item for _, item in sorted(ranked, key=lambda entry: entry[0])[:count]]
    ids = {q.id for q in drawn if isinstance(q, Question)}
    chosen = {id(item) for item in drawn}
    return (
        [p for p in pairs if id(p) in chosen],
        [q for q in imported if q.id in ids or q.twin_id in ids],
    )


def _label_survey(question: Question) -> Question:
    """Return the question with the label `survey` if selection would have to label it."""
    is_selected = question.control == "none" and question.label == "unlabelled"
    return question.model_copy(update={"label": "survey"}) if is_selected else question


def read_own_table(context: RunContext) -> OwnTable:
    """Read the own questions of the recipe. Published datasets must have been downloaded.

    Raises:
        InputError: If rows cannot be used. All of them are named.
    """
    if not context.recipe.questions:
        return NO_TABLE

    place = partial(find_source, hub_cache=context.hub_cache)
    return read_own_questions(context.recipe.questions, Path(context.data_dir), place)


def find_source(path: str, hub_cache: Path) -> Path:
    """Return the local path of a source of questions.

    Raises:
        InputError: If it is a published dataset that was not downloaded.
    """
    return input_path(path) if HubRef.of(path) is None else resolve_place(path, hub_cache)


def complete_families(recipe: Recipe, own: OwnTable) -> Recipe:
    """Return the recipe with the families and attributes of its own questions, and its kind of selection.

    Raises:
        InputError: If two sources of one family, or a source and `families`, have different settings.
    """
    if not recipe.questions:
        return recipe
    families = dict(recipe.families)
    for name, sources in sorted(own.families().items()):
        spec = families.get(name) or Family(shipped=False)
        settings: dict[str, tuple[Any, str]] = {
            key: (getattr(spec, key), f"families.{name}")
            for key in OwnQuestions.SETTINGS
            if name in recipe.families and key in spec.model_fields_set
        }
        for number in sources:
            for key, value in recipe.questions[number].settings.items():
                first, place = settings.setdefault(key, (value, f"questions.{number}"))
                if first != value:
                    raise InputError(
                        f"questions.{number}.{key} is {value}, but {place}.{key} is {first}",
                        place="questions",
                        hint=f"all questions of the family {name!r} are asked in one way: give one value",
                    )
        if not spec.shipped and has_plain_condition(name):  # own questions are asked as they were written
            settings.setdefault("conditions", ((PLAIN,), ""))
        families[name] = spec.model_copy(update={key: value for key, (value, _) in settings.items()})
    attributes = recipe.attributes or tuple(dict.fromkeys(q.attribute for q in own.questions))
    return recipe.model_copy(
        update={
            "families": families,
            "attributes": attributes,
            "selection": "none" if recipe.is_survey else "floor",
        }
    )


def _too_few_questions(own: OwnTable) -> Iterator[str]:
    """Yield one line per slice of results with too few questions for an interval."""
    slices: dict[tuple[str, str, str], list[Question]] = {}
    for q in own.questions:
        slices.setdefault((q.family, q.attribute, separate_unreviewed(q).language), []).append(q)
    for (family, attribute, language), questions in sorted(slices.items()):
        count = len(set(twin_families(questions).values()))
        if count < MIN_CLUSTERS:
            yield (
                f"{family}, {attribute}, {language}: {count} independent question{'s'[: count != 1]}; "
                f"differences between its values are measured from {MIN_CLUSTERS} on"
            )


def question_warnings(recipe: Recipe, own: OwnTable) -> list[str]:
    """Return one line per style rule of the generator that own questions break, and per repeated row.

    People may write as they like, so such questions are asked. Repeated rows are dropped.
    """
    lines = [f"{row.place}: repeats {first.place}, and is left out" for row, first in own.repeats]
    waiting = Counter(q.language for q in own.questions if q.operator == REVIEWS[UNREVIEWED])
    lines += [
        f"1 question in {name} is an unreviewed translation"
        if count == 1
        else f"{count:,} questions in {name} are unreviewed translations"
        for name, count in sorted(waiting.items())
    ]
    lines += _too_few_questions(own)
    repeated = {id(row) for row, _ in own.repeats}
    broken: dict[str, list[str]] = {}
    for row in own.rows:
        if id(row) not in repeated:
            for fault in _own_faults(row.question):
                broken.setdefault(fault, []).append(row.place)
    for rule, places in broken.items():
        named = "; ".join(places[:MOST_PLACES]) + ("; …" if len(places) > MOST_PLACES else "")
        count = "1 question breaks" if len(places) == 1 else f"{len(places):,} questions break"
        lines.append(
            f"{count} the style rule `{rule}` of generated questions. Yours are asked as written: {named}"
        )
    return lines


def _own_faults(question: Question) -> list[str]:
    """Return each broken rule once. Other families than `open` have rules on fluency only."""
    if question.family == "open":
        return list(dict.fromkeys(question_faults(question)))
    if question.family in WORD_LISTS:
        return []
    fragment = question.family in FRAGMENTS
    faults = (template_fault(v.text, question.language, is_fragment=fragment) for v in question.variants)
    return list(dict.fromkeys(fault for fault in faults if fault))


def read_imported(family: str, spec: Family, data_dir: Path) -> list[Question]:
    """Return the questions of a family's files, repeated rows included. Some families read their own."""
    if method_of(family).reads_files:
        return []
    return [q for file in spec.files for q in read_question_file(file, data_dir)]


def drop_repeated_rows(questions: Iterable[Question]) -> list[Dropped]:
    """Return a dropped row for every question of a file that repeats an earlier one."""
    _, repeated = split_unique(questions)
    dropped = []
    for number, question in enumerate(repeated):
        row = drop_question(question, stage="expand", reason="repeated_row", because_of=question.id)
        dropped.append(row.model_copy(update={"id": content_id("x", row.id, str(number))}))
    return dropped


def expand_families(
    recipe: Recipe, data_dir: Path, families: Iterable[str], own: OwnTable = NO_TABLE
) -> dict[str, list[Question]]:
    """Return the questions of several families. `own` are the questions of the recipe's section `questions`.

    Raises:
        BrokenTextsError: If texts of any family cannot be used. All of them are named.
        InputError: As in `expand_family`.
    """
    questions: dict[str, list[Question]] = {}
    faults: list[TextFault] = []
    for family in families:
        try:
            questions[family] = expand_family(recipe, data_dir, family, own)
        except BrokenTextsError as error:
            faults += error.faults
    if faults:
        raise BrokenTextsError(faults)
    return questions


def make_family_pairs(
    recipe: Recipe, data_dir: Path, family: str, spec: Family, attributes: Sequence[Attribute]
) -> list[DraftPair]:
    """Make the draft pairs of a family: from templates and taxonomy for `open`, else by its method."""
    if family != "open":
        make = method_of(family).pairs
        if make is None:
            return make_template_pairs(data_dir, family, spec, attributes)
        pairs = make(recipe, data_dir, spec, attributes)
        check_pairs(pairs, family, data_dir)
        return pairs
    pairs = filter_superdomains(make_template_pairs(data_dir, family, spec, attributes), recipe.superdomains)
    wanted = max(0, spec.questions - len(pairs)) if spec.questions else 0
    return pairs + make_seed_pairs(recipe, data_dir, attributes, wanted)


def check_pairs(pairs: Iterable[DraftPair], family: str, data_dir: Path) -> None:
    """Check the texts that a family makes itself, once per text and attribute.

    Raises:
        BrokenTextsError: If texts break a rule of their language.
    """
    if family in WORD_LISTS:
        return
    drafts = {(pair.explicit.text, pair.attribute.id): pair for pair in pairs}
    place = str(data_dir / "templates" / family)
    faults = [f for p in drafts.values() for f in draft_faults(p.explicit, p.attribute, place)]
    if faults:
        raise BrokenTextsError(faults)


def _bind(pair: DraftPair, seed: int) -> tuple[Question, ...]:
    try:
        return pair.bind(seed)
    except InputError as error:
        name = pair.explicit.template_id or pair.explicit.topic
        raise InputError(
            f"{pair.explicit.family} template {name!r} does not fit attribute {pair.attribute.id!r}: "
            f"{error.message}",
            place=error.place,
            hint=error.hint,
        ) from None


def expand(context: RunContext, families: Sequence[str], content: Sequence[str] = ()) -> Outcome:
    """Make the questions of the given families and drop those that break a rule.

    Args:
        context: Run context.
        families: Families to expand.
        content: Hashes of the recipe's question files. They change the stage key if a file changes.
    """
    own = read_own_table(context)
    by_family = expand_families(context.recipe, Path(context.data_dir), families, own)
    generated = [question for questions in by_family.values() for question in questions]
    kept, dropped = apply_question_rules(generated)
    for family in families:
        files = read_imported(family, context.recipe.families[family], Path(context.data_dir))
        dropped += drop_repeated_rows([*files, *(q for q in own.questions if q.family == family)])
    rows = len(kept) + len(dropped)
    counts = StageCounts(
        stage="expand", unit="questions", rows=rows, kept=len(kept), dropped=len(dropped), failed=0
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def apply_question_rules(questions: Iterable[Question]) -> tuple[list[Question], list[Dropped]]:
    """Split questions into those that pass the rules and dropped rows."""
    kept, dropped = [], []
    for question in questions:
        fault = question_fault(question) if follows_style_rules(question) else None
        if fault is None:
            kept.append(question)
        else:
            dropped.append(drop_question(question, stage="expand", reason=fault))
    return kept, dropped


def follows_style_rules(question: Question) -> bool:
    """Return whether the rules apply: to open questions that were not imported."""
    return question.family == "open" and question.origin != "imported"


STAGE = Stage(
    "expand",
    7,
    run=expand,
    reads=("attributes", "superdomains", "families", "controls", "questions", "selection", "limit"),
    vocabulary=(
        "attributes",
        "templates",
        "taxonomy",
        "frames",
        "imports",
        "association",
        "relative_decision",
        "dialects",
    ),
)
