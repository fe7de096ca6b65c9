"""Conflicts: a release goes only where the very release is that it was compared with."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from schemas.errors import PublishError
from schemas.manifest import Manifest
from tasks.release.hub import Hub, Shown
from tasks.release.parcel import Parcel, seal_of
from tasks.release.versions import is_version, parse_version

BLANK = frozenset({"README.md"})
"""What a new dataset may hold, beside hidden files, without being someone's data."""


def refuse_conflict(parcel: Parcel, repo: str, hub: Hub, shown: Shown, content: bytes | None) -> None:
    """Raise `PublishError` unless main shows the very release that this one was compared with. `content`:
    the manifest that main shows."""
    if content is None:
        return refuse_strangers(repo, hub, shown)
    there = parse_manifest(content, repo)
    ours, compared = parcel.manifest, parcel.manifest.comparison
    if there.name != ours.name:
        raise PublishError(
            f"{repo} holds the releases of {there.name!r}, not of {ours.name!r}",
            hint="give the dataset of this release line, or a new one",
        )
    same = compared.old_manifest in (None, seal_of(content))
    if there.version != compared.old_version or not same:
        raise PublishError(
            f"{repo} is at {there.version}; this release was compared with "
            + ("nothing" if compared.old_version is None else f"{compared.old_version} as it was built here"),
            hint="build again with the published release in the releases folder, so that they are compared",
        )
    refuse_unfinished(there, repo, hub, shown)
    return None


def refuse_strangers(repo: str, hub: Hub, shown: Shown) -> None:
    """Raise `PublishError` where a dataset without a release holds files, or versions."""
    strangers = visible(hub.files(repo, shown.main)) - BLANK
    if strangers or any(is_version(tag.removeprefix("v")) for tag in shown.tags):
        named = ", ".join(sorted(strangers)[:5]) or "tagged versions"
        raise PublishError(
            f"{repo} is not empty and shows no release of ours: {named}",
            hint="publishing would replace it: give another name with --repo",
        )


def refuse_unfinished(there: Manifest, repo: str, hub: Hub, shown: Shown) -> None:
    """Raise `PublishError` where what main shows is not, or not only, the latest tagged version."""
    tag = f"v{there.version}"
    versions = [t.removeprefix("v") for t in shown.tags if t.startswith("v") and is_version(t[1:])]
    if tag not in shown.tags:
        raise PublishError(
            f"{repo} shows {there.version}, which has no tag: it was not published to the end",
            hint="publish that release again, which finishes it; then this one",
        )
    if max(versions, key=parse_version) != there.version:
        raise PublishError(
            f"{repo} has a higher version than the {there.version} that it shows",
            hint="bring main to the latest version on the Hub first",
        )
    if shown.tags[tag] != shown.main:
        then, now = hub.files(repo, shown.tags[tag]), hub.files(repo, shown.main)
        changed = sorted(name for name in visible(then) | visible(now) if then.get(name) != now.get(name))
        if changed:
            raise PublishError(
                f"main of {repo} was changed since {tag}: {', '.join(changed[:5])}",
                hint="publishing would undo that: bring the change into the build, and undo it on the Hub",
            )


def parse_manifest(content: bytes, repo: str) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        raise PublishError(
            f"the manifest that {repo} shows cannot be read",
            hint="it was changed by hand, or written by a newer version of counterfoil",
        ) from None


def visible(files: Iterable[str]) -> set[str]:
    """Without hidden files: they are the Hub's own."""
    return {name for name in files if not any(part.startswith(".") for part in name.split("/"))}
