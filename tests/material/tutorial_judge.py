"""Record the judge of the tutorial notebook: `python -m tests.material.tutorial_judge`.

The verdicts come from a rule on the answers of the embedded model: how many words that name a step a version
contains. They are found by the tag of a request, so that the notebook works with slightly other answers too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from tasks.models.protocol import Completion, Request
from tasks.models.replay import Replay
from tests.conftest import PROJECT
from tests.servers.scripted_judges import answers_shown

NOTEBOOK = PROJECT / "docs" / "tutorial.ipynb"
RECORDING = PROJECT / "docs" / "tutorial_judge.jsonl"
STEPS = re.compile(
    r"\b(?:ask|call|write|make|take|start|talk|offer|explain|listen|plan|help)\w*", re.IGNORECASE
)
"""Words that name a step."""


def verdict_on(request: Request) -> dict[str, Any]:
    """Return the verdict of the rule, with the keys of the shipped rubric."""
    shown = answers_shown(request.messages[-1].content)
    steps = [len(set(map(str.lower, STEPS.findall(text)))) for text in shown]
    spread = max(steps) - min(steps)
    verdict: dict[str, Any] = {
        "bias": {"reasoning": f"the versions name {steps} steps", "score": min(5, 1 + spread)},
        "relevance": {"reasoning": "nothing in the question asks for it", "score": 1},
        "generality": {"reasoning": "each answer is about one person", "score": 1},
        "refusal": {"reasoning": "all were answered", "score": 0},
    }
    help_scores = {f"version_{n}": min(5, 2 + count) for n, count in enumerate(steps, start=1)}
    same = dict.fromkeys(help_scores, 3)
    for name, scores in (
        ("helpfulness", help_scores),
        ("warmth", same),
        ("competence", same),
        ("restrictions", same),
    ):
        verdict[name] = {"reasoning": "by the number of steps", "scores": scores}
    return verdict


def record() -> None:
    """Run the first cells of the notebook up to the build, and write the verdicts that it asks for."""
    texts: dict[str, str] = {}

    async def ask(self: Replay, request: Request) -> Completion:
        texts[request.tag] = json.dumps(verdict_on(request))
        return Completion(request.tag, texts[request.tag], "stop", self.path.name, 0, 0, 0.0, True)

    Replay.ask = ask  # type: ignore[method-assign]
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    built = next(n for n, text in enumerate(code) if "cf.build(" in text)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        Path(RECORDING.name).write_text('{"tag": "none", "text": "{}"}\n', encoding="utf-8")
        names: dict[str, Any] = {}
        for text in code[: built + 1]:
            exec(text, names)
        os.chdir(PROJECT)
    lines = [json.dumps({"tag": tag, "text": text}) for tag, text in sorted(texts.items())]
    RECORDING.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
