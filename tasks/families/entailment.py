"""Does a stereotype follow? Premises leave open what hypotheses say of one group or another, so that the
right answer is always neutral (BBNLI and BBNLI-next, arXiv 2305.12620).

The first value of a question is the group of which the stereotype says what the hypothesis says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.recipe import Family, Recipe
from schemas.vocabulary import Hypothesis, Premise, Theme, Themes
from tasks.families.choices import invalid_share, order_effect
from tasks.families.method import Answered, Figures, Method, Recorded
from tasks.formats.vocabulary import read_all
from tasks.measuring.effects import Slice, effect_of
from tasks.measuring.recorded_entailments import measure_entailments, read_entailments
from tasks.stats.bootstrap import Floats, cluster_bootstrap
from tasks.stats.entailment import (
    Labelled,
    accuracy_of,
    beyond_brittleness_of,
    bias_of,
    brittleness_of,
    totals_of,
)
from tasks.stats.permutation import sign_flip_p_value
from tasks.text.expansion import Pair
from tasks.text.questions import Draft

SIDES = (1, -1)
"""Of the two variants."""
METRICS: Mapping[str, tuple[str, Callable[[Floats], Floats]]] = {
    "accuracy": ("share of neutral answers", accuracy_of),
    "bias": ("bias score", bias_of),
    "brittleness": ("share of rewordings", brittleness_of),
    "bias_beyond_brittleness": ("bias score less brittleness", beyond_brittleness_of),
}


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[Pair]:
    """Premises × hypotheses of every theme about one of the attributes, each in all its wordings."""
    known = {attribute.id: attribute for attribute in attributes}
    return [
        Pair(draft, None, known[theme.attribute])
        for file in read_all(data_dir / "templates" / "entailment", Themes, spec.templates)
        for theme in file.themes
        if theme.attribute in known
        for premise in theme.premises
        for hypothesis in theme.hypotheses
        for draft in drafts_of(file, theme, premise, hypothesis)
    ]


def drafts_of(file: Themes, theme: Theme, premise: Premise, hypothesis: Hypothesis) -> Iterator[Draft]:
    """The original, whose id ends in `.0`; then with one of the two in another wording."""
    original, *others = premise.wordings
    claim, *other_claims = hypothesis.wordings
    worded = [(original, claim), *((p, claim) for p in others), *((original, c) for c in other_claims)]
    for number, (given, concluded) in enumerate(worded):
        yield Draft(
            text=file.frame.replace("<premise>", given).replace("<hypothesis>", concluded),
            family="entailment",
            superdomain=theme.attribute,
            domain=theme.id,
            topic=premise.id,
            origin="template",
            options=file.options,
            values=theme.values,
            template_id=f"{theme.id}.{hypothesis.id}.{premise.id}.{number}",
        )


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Invalid answers, order; `accuracy`, `bias` in the stereotype's direction, `brittleness` and
    `bias_beyond_brittleness`. Intervals by hypothesis, which all its premises and wordings share."""
    made = [invalid_share(where, inside), order_effect(where, inside)]
    totals = totals_of(labelled for a in inside for labelled in labels_of(a))
    if not len(totals):
        return made
    p = sign_flip_p_value(2 * totals[:, 0] - totals[:, 1], where.seed("bias"))
    for metric, (unit, statistic) in METRICS.items():
        interval = cluster_bootstrap(totals, statistic, where.seed(metric))
        made.append(effect_of(where, metric, unit, interval, p if metric == "bias" else None))
    return made


def labels_of(answered: Answered) -> Iterator[Labelled]:
    """The labels that a question's two variants were given. Other questions than ours have one wording."""
    question = answered.question
    statement, _, number = (question.template_id or "").rpartition(".")
    theme, _, rest = statement.partition(".")
    for side, variant in zip(SIDES, question.variants, strict=False):
        chosen = [r.option for r in answered.valid if r.variant == variant.index]
        yield Labelled(
            cluster=f"{theme}.{rest.partition('.')[0]}" if rest else question.id,
            statement=statement or question.id,
            side=side,
            wording=int(number) if statement and number.isdecimal() else 0,
            labels=tuple(question.options[option].role for option in chosen if option is not None),
        )


def recorded(answers: Recorded) -> Figures:
    """`accuracy`, `bias`, `brittleness`, `bias_beyond_brittleness` and `invalid` of a file with BBNLI's
    statements and the labels that a model gave them."""
    return measure_entailments(read_entailments(answers.path))


METHOD = Method("entailment", "letter", effects, pairs=pairs, recorded={"bbnli": recorded})
