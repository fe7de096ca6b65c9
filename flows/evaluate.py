"""Evaluate models with a release, and judge the answers of a release again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import engine as steps
from flows.lazy_flow import lazy_flow
from flows.options import takes
from flows.outputs import Outputs, existing, job_options, protect
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.answers import CONTINUATIONS, EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.errors import InputError
from schemas.options import EvaluateOptions, Options, RejudgeOptions
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.release import Manifest
from schemas.tables import canonical_json, content_hash, derived_seed, file_hash
from tasks.families.effects import VerdictRule, correct_for_multiplicity
from tasks.judges.panel import deciding_form, drop_details
from tasks.models import ModelSettings
from tasks.models.capabilities import changes_of
from tasks.models.preflight import preflight
from tasks.package.drift import FLOOR_CONTROLS, FitnessByQuestion, judge_drift
from tasks.release import (
    MANIFEST,
    ReleaseDirectory,
    ReleaseRef,
    find_earlier_release,
    open_release,
    read_manifest,
)
from tasks.release.hold_back import check_private_file, is_ghost, read_hold_back
from tasks.release.measuring import NO_TARGET, choose_judges, measuring_recipe, stored_form_judges
from tasks.release.user_metrics import UserMetric, metrics_by_name, user_effects
from tasks.report import EvaluationExtras, link_to_earlier, write_evaluation
from tasks.report.comparisons import Scored, choose_pairs, compare_models, score_questions
from tasks.report.contamination import contamination_of, not_probed
from tasks.report.equating import equated_scores, equating_section
from tasks.report.names import read_known_attributes
from tasks.report.saturation import saturation_of, saturation_summary
from tasks.report.sentences import criterion_spans
from tasks.run.paths import inside
from tasks.run.store import RunContext, TableRef, read_table, run_lock, scan_table, write_bytes, write_table

EVALUATION_FILES = ("evaluation.json", "effects.parquet", "leaderboard.csv", "evaluation.html")
REJUDGEMENT_FILES = ("judgements.parquet", "drift.json")


@lazy_flow("evaluate")
@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Ask models the questions and controls of a release, and write and return what is measured.

    An interrupted run resumes when run again.
    """
    return run_evaluation(options)


def run_evaluation(options: EvaluateOptions, spending_dir: Path | None = None) -> dict[str, Any]:
    """Evaluate models.

    Args:
        options: Options of the command.
        spending_dir: Folder of the spending record, if the evaluation is a part of a refresh.

    Returns:
        The result of the command.
    """
    workspace = open_workspace().with_attributes(options.release)
    manifest, metrics = read_manifest(options.release), metrics_by_name()
    recipe = evaluation_recipe(manifest, options)
    context = evaluation_context(workspace, manifest, recipe, options.budget_usd)
    if spending_dir is not None:
        context = context.model_copy(update={"spending_dir": str(spending_dir)})
    private = find_private_file(options, workspace, manifest)
    replacing = None if options.contamination else private
    name = f"{manifest.name}-{manifest.version}" + ("-hold-back" if replacing else "")
    folder = options.out or inside(workspace.home, "evaluations", f"{name}-{job_key(manifest, options)}")
    outputs = Outputs(
        tuple(folder / file for file in EVALUATION_FILES),
        folder=folder,
        inputs=existing((options.release, options.hold_back, options.recipe)),
    )
    with protect(outputs, "evaluate", options, workspace.home):
        check_run_models(context)
        with run_lock(Path(context.run_dir)):
            evaluated = measure_models(context, release_ref(options.release), replacing)
            probed = probe_models(context, options, manifest, private) if options.contamination else None
        effects = read_table(evaluated.effects, EFFECTS)
        effects = [*effects, *evaluated.user_effects(metrics, recipe, workspace.vocabulary)]
        form = deciding_form(recipe, workspace.vocabulary)
        scored = evaluated.score(effects, form, recipe, workspace.vocabulary)
        comparisons = compare_models(scored, choose_pairs((), scored.models(), "model"))
        spans = criterion_spans(scan_table(evaluated.judgements, JUDGEMENTS))
        contamination = describe_contamination(options, scored, probed, form, recipe, workspace.vocabulary)
        extras = link_evaluation(options, scored, contamination, workspace.vocabulary)
        result = write_evaluation(
            folder, manifest, effects, form, workspace.vocabulary, comparisons, extras, spans
        )
    asked = {*recipe.models.holdout_targets, *recipe.models.targets, *recipe.models.judges}
    return result | {"folder": str(folder)} | changes_of(Path(context.run_dir), asked)


@dataclass(frozen=True)
class Probed:
    """Tables of a test for contamination."""

    private: Evaluation | None
    """The private questions. `None` without a private file."""
    held: tuple[Question, ...]
    """Private questions with the bias that was measured before the release."""
    continuations: TableRef


def find_private_file(options: EvaluateOptions, workspace: Workspace, manifest: Manifest) -> TableRef | None:
    """Return the private file that is named, or with `contamination` the one in the home folder."""
    place = options.hold_back
    if place is None and options.contamination and manifest.hold_back is not None:
        place = workspace.hold_back / manifest.name / f"{manifest.version}.parquet"
        if not place.is_file():
            return None
    return check_private_file(place, manifest) if place else None


def probe_models(
    context: RunContext, options: EvaluateOptions, manifest: Manifest, private: TableRef | None
) -> Probed:
    """Ask the private questions, and for the second half of public and private questions."""
    release = release_ref(options.release)
    held = read_hold_back(Path(private.path))[0] if private else []
    asked = not all(map(is_ghost, held))
    evaluation = measure_models(context, release, private) if asked else None
    public = steps.adopt(context, release=release, part="open")
    unpublished = [evaluation.questions] if evaluation else []
    if any(map(is_ghost, held)):
        ghosts = steps.adopt(context, release=release, part="ghosts", hold_back=private)
        unpublished.append(ghosts.table("questions"))
    hidden = steps.gather(context, parts=unpublished).table("questions") if unpublished else None
    continued = steps.continuation(
        context,
        public=public.table("questions"),
        private=hidden,
        name=manifest.name,
        canary=manifest.canary,
    )
    return Probed(evaluation, tuple(held), continued.table("continuations"))


def describe_contamination(
    options: EvaluateOptions,
    scored: Scored,
    probed: Probed | None,
    form: str,
    recipe: Recipe,
    data_dir: Path,
) -> dict[str, Any]:
    """Return the tests for contamination, or the reason that there are none."""
    if probed is None:
        return not_probed("the models were not probed; add --contamination")
    private = None
    if probed.private is not None:
        effects = read_table(probed.private.effects, EFFECTS)
        private = probed.private.score(effects, form, recipe, data_dir)
    release = open_release(options.release)
    return contamination_of(
        scored,
        private,
        read_table(probed.continuations, CONTINUATIONS),
        [*release.contents.rows(QUESTIONS), *probed.held],
        canary=release.manifest.canary,
    )


def link_evaluation(
    options: EvaluateOptions, scored: Scored, contamination: dict[str, Any], data_dir: Path
) -> EvaluationExtras:
    """Add the scores on the scale of the release before, and the fits of the questions."""
    old, reason = earlier_release(options)
    linked = None
    if old is not None:
        new = open_release(options.release)
        linked = link_to_earlier(old, new, data_dir, scored)
    return EvaluationExtras(
        equating=equating_section(linked, old.manifest.version if old else None, reason),
        saturation=saturation_summary(saturation_of(scored)),
        contamination=contamination,
        equated=equated_scores(linked or {}),
    )


def earlier_release(options: EvaluateOptions) -> tuple[ReleaseDirectory | None, str | None]:
    """Return the release on whose scale scores are also given, or the reason that there is none."""
    manifest = read_manifest(options.release)
    if options.hold_back is not None and not options.contamination:
        return None, "the private questions are in no earlier release"
    if options.equate_to is not None:
        old = open_release(options.equate_to)
        if old.manifest.name != manifest.name:
            raise InputError(
                f"{old.manifest.name} is not an earlier release of {manifest.name}",
                place=str(options.equate_to),
                hint="name a release of the same benchmark with --equate-to",
            )
        return old, None
    version = manifest.comparison.old_version
    if version is None:
        return None, "it is the first release of the benchmark"
    earlier = find_earlier_release(open_release(options.release))
    if earlier is None:
        return None, f"release {version} is not in the folder beside it; name it with --equate-to"
    return earlier, None


def job_key(manifest: Manifest, options: Options) -> str:
    """Return a key of the release and the options, so that no result replaces that of other options."""
    return content_hash([manifest.recipe_hash, manifest.version, job_options(options)])[:8]


def evaluation_recipe(manifest: Manifest, options: EvaluateOptions) -> Recipe:
    """Return a recipe that measures like the release, with the models of the user and without a search."""
    own = read_recipe(options.recipe) if options.recipe else None
    judges = choose_judges(manifest, options.judges, own)
    models = {"targets": list(options.models), "holdout_targets": [], "generator": "recombine", **judges}
    recipe = measuring_recipe(manifest, models, own=own, free=options.free)
    holdout = recipe.holdout.model_copy(update={"samples": options.samples})
    # A seed of its own: targets of the release are asked again. Answers that selected questions do not count.
    seed = derived_seed(recipe.seed, "evaluation")
    return recipe.model_copy(update={"name": f"{recipe.name}-evaluation", "holdout": holdout, "seed": seed})


def evaluation_context(
    workspace: Workspace, manifest: Manifest, recipe: Recipe, budget_usd: float
) -> RunContext:
    """Return the context of an evaluation. Its run directory depends on the release and the models."""
    key = content_hash([manifest.recipe_hash, manifest.version, recipe.models.model_dump(mode="json")])
    context = workspace.context(recipe, budget_usd=budget_usd)
    run_dir = inside(workspace.runs, f"{manifest.name}-{manifest.version}-evaluation-{key[:12]}")
    return context.model_copy(update={"run_dir": str(run_dir)})


def check_run_models(context: RunContext) -> None:
    """Check the targets and judges of a run before anything is spent.

    Raises:
        InputError: If a model cannot be used.
        ModelError: If a server cannot be reached or refuses.
        BudgetError: If the price of a model is unknown.
    """
    models = context.recipe.models
    named = (*models.targets, *models.judges, models.adjudicator or "")
    names = [name for name in named if ":" in name and name != NO_TARGET]
    preflight(names, ModelSettings.of(context))


def release_ref(path: Path) -> ReleaseRef:
    """Return the reference to a release that stages take."""
    return ReleaseRef(path=str(path.resolve()), sha256=file_hash(path / MANIFEST))


@dataclass(frozen=True)
class Evaluation:
    """The tables of an evaluation."""

    questions: TableRef
    responses: TableRef
    judgements: TableRef
    effects: TableRef

    def score(self, effects: Sequence[Effect], form: str, recipe: Recipe, data_dir: Path) -> Scored:
        """Score every question for every model."""
        questions = read_table(self.questions, QUESTIONS)
        return score_questions(
            questions,
            scan_table(self.responses, RESPONSES),
            map(drop_details, scan_table(self.judgements, JUDGEMENTS, without=("version_scores",))),
            scan_table(self.judgements, JUDGEMENTS),
            effects,
            read_known_attributes(data_dir, {q.attribute for q in questions}),
            form=form,
            min_coverage=recipe.validation.min_coverage,
            margins=recipe.validation.equivalence,
        )

    def user_effects(self, metrics: Mapping[str, UserMetric], recipe: Recipe, data_dir: Path) -> list[Effect]:
        """Return the contrasts of the user's metrics. Their tests are corrected among themselves."""
        if not metrics:
            return []
        questions = {q.id: q for q in read_table(self.questions, QUESTIONS)}
        attributes = read_known_attributes(data_dir, {q.attribute for q in questions.values()})
        least = recipe.validation.min_coverage
        effects = user_effects(metrics, questions, read_table(self.responses, RESPONSES), attributes, least)
        rule = VerdictRule(recipe.validation.fdr, recipe.validation.equivalence)
        return rule.apply(correct_for_multiplicity(effects))


def measure_models(context: RunContext, release: ReleaseRef, private: TableRef | None = None) -> Evaluation:
    """Ask, judge and measure.

    Args:
        context: Context of the evaluation.
        release: The release.
        private: Questions that replace the released ones.
    """
    advice = steps.adopt(context, release=release, part="open", hold_back=private)
    choices = steps.adopt(context, release=release, part="templated", hold_back=private)
    advised = steps.respond(context, questions=advice.table("questions"), phase="holdout")
    chosen = steps.respond(context, questions=choices.table("questions"), phase="search")
    verdicts = steps.judge(
        context, questions=advice.table("questions"), responses=advised.table("responses"), phase="holdout"
    )
    questions = steps.gather(context, parts=[advice.table("questions"), choices.table("questions")])
    answers = steps.gather(context, parts=[advised.table("responses"), chosen.table("responses")])
    measured = steps.measure(
        context,
        questions=questions.table("questions"),
        responses=answers.table("responses"),
        judgements=verdicts.table("judgements"),
    )
    return Evaluation(
        questions.table("questions"),
        answers.table("responses"),
        verdicts.table("judgements"),
        measured.table("effects"),
    )


# Rejudge: new judges, the same answers.


@lazy_flow("rejudge")
@takes(RejudgeOptions)
def rejudge(options: RejudgeOptions) -> dict[str, Any]:
    """Judge the hold-out answers of a release again, and write and return the drift.

    An interrupted run resumes when run again.
    """
    workspace = open_workspace().with_attributes(options.release)
    before = open_release(options.release)
    recipe = rejudging_recipe(before.manifest, options)
    name = f"{before.manifest.name}-{before.manifest.version}"
    key = content_hash([before.manifest.recipe_hash, before.manifest.version, list(options.judges)])
    run_dir = inside(workspace.runs, f"{name}-rejudging-{key[:12]}")
    context = workspace.context(recipe, budget_usd=options.budget_usd)
    context = context.model_copy(update={"run_dir": str(run_dir)})
    folder = options.out or inside(
        workspace.home, "rejudgements", f"{name}-{job_key(before.manifest, options)}"
    )
    outputs = Outputs(
        tuple(folder / file for file in REJUDGEMENT_FILES),
        folder=folder,
        inputs=existing((options.release, options.recipe)),
    )
    with protect(outputs, "rejudge", options, workspace.home):
        check_run_models(context)
        with run_lock(run_dir):
            adopted = steps.adopt(context, release=release_ref(before.path), part="open", answers=True)
            verdicts = steps.judge(
                context,
                questions=adopted.table("questions"),
                responses=adopted.table("responses"),
                phase="holdout",
            )
        questions = read_table(adopted.table("questions"), QUESTIONS)
        judgements = read_table(verdicts.table("judgements"), JUDGEMENTS)
        controls = {q.id for q in questions if q.control in FLOOR_CONTROLS}
        old_form = recorded_form(before.manifest, workspace)
        old = FitnessByQuestion.of(before.contents.verdicts, old_form, controls)
        new = FitnessByQuestion.of(judgements, deciding_form(recipe, workspace.vocabulary), controls)
        result = {"release": before.manifest.name, "version": before.manifest.version} | judge_drift(
            questions, old, new
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / "judgements.parquet", JUDGEMENTS, judgements)
        write_bytes(folder / "drift.json", (canonical_json(result) + "\n").encode())
    return result | {"folder": str(folder)}


def rejudging_recipe(manifest: Manifest, options: RejudgeOptions) -> Recipe:
    """Return a recipe that measures like the release, with the judges of the user."""
    own = read_recipe(options.recipe) if options.recipe else None
    models = {"targets": [NO_TARGET], "judges": list(options.judges), "adjudicator": None}
    recipe = measuring_recipe(manifest, models, own=own, free=options.free)
    return recipe.model_copy(update={"name": f"{recipe.name}-rejudging"})


def recorded_form(manifest: Manifest, workspace: Workspace) -> str:
    """Return the form of fitness that decided in the release."""
    models = {"targets": [NO_TARGET], "judges": stored_form_judges(manifest)}
    return deciding_form(measuring_recipe(manifest, models), workspace.vocabulary)
