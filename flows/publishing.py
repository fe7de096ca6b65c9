"""Publishing from the command line and from the flow: where the token is, and where releases go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.errors import InputError
from tasks.publish import publish
from tasks.release.hub import Hub
from tasks.release.reading import read_manifest
from tasks.verify import Verified, verify


def run_publish(
    release: Path, repo: str | None, *, private: bool = False, propose: bool = False, token_block: str | None
) -> dict[str, Any]:
    """Publish a release, by default where its recipe says; the fields that `publish --json` promises."""
    where = repo or read_manifest(release).recipe.get("release", {}).get("repo")
    if not where:
        raise InputError("the recipe names no dataset to publish to", hint="say which: --repo org/name")
    done = publish(release, where, open_hub(token_block), private=private, propose=propose)
    return done.model_dump(mode="json")


def run_verify(release: str, *, token_block: str | None) -> Verified:
    """Verify a release directory, or `org/name@tag`."""
    return verify(release, lambda: open_hub(token_block))


def open_hub(token_block: str | None) -> Hub:
    """The Hub with the token of a Prefect Secret block, or else that of `HF_TOKEN` or `hf auth login`."""
    return Hub(secret(token_block) if token_block else None)


def secret(block: str) -> str:
    """What a Prefect Secret block holds. Raises `InputError` where there is no such block."""
    from flows.workspace import open_workspace, quiet_prefect

    quiet_prefect(open_workspace())
    from prefect.blocks.system import Secret

    try:
        held = Secret.load(block)
    except ValueError:
        held = None
    if not isinstance(held, Secret):
        raise InputError(
            f"there is no Prefect Secret block {block!r}",
            hint=f"make it in the Prefect UI, or: Secret(value=…).save({block!r})",
        )
    return str(held.get())
