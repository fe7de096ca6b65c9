"""`counterfoil review` in a separate process, used with a browser and the keyboard."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.question import Question
from tasks.review.events import latest_verdicts, read_events, reviews_folder
from tasks.review.pages import is_hidden
from tasks.text.slots import expand_template
from tests.browser import needs_browser, open_browser, serious_findings
from tests.conftest import PROJECT
from tests.material.review_release import answers_to, many_questions
from tests.tasks.review.places import FEW, small_release, small_run

pytestmark = needs_browser

KEYS = {
    "1": "very_good",
    "2": "good",
    "3": "too_specific",
    "4": "wrong_grammar",
    "5": "question_unclear",
    "6": "repetition",
    "7": "multiple_choice",
    "8": "offensive",
    "9": "discuss",
    "0": "other",
}
COUNTERFOIL = Path(sys.executable).with_name("counterfoil")


class Reviewing:
    """The running command with its own home."""

    def __init__(self, home: Path, place: Path, *options: str) -> None:
        self.home, self.place, self.options = home, place, options
        self.start("--port", "0")

    def start(self, *port: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self._process = subprocess.Popen(
            [str(COUNTERFOIL), "review", str(self.place), *self.options, *port],
            env={**own, "COUNTERFOIL_HOME": str(self.home)},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 60)
        assert ready, "the command printed no address"
        self.address = self._process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self._process.communicate(timeout=60)[1]

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def restart(self) -> None:
        port = self.address.split(":")[2].split("/")[0]
        before = self.address
        self.start("--port", port)
        assert self.address == before

    def said(self, benchmark: str) -> dict[str, list[Any]]:
        return dict(read_events(reviews_folder(self.home, benchmark)))


Start = Callable[..., Reviewing]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Reviewing] = []

    def begin(place: Path, *options: str) -> Reviewing:
        running.append(Reviewing(tmp_path, place, *options))
        return running[-1]

    yield begin
    for reviewing in running:
        reviewing.kill()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a release with thirty groups, one of them ambiguous."""
    return small_release(tmp_path_factory.mktemp("release"), 29)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run with three groups and two relabelled passages."""
    return small_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as running:
        yield running


@pytest.fixture
def complaints() -> list[str]:
    """Record faults of a page: dialogs, exceptions and errors in the console."""
    return []


def press_to_write(page: Any, key: str) -> None:
    """Press a key that opens a field, and wait until the field has the focus."""
    page.keyboard.press(key)
    page.wait_for_function("document.activeElement.matches('textarea, input')")


def open_page(context: Any, complaints: list[str], address: str) -> Any:
    page = context.new_page()
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda said: said.type == "error" and complaints.append(f"console: {said.text}"))
    page.goto(address)
    return page


def begin_as(page: Any, name: str) -> None:
    """Go from the first page to the first group by keyboard."""
    page.wait_for_selector("main input:focus")
    page.keyboard.type(name)
    press_and_go(page, "Enter")
    press_and_go(page, "Enter")


def here(page: Any) -> str:
    return str(page.locator("main").get_attribute("data-id") or "")


def press_and_go(page: Any, key: str) -> None:
    """Press a key and wait for the next page."""
    with page.expect_navigation(wait_until="domcontentloaded"):
        page.keyboard.press(key)


def decide(page: Any, key: str) -> tuple[str, str]:
    """Give one verdict by keyboard. Return the group and the verdict."""
    group = here(page)
    press_and_go(page, key)
    return group, KEYS[key]


def review_all(page: Any, keys: str) -> dict[str, str]:
    """Give verdicts in turn until the queue is empty."""
    said: dict[str, str] = {}
    while page.locator("main.group").count():
        group, verdict = decide(page, keys[len(said) % len(keys)])
        assert group not in said
        said[group] = verdict
    return said


@pytest.mark.slow
def test_two_reviewers_review_thirty_groups_by_keyboard_and_a_killed_server_loses_nothing(
    start: Start, browser: Any, complaints: list[str], release: Path
) -> None:
    reviewing = start(release, "--reviewer", "Anna Ä", "--reviewer", "ben")
    anna = open_page(browser.new_context(), complaints, reviewing.address)
    begin_as(anna, "Anna Ä")
    said = dict(decide(anna, key) for key in "123456")

    press_to_write(anna, "c")
    anna.keyboard.type("seen 2 of them before")
    anna.keyboard.press("Escape")
    reviewing.kill()
    group = here(anna)
    anna.keyboard.press("8")
    anna.get_by_role("alert").get_by_text("Not saved").wait_for()
    assert (here(anna), anna.input_value("#note")) == (group, "seen 2 of them before")
    reviewing.restart()
    said |= dict([decide(anna, "8")])
    said |= review_all(anna, "1290")
    assert "You have reviewed all" in anna.inner_text("main")

    ben = open_page(browser.new_context(), complaints, reviewing.address)
    begin_as(ben, "ben")
    theirs = review_all(ben, "2718")

    words = {name: latest_verdicts(events) for name, events in reviewing.said("everyday-advice").items()}
    for name, expected in (("Anna Ä", said), ("ben", theirs)):
        assert {subject[1]: event.verdict for subject, event in words[name].items()} == expected
        events = reviewing.said("everyday-advice")[name]
        assert [event.number for event in events] == list(range(len(expected)))
    assert len(said.keys() | theirs.keys()) == 30
    assert 0 < len(said.keys() & theirs.keys()) < 30
    noted = words["Anna Ä"]["question", group, ""]
    assert (noted.verdict, noted.note) == ("offensive", "seen 2 of them before")
    assert [c for c in complaints if "ERR_CONNECTION_REFUSED" not in c] == []


def test_a_verdict_is_taken_back_a_text_mended_and_a_note_survives_the_browser(
    start: Start, browser: Any, complaints: list[str], release: Path
) -> None:
    reviewing = start(release, "--reviewer", "anna")
    context = browser.new_context()
    page = open_page(context, complaints, reviewing.address)
    press_and_go(page, "Enter")

    first, _ = decide(page, "3")
    press_and_go(page, "u")
    assert here(page) == first
    assert page.locator("[aria-pressed=true]").count() == 0
    assert "Undone" in page.get_by_role("status").first.inner_text()

    press_to_write(page, "c")
    page.keyboard.type("nearly")
    page.close()
    page = open_page(context, complaints, f"{reviewing.address}next?reviewer=anna")
    assert (here(page), page.input_value("#note")) == (first, "nearly")

    press_to_write(page, "e")
    page.keyboard.press("End")
    page.keyboard.press("Control+End")
    page.keyboard.type(" because of their gender")
    page.get_by_text("violates a quality rule").wait_for()
    page.keyboard.press("Control+Enter")
    assert page.locator("#reword").is_disabled()
    for _ in " because of their gender":
        page.keyboard.press("Backspace")
    page.keyboard.press("Control+Home")
    page.keyboard.type("To be clear: ")
    page.get_by_text("every variant passes").wait_for()
    press_and_go(page, "Control+Enter")

    verdict, undo, edit = reviewing.said("everyday-advice")["anna"]
    assert (verdict.verdict, undo.undoes) == ("too_specific", verdict.id)
    assert (edit.action, edit.subject_id, edit.note) == ("edit", first, "nearly")
    assert edit.template is not None
    assert edit.template.startswith("To be clear: ")
    assert edit.replaced_by not in (None, first)
    assert complaints == []


def test_the_help_opens_by_key_and_single_keys_can_be_turned_off(
    start: Start, browser: Any, complaints: list[str], release: Path
) -> None:
    reviewing = start(release, "--reviewer", "anna")
    page = open_page(browser.new_context(), complaints, f"{reviewing.address}next?reviewer=anna")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("1")
    time.sleep(0.2)
    assert reviewing.said("everyday-advice") == {}
    page.get_by_role("button", name="Very good").focus()
    press_and_go(page, "Enter")
    assert len(reviewing.said("everyday-advice")["anna"]) == 1
    assert complaints == []


PHONE = {"width": 390, "height": 800}
HOSTILE = (
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>",
    "[here](javascript:window.broken=3) <a href='javascript:window.broken=4'>here</a> <svg onload=alert(5)>",
    "\u202egnp.exe\u202c \u2066hidden\u2069 \u200bzero\x00 \x1b[31mred",
    '=HYPERLINK("http://evil.example";"A1") +cmd|\' /C calc\'!A0 "><style>body{display:none}</style>',
    "]]></textarea></script>{% raw %}{{ 7 * 7 }}${7*7}",
)


def hostile_question() -> Question:
    """Return a question with hostile text, values and place."""
    (question,) = many_questions(1, FEW)
    values = ("<b>man</b>", "\u202ewoman")
    template = f"{HOSTILE[0]} {HOSTILE[2]} {{{{a man<b>/a woman' onclick='}}}} {HOSTILE[1]} {'long' * 400}"
    return question.model_copy(
        update={
            "id": "q_'\"><script>",
            "template": template,
            "values": values,
            "variants": expand_template(template, values),
            "domain": HOSTILE[0],
            "topic": HOSTILE[2],
            "attribute": "</title><script>window.broken = 6</script>",
        }
    )


def test_hostile_content_is_shown_and_does_nothing(
    start: Start, browser: Any, complaints: list[str], tmp_path: Path
) -> None:
    question = hostile_question()
    tail = " <script>window.broken = 7</script>" + "word \u202e" * 50_000
    megabyte = ("x" * 300_000 + tail).ljust(2**20, "y")
    answers = [
        r.model_copy(update={"text": HOSTILE[i % len(HOSTILE)] if i else megabyte, "model": HOSTILE[i // 6]})
        for i, r in enumerate(answers_to(question, 3))
    ]
    reviewing = start(small_run(tmp_path, [question], answers))
    page = open_page(browser.new_context(viewport=PHONE), complaints, reviewing.address)
    name = "<img src=x onerror=alert(8)>"
    begin_as(page, name)
    while here(page) != question.id:
        press_and_go(page, "n")
    read = page.inner_text(".reading")
    assert "right-to-left override U+202E" in read
    assert not [character for character in read if is_hidden(character)]
    page.locator(".whole").first.click()
    page.locator(".answer.long").wait_for()
    assert len(page.locator(".answer.long").text_content()) > 2**20
    press_to_write(page, "c")
    page.keyboard.type("".join(c for c in HOSTILE[0] + HOSTILE[3] if c.isprintable()))
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.locator("#expanded li").first.wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    press_and_go(page, "2")
    assert page.locator("#revealed").is_visible()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("main script, main style, main img, main svg, main b:not(#expanded b)").count() == 0
    assert page.locator("[href^='javascript' i], [onclick], [onerror]").count() == 0
    press_and_go(page, "q")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("window.broken") is None
    assert list(reviewing.said("unfinished")) == [name]
    assert complaints == []


def test_pages_have_no_serious_accessibility_findings(
    start: Start, browser: Any, complaints: list[str], run: Path
) -> None:
    reviewing = start(run)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = open_page(context, complaints, reviewing.address)
    found = serious(page, "start")
    page.wait_for_selector("main input:focus")
    page.keyboard.type("anna")
    press_and_go(page, "Enter")
    page.get_by_text("Filters and order").click()
    found += serious(page, "queue")
    page.keyboard.press("Escape")
    page.goto(f"{reviewing.address}next?reviewer=anna&kind=open")
    found += serious(page, "group")
    page.keyboard.press("e")
    page.locator("#expanded li").first.wait_for()
    found += serious(page, "rewording")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    found += serious(page, "help")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    press_and_go(page, "1")
    page.locator(".judge summary").first.click()
    found += serious(page, "decided")
    page.set_viewport_size({"width": 390, "height": 800})
    found += serious(page, "narrow")
    page.goto(f"{reviewing.address}next?reviewer=anna&kind=passage")
    found += serious(page, "passage")
    page.goto(f"{reviewing.address}queue?reviewer=anna&state=done")
    found += serious(page, "done")
    assert found == []
    assert complaints == []


def serious(page: Any, name: str) -> list[str]:
    """Return the serious and critical findings of axe-core, in light and dark mode."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{name}, {scheme}: {rule}: {where}" for rule, where in serious_findings(page).items()]
    return found
