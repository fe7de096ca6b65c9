"""Fixtures of the review tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.review.queue import ReviewSession
from tasks.review.subjects import ReviewSubjects, open_subjects
from tests.conftest import DATA
from tests.tasks.review.places import small_release, small_run


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> ReviewSubjects:
    """Write a release with twenty accepted groups and an ambiguous one."""
    home = tmp_path_factory.mktemp("released")
    return open_subjects(small_release(home, 20), home / "releases")


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> ReviewSubjects:
    """Write a run with three groups and two relabelled passages."""
    home = tmp_path_factory.mktemp("unfinished")
    return open_subjects(small_run(home), home / "releases")


@pytest.fixture
def session(released: ReviewSubjects, tmp_path: Path) -> ReviewSession:
    return ReviewSession(released, tmp_path / "reviews", DATA)
