"""Judge stage: give every group of answers one verdict per judge, or an abstention with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Phase, Response
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import StageCost, combine_costs
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_question_attributes
from tasks.judges import divergence
from tasks.judges.comparison import judge_by_comparison
from tasks.judges.panel import find_split_panels, model_fitness_form
from tasks.judges.scored_pairs import judge_by_scored_pairs
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.judges.yields import Yield
from tasks.run.partitions import first_questions, split_by_question
from tasks.run.store import Outcome, RowSpool, RunContext, Stage, TableRef

JUDGED_FAMILY = "open"
"""The only judged family. Forced choices are measured directly."""


def judge(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    phase: Phase,
    judges: Sequence[str] | None = None,
) -> Outcome:
    """Judge the answers to open questions in one phase.

    The recipe's judges are used, or `judges` if given. Split panels go to the adjudicator. Parts of the
    questions are judged one after the other, so memory does not grow with the number of answers.
    """
    names = tuple(judges or context.recipe.models.judges)
    Path(context.run_dir).mkdir(parents=True, exist_ok=True)
    verdicts = RowSpool(JUDGEMENTS, Path(context.run_dir))
    totals = JudgeTotals()
    with TemporaryDirectory(prefix=".judge-", dir=context.run_dir) as folder:
        bounds = first_questions(questions)
        asked = split_by_question(questions, "id", bounds, Path(folder), family=JUDGED_FAMILY)
        given = split_by_question(responses, "question_id", bounds, Path(folder), phase=phase)
        for part, answers in zip(asked, given, strict=True):
            for verdict in judge_part(context, names, part.rows(QUESTIONS), answers.rows(RESPONSES), totals):
                verdicts.append(verdict)
                totals.add(verdict)
    return Outcome(
        tables={JUDGEMENTS: verdicts},
        counts=(totals.counts(),),
        costs=combine_costs(totals.costs[name] for name in sorted(totals.costs)),
    )


@dataclass
class JudgeTotals:
    """Running totals of the parts."""

    rows: int = 0
    failed: int = 0
    costs: dict[str, StageCost] = field(default_factory=dict)
    """Calls, tokens and dollars by judge. Judges without a model are left out."""
    yields: dict[tuple[str, bool], Yield] = field(default_factory=dict)
    """Usable verdicts by judge, and by whether it adjudicates."""

    def add(self, judgement: Judgement) -> None:
        """Count one judgement. Each judge, comparison and order is one row, and abstentions are failed."""
        self.rows += 1
        self.failed += judgement.abstention is not None
        if judgement.tokens_in:
            before = self.costs.get(judgement.judge) or StageCost.zero("judge", judgement.judge)
            self.costs[judgement.judge] = before.plus(
                1, judgement.tokens_in, judgement.tokens_out, judgement.cost_usd
            )

    def counts(self) -> StageCounts:
        """Return the counts of the stage."""
        return StageCounts(
            stage="judge",
            unit="groups",
            rows=self.rows,
            kept=self.rows - self.failed,
            dropped=0,
            failed=self.failed,
        )

    def yield_of(self, name: str, *, adjudicates: bool = False) -> Yield:
        """Return the running yield of a judge."""
        return self.yields.setdefault((name, adjudicates), Yield(name, "comparisons"))


def judge_part(
    context: RunContext,
    names: Sequence[str],
    questions: Sequence[Question],
    responses: Sequence[Response],
    totals: JudgeTotals,
) -> list[Judgement]:
    """Return the sorted judgements of some questions."""
    groups = group_answers(questions, responses)
    attributes = read_question_attributes(Path(context.data_dir), questions)
    panel = [
        verdict
        for name in names
        for verdict in run_judge(context, name, groups, attributes, totals.yield_of(name))
    ]
    deciding = adjudicate(context, panel, groups, attributes, totals)
    return sorted([*panel, *deciding], key=lambda j: (j.question_id, j.judge, j.target, j.pair, j.repeat))


def run_judge(
    context: RunContext,
    name: str,
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    judged: Yield | None = None,
) -> list[Judgement]:
    """Return all judgements of one judge: the divergence judge or a model.

    Args:
        context: Context of the run.
        name: The judge.
        groups: Answers to judge.
        attributes: Attributes of their questions.
        judged: Usable verdicts of the judge so far. Default: none.
    """
    if name == divergence.JUDGE:
        words = divergence.read_divergence_words(Path(context.data_dir))
        return divergence.judge_by_divergence(groups, attributes, words)
    if context.recipe.judging.comparison == "pairwise_scored":
        return judge_by_scored_pairs(context, name, groups, attributes, judged=judged)
    return judge_by_comparison(context, name, groups, attributes, judged=judged)


def adjudicate(
    context: RunContext,
    panel: Sequence[Judgement],
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    totals: JudgeTotals,
) -> list[Judgement]:
    """Return the adjudicator's judgements of groups with a split panel.

    There are none if the recipe has no adjudicator or it is one of the judges.
    """
    recipe = context.recipe
    name = recipe.models.adjudicator
    if name is None or any(verdict.judge == name for verdict in panel):
        return []
    form = model_fitness_form(recipe, Path(context.data_dir))
    split = find_split_panels(panel, form, recipe.judging.split)
    disputed = [group for group in groups if (group.question.id, group.target) in split]
    if not disputed:
        return []
    judged = totals.yield_of(name, adjudicates=True)
    return judge_by_comparison(context, name, disputed, attributes, adjudicates=True, judged=judged)


STAGE = Stage(
    "judge",
    6,
    run=judge,
    reads=("models", "evolve", "judging", "validation"),
    vocabulary=("attributes", "concepts", "lexicons", "prompts", "readers", "rubrics"),
    installed=divergence.installed_parts,
)
