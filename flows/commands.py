"""All commands: their summaries and the functions that run them.

The command line and the Python API read this table. Importing it loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.options import Options


@dataclass(frozen=True)
class Command:
    """One command. Functions are named as `module:function` and imported when they are needed."""

    name: str
    summary: str
    show: str = ""
    """Function of `flows.cli.printing` that prints the result for a person. A command without it prints while
    it runs, and takes `as_json` after the options."""
    run: str = ""
    """Function that takes the options and returns the result. The default is `flows.run:run_<name>`."""
    check: str = ""
    """Function that takes the options and the printed result, and raises an error if the check failed."""
    progress: bool = False
    """Whether the command shows progress bars."""

    @property
    def model(self) -> type[Options]:
        """The model of the options: `BuildOptions` for `build`."""
        import schemas.options

        name = "".join(part.capitalize() for part in self.name.split("-"))
        model: type[Options] = getattr(schemas.options, f"{name}Options")
        return model

    @property
    def function(self) -> Callable[..., Any]:
        """The function that runs the command."""
        return load(self.run or f"flows.run:run_{self.name}")


def load(place: str) -> Callable[..., Any]:
    """Import a function named as `module:function`."""
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def call(name: str, /, **values: Any) -> Any:
    """Check the machine, validate options and run a command. The Python API calls this.

    Raises:
        InputError: If an option is unknown or invalid.
        MachineError: If the folder of the user cannot be written, or too few files may be open.
    """
    from flows.machine import check_machine
    from flows.options import read_options
    from flows.workspace import open_workspace

    command = COMMANDS[name]
    check_machine(name, open_workspace().home)
    return command.function(read_options(command.model, values))


_ALL = (
    Command("plan", "Estimate a build: rows, calls, tokens and dollars. Send nothing.", "print_plan"),
    Command(
        "init",
        "Write a commented recipe to start from, or an attribute file (`init attribute`).",
        "print_created",
        run="flows.scaffold:run_init",
    ),
    Command(
        "preview",
        "Show prompts as a build sends them, and with --send the answers to them.",
        "print_preview",
        run="flows.preview:run_preview",
    ),
    Command(
        "translate",
        "Translate the questions of a recipe with a model, and check the translations.",
        "print_figures",
        run="flows.translate:run_translate",
        progress=True,
    ),
    Command(
        "build",
        "Build a validated release from a recipe. An interrupted build resumes when run again.",
        "print_summary",
        progress=True,
    ),
    Command(
        "relabel",
        "Find false negatives in a retrieval training set, and promote, remove or keep them.",
        "print_relabelling",
        run="flows.run:run_relabel",
        progress=True,
    ),
    Command(
        "deduplicate",
        "Remove near-duplicates from a Parquet, JSON Lines or CSV file.",
        "print_deduplication",
    ),
    Command(
        "measure",
        "Compute the metric of a family from recorded answers, with intervals.",
        "print_metrics",
    ),
    Command(
        "compare",
        "Compare two models, languages, framings or releases, paired by question.",
        "print_comparisons",
        run="flows.compare:run_compare",
    ),
    Command(
        "export",
        "Write a release as tables, as tasks of an evaluation harness, or as BBQ or CAB items.",
        "print_export",
    ),
    Command(
        "reword",
        "Paraphrase the premises of a template file with a model.",
        "print_figures",
        run="flows.files:run_reword",
        progress=True,
    ),
    Command(
        "validate",
        "Check a release, a run, or a file of another benchmark. Exit with 3 if a check fails.",
        "print_validation",
        check="flows.run:require_passed",
    ),
    Command("show", "Show the counts of a run or a release, its files and the next step.", "print_place"),
    Command(
        "models",
        "Show what the server of each model supports, and problems. Exit with 5 if one cannot be used.",
        "print_models",
        run="flows.model_reports:run_models",
        check="flows.model_reports:require_usable",
    ),
    Command(
        "prune",
        "Remove old runs, downloaded releases and an unused answer cache.",
        "print_figures",
        run="flows.prune:run_prune",
    ),
    Command("recipe", "Show the recipe schema.", run="flows.cli.printing:print_recipe"),
    Command(
        "publish",
        "Publish a release to the Hub: one commit, verified, then tagged. Run again to finish.",
        "print_published",
        run="flows.publish:run_publish",
        progress=True,
    ),
    Command(
        "verify",
        "Compare a release with its manifest, here or on the Hub. Exit with 6 if it differs.",
        "print_verified",
        run="flows.publish:run_verify",
        check="flows.publish:require_verified",
        progress=True,
    ),
    Command(
        "diff",
        "Compare two releases: changed questions, the next version, and the drift of scores.",
        "print_diff",
    ),
    Command(
        "evaluate",
        "Ask models the questions of a release, and measure their answers.",
        "print_evaluation",
        progress=True,
    ),
    Command(
        "rejudge",
        "Judge the answers of a release again with another judge, and report the drift.",
        "print_drift",
        progress=True,
    ),
    Command(
        "fix",
        "Correct the text of one question or of many: add errata and make one patch release.",
        "print_fix",
        progress=True,
    ),
    Command(
        "refresh",
        "Build the next release with new seeds. Publish it if safe, propose it if risky.",
        "print_refresh",
        progress=True,
    ),
    Command(
        "serve",
        "Run the deployments of prefect.yaml on this computer, with their schedules, until stopped.",
        run="flows.cli.pages:run_serve",
    ),
    Command(
        "review",
        "Review questions and relabelled passages on a local page.",
        run="flows.cli.pages:run_review",
    ),
    Command(
        "audit-judge",
        "Test a judge on answers with known labels.",
        "print_audit",
        run="flows.audit:run_audit",
        check="flows.audit:require_above_bar",
        progress=True,
    ),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _ALL}
