"""Publishing from the command line and from the flow: where the token is, and where releases go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from schemas.errors import InputError
from tasks.publish import Verified, verify
from tasks.publish import publish as publish_release
from tasks.publish.hub import Hub
from tasks.release import read_manifest


def run_publish(
    release: Path, repo: str | None, *, private: bool = False, propose: bool = False, token_block: str | None
) -> dict[str, Any]:
    """Publish a release, by default where its recipe says; the fields that `publish --json` promises."""
    where = repo or read_manifest(release).recipe.get("release", {}).get("repo")
    if not where:
        raise InputError("the recipe names no dataset to publish to", hint="say which: --repo org/name")
    done = publish_release(release, where, open_hub(token_block), private=private, propose=propose)
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


# Publish: a release goes to the Hub whole, or not at all.
#
# Parameters are documented under `Args:`, from where Prefect puts them on its form. The token is no
# parameter:
# it is in a Prefect Secret block, or in `HF_TOKEN` where the flow runs.


@flow(name="publish", persist_result=False)
def publish(
    release: str,
    repo: str | None = None,
    pr: bool = False,
    private: bool = False,
    token_block: str | None = None,
) -> dict[str, Any]:
    """Publish a release and say which commit and tag it has now. Run again, it finishes.

    Args:
        release: Path of the release, such as data/releases/everyday-advice/1.0.0.
        repo: Dataset on the Hub, such as org/everyday-advice; the recipe's where none is given.
        pr: Open a pull request instead of committing to main; when it is merged, run this again to tag it.
        private: Create the dataset private; refuse to publish to a public one.
        token_block: Name of the Prefect Secret block with the Hub's token; HF_TOKEN where none is given.
    """
    return run_publish(Path(release), repo, private=private, propose=pr, token_block=token_block)
