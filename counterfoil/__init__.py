"""The Python API of Counterfoil.

    import counterfoil as cf

    plan = cf.plan("study.yaml")
    release = cf.build("study.yaml")
    release.effects.to_pandas()

Importing this package loads nothing heavy. Every function works in a notebook, inside a running event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterfoil.internals import check_packages, outside_event_loop

check_packages()

if TYPE_CHECKING:
    from counterfoil.results import Plan, Release, ReleaseTable

__all__ = [
    "Plan",
    "Release",
    "ReleaseTable",
    "audit_judge",
    "build",
    "deduplicate",
    "diff",
    "evaluate",
    "measure",
    "open_release",
    "plan",
    "publish",
    "relabel",
    "show",
    "validate",
    "verify",
]

PathLike = str | Path


def __getattr__(name: str) -> Any:
    if name in ("Plan", "Release", "ReleaseTable"):
        from counterfoil import results

        return getattr(results, name)
    raise AttributeError(f"module 'counterfoil' has no attribute {name!r}")


def plan(recipe: PathLike) -> Plan:
    """Estimate a build: rows, calls, tokens and dollars. Send nothing.

    Args:
        recipe: Path of the recipe.

    Returns:
        The plan. Printing it shows the table of `counterfoil plan`.

    Raises:
        InputError: If the recipe, or a file or model that it names, is not usable.
    """
    from counterfoil.results import Plan
    from flows.prepare import prepare

    return Plan(outside_event_loop(lambda: prepare(Path(recipe), budget_usd=None, reach=False).estimate))


def build(
    recipe: PathLike,
    *,
    out: PathLike | None = None,
    runner: str = "threads",
    budget_usd: float | None = None,
    fresh: bool = False,
) -> Release:
    """Build a release from a recipe. A stopped build resumes when it is called again.

    Args:
        recipe: Path of the recipe.
        out: Folder for releases. The default is `data/releases`.
        runner: Where the stages run: `threads`, `dask` or `ray`.
        budget_usd: Limit in dollars. The default is the recipe's.
        fresh: Discard finished steps. Answers stay cached.

    Returns:
        The validated release.

    Raises:
        CounterfoilError: One of its subclasses, with the exit code of the command line in `exit_code`.
    """
    from flows.run import run_build

    result = outside_event_loop(
        lambda: run_build(
            Path(recipe),
            out=Path(out) if out else None,
            runner=runner,
            budget_usd=budget_usd,
            fresh=fresh,
        )
    )
    return open_release(result["release"])


def open_release(release: PathLike) -> Release:
    """Open a release and verify its files.

    Args:
        release: A directory, or a published release as `org/name@tag`.

    Raises:
        InputError: If there is no such release, or a file differs from the manifest.
    """
    from counterfoil.results import Release, fetch
    from tasks.release import open_release as open_directory

    return outside_event_loop(lambda: Release(open_directory(fetch(release))))


def evaluate(release: PathLike | Release, models: Sequence[str], **options: Any) -> dict[str, Any]:
    """Ask models the questions of a release and measure their answers.

    Args:
        release: A release, its directory, or `org/name@tag`.
        models: Models, such as `openai:gpt-5-mini`.
        **options: The options of `counterfoil evaluate`: `judges`, `samples`, `out`, `budget_usd`, `free`,
            `hold_back`.

    Returns:
        The fields of `counterfoil evaluate --json`.
    """
    from counterfoil.results import directory_of
    from flows.evaluate import evaluate as run

    return outside_event_loop(lambda: run(str(directory_of(release)), list(models), **options))


def relabel(input: PathLike, *, judge: str | Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """Find false negatives in a retrieval training set and write the cleaned set.

    Args:
        input: File or folder of the retrieval set.
        judge: `lexical` (the default), one model, or several.
        **options: The options of `counterfoil relabel`: `out`, `strategy`, `truth`, `mode`, …

    Returns:
        The fields of `counterfoil relabel --json`.
    """
    from flows.run import run_relabel

    judges = (judge,) if isinstance(judge, str) else tuple(judge)
    return outside_event_loop(lambda: run_relabel(Path(input), judges=judges, **_with_paths(options)))


def deduplicate(input: PathLike, *, text: str, out: PathLike, **options: Any) -> dict[str, Any]:
    """Remove near-duplicates from a Parquet, JSONL or CSV file.

    Args:
        input: The file.
        text: Column with the text.
        out: Folder for `kept.parquet` and `dropped.parquet`.
        **options: The options of `counterfoil deduplicate`: `slots`, `group`, `rank`, `threshold`, …

    Returns:
        The fields of `counterfoil deduplicate --json`.
    """
    from flows.run import run_deduplicate

    options = _with_paths(options)
    return outside_event_loop(lambda: run_deduplicate(Path(input), text=text, out=Path(out), **options))


def measure(family: str, input: PathLike, *, format: str, test: str | None = None) -> dict[str, Any]:
    """Compute the metric of a family from recorded answers.

    Args:
        family: Such as `completion`, `association` or `decision`.
        input: The file of answers, or a release directory.
        format: How the answers were recorded, such as `subtler-biases`, or `release`.
        test: Name of the association test, if the file does not name it.

    Returns:
        Each metric with `value`, `low`, `high` and `n`.
    """
    from tasks.measure import measure_file

    return outside_event_loop(lambda: measure_file(family, Path(input), format=format, test=test))


def diff(old: PathLike | Release, new: PathLike | Release) -> dict[str, Any]:
    """Compare two releases by stable ids.

    Returns:
        The fields of `counterfoil diff --json`.
    """
    from counterfoil.results import directory_of
    from tasks.package.compare import diff_releases

    return dict(outside_event_loop(lambda: diff_releases(directory_of(old), directory_of(new))))


def validate(path: PathLike | Release) -> dict[str, Any]:
    """Check a release, a run, or a file of another bias benchmark.

    Returns:
        The fields of `counterfoil validate --json`. `passed` is false if a check failed.
    """
    from counterfoil.results import directory_of
    from tasks.gate import examine_path

    return dict(outside_event_loop(lambda: examine_path(directory_of(path)).validation.summary()))


def audit_judge(judge: str, **options: Any) -> dict[str, Any]:
    """Test a judge on answers with known labels and write its passport.

    Args:
        judge: `divergence`, or a model.
        **options: The options of `counterfoil audit-judge`.

    Returns:
        The fields of `counterfoil audit-judge --json`.
    """
    from flows.audit import run_audit

    return dict(outside_event_loop(lambda: run_audit(judge, **options)))


def publish(
    release: PathLike | Release, repo: str | None = None, *, private: bool = False, pr: bool = False
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
    from counterfoil.results import directory_of
    from flows.publish import run_publish

    return outside_event_loop(
        lambda: run_publish(directory_of(release), repo, private=private, propose=pr, token_block=None)
    )


def verify(release: PathLike) -> bool:
    """Recompute every hash of a release and compare it with the manifest.

    Args:
        release: A directory, or a published release as `org/name@tag`.

    Returns:
        True. A difference raises an error.

    Raises:
        PublishError: If anything differs. The message lists every difference.
    """
    from flows.publish import run_verify
    from tasks.publish import raise_if_different

    outside_event_loop(lambda: raise_if_different(run_verify(str(release), token_block=None)))
    return True


def show(path: PathLike | Release) -> dict[str, Any]:
    """Describe a run or a release: counts per stage, places, and the next step.

    Returns:
        The fields of `counterfoil show --json`.
    """
    from counterfoil.results import directory_of
    from flows.run import describe

    return outside_event_loop(lambda: describe(directory_of(path)))


def _with_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Turn text into paths for the options that name files."""
    files = ("out", "verdicts", "truth", "corpus", "positives", "audited")
    found = {
        name: Path(value) if name in files and value is not None else value for name, value in options.items()
    }
    if "against" in found:
        found["against"] = tuple(Path(path) for path in found["against"])
    return found
