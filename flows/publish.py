"""Publish and verify releases, from the command line and as a Prefect flow."""

from __future__ import annotations

from typing import Any

from flows.lazy_flow import lazy_flow
from flows.options import takes
from flows.workspace import open_workspace
from schemas.errors import InputError
from schemas.options import PublishOptions, VerifyOptions
from tasks.publish import Verified, raise_if_different, verify
from tasks.publish import publish as publish_release
from tasks.publish.hub import Hub
from tasks.publish.signing import sign_release
from tasks.release import read_manifest


@lazy_flow("publish")
@takes(PublishOptions)
def publish(options: PublishOptions) -> dict[str, Any]:
    """Publish a release to the Hub and return its commit and tag.

    An interrupted run finishes when run again. The token is not a parameter: it is read from a Prefect Secret
    block, or from HF_TOKEN in the environment of the flow run.
    """
    return run_publish(options)


def run_publish(options: PublishOptions) -> dict[str, Any]:
    """Publish a release and return the fields of `publish --json`.

    Raises:
        InputError: If the options name no dataset.
        PublishError: If the dataset on the Hub conflicts with the release.
    """
    repo = require_repo(options)
    hub = open_hub(options.token_block)
    if options.sign is not None:
        sign_release(options.release, options.sign)
    published = publish_release(options.release, repo, hub, private=options.private, propose=options.pr)
    return published.model_dump(mode="json")


def require_repo(options: PublishOptions) -> str:
    """Return the dataset to publish to. A release may be downloaded, so its recipe does not decide this.

    Raises:
        InputError: If no dataset is named.
    """
    if options.repo:
        return options.repo
    recorded = read_manifest(options.release).recipe.get("release", {}).get("repo")
    named = f"the recipe of the release names {recorded}. If that is yours, add --repo {recorded}"
    raise InputError(
        "publish to which dataset on the Hub?",
        place=str(options.release),
        hint=named if isinstance(recorded, str) and recorded else "add --repo org/name",
    )


def run_verify(options: VerifyOptions) -> Verified:
    """Compare a release directory or a published release with its manifest."""
    return verify(options.release, lambda: open_hub(options.token_block), signed_by=options.signed_by)


def require_verified(options: VerifyOptions, verified: Verified) -> None:
    """Raise `PublishError` if the release differs from its manifest."""
    raise_if_different(verified)


def open_hub(token_block: str | None) -> Hub:
    """Open the Hub with the token of a Prefect Secret block, of `HF_TOKEN` or of `hf auth login`."""
    return Hub(read_secret(token_block) if token_block else None)


def read_secret(block: str) -> str:
    """Return the content of a Prefect Secret block.

    Raises:
        InputError: If there is no such block.
    """
    from flows.workspace import quiet_prefect

    quiet_prefect(open_workspace())
    from prefect.blocks.system import Secret

    try:
        loaded = Secret.load(block)
    except ValueError:
        loaded = None
    if not isinstance(loaded, Secret):
        raise InputError(
            f"there is no Prefect Secret block {block!r}",
            hint=f"create it in the Prefect UI, or with Secret(value=…).save({block!r})",
        )
    return str(loaded.get())
