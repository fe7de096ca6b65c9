"""The Python API of Counterfoil.

    import counterfoil as cf

    plan = cf.plan("study.yaml")
    release = cf.build("study.yaml")
    release.effects.to_pandas()

Importing this package loads nothing heavy. Every function works in a notebook, inside a running event loop.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from counterfoil.results import BuildPlan, OpenedRelease, ReleaseTable
    from tasks.text.reader_rules import Reading, ReadingForm

__all__ = [
    "BuildPlan",
    "OpenedRelease",
    "Reading",
    "ReleaseTable",
    "audit_judge",
    "build",
    "compare",
    "deduplicate",
    "diff",
    "evaluate",
    "export",
    "fix",
    "init",
    "measure",
    "open_release",
    "plan",
    "preview",
    "publish",
    "read_answer",
    "relabel",
    "show",
    "translate",
    "validate",
    "verify",
]

T = TypeVar("T")

PACKAGES = ("flows", "schemas", "tasks")


def check_packages() -> None:
    """Raise `ImportError` if another module hides one of the internal packages.

    Raises:
        ImportError: If `flows`, `schemas` or `tasks` is not the one that belongs to Counterfoil. The message
            names the file that hides it.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin != home / name / "__init__.py":
            place = origin or "nothing: the installation is incomplete"
            raise ImportError(
                f"counterfoil needs its own package `{name}`, but Python found {place}. "
                "Rename that module, or remove its folder from the import path.",
                name=name,
                path=str(origin) if origin else None,
            )


check_packages()

Place = str | PathLike[str]
"""A path. An `OpenedRelease` is one, too."""


def __getattr__(name: str) -> Any:
    if name in ("BuildPlan", "OpenedRelease", "ReleaseTable"):
        from counterfoil import results

        return getattr(results, name)
    if name == "Reading":
        from tasks.text.reader_rules import Reading

        return Reading
    raise AttributeError(f"module 'counterfoil' has no attribute {name!r}")


def init(kind: str | None = None, **options: Any) -> dict[str, Any]:
    """Write a commented recipe to start from, or an attribute file.

    Args:
        kind: `attribute` for an attribute file. The default is a recipe.
        **options: The options of `counterfoil init`: `name`, `questions`, `attributes`, `targets`, `judges`,
            `budget_usd`, `values`, `language`, `out`, `overwrite`.

    Returns:
        The fields of `counterfoil init --json`: `path` of the file.

    Raises:
        InputError: If an option is missing or invalid, or the file exists.
    """
    return dict(run_command("init", kind=kind, **options))


def translate(recipe: Place, to: str, model: str, **options: Any) -> dict[str, Any]:
    """Translate the questions of a recipe with a model, and check the translations.

    Args:
        recipe: Path of the recipe.
        to: Language, such as `es`.
        model: Model that translates, and translates back to check itself.
        **options: The options of `counterfoil translate`: `out`, `overwrite`, `min_similarity`, `budget_usd`,
            `free`.

    Returns:
        The fields of `counterfoil translate --json`: `written`, `rejected`, and the file.
    """
    return dict(run_command("translate", recipe=recipe, to=to, model=model, **options))


def plan(recipe: Place, **options: Any) -> BuildPlan:
    """Estimate a build, or the next refresh: rows, calls, tokens and dollars. Send nothing.

    Args:
        recipe: Path of the recipe.
        **options: Options of `counterfoil plan`, such as `refresh=True`.

    Returns:
        The plan. Printing it shows the table of `counterfoil plan`.

    Raises:
        InputError: If the recipe, or a file or model that it names, is not usable.
    """
    from counterfoil.results import BuildPlan

    return BuildPlan(run_command("plan", recipe=recipe, **options))


def build(recipe: Place, **options: Any) -> OpenedRelease:
    """Build a release from a recipe. A stopped build resumes when it is called again.

    Args:
        recipe: Path of the recipe.
        **options: The options of `counterfoil build`: `out`, `runner`, `budget_usd`, `wait`, `fresh`.

    Returns:
        The validated release.

    Raises:
        CounterfoilError: One of its subclasses, with the exit code of the command line in `exit_code`.
    """
    return open_release(run_command("build", recipe=recipe, **options)["release"])


def open_release(release: Place) -> OpenedRelease:
    """Open a release and verify its files.

    Args:
        release: A directory, or a published release as `org/name@tag`.

    Raises:
        InputError: If there is no such release, or a file differs from the manifest.
    """
    from counterfoil.results import OpenedRelease, fetch
    from tasks.release import open_release as open_directory
    from tasks.run.event_loop import outside_event_loop

    return outside_event_loop(lambda: OpenedRelease(open_directory(fetch(release))))


def evaluate(
    release: Place,
    models: str | Sequence[str],
    *,
    metrics: Sequence[Callable[..., float | None]] = (),
    **options: Any,
) -> dict[str, Any]:
    """Ask models the questions of a release and measure their answers.

    Args:
        release: A release, its directory, or `org/name@tag`.
        models: Models, such as `openai:gpt-5-mini`.
        metrics: Functions of a `Response` and its `Question` that return a number, or `None` if they do not
            apply. A higher number means that the value is treated better. The findings include them.
        **options: The options of `counterfoil evaluate`: `judges`, `samples`, `out`, `budget_usd`, `free`,
            `hold_back`.

    Returns:
        The fields of `counterfoil evaluate --json`.
    """
    from tasks.release.user_metrics import metrics_in_use

    with metrics_in_use(metrics):
        return dict(run_command("evaluate", release=release, models=models, **options))


def compare(release: Place, *models: str, other: Place | None = None, **options: Any) -> dict[str, Any]:
    """Compare models, languages, framings or releases, paired by question.

    Args:
        release: A release, its directory, or `org/name@tag`.
        *models: Models to compare, by full or short name. Without names, all of them are compared.
        other: Second release.
        **options: The options of `counterfoil compare`: `languages`, `framings`, `margin`.

    Returns:
        The fields of `counterfoil compare --json`.

    Raises:
        InputError: If a model, language or framing is not in the release, or nothing can be compared.
    """
    chosen = models or options.pop("models", ())
    return dict(run_command("compare", release=release, other=other, models=chosen, **options))


def preview(recipe: Place, **options: Any) -> dict[str, Any]:
    """Return a few prompts as a build will send them, and optionally the answers.

    Args:
        recipe: Path of the recipe.
        **options: The options of `counterfoil preview`: `rows`, `family`, `send`, `budget_usd`.

    Returns:
        The fields of `counterfoil preview --json`.
    """
    return dict(run_command("preview", recipe=recipe, **options))


def export(
    release: Place, *, format: str, out: Place | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a release as tables, as tasks of an evaluation harness, or as items of a data set.

    Args:
        release: A release, its directory, or `org/name@tag`.
        format: `csv`, `jsonl`, `parquet`, `inspect`, `lm-eval`, `bbq` or `cab`.
        out: File for the questions, or folder for everything. The default is in data/exports.
        overwrite: Replace files that another command has written.

    Returns:
        The fields of `counterfoil export --json`.
    """
    return dict(run_command("export", release=release, format=format, out=out, overwrite=overwrite))


def fix(release: Place, **options: Any) -> dict[str, Any]:
    """Correct questions of a release and make one patch release.

    Args:
        release: The last release.
        **options: The options of `counterfoil fix`: `corrections`, a CSV file, or `question_id`, `text` and
            `reason`.

    Returns:
        The fields of `counterfoil fix --json`.
    """
    return dict(run_command("fix", release=release, **options))


def read_answer(text: str, options: Sequence[str], *, form: ReadingForm, language: str = "en") -> Reading:
    """Read which option an answer names, or which number.

    Args:
        text: The answer as the model gave it.
        options: The options in the order shown. Empty for `number`.
        form: `letter`, `word`, `option`, `agreement` or `number`.
        language: Language of the answer, such as `de`. In a language without a file in data/readers, only
            letters and exact options are read.

    Returns:
        The reading. Its `value` is the index of the option, or the number. It is `None` unless `status` is
        `read`. Nothing is guessed.
    """
    from tasks.files.readers import read_answer as read_with_language
    from tasks.files.vocabulary import vocabulary_dir

    return read_with_language(text, options, form=form, language=language, data_dir=vocabulary_dir())


def relabel(input: Place, **options: Any) -> dict[str, Any]:
    """Find false negatives in a retrieval training set and write the cleaned set.

    Args:
        input: File or folder of the retrieval set.
        **options: The options of `counterfoil relabel`: `judge`, `out`, `strategy`, `truth`, `mode`, …

    Returns:
        The fields of `counterfoil relabel --json`.
    """
    return dict(run_command("relabel", input=input, **options))


def deduplicate(input: Place, *, text: str, out: Place, **options: Any) -> dict[str, Any]:
    """Remove near-duplicates from a Parquet, JSONL or CSV file.

    Args:
        input: The file.
        text: Column with the text.
        out: Folder for `kept.parquet` and `dropped.parquet`.
        **options: The options of `counterfoil deduplicate`: `slots`, `group`, `rank`, `threshold`, …

    Returns:
        The fields of `counterfoil deduplicate --json`.
    """
    return dict(run_command("deduplicate", input=input, text=text, out=out, **options))


def measure(
    family: str,
    input: Place,
    *,
    format: str,
    test: str | None = None,
    min_coverage: float = 0.8,
    baselines: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute the metric of a family from recorded answers.

    Args:
        family: Such as `completion`, `association` or `decision`.
        input: The file of answers, or a release.
        format: How the answers were recorded, such as `subtler-biases`, or `release`.
        test: Name of the association test, if the file does not name it.
        min_coverage: Smallest share of usable rows of a file. A metric below it is not measured.
        baselines: Values that others are compared with, as `COLUMN=VALUE`. Default: the published ones.

    Returns:
        Each metric with `value`, `low`, `high` and `n`. For a file also its `coverage`, its `invalid_rows`
        by column and reason, and `notes`.
    """
    return dict(
        run_command(
            "measure",
            family=family,
            input=input,
            format=format,
            test=test,
            min_coverage=min_coverage,
            baselines=tuple(baselines),
        )
    )


def diff(old: Place, new: Place) -> dict[str, Any]:
    """Compare two releases by stable ids.

    Returns:
        The fields of `counterfoil diff --json`.
    """
    return dict(run_command("diff", old=old, new=new))


def validate(path: Place, *, out: Place | None = None) -> dict[str, Any]:
    """Check a release, a run, or a file of another bias benchmark.

    Args:
        path: A release, a run directory, or a file.
        out: File for every failing row.

    Returns:
        The fields of `counterfoil validate --json`. `passed` is false if a check failed.
    """
    return dict(run_command("validate", path=path, out=out).summary())


def audit_judge(judge: str, **options: Any) -> dict[str, Any]:
    """Test a judge on answers with known labels and write its passport.

    Args:
        judge: `divergence`, or a model.
        **options: The options of `counterfoil audit-judge`.

    Returns:
        The fields of `counterfoil audit-judge --json`.
    """
    return dict(run_command("audit-judge", judge=judge, **options))


def publish(
    release: Place, repo: str | None = None, *, private: bool = False, pr: bool = False
) -> dict[str, Any]:
    """Publish a release to the Hugging Face Hub: all of it or nothing.

    Args:
        release: A release or its directory.
        repo: Dataset on the Hub, `org/name`. The default is the recipe's.
        private: Create a private dataset.
        pr: Open a pull request instead of committing to main.

    Returns:
        The fields of `counterfoil publish --json`.
    """
    return dict(run_command("publish", release=release, repo=repo, private=private, pr=pr))


def verify(release: Place) -> bool:
    """Recompute every hash of a release and compare it with the manifest.

    Args:
        release: A release, its directory, or a published release as `org/name@tag`.

    Returns:
        True. A difference raises an error.

    Raises:
        PublishError: If anything differs. The message lists every difference.
    """
    from tasks.publish import raise_if_different

    raise_if_different(run_command("verify", release=release))
    return True


def show(place: Place) -> dict[str, Any]:
    """Describe a run or a release: counts per stage, places, and the next step.

    Returns:
        The fields of `counterfoil show --json`.
    """
    return dict(run_command("show", place=place))


def run_command(name: str, /, **options: Any) -> Any:
    """Run a command with its options, also from a running event loop.

    Args:
        name: Name of the command, such as `audit-judge`.
        **options: Its options. A release may be given as an `OpenedRelease`.

    Raises:
        InputError: If an option is unknown or invalid.
    """
    from flows.commands import call
    from tasks.run.event_loop import outside_event_loop

    values = {
        option: os.fspath(value) if isinstance(value, os.PathLike) else value
        for option, value in options.items()
    }
    return outside_event_loop(lambda: call(name, **values))
