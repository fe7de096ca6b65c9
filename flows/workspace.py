"""The folders of a user: vocabulary, runs, answer cache and releases.

They are in `data/` of the project, or in `COUNTERFOIL_HOME` if it is set. `COUNTERFOIL_VOCABULARY` names
another folder for the vocabulary.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.machine import check_text
from schemas.errors import InputError
from schemas.places import explain_remote, local_path
from schemas.recipe import Recipe
from tasks.files.own_vocabulary import FOLDER, overlay_attributes, overlay_files
from tasks.files.vocabulary import is_checkout, shipped_data, vocabulary_dir
from tasks.files.yaml import KeyPath, read_valid_part, read_yaml
from tasks.run.store import RunContext

MAX_NAME = 64
"""Characters of the name of a recipe."""
PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Workspace:
    """The folders of a user."""

    vocabulary: Path
    home: Path

    @property
    def runs(self) -> Path:
        """Folder of run directories."""
        return self.home / "runs"

    @property
    def releases(self) -> Path:
        """Folder of releases."""
        return self.home / "releases"

    @property
    def hold_back(self) -> Path:
        """Folder of private questions, by release."""
        return self.home / "hold_back"

    @property
    def passports(self) -> Path:
        """Folder of the passports of audited judges."""
        return self.home / "passports"

    @property
    def cache(self) -> Path:
        """Path of the answer cache."""
        return self.home / "cache" / "answers.sqlite"

    @property
    def hub_cache(self) -> Path:
        """Folder of downloaded releases."""
        return self.cache.parent / "hub"

    def with_attributes(self, *places: Path) -> Workspace:
        """Return the workspace with the attribute files in the folder `attributes` of some places.

        Args:
            *places: Folders of recipes, or releases.
        """
        folders = [place / FOLDER for place in dict.fromkeys(places)]
        combined = overlay_attributes(self.vocabulary, folders, self.cache.parent / "vocabulary")
        return replace(self, vocabulary=combined)

    def with_files(self, files: Mapping[str, Path]) -> Workspace:
        """Return the workspace with more files in the vocabulary, by their path in it."""
        return replace(
            self, vocabulary=overlay_files(self.vocabulary, files, self.cache.parent / "vocabulary")
        )

    def context(self, recipe: Recipe, *, budget_usd: float | None = None) -> RunContext:
        """Return the context of a build of a recipe."""
        # Not validated again: the valid part of a recipe with mistakes breaks rules on purpose.
        return RunContext.model_construct(
            recipe=recipe,
            run_dir=str(self.runs / recipe.name),
            data_dir=str(self.vocabulary),
            cache_path=str(self.cache),
            budget_usd=recipe.budget.usd if budget_usd is None else budget_usd,
        )


def recipe_workspace(recipe: Path) -> Workspace:
    """Return the workspace with the attribute files beside a recipe and in the working directory."""
    return open_workspace().with_attributes(recipe_path(recipe).parent, Path.cwd())


def open_workspace() -> Workspace:
    """Return the workspace of this process.

    Raises:
        InputError: If `COUNTERFOIL_HOME` is an address of object storage, or not UTF-8.
    """
    if reason := explain_remote(os.environ.get("COUNTERFOIL_HOME", "")):
        raise InputError(f"COUNTERFOIL_HOME: {reason}")
    check_text("COUNTERFOIL_HOME", os.environ.get("COUNTERFOIL_HOME", ""))
    chosen = local_path(os.environ.get("COUNTERFOIL_HOME", ""))
    home = chosen or (PROJECT if is_checkout() else Path.cwd()) / "data"
    return Workspace(vocabulary_dir(), Path(home).resolve())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file, or a recipe that is shipped, by its name (`quickstart`).

    Raises:
        InputError: If the recipe is not valid. The message names the place of the first mistake.
    """
    hint = f"recipes to start from: {', '.join(shipped_recipes())} (`counterfoil plan quickstart`)"
    return read_yaml(recipe_path(path), Recipe, hint=hint)


UNNAMED = "openai:unnamed"
"""Model of a recipe that names none."""


def salvage_recipe(path: Path) -> Recipe | None:
    """Return the valid part of a recipe file, or `None` if it has none.

    Missing models are replaced by `UNNAMED`, which no check looks at.
    """
    models = {"targets": [UNNAMED]}
    missing: dict[KeyPath, Any] = {
        ("name",): "unnamed",
        ("models",): models,
        ("models", "targets"): [UNNAMED],
    }
    return read_valid_part(recipe_path(path), Recipe, missing)


def limited_recipe(recipe: Recipe, limit: int | None) -> Recipe:
    """Return the recipe of a limited build, with a name of its own and smaller rounds."""
    if limit is None:
        return recipe
    per_round = min(recipe.evolve.questions_per_round, limit)
    evolve = recipe.evolve.model_copy(update={"questions_per_round": per_round})
    suffix = f"-limit-{limit}"
    name = recipe.name[: MAX_NAME - len(suffix)] + suffix
    return recipe.model_copy(update={"name": name, "limit": limit, "evolve": evolve})


def recipe_path(path: Path) -> Path:
    """Return the path itself, or that of the shipped recipe with this name if no such file exists."""
    is_name = not path.exists() and str(path) in shipped_recipes()
    return shipped_data() / "recipes" / f"{path}.yaml" if is_name else path


def shipped_recipes() -> list[str]:
    """Return the names of the recipes in `data/recipes`."""
    return sorted(file.stem for file in (shipped_data() / "recipes").glob("*.yaml"))


def quiet_prefect(workspace: Workspace) -> None:
    """Configure Prefect, before it is imported, to send no telemetry and to print nothing.

    A server that the user has configured (`PREFECT_API_URL` or a profile) is used unchanged, and gets the log
    of the flow runs.
    """
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # slow machines need more than 20
    }
    if not has_prefect_server():
        prefect_home = workspace.runs / ".prefect"
        prefect_home.mkdir(parents=True, exist_ok=True)
        quiet["PREFECT_HOME"] = str(prefect_home)
    else:
        quiet |= {
            "PREFECT_LOGGING_LEVEL": "INFO",
            "PREFECT_LOGGING_TO_API_ENABLED": "true",
        }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def has_prefect_server() -> bool:
    """Return whether the user has configured a Prefect server, by `PREFECT_API_URL` or a profile."""
    return configured_server() is not None


def configured_server() -> str | None:
    """Return the address of the Prefect server that the user has configured, or None."""
    if address := os.environ.get("PREFECT_API_URL"):
        return address
    try:
        home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, RuntimeError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    address = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(address) if address else None
