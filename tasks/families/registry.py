"""Families by name, each imported when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from schemas.errors import InputError
from schemas.recipe import FAMILIES
from tasks.families.method import Method


@cache
def method_of(family: str) -> Method:
    """The method of a templated family. Raises `InputError` for a name that is none."""
    if family not in FAMILIES or family == "open":
        known = ", ".join(f for f in FAMILIES if f != "open")
        raise InputError(f"there is no templated family {family!r}", hint=f"there are: {known}")
    method: Method = import_module(f"tasks.families.{family}").METHOD
    return method
