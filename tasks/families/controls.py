"""Controls of every family: those that are missing are reported with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from schemas.answers import Effect
from schemas.question import Framing, Question
from schemas.recipe import Controls
from schemas.tables import content_id
from tasks.families import method_of
from tasks.families.coverage import MAIN_METRICS
from tasks.families.effects import EVERY, Slice, not_measured

KINDS = ("a_a", "placebo")
"""Controls with a true effect of zero."""
NO_FITTING_TEXT = {
    "a_a": "no text of the family could be repeated",
    "placebo": "no text of the family fits an irrelevant attribute",
}
NO_SHARE = "the recipe asks for none"


def missing_control_effects(
    questions: Iterable[Question], models: Sequence[str], controls: Controls
) -> list[Effect]:
    """Return a row without value for each model and kind of control that a family and framing lacks."""
    asked: dict[tuple[str, str], dict[Framing, set[str]]] = defaultdict(lambda: defaultdict(set))
    for q in questions:
        asked[q.family, q.language][q.framing].add(q.control)
    shares = {"a_a": controls.a_a, "placebo": controls.placebo}
    rows = []
    for (family, language), by_framing in sorted(asked.items()):
        for framing, kinds in sorted(by_framing.items()):
            for kind in KINDS:
                if "none" not in kinds or kind in kinds:
                    continue
                own = method_of(family).no_controls.get(kind)
                reason = own or (NO_FITTING_TEXT[kind] if shares[kind] else NO_SHARE)
                for model in models:
                    slice_ = Slice("control", kind, family, EVERY, model, language=language)
                    row = not_measured(slice_, MAIN_METRICS[family], "none", f"controls: {reason}")
                    own_id = content_id("e", *slice_.key, "missing", framing)
                    rows.append(row.model_copy(update={"id": own_id, "framing": framing}))
    return rows
