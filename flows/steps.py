"""Every stage as a Prefect task. Prefect appears in this package and nowhere else.

Prefect's own result cache stays off: a stage's key (see `tasks.store`) decides whether it runs again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

import tasks.adopt
import tasks.assemble
import tasks.compare
import tasks.deduplicate
import tasks.expand
import tasks.gather
import tasks.hold_back
import tasks.judge
import tasks.measure
import tasks.mend
import tasks.mutate
import tasks.package
import tasks.quarantine
import tasks.relabel
import tasks.respond
import tasks.review
import tasks.select
import tasks.validate
from flows.runners import submit_each
from tasks.journal import note_step
from tasks.models.answering import CALLS
from tasks.store import RunContext, Stage, Step, run_stage


def take_step(stage: Stage, context: RunContext, inputs: dict[str, Any]) -> Step:
    """Do a stage or find it done, and note it in the run's journal. Importable, so that workers find it."""
    before = CALLS.sent
    done = run_stage(stage, context, **inputs)
    note_step(context, done, sent=CALLS.sent - before)
    return done


def as_task(stage: Stage) -> Callable[..., Step]:
    """The stage as a call that runs a Prefect task on the flow's task runner (threads, Dask, Ray)."""

    @task(name=stage.name, cache_policy=NO_CACHE, persist_result=False)
    def step(context: RunContext, inputs: dict[str, Any]) -> Step:
        return take_step(stage, context, inputs)

    def run(context: RunContext, **inputs: Any) -> Step:
        return step.submit(context, inputs).result()

    return run


def in_parts(stage: Stage) -> Callable[..., Step]:
    """The stage as a call in the flow itself, so that the parts of its work are the tasks."""
    own = replace(stage, run=partial(stage.run, each=submit_each))

    def run(context: RunContext, **inputs: Any) -> Step:
        return take_step(own, context, inputs)

    return run


STAGES = (
    tasks.expand.STAGE,
    tasks.mutate.STAGE,
    tasks.respond.STAGE,
    tasks.judge.STAGE,
    tasks.select.STAGE,
    tasks.relabel.STAGE,
    tasks.relabel.STAGE_RETRIEVAL,
    tasks.deduplicate.STAGE,
    tasks.measure.STAGE,
    tasks.validate.STAGE,
)
PAGES = ("canary.md", "card.md", "card_sentences.yaml", "evals", "report")
"""What the pages of a release are written from."""
VOCABULARY = tuple(sorted({name for stage in STAGES for name in stage.vocabulary} | set(PAGES)))
"""Files and folders under data/ that a build depends on."""

adopt = as_task(tasks.adopt.STAGE)
mend = as_task(tasks.mend.STAGE)
reopen = as_task(tasks.mend.STAGE_REOPEN)
expand = as_task(tasks.expand.STAGE)
mutate = as_task(tasks.mutate.STAGE)
respond = as_task(tasks.respond.STAGE)
judge = as_task(tasks.judge.STAGE)
select = as_task(tasks.select.STAGE)
gather = as_task(tasks.gather.STAGE)
relabel = as_task(tasks.relabel.STAGE)
relabel_retrieval = as_task(tasks.relabel.STAGE_RETRIEVAL)
review = as_task(tasks.review.STAGE)
review_retrieval = as_task(tasks.review.STAGE_RETRIEVAL)
deduplicate = in_parts(tasks.deduplicate.STAGE)
hold_back = as_task(tasks.hold_back.STAGE)
quarantine = as_task(tasks.quarantine.STAGE)
measure = as_task(tasks.measure.STAGE)
assemble = as_task(tasks.assemble.STAGE)
validate = as_task(tasks.validate.STAGE)
compare = as_task(tasks.compare.STAGE)
package = task(name="package", cache_policy=NO_CACHE, persist_result=False)(tasks.package.package)
