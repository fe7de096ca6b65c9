"""Build: a recipe goes in, a verified release comes out.

Each call of `steps` is a Prefect task that runs a stage or finds its finished step. Stages pass references to
tables, never rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flows import engine as steps
from flows.engine import show_effects, show_findings, show_funnel
from flows.evolve import evolve, expand_open, question_content
from flows.lazy_flow import lazy_flow
from flows.options import takes
from flows.outputs import check_releases_folder
from flows.prepare import PreparedBuild, prepare
from flows.reviews import Reviews, require_review, wait_for_people
from flows.workspace import open_workspace
from schemas.answers import RESPONSES, Response
from schemas.errors import InputError, ReviewError
from schemas.notes import DeduplicationNotes, MaterialNotes, MaterialTopic, RelabelNotes
from schemas.options import BuildOptions
from schemas.question import Erratum, Question
from schemas.recipe import Controls, Recipe
from schemas.release import CorrectedTreatment, ReleaseComparison
from schemas.tables import derived_seed
from tasks.files.own_vocabulary import keep_attribute_files
from tasks.files.vocabulary import input_path
from tasks.gate import raise_if_failed, read_suite_results, read_validation, write_data_docs
from tasks.gate.own_suites import read_own_suites
from tasks.gate.quarantine import read_quarantine
from tasks.models.budget import spent_in
from tasks.models.capabilities import parameter_changes
from tasks.package import Findings, Provenance
from tasks.relabel.job import fingerprint_input
from tasks.release import ReleaseRef, find_last_release, read_errata
from tasks.release.hold_back import HELD, list_private_files, write_hold_back
from tasks.release.references import resolve_place
from tasks.run.journal import note_release, start_journal
from tasks.run.ledger import BuildLedger
from tasks.run.progress import follow_stages
from tasks.run.store import RunContext, Step, TableRef, read_table, run_lock, vocabulary_hashes

GENERATING = ("carry_over", "expand", "mutate", "mend", "review", "vary")
"""Stages with tables of all generated questions."""
CHAPTERS = (
    "ask templates",
    "search",
    "relabel files",
    "apply reviews",
    "deduplicate",
    "reword",
    "ask again",
    "hold back",
    "quarantine",
    "measure",
    "assemble",
    "validate",
    "package",
)
"""Stages of a build as progress shows them."""
GHOST_POOL = 4
"""Composed questions per ghost, because some resemble released ones or are too short."""
LABELLING = ("relabel", "relabel_retrieval", "review", "review_retrieval")
"""Stages that change labels."""


@lazy_flow("build")
@takes(BuildOptions)
def build(options: BuildOptions) -> str:
    """Build a validated release from a recipe and return its path.

    An interrupted build resumes when run again.
    """
    releases = options.out or open_workspace().releases
    check_releases_folder(releases)
    prepared = prepare(options.recipe, budget_usd=options.budget_usd, reach=True, limit=options.limit)
    return run_build(prepared, releases, wait=options.wait)


def run_build(
    prepared: PreparedBuild, releases: Path, *, wait: bool = False, linked: ReleaseRef | None = None
) -> str:
    """Build a release while holding the lock of its run. Return its path.

    Args:
        prepared: The checked recipe.
        releases: Folder of all releases.
        wait: Whether to wait for the reviews that the recipe requires.
        linked: Release of the questions that are carried over.

    Raises:
        ReviewError: If reviews are missing and the build does not wait.
    """
    with run_lock(Path(prepared.context.run_dir)):
        while True:
            start_journal(prepared.context)
            keep_attribute_files(Path(prepared.context.data_dir), Path(prepared.context.run_dir))
            try:
                return build_release(prepared, releases, linked)
            except ReviewError as missing:
                wait_for_people(prepared.workspace, prepared.context, missing, poll=wait)


def build_release(prepared: PreparedBuild, releases: Path, linked: ReleaseRef | None = None) -> str:
    """Run the pipeline. Earlier corrections and the decisions of reviewers are applied again."""
    run = BuildRun.start(prepared, releases, linked)
    if prepared.material is not None:
        run.ledger.add(prepared.material)
    run_dir = Path(prepared.context.run_dir)
    with follow_stages(run_dir, CHAPTERS, partial(spent_in, prepared.context.spending_path)) as enter:
        enter("ask templates")
        anchors = run.carry_over()
        templated = run.ask_templates(anchors)
        enter("search")
        archive = run.search(anchors)
        enter("relabel files")
        run.relabel_files()
        enter("apply reviews")
        seen = run.review_search(archive)
        enter("deduplicate")
        distinct = run.deduplicate([seen, templated, *([anchors] if anchors else [])])
        enter("reword")
        unique = run.vary(distinct)
        enter("ask again")
        answers = run.ask_again(unique)
        enter("hold back")
        public = run.hold_back(unique)
        enter("quarantine")
        sound = run.quarantine(public, answers)
        enter("measure")
        treatment = run.correct_judges(sound, answers)
        measured = run.measure(sound, answers, treatment)
        enter("assemble")
        assembled = run.assemble(sound, measured, answers)
        enter("validate")
        checked = run.validate(assembled, sound)
        enter("package")
        held = read_held_back(public, answers)
        return run.package(assembled, checked, sound, held, treatment)


@dataclass(frozen=True)
class Answers:
    """All responses and judgements of a build."""

    responses: TableRef
    judgements: TableRef


HeldBack = tuple[list[Question], list[Response]]


@dataclass(frozen=True)
class BuildRun:
    """One pass of a build. Each method is a chapter of the pipeline and records its steps in the ledger."""

    prepared: PreparedBuild
    releases: Path
    reviews: Reviews
    previous: ReleaseRef | None
    errata: tuple[Erratum, ...]
    linked: ReleaseRef | None = None
    """Release of the questions that are carried over."""
    ledger: BuildLedger = field(default_factory=BuildLedger)

    @classmethod
    def start(cls, prepared: PreparedBuild, releases: Path, linked: ReleaseRef | None = None) -> BuildRun:
        """Read the reviews of the benchmark, its last release and the errata."""
        name = prepared.context.recipe.name
        previous = find_last_release(releases, name)
        errata = tuple(read_errata(Path(previous.path))) if previous else ()
        reviews = Reviews.read(prepared.workspace.home, name)
        return cls(prepared, releases, reviews, previous, errata, linked)

    @property
    def context(self) -> RunContext:
        """Context of the run."""
        return self.prepared.context

    def carry_over(self) -> Step | None:
        """Choose the anchors of a refresh, and apply reviews to them. `None` without an earlier release."""
        if self.linked is None:
            return None
        suspects = {"suspects": list(self.prepared.suspects)} if self.prepared.suspects else {}
        chosen = steps.carry_over(self.context, previous=self.linked, **suspects)
        carried = self.ledger.add(chosen, part="anchors")
        return self._review(carried, part="anchors")

    def make_room(self, fresh: Step, anchors: Step | None, part: str | None = None) -> Step:
        """Let new questions give their places to anchors. Record the step in a part of the build, if any."""
        if anchors is None or self.linked is None:
            return fresh
        made = steps.make_room(
            self.context,
            questions=fresh.table("questions"),
            anchors=anchors.table("questions"),
            previous=self.linked,
        )
        return made if part is None else self.ledger.add(made, part=part)

    def ask_templates(self, anchors: Step | None = None) -> Step:
        """Expand the templates, apply errata and reviews, and ask the questions and the anchors."""
        if self.context.recipe.release.ghosts:
            self.compose_ghosts()  # stops the build before anything is asked if there are too few
        add = partial(self.ledger.add, part="templates")
        families = self.context.recipe.templated_families
        content = question_content(self.context) if families else []
        files = {"content": content} if content else {}
        expanded = add(steps.expand(self.context, families=families, **files))
        expanded = self.make_room(expanded, anchors, part="templates")
        mended = add(steps.mend(self.context, questions=expanded.table("questions"), errata=self.errata))
        reviewed = self._review(mended, part="templates")
        add(steps.respond(self.context, questions=reviewed.table("questions"), phase="search"))
        if anchors is not None:
            add(steps.respond(self.context, questions=anchors.table("questions"), phase="search"))
        return reviewed

    def search(self, anchors: Step | None = None) -> TableRef:
        """Search for open questions and relabel their near misses. A survey takes them as they are."""
        seeds = expand_open(self.context)
        if self.context.recipe.is_survey:
            fresh = self.make_room(self.ledger.add(seeds, part="search"), anchors, part="search")
            return fresh.table("questions")
        if anchors is not None:
            seeds = self.make_room(self.ledger.add(seeds, part="search"), anchors)
        # Called as a function, so that its tasks run on the task runner of this flow.
        evolved = evolve.fn(self.context, seeds)
        for step in evolved.steps:
            self.ledger.add(step, part="search")
        responses = self._gather("responses", "respond")
        relabelled = steps.relabel(self.context, questions=evolved.archive, responses=responses)
        self.ledger.add(relabelled, part="search")
        return relabelled.table("questions")

    def relabel_files(self) -> None:
        """Relabel the retrieval files of the recipe and apply the reviews of passages."""
        files = [
            self.ledger.add(steps.relabel_retrieval(self.context, **file))
            for file in retrieval_files(self.context.recipe)
        ]
        for relabelled in files:
            reviewed = steps.review_retrieval(
                self.context,
                **{ref.table: ref for ref in relabelled.tables},
                settlements=self.reviews.on("passage"),
            )
            self.ledger.add(reviewed)

    def review_search(self, archive: TableRef) -> Step:
        """Apply errata and reviews to the questions of the search.

        Raises:
            ReviewError: If the recipe requires more reviews.
        """
        mended = steps.mend(self.context, questions=archive, errata=self.errata)
        self.ledger.add(mended, part="search")
        require_review(self.context, self.reviews, mended.table("questions"))
        return self._review(mended, part="search")

    def _review(self, step: Step, part: str) -> Step:
        """Apply reviews. The result contains the dropped rows of the part, some of them with a new reason."""
        dropped = self.ledger.tables("dropped", part=part)
        reviewed = steps.review(
            self.context,
            questions=step.table("questions"),
            dropped=dropped,
            settlements=self.reviews.on("question"),
            errata=self.errata,
        )
        return self.ledger.add(reviewed, part=part, replaces=dropped)

    def deduplicate(self, parts: list[Step]) -> Step:
        """Remove near-duplicates among the questions of all parts, and overlap with earlier releases."""
        pool = steps.gather(self.context, parts=[step.table("questions") for step in parts])
        return self.ledger.add(
            steps.deduplicate(
                self.context, questions=pool.table("questions"), content=earlier_content(self.context)
            )
        )

    def vary(self, unique: Step) -> Step:
        """Reword the selected questions, if the recipe asks for it, and measure the rewordings."""
        recipe = self.context.recipe
        if recipe.variants is None and recipe.augment is None:
            return unique
        varied = self.ledger.add(steps.vary(self.context, questions=unique.table("questions")))
        self.ledger.add(steps.respond(self.context, questions=varied.table("questions"), phase="search"))
        return steps.gather(self.context, parts=[unique.table("questions"), varied.table("questions")])

    def ask_again(self, unique: Step) -> Answers:
        """Answer and judge the selected questions on fresh samples. Return all answers of the build."""
        questions = unique.table("questions")
        fresh = self.ledger.add(steps.respond(self.context, questions=questions, phase="holdout"))
        self.ledger.add(
            steps.judge(
                self.context, questions=questions, responses=fresh.table("responses"), phase="holdout"
            )
        )
        return Answers(self._gather("responses", "respond"), self._gather("judgements", "judge"))

    def hold_back(self, unique: Step) -> Step:
        """Separate the questions that stay private, and draw the ghosts."""
        dropped = self.ledger.tables("dropped")
        private = self.prepared.workspace.hold_back / self.context.recipe.name
        ghosts: dict[str, Any] = {}
        if self.context.recipe.release.ghosts:
            ghosts = {"ghosts": self.compose_ghosts().table("questions"), "generated": self._generated()}
        public = steps.hold_back(
            self.context,
            questions=unique.table("questions"),
            label_history=self.ledger.tables("label_history", stages=LABELLING),
            dropped=dropped,
            earlier=list_private_files(private),
            previous=self.previous,
            **ghosts,
        )
        return self.ledger.add(public, replaces=dropped)

    def compose_ghosts(self) -> Step:
        """Compose questions to draw the ghosts from, with another seed. They are no part of the benchmark.

        Raises:
            InputError: If there are not enough of them.
        """
        recipe = self.context.recipe
        wanted = recipe.release.ghosts
        total = GHOST_POOL * wanted + recipe.families["open"].questions
        drawn = recipe.model_copy(
            update={
                "seed": derived_seed(recipe.seed, "ghosts") % 2**31,
                "families": {"open": recipe.families["open"].model_copy(update={"questions": total})},
                "controls": Controls(a_a=0, placebo=0, neutral=0),
                "limit": None,
            }
        )
        pool = steps.expand(self.context.model_copy(update={"recipe": drawn}), families=("open",))
        (counts,) = pool.counts
        if counts.kept < wanted:
            raise InputError(
                f"{counts.kept} questions can be composed for {wanted} ghosts",
                place="release.ghosts",
                hint="lower the number, or use more attributes or superdomains",
            )
        return pool

    def quarantine(self, public: Step, answers: Answers) -> Step:
        """Remove questions that would fail a check, if the recipe requires it."""
        return self.ledger.add(
            steps.quarantine(
                self.context,
                questions=public.table("questions"),
                responses=answers.responses,
                judgements=answers.judgements,
                label_history=public.table("label_history"),
                dropped=public.table("dropped"),
            )
        )

    def correct_judges(self, sound: Step, answers: Answers) -> list[CorrectedTreatment]:
        """Correct the judges with the scores of people, or return nothing without such scores."""
        return self.reviews.correct_treatment(
            self.context.recipe, sound.table("questions"), answers.judgements
        )

    def measure(self, sound: Step, answers: Answers, treatment: Sequence[CorrectedTreatment]) -> Step:
        """Measure the effects."""
        return self.ledger.add(
            steps.measure(
                self.context,
                questions=sound.table("questions"),
                responses=answers.responses,
                judgements=answers.judgements,
                **({"treatment": list(treatment)} if treatment else {}),
            )
        )

    def assemble(self, sound: Step, measured: Step, answers: Answers) -> Step:
        """Make the tables of the release."""
        return self.ledger.add(
            steps.assemble(
                self.context,
                generated=self._generated(),
                questions=measured.table("questions"),
                responses=[answers.responses],
                judgements=[answers.judgements],
                label_history=[sound.table("label_history")],
                dropped=self.ledger.tables("dropped"),
                effects=measured.table("effects"),
            )
        )

    def validate(self, assembled: Step, sound: Step) -> Step:
        """Check the tables of the release.

        Raises:
            GateError: If a check failed.
        """
        suites = read_own_suites(self.context.recipe.validation.suites)
        checked = steps.validate(
            self.context,
            **{ref.table: ref for ref in assembled.tables},
            **({"own_suites": suites} if suites else {}),
            generated=self._generated(),
            counts=self.ledger.funnel(),
            quarantine=read_quarantine(sound),
        )
        raise_if_failed(read_validation(checked), checked.table("failing_rows").path)
        return self.ledger.add(checked)

    def package(
        self,
        assembled: Step,
        checked: Step,
        sound: Step,
        held: HeldBack,
        treatment: Sequence[CorrectedTreatment],
    ) -> str:
        """Decide the version, write the private file and the release, and return its path."""
        compared = steps.compare(self.context, assembled=assembled.tables, previous=self.previous)
        comparison = compared.read_notes(ReleaseComparison)
        steps.name_flow_run(comparison.new_version)
        private = self.prepared.workspace.hold_back / self.context.recipe.name
        provenance = Provenance(
            comparison=comparison,
            previous=self.previous,
            vocabulary=vocabulary_hashes(Path(self.context.data_dir), steps.VOCABULARY),
            counts=self.ledger.funnel(),
            costs=self.ledger.costs(),
            planned=self.prepared.estimate.costs,
            passports=self.prepared.passports,
            errata=self.errata,
            material=self._material_topics(),
            parameter_changes=parameter_changes(Path(self.context.run_dir)),
        )
        (pairs,) = self.ledger.notes("deduplicate", DeduplicationNotes)
        files = self.ledger.notes("relabel_retrieval", RelabelNotes)
        findings = Findings(
            validation=read_validation(checked),
            clear_of=pairs.clear_of,
            near_misses=pairs.kept_pairs(),
            passages=[example for notes in files for example in notes.examples],
            hold_back=write_hold_back(private / f"{comparison.new_version}.parquet", *held),
            quarantine=read_quarantine(sound),
            review=self.reviews.summary(
                self._steps_of("review"),
                self._steps_of("relabel_retrieval"),
                treatment,
            ),
        )
        release = steps.package(
            self.context,
            assembled.tables,
            provenance,
            findings,
            releases=self.releases,
            write_data_docs=partial(write_data_docs, read_suite_results(checked)),
        )
        note_release(self.context, release)
        show_funnel(self.ledger.funnel())
        show_effects(assembled.table("effects"))
        show_findings(release, Path(self.context.data_dir))
        return str(release)

    def _material_topics(self) -> tuple[MaterialTopic, ...]:
        step = self.prepared.material
        return step.read_notes(MaterialNotes).topics if step is not None else ()

    def _steps_of(self, stage: str) -> list[Step]:
        return [step for step in self.ledger.steps if step.stage == stage]

    def _generated(self) -> list[TableRef]:
        return self.ledger.tables("questions", stages=GENERATING)

    def _gather(self, name: str, stage: str) -> TableRef:
        """Return all rows of a stage so far as one table."""
        parts = self.ledger.tables(name, stages=[stage])
        return steps.gather(self.context, parts=parts).table(name)


def read_held_back(public: Step, answers: Answers) -> HeldBack:
    """Return the held-back questions and their answers."""
    held = read_table(public.table("held"), HELD)
    ids = {question.id for question in held}
    responses = read_table(answers.responses, RESPONSES) if held else []
    return held, [response for response in responses if response.question_id in ids]


def retrieval_files(recipe: Recipe) -> list[dict[str, str]]:
    """Return path, format and content hash of the retrieval files of a recipe."""
    return [
        {"path": f.path, "format": f.format, "content": fingerprint_input(input_path(f.path))}
        for f in recipe.relabel.files
    ]


def earlier_content(context: RunContext) -> list[str]:
    """Return the hashes of the releases and files that the questions must not overlap."""
    against = context.recipe.deduplicate.against
    return [fingerprint_input(resolve_place(place, context.hub_cache)) for place in against]
