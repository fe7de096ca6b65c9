"""Each option is the same on the command line, in Prefect, in the Python API and in the recipe."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import counterfoil
import schemas.options
from flows.cli import cli
from flows.cli.options import click_parameters
from flows.commands import COMMANDS, call
from flows.options import flow_options, has_mark, read_options, sentence
from schemas import recipe
from schemas.errors import InputError
from schemas.options import NotInForms, Options, RelabelOptions
from tests.flows.test_deployments import DEPLOYMENTS

FLOWS = {
    "build": "flows.build",
    "deduplicate": "flows.deduplicate",
    "evaluate": "flows.evaluate",
    "fix": "flows.fix",
    "publish": "flows.publish",
    "refresh": "flows.refresh",
    "rejudge": "flows.evaluate",
    "relabel": "flows.relabel",
}
"""Commands with a Prefect flow, and its module."""
API = {name.replace("_", "-"): name for name in counterfoil.__all__ if name.replace("_", "-") in COMMANDS}
PYTHON_ONLY = {"evaluate": {"metrics"}}
"""Arguments that no command line can take, because they are functions."""
RECIPE_KEYS: tuple[tuple[str, str, type[BaseModel], str], ...] = (
    ("relabel", "format", recipe.RetrievalFile, "format"),
    ("relabel", "mode", recipe.Relabel, "mode"),
    ("relabel", "min_negatives", recipe.Relabel, "min_negatives"),
    ("relabel", "too_few", recipe.Relabel, "too_few"),
    ("relabel", "max_promoted", recipe.Relabel, "max_promoted"),
    ("relabel", "budget_usd", recipe.Budget, "usd"),
    ("deduplicate", "threshold", recipe.Deduplicate, "threshold"),
    ("deduplicate", "embedder", recipe.Semantic, "model"),
    ("evaluate", "samples", recipe.Holdout, "samples"),
    ("evaluate", "budget_usd", recipe.Budget, "usd"),
    ("measure", "min_coverage", recipe.Validate, "min_coverage"),
    ("rejudge", "budget_usd", recipe.Budget, "usd"),
)
"""Options that are also recipe keys: command, option, section, key."""


def fields_of(command: str) -> dict[str, FieldInfo]:
    return dict(COMMANDS[command].model.model_fields)


def plain(value: Any) -> Any:
    """Return a default as JSON holds it."""
    if isinstance(value, tuple | list):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def test_every_model_of_options_belongs_to_a_command() -> None:
    models = {value for value in vars(schemas.options).values() if inspect.isclass(value)}
    declared = {model for model in models if issubclass(model, Options) and model is not Options}
    assert declared == {command.model for command in COMMANDS.values()}
    assert set(cli.commands) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_line_has_every_option_with_its_default_and_description(command: str) -> None:
    fields = fields_of(command)
    found = {p.name: p for p in click_parameters(COMMANDS[command]) if p.name != "as_json"}
    assert found.keys() == fields.keys()
    for name, field in fields.items():
        parameter = found[name]
        assert parameter.required == field.is_required()
        if isinstance(parameter, click.Option):
            flag = (field.alias or name).replace("_", "-")
            assert parameter.opts == [f"--{flag}"] or parameter.opts == [f"--no-{flag}"]
            assert parameter.help
            if not field.is_required() and not parameter.multiple:
                assert parameter.get_default(click.Context(cli)) == field.default
        choices = getattr(parameter.type, "choices", None)
        literal = field.annotation if get_origin(field.annotation) is Literal else None
        if literal is not None:
            assert tuple(choices or ()) == get_args(literal)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command: str) -> None:
    assert all(field.description for field in fields_of(command).values())


@pytest.mark.parametrize("command", FLOWS)
def test_form_has_every_option_with_its_default_and_description(command: str) -> None:
    flow = getattr(import_module(FLOWS[command]), command)
    form = flow.prefect().parameters
    fields = fields_of(command)
    assert list(form.properties) == [n for n, field in fields.items() if not has_mark(field, NotInForms)]
    for name, shown in form.properties.items():
        field = fields[name]
        assert shown["description"] == sentence(field.description or "")
        assert (name in (form.required or ())) == field.is_required()
        if not field.is_required():
            assert shown.get("default") == plain(field.default)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_deployment_has_the_summary_of_its_command(deployment: dict[str, Any]) -> None:
    assert deployment["description"] == COMMANDS[deployment["name"]].summary


def test_only_options_that_prefect_cannot_take_are_missing_from_forms() -> None:
    missing = {
        (command, name)
        for command in FLOWS
        for name in fields_of(command).keys() - flow_options(COMMANDS[command].model).keys()
    }
    on_prefect = {(command, "prefect") for command in ("build", "evaluate", "rejudge", "fix", "refresh")}
    runners = {(command, "runner") for command in ("build", "deduplicate", "relabel")}
    assert missing == on_prefect | runners | {("build", "fresh")}


@pytest.mark.parametrize("command", API)
def test_python_function_takes_the_options_with_their_defaults(command: str) -> None:
    fields = fields_of(command)
    signature = inspect.signature(getattr(counterfoil, API[command]))
    required = {name for name, field in fields.items() if field.is_required()}
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {n: p for n, p in signature.parameters.items() if p.kind not in several}
    assert required <= named.keys() <= fields.keys() | PYTHON_ONLY.get(command, set())
    named = {name: parameter for name, parameter in named.items() if name in fields}
    for name, parameter in named.items():
        assert (parameter.default is parameter.empty) == fields[name].is_required()
        if parameter.default is not parameter.empty:
            assert parameter.default == fields[name].default


@pytest.mark.parametrize(("command", "option", "section", "key"), RECIPE_KEYS)
def test_option_has_the_default_and_limits_of_the_recipe_key(
    command: str, option: str, section: type[BaseModel], key: str
) -> None:
    mine, theirs = fields_of(command)[option], section.model_fields[key]
    assert mine.default == theirs.default
    limits = {type(limit) for limit in theirs.metadata}
    assert limits <= {type(limit) for limit in mine.metadata}


def test_python_api_and_command_line_share_names_and_accept_one_value_for_many() -> None:
    assert read_options(RelabelOptions, {"input": "x", "judge": "lexical"}).judges == ("lexical",)
    assert read_options(RelabelOptions, {"input": "x", "judges": ["lexical"]}).judges == ("lexical",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"judgez": "lexical"}, "no option 'judgez'"),
        ({"mode": "all"}, "mode: input should be 'both'"),
        ({"budget": -1}, "budget_usd: input should be greater than or equal to 0"),
        ({"free": ["openai:x@http://user:secret@host/v1"]}, "password"),
    ],
)
def test_bad_option_is_one_clear_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call("relabel", input="x", **values)
