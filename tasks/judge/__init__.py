"""Judge stage: give every group of answers one verdict per judge, or an abstention with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from schemas.answers import JUDGEMENTS, PLAIN, RESPONSES, Judgement, Phase, Response
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import StageCost, combine_costs
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_question_attributes
from tasks.judges import divergence
from tasks.judges.comparison import JudgeCounts, judge_by_comparison
from tasks.judges.panel import find_split_panels, model_fitness_form
from tasks.judges.scored_pairs import judge_by_scored_pairs
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.judges.yields import Yield, require_yield
from tasks.models.protocol import FailureCount
from tasks.run.partitions import QUESTIONS_PER_PART, TablePart, first_questions, split_by_question
from tasks.run.parts import PartRunner
from tasks.run.progress import track
from tasks.run.store import Outcome, RowSpool, RunContext, Stage, TableRef

JUDGED_FAMILY = "open"
"""The only judged family. Forced choices are measured directly."""


def judge(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    phase: Phase,
    judges: Sequence[str] | None = None,
    *,
    run_parts: PartRunner | None = None,
) -> Outcome:
    """Judge the answers to open questions in one phase.

    Split panels go to the adjudicator. Memory does not grow with the number of answers, because parts of the
    questions are judged one after the other.

    Args:
        context: The run.
        questions: The questions.
        responses: Their answers.
        phase: Phase of the answers.
        judges: Judges in place of the recipe's.
        run_parts: Judges the parts on workers. Default: one after the other in this process.

    Raises:
        ModelError: If a judge gives fewer verdicts than `validate.min_judged` of the comparisons asked, or
            too many of its calls fail.
    """
    names = tuple(judges or context.recipe.models.judges)
    Path(context.run_dir).mkdir(parents=True, exist_ok=True)
    verdicts = RowSpool(JUDGEMENTS, Path(context.run_dir))
    totals = JudgeTotals()
    with TemporaryDirectory(prefix=".judge-", dir=context.run_dir) as name:
        folder = Path(name).absolute()
        # Scores from pairs depend on the answers of the part, so its size is that of one process.
        by_pairs = context.recipe.judging.comparison == "pairwise_scored"
        if by_pairs:
            size = QUESTIONS_PER_PART
        else:
            size = JUDGED_AT_ONCE if run_parts is None else size_for_workers(questions.rows)
        bounds = first_questions(questions, size=size)
        asked = split_by_question(questions, "id", bounds, folder, family=JUDGED_FAMILY)
        given = split_by_question(responses, "question_id", bounds, folder, phase=phase)
        parts = [JudgePart(context, names, *tables) for tables in zip(asked, given, strict=True)]
        if run_parts is None:
            done: Iterable[JudgePart] = (part for part in parts if judge_part(part, totals))
        else:
            done = judge_on_workers(parts, run_parts, totals)
        for part in done:
            verdicts.append_file(part.verdicts)
            part.verdicts.unlink()
    return Outcome(
        tables={JUDGEMENTS: verdicts},
        counts=(totals.counts(),),
        costs=combine_costs(totals.costs[name] for name in sorted(totals.costs)),
    )


JUDGED_AT_ONCE = 1_024
"""Questions whose answers and judgements are in memory at the same time."""
LEAST_QUESTIONS, MOST_PARTS = 16, 32
"""Smallest number of questions that one task judges, and number of tasks unless their parts are too large."""


def size_for_workers(questions: int) -> int:
    """Return the number of questions that one task judges."""
    return max(LEAST_QUESTIONS, min(JUDGED_AT_ONCE, -(-questions // MOST_PARTS)))


@dataclass
class JudgeTotals:
    """Running totals of the parts."""

    rows: int = 0
    failed: int = 0
    costs: dict[str, StageCost] = field(default_factory=dict)
    """Calls, tokens and dollars by judge. Judges without a model are left out."""
    yields: dict[tuple[str, bool], Yield] = field(default_factory=dict)
    """Usable verdicts by judge, and by whether it adjudicates."""
    calls: dict[str, FailureCount] = field(default_factory=dict)
    """Calls and failures by judge, unless every part is checked."""
    check_each_part: bool = True

    def merge(self, other: JudgeTotals) -> None:
        """Add the totals of a part."""
        self.rows += other.rows
        self.failed += other.failed
        for name, cost in other.costs.items():
            before = self.costs.get(name) or StageCost.zero("judge", name)
            self.costs[name] = before.plus(cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd)
        for (name, adjudicates), judged in other.yields.items():
            self.yield_of(name, adjudicates=adjudicates).merge(judged)
        for name, calls in other.calls.items():
            self.calls_of(name).merge(calls)

    def check(self, context: RunContext) -> None:
        """Raise `ModelError` if too many calls failed, or too few verdicts can be used, so far."""
        validation = context.recipe.validation
        for calls in self.calls.values():
            replace(calls, tolerated=validation.max_failure_rate).refuse()
        require_yield(self.yields.values(), validation.min_judged)

    def calls_of(self, name: str) -> FailureCount:
        """Return the running count of the calls of a judge. It stops nothing before `check`."""
        return self.calls.setdefault(name, FailureCount(1.0))

    def counts_of(self, name: str, *, adjudicates: bool = False) -> JudgeCounts:
        """Return the running counts of a judge."""
        calls = None if self.check_each_part else self.calls_of(name)
        return JudgeCounts(self.yield_of(name, adjudicates=adjudicates), calls)

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


@dataclass(frozen=True)
class JudgePart:
    """Some questions and their answers."""

    context: RunContext
    judges: tuple[str, ...]
    questions: TablePart
    responses: TablePart

    @property
    def verdicts(self) -> Path:
        """File of the judgements."""
        return self.questions.path.with_suffix(".judgements.parquet")


def judge_on_workers(
    parts: Sequence[JudgePart], run_parts: PartRunner, totals: JudgeTotals
) -> Iterator[JudgePart]:
    """Yield the judged parts in order, and add up their totals."""
    with track("judging parts", len(parts)) as bar:
        for part, counted in zip(parts, run_parts(judge_part, parts), strict=True):
            totals.merge(counted)
            totals.check(part.context)
            bar.advance()
            yield part


def judge_part(part: JudgePart, running: JudgeTotals | None = None) -> JudgeTotals:
    """Write the judgements of a part to its file. Workers import this function.

    Args:
        part: The part.
        running: Totals of the parts before, to which those of this one are added. The judges are checked by
            them. Default: the caller checks the judges.
    """
    totals = running or JudgeTotals(check_each_part=False)
    rows = part.questions.rows(QUESTIONS), part.responses.rows(RESPONSES)
    verdicts = judge_rows(part.context, part.judges, *rows, totals)
    for verdict in verdicts:
        totals.add(verdict)
    pq.write_table(JUDGEMENTS.to_arrow(verdicts), part.verdicts, compression="zstd")
    return totals


def judge_rows(
    context: RunContext,
    names: Sequence[str],
    questions: Sequence[Question],
    responses: Sequence[Response],
    totals: JudgeTotals,
) -> list[Judgement]:
    """Return the sorted judgements of some questions.

    Answers under each system prompt and persona of the recipe are judged by themselves, without rewordings.
    """
    attributes = read_question_attributes(Path(context.data_dir), questions)
    prompting = context.recipe.prompting
    originals = [q for q in questions if q.variant_of is None]
    asked = [
        group_answers(questions, responses),
        *(group_answers(originals, responses, name) for name in (prompting.names if prompting else ())),
    ]
    verdicts = []
    for groups in asked:
        panel = [v for name in names for v in run_judge(context, name, groups, attributes, totals)]
        verdicts += [*panel, *adjudicate(context, panel, groups, attributes, totals)]
    return sorted(
        verdicts,
        key=lambda j: (j.question_id, j.judge, j.target, j.pair, j.repeat, j.condition != PLAIN, j.condition),
    )


def run_judge(
    context: RunContext,
    name: str,
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    totals: JudgeTotals | None = None,
) -> list[Judgement]:
    """Return all judgements of one judge: the divergence judge or a model.

    Args:
        context: Context of the run.
        name: The judge.
        groups: Answers to judge.
        attributes: Attributes of their questions.
        totals: Totals of the parts that were judged before. Default: none.
    """
    if name == divergence.JUDGE:
        words = divergence.read_divergence_words(Path(context.data_dir))
        return divergence.judge_by_divergence(groups, attributes, words)
    counts = None if totals is None else totals.counts_of(name)
    if context.recipe.judging.comparison == "pairwise_scored":
        judged = None if counts is None else counts.judged
        return judge_by_scored_pairs(context, name, groups, attributes, judged=judged)
    return judge_by_comparison(context, name, groups, attributes, counts=counts)


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
    counts = totals.counts_of(name, adjudicates=True)
    return judge_by_comparison(context, name, disputed, attributes, adjudicates=True, counts=counts)


STAGE = Stage(
    "judge",
    8,
    run=judge,
    reads=("models", "evolve", "judging", "validation", "prompting"),
    vocabulary=("attributes", "concepts", "lexicons", "prompts", "readers", "rubrics"),
    installed=divergence.installed_parts,
)
