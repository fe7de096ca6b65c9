"""Publish: a release goes to the Hub whole, or not at all.

Parameters are documented under `Args:`, from where Prefect puts them on its form. The token is no parameter:
it is in a Prefect Secret block, or in `HF_TOKEN` where the flow runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.publishing import run_publish


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
