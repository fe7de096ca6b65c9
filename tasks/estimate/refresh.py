"""What a refresh adds to a build: anchors, topics made of material, and the test for contamination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.recipe import MaterialSource
from tasks.carry_over import carry_over, replace_by_anchors
from tasks.continuation import continuation_requests, truncated_texts
from tasks.estimate import (
    ASSUMED,
    QuestionPopulation,
    RefreshWork,
    StageWork,
    judge_costs,
    mean_comparisons,
    measure_population,
    target_costs,
)
from tasks.estimate.prompt_sizes import measure_judge_prompt
from tasks.files.material import MAX_TEXT, MaterialItem, read_material
from tasks.files.vocabulary import input_path
from tasks.material import topic_request
from tasks.mend import list_released_questions, read_held_questions
from tasks.models.protocol import Request, estimate_prompt_tokens
from tasks.release import ReleaseDirectory, ReleaseRef, open_release
from tasks.release.hold_back import read_ghosts
from tasks.release.references import HubRef
from tasks.run.store import RunContext


@dataclass(frozen=True)
class Probe:
    """A test for contamination that is planned."""

    context: RunContext
    """The run of the evaluation."""
    release: ReleaseDirectory
    private: Path | None
    """Private file of the release."""


def plan_refresh(context: RunContext, linked: ReleaseRef | None, probe: Probe | None) -> RefreshWork:
    """Return what a refresh adds to a build.

    Args:
        context: The run, with the seed of the period.
        linked: The last release of an earlier period.
        probe: The test for contamination, if there is one.
    """
    anchors: Sequence[Question] = ()
    known: frozenset[str] = frozenset()
    if linked is not None:
        outcome = carry_over(context, linked)
        anchors = [q for q in outcome.tables[QUESTIONS] if isinstance(q, Question)]
        contents = open_release(Path(linked.path)).contents
        known = frozenset(id for (id,) in contents.distinct_rows(QUESTIONS.name, "id"))

    def make_room(fresh: Sequence[Question]) -> list[Question]:
        return replace_by_anchors(fresh, anchors, known, context.recipe.seed)[0]

    return RefreshWork(
        anchors=tuple(anchors),
        make_room=make_room,
        before=[
            *(probe_work(probe) if probe is not None else []),
            *(material_work(context) if context.recipe.refresh.material else []),
        ],
    )


def material_work(context: RunContext) -> StageWork:
    """Return the calls to the generator that make topics of material.

    Files are read. Addresses and datasets of the Hub are not fetched, and count as many items of the greatest
    length as the recipe allows.
    """
    items = [item for source in context.recipe.refresh.material for item in _expected_items(source)]
    requests = [topic_request(context, item) for item in items]
    costs = target_costs(context, [context.recipe.models.generator], _population(requests))
    return [("material", len(items), costs)]


def _population(requests: Sequence[Request]) -> QuestionPopulation:
    """Return the size of requests that belong to no question."""
    n = max(1, len(requests))
    tokens_in = sum(estimate_prompt_tokens(r.messages) for r in requests) / n
    return QuestionPopulation(
        0, 0, len(requests), tokens_in, sum(r.decoding.max_tokens for r in requests) / n
    )


def _expected_items(source: MaterialSource) -> list[MaterialItem]:
    if "://" not in source.path and HubRef.of(source.path) is None:
        try:
            return read_material(
                input_path(source.path),
                source.path,
                format=source.format,
                column=source.column,
                limit=source.items,
            )
        except InputError as error:
            raise InputError(
                error.message, place=f"refresh.material: {error.place or source.path}", hint=error.hint
            ) from None
    longest = MaterialItem(title="", text="x" * MAX_TEXT, date="", source=source.path)
    return [longest] * source.items


# The test for contamination.


def probe_work(probe: Probe) -> StageWork:
    """Return the calls of the test for contamination: all questions, and second halves of open ones."""
    context, recipe = probe.context, probe.context.recipe
    public = list_released_questions(probe.release.contents)
    held = read_held_questions(probe.private) if probe.private else []
    ghosts = read_ghosts(probe.private) if probe.private else []
    asked = list({q.id: q for q in [*public, *held]}.values())
    advice = [q for q in asked if q.family == "open"]
    choices = measure_population(context, [q for q in asked if q.family != "open"], "search")
    fresh = measure_population(context, advice, "holdout")
    comparisons = mean_comparisons(context, advice, recipe.holdout.samples)
    verdict = measure_judge_prompt(context, advice, recipe.holdout.samples)
    manifest = probe.release.manifest
    texts = truncated_texts(
        [q for q in public if q.family == "open"],
        [*(q for q in held if q.family == "open"), *ghosts],
        manifest.name,
        manifest.canary,
    )
    continued = _population(list(continuation_requests(context, texts)))
    targets = recipe.models.targets
    judged = judge_costs(context, targets, fresh, comparisons, verdict, ASSUMED)
    return [
        (
            "contamination_respond",
            fresh.calls + choices.calls,
            target_costs(context, targets, fresh, choices),
        ),
        ("contamination_judge", len(advice), judged),
        ("continuation", continued.calls, target_costs(context, targets, continued)),
    ]
