"""The image and the services: files and commands that they name exist, and they contain no secret."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import click
import pytest
import yaml

from flows.cli import cli
from tests.conftest import PROJECT

DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for line in DOCKERFILE.replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "counterfoil")
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


def instructions(name: str) -> list[str]:
    return [rest for found, rest in INSTRUCTIONS if found == name]


def copied() -> list[str]:
    """Return the sources of COPY in the build context."""
    found = [rest.split() for rest in instructions("COPY")]
    return [source for words in found if not words[0].startswith("--from") for source in words[:-1]]


def ignored(path: str) -> bool:
    """Check that .dockerignore excludes a path or one of its parents from the build context."""
    patterns = (PROJECT / ".dockerignore").read_text().split()
    places = [p.as_posix() for p in (PurePosixPath(path), *PurePosixPath(path).parents)]
    return any(fnmatch(place, pattern) for place in places for pattern in patterns)


@pytest.mark.parametrize("source", sorted(set(copied())))
def test_copied_files_exist_and_are_not_ignored(source: str) -> None:
    assert (PROJECT / source).exists()
    assert not ignored(source)


def test_image_has_every_package_and_every_file_of_the_setup() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["only-include"], *wheel["force-include"]} <= set(copied())
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied())
    recipe = re.search(r"^\$\(VENV\)/\.ready: (.+?) \|", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert set(recipe.group(1).split()) <= set(copied())


def test_installing_stage_has_the_files_that_the_wheel_includes() -> None:
    """An editable installation fails without them."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    install = DOCKERFILE.split("RUN make setup")[0]
    for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:
        assert re.search(rf"^COPY .*\b{re.escape(path)}\b", install, re.MULTILINE), path


def test_targets_of_make_in_the_image_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for run in instructions("RUN"):
        for target in re.findall(r"\bmake ((?!&&)\S+)", run):
            if target not in ("&&", "--yes"):
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


def test_entrypoint_is_the_command_of_the_project_and_runs_unprivileged() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    (entrypoint,) = (json.loads(e) for e in instructions("ENTRYPOINT"))
    assert entrypoint[0] in project["project"]["scripts"]
    users = instructions("USER")
    assert users
    assert users[-1] not in ("0", "root")


@pytest.mark.parametrize(
    "made", ["runs", "cache", "releases", "hold_back", "passports", "reviews", "prefect"]
)
def test_files_of_users_are_never_in_the_image(made: str) -> None:
    """Held-back questions must stay private."""
    assert ignored(f"data/{made}/anything")
    assert ignored(".env")
    for folder in ("recipes", "evals"):
        assert not ignored(f"data/{folder}")


# ---- services


@pytest.mark.parametrize("name", OURS)
def test_commands_of_our_services_exist(name: str) -> None:
    service = SERVICES[name]
    if "entrypoint" in service:
        _, *module = service["entrypoint"]
        command = [sys.executable, *module, *service["command"], "--help"]
        assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    else:
        name, *arguments = service["command"]
        command_ = cli.commands[name]
        context = click.Context(command_, info_name=name)
        command_.make_parser(context).parse_args(list(arguments))


def test_server_and_worker_share_a_password_that_must_be_set() -> None:
    server, worker = (SERVICES[name]["environment"] for name in ("prefect", "worker"))
    password = "counterfoil:${PREFECT_PASSWORD:?set it in .env}"
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == worker["PREFECT_API_AUTH_STRING"] == password
    assert f"http://{server['COUNTERFOIL_API_HOSTS']}/api" == worker["PREFECT_API_URL"]
    assert "PREFECT_PASSWORD=" in (PROJECT / ".env.example").read_text()


def test_every_service_has_a_health_check_and_waits_for_its_dependencies() -> None:
    for name, service in SERVICES.items():
        test = service["healthcheck"]["test"]
        assert test[0] == "CMD", name
        if test[1].startswith("python"):
            ast.parse(test[test.index("-c") + 1])
        for other, wanted in service.get("depends_on", {}).items():
            assert "healthcheck" in SERVICES[other]
            assert wanted == {"condition": "service_healthy"}


def test_services_address_existing_services() -> None:
    for name, service in SERVICES.items():
        for value in service.get("environment", {}).values():
            for host in re.findall(r"(?:://|@)([a-z]+):\d+", str(value)):
                assert host in SERVICES, f"{name} addresses {host}"


def test_mounted_volumes_and_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (PROJECT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    home = dict(pair.split("=", 1) for e in instructions("ENV") for pair in shlex.split(e))
    mounted = [v.split(":")[1] for v in SERVICES["worker"]["volumes"]]
    assert home["COUNTERFOIL_HOME"] in mounted


def test_secrets_are_named_but_have_no_value() -> None:
    example = (PROJECT / ".env.example").read_text()
    named = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert set(named.values()) == {""}
    assert set(VARIABLE.findall((PROJECT / "docker-compose.yaml").read_text())) == set(named)
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|KEY", variable):
                assert VARIABLE.fullmatch(value), variable


def test_ports_are_reachable_from_this_machine_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_gpu_is_used_only_on_request() -> None:
    assert SERVICES["vllm"]["profiles"] == ["gpu"]
    assert not [name for name, s in SERVICES.items() if "vllm" in s.get("depends_on", {})]


IMAGE_WITH_DIGEST = re.compile(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def test_foreign_images_are_named_by_tag_and_digest() -> None:
    arguments = dict(pair.split("=", 1) for pair in instructions("ARG"))
    stages = {words.split()[-1] for words in instructions("FROM") if " AS " in words}
    for words in instructions("FROM"):
        image = words.split()[0]
        if image not in stages:
            variable = re.fullmatch(r"\$\{(\w+)\}", image)
            assert IMAGE_WITH_DIGEST.fullmatch(arguments[variable[1]] if variable else image), image
    foreign = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    assert foreign
    for image in foreign:
        assert IMAGE_WITH_DIGEST.fullmatch(image), image


def test_packages_are_installed_with_their_hashes() -> None:
    """Every package of a lock file has a hash, and the setup demands them."""
    assert "--require-hashes" in (PROJECT / "Makefile").read_text()
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-uv.lock"):
        lines = (PROJECT / name).read_text().replace("\\\n", " ").splitlines()
        packages = [line for line in lines if line and not line.startswith((" ", "#", "-"))]
        assert packages, name
        for package in packages:
            assert " --hash=sha256:" in package, (name, package[:60])
