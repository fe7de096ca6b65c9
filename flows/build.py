"""What `plan` and `build` do before anything is spent: read, check, estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefect import flow

from flows import engine as steps
from flows.engine import show_effects, show_funnel
from flows.evolve import evolve
from flows.options import takes
from flows.prepare import PreparedBuild, prepare
from flows.reviews import Reviews, require_review, wait_for_people
from schemas.answers import RESPONSES
from schemas.errors import ReviewError
from schemas.options import BuildOptions
from schemas.recipe import Recipe
from schemas.release import ClearOf, HoldBack, NearMiss, PeopleReview, RelabelledPassage, ReleaseComparison
from tasks.files.vocabulary import input_path
from tasks.gate import raise_if_failed, read_suite_results, read_validation, write_data_docs
from tasks.gate.quarantine import read_quarantine
from tasks.relabel.file import fingerprint_input
from tasks.release import ReleaseRef, find_last_release, read_errata
from tasks.release.hold_back import HELD, list_private_files, write_hold_back
from tasks.release.references import resolve_place
from tasks.run.journal import funnel, note_release, start_journal, total_costs
from tasks.run.store import RunContext, Step, TableRef, read_table, run_lock, vocabulary_hashes

# Build: a recipe goes in, a verified release comes out.
#
# Each call below is a Prefect task that does its stage or finds it done; what they hand on are references to
# tables, never rows. Parameters are documented under `Args:`, from where Prefect puts them on its form.


@flow(name="build", persist_result=False)
@takes(BuildOptions)
def build(options: BuildOptions) -> str:
    """Build a validated release from a recipe and return its path.

    An interrupted build resumes when run again.
    """
    prepared = prepare(options.recipe, budget_usd=options.budget_usd, reach=True)
    releases = options.out or prepared.workspace.releases
    with run_lock(Path(prepared.context.run_dir)):
        while True:
            start_journal(prepared.context)
            try:
                return build_release(prepared, releases)
            except ReviewError as missing:
                wait_for_people(prepared.workspace, prepared.context, missing, poll=options.wait)


def build_release(prepared: PreparedBuild, releases: Path) -> str:
    """The sentence of the pipeline. What was mended since the first release stays mended; what people decided
    holds in every build."""
    context = prepared.context
    reviews = Reviews.read(prepared.workspace.home, context.recipe.name)
    previous = find_last_release(releases, context.recipe.name)
    errata = read_errata(Path(previous.path)) if previous else ()
    expanded = steps.expand(context, families=context.recipe.templated_families)
    mended = steps.mend(context, questions=expanded.table("questions"), errata=errata)
    review = partial(steps.review, context, settlements=reviews.on("question"), errata=errata)
    templated = review(questions=mended.table("questions"), dropped=dropped_in(expanded, mended))
    choices = steps.respond(context, questions=templated.table("questions"), phase="search")
    evolved = evolve.fn(context)  # inside this flow, so that its tasks run on this flow's task runner
    answers = steps.gather(context, parts=[*evolved.tables("responses"), choices.table("responses")])

    relabelled = steps.relabel(context, questions=evolved.archive, responses=answers.table("responses"))
    files = [steps.relabel_retrieval(context, **f) for f in retrieval_files(context.recipe)]
    passages = [review_passages(context, f, reviews) for f in files]
    searched = steps.mend(context, questions=relabelled.table("questions"), errata=errata)
    require_review(context, reviews, searched.table("questions"))
    seen = review(
        questions=searched.table("questions"), dropped=dropped_in(*evolved.steps, relabelled, searched)
    )
    pool = steps.gather(context, parts=[seen.table("questions"), templated.table("questions")])
    unique = steps.deduplicate(context, questions=pool.table("questions"), content=earlier_content(context))

    fresh = steps.respond(context, questions=unique.table("questions"), phase="holdout")
    verdicts = steps.judge(
        context, questions=unique.table("questions"), responses=fresh.table("responses"), phase="holdout"
    )
    everything = steps.gather(context, parts=[answers.table("responses"), fresh.table("responses")])
    judged = steps.gather(context, parts=[*evolved.tables("judgements"), verdicts.table("judgements")])
    before = [
        *(expanded, mended, templated, choices, *evolved.steps, relabelled, *files, *passages, searched),
        *(seen, unique, fresh, verdicts),
    ]
    public = steps.hold_back(
        context,
        questions=unique.table("questions"),
        label_history=[s.table("label_history") for s in (relabelled, *files, templated, seen, *passages)],
        dropped=dropped_in(templated, choices, *files, *passages, seen, unique, fresh, verdicts),
        earlier=list_private_files(prepared.workspace.hold_back / context.recipe.name),
        previous=previous,
    )
    sound = steps.quarantine(
        context,
        questions=public.table("questions"),
        responses=everything.table("responses"),
        judgements=judged.table("judgements"),
        label_history=public.table("label_history"),
        dropped=public.table("dropped"),
    )
    measured = steps.measure(
        context,
        questions=sound.table("questions"),
        responses=everything.table("responses"),
        judgements=judged.table("judgements"),
    )
    taken = [*before, public, sound, measured]
    generated = [s.table("questions") for s in (expanded, mended, templated, searched, seen)]
    generated += evolved.generated()
    assembled = steps.assemble(
        context,
        generated=generated,
        questions=measured.table("questions"),
        responses=[everything.table("responses")],
        judgements=[judged.table("judgements")],
        label_history=[sound.table("label_history")],
        dropped=dropped_in(public, sound, measured),
        effects=measured.table("effects"),
    )
    checked = steps.validate(
        context,
        **{ref.table: ref for ref in assembled.tables},
        generated=generated,
        counts=funnel([*taken, assembled]),
        quarantine=read_quarantine(sound),
    )
    raise_if_failed(read_validation(checked), failing_rows=checked.table("failing_rows").path)
    apart = PrivateShare(unique, public, sound, everything.table("responses"))
    people = reviews.summary([templated, seen], files)
    return finish(
        prepared, assembled, checked, [*taken, assembled, checked], releases, previous, apart, people
    )


def dropped_in(*taken: Step) -> list[TableRef]:
    """What those steps dropped. A review takes up what was dropped before it, and says what of that holds."""
    return [step.table("dropped") for step in taken]


def review_passages(context: RunContext, relabelled: Step, reviews: Reviews) -> Step:
    """A relabelled retrieval file with people's verdicts on its passages."""
    return steps.review_retrieval(
        context,
        **{ref.table: ref for ref in relabelled.tables},
        settlements=reviews.on("passage"),
    )


def retrieval_files(recipe: Recipe) -> list[dict[str, str]]:
    """The recipe's retrieval files, by place and content."""
    return [
        {"path": f.path, "format": f.format, "content": fingerprint_input(input_path(f.path))}
        for f in recipe.relabel.files
    ]


def earlier_content(context: RunContext) -> list[str]:
    """Hashes of the releases and files that the questions must stay clear of."""
    against = context.recipe.deduplicate.against
    return [fingerprint_input(resolve_place(place, context.hub_cache)) for place in against]


@dataclass(frozen=True)
class PrivateShare:
    """What a release tells of questions that are not in it."""

    unique: Step
    """Compared them with earlier releases."""
    public: Step
    """Held some of them back."""
    sound: Step
    """Took out those that fail a check, where the recipe says so."""
    answers: TableRef

    def clear_of(self) -> list[ClearOf]:
        return [ClearOf.model_validate(c) for c in json.loads(self.unique.notes)["clear_of"]]

    def near_misses(self) -> list[NearMiss]:
        return [
            NearMiss(question_id=m["id"], other_id=m["other"], similarity=m["similarity"])
            for m in json.loads(self.unique.notes)["near_misses"]
        ]

    def keep(self, place: Path) -> HoldBack | None:
        """Write the private file, where anything is held back."""
        held = read_table(self.public.table("held"), HELD)
        ids = {q.id for q in held}
        said = [r for r in read_table(self.answers, RESPONSES) if r.question_id in ids] if held else []
        return write_hold_back(place, held, said)


def finish(
    prepared: PreparedBuild,
    assembled: Step,
    checked: Step,
    taken: Sequence[Step],
    releases: Path,
    previous: ReleaseRef | None,
    apart: PrivateShare,
    people: PeopleReview | None,
) -> str:
    """The version, then the directory."""
    context = prepared.context
    compared = steps.compare(context, assembled=assembled.tables, previous=previous)
    comparison = ReleaseComparison.model_validate_json(compared.notes)
    private = prepared.workspace.hold_back / context.recipe.name / f"{comparison.new_version}.parquet"
    release = steps.package(
        context,
        assembled=assembled.tables,
        comparison=comparison,
        validation=read_validation(checked),
        counts=funnel(taken),
        costs=total_costs(taken),
        planned=prepared.estimate.costs,
        vocabulary=vocabulary_hashes(Path(context.data_dir), steps.VOCABULARY),
        previous=previous,
        releases=releases,
        errata=read_errata(Path(previous.path)) if previous else (),
        passports=prepared.passports,
        clear_of=apart.clear_of(),
        hold_back=apart.keep(private),
        quarantine=read_quarantine(apart.sound),
        review=people,
        near_misses=apart.near_misses(),
        passages=passage_examples(taken),
        write_data_docs=partial(write_data_docs, read_suite_results(checked)),
    )
    note_release(context, release)
    show_funnel(funnel(taken))
    show_effects(next(ref for ref in assembled.tables if ref.table == "effects"), release)
    return str(release)


def passage_examples(taken: Sequence[Step]) -> list[RelabelledPassage]:
    """What relabelling shows of the recipe's retrieval files."""
    noted = [json.loads(s.notes)["examples"] for s in taken if s.stage == "relabel_retrieval"]
    return [RelabelledPassage.model_validate(example) for file in noted for example in file]
