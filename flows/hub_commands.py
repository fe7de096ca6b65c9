"""Commands that bring releases to the Hub, and check them there. Registered in flows/cli.py."""

from __future__ import annotations

from pathlib import Path

import click

from flows.command_line import PathArgument, as_json

TOKEN_BLOCK = click.option("--token-block", help="Prefect Secret block with the token. [default: HF_TOKEN]")


@click.command()
@click.argument("release", type=PathArgument)
@click.option("--repo", help="Dataset on the Hub, org/name. [default: the recipe's `release.repo`]")
@click.option("--pr", "propose", is_flag=True, help="Open a pull request; run again when it is merged.")
@click.option("--private", is_flag=True, help="Create it private; refuse to publish to a public one.")
@TOKEN_BLOCK
@as_json
def publish(
    release: Path, repo: str | None, propose: bool, private: bool, token_block: str | None, as_json_: bool
) -> None:
    """Bring a release to the Hub: one commit, read back, then tagged. Run it again, and it finishes."""
    from flows.printing import print_json, show_progress
    from flows.printing_releases import print_published
    from flows.publishing import run_publish

    show_progress()
    result = run_publish(release, repo, private=private, propose=propose, token_block=token_block)
    print_json(result) if as_json_ else print_published(result)


@click.command()
@click.argument("release", metavar="RELEASE|org/name@TAG")
@TOKEN_BLOCK
@as_json
def verify(release: str, token_block: str | None, as_json_: bool) -> None:
    """Recompute a release's manifest, here or on the Hub. Exit code 6 where anything differs."""
    from flows.printing import print_json, show_progress
    from flows.printing_releases import print_verified
    from flows.publishing import run_verify
    from tasks.verify import raise_if_different

    show_progress()
    found = run_verify(release, token_block=token_block)
    print_json(found) if as_json_ else print_verified(found)
    raise_if_different(found)


COMMANDS = (publish, verify)
