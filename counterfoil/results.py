"""Results of the API: plans, releases and their tables."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.release import ReleaseDirectory
from tasks.release.references import HubRef

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from schemas.release import Manifest
    from tasks.estimate import BuildEstimate


@dataclass(frozen=True)
class BuildPlan:
    """The estimate of a build. `print(plan)` shows it as a table."""

    estimate: BuildEstimate

    @property
    def total_cost_usd(self) -> float:
        """Expected cost in dollars."""
        return float(self.to_dict()["total_cost_usd"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks on the recipe and its questions."""
        return self.estimate.warnings

    @property
    def before_build(self) -> tuple[str, ...]:
        """What is missing before the build can start, such as a key or a server."""
        return self.estimate.before_build

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of `counterfoil plan --json`."""
        return self.estimate.model_dump(mode="json")

    def __str__(self) -> str:
        from flows.cli.printing import print_plan

        with redirect_stdout(io.StringIO()) as text:
            print_plan(self.estimate)
        return text.getvalue()


@dataclass(frozen=True)
class ReleaseTable:
    """One table of a release."""

    name: str
    arrow: pa.Table

    def to_arrow(self) -> pa.Table:
        """Return the table as a `pyarrow.Table`."""
        return self.arrow

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a `pandas.DataFrame`."""
        frame: pd.DataFrame = self.arrow.to_pandas()
        return frame

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries."""
        rows: list[dict[str, Any]] = self.arrow.to_pylist()
        return rows

    def __len__(self) -> int:
        return int(self.arrow.num_rows)


@dataclass(frozen=True)
class OpenedRelease:
    """A verified release. Its tables are attributes: `release.questions`."""

    directory: ReleaseDirectory

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """Directory of the release."""
        return self.directory.path

    @property
    def manifest(self) -> Manifest:
        """Manifest of the release."""
        return self.directory.manifest

    @property
    def version(self) -> str:
        """Version, such as `1.2.0`."""
        return self.manifest.version

    @property
    def report(self) -> Path:
        """Path of the report page."""
        return self.path / "report.html"

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(self.directory.contents.tables)

    def __getattr__(self, name: str) -> ReleaseTable:
        if not name.startswith("_") and name in self.directory.contents.tables:
            return ReleaseTable(name, self.directory.contents.tables[name])
        raise AttributeError(f"this release has no table {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tables]

    def __repr__(self) -> str:
        return f"OpenedRelease({self.manifest.name} {self.version}, {self.path})"


def fetch(release: str | os.PathLike[str]) -> Path:
    """Return the directory of a release. A published one is downloaded once."""
    if HubRef.of(os.fspath(release)) is None:
        return Path(release)
    from flows.workspace import open_workspace
    from tasks.publish.fetching import fetch_release

    return fetch_release(os.fspath(release), open_workspace().hub_cache)
