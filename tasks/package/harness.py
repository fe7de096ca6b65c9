"""Harness files of a release: tasks for Inspect and for lm-evaluation-harness."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.release import Manifest
from tasks.families import read_asking_prompts
from tasks.files.readers import harness_source
from tasks.files.vocabulary import read_question_attributes
from tasks.judges.words import read_group_words, words_to_mask
from tasks.release import CONTROLS, Contents, config_file, count_shards

# Harness files (evals/): a release as a task of Inspect and of lm-evaluation-harness.
#
# The Python files are copied unchanged and do not import this project. They read everything about a release,
# including untrusted text, from `evals/eval.yaml`. `reader.py` is the reader of the
# build, with the rules of the release's languages.


ANY_FAMILY = "choices"
"""Part of the name of a task file that serves several families. It is replaced by the family."""
PYTHON = ("counterfoil_inspect.py", "paired.py")


def harness_files(
    recipe: Recipe,
    manifest: Manifest,
    contents: Contents,
    data_dir: Path,
    only: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the text of every file of `evals/` by name, or nothing if no harness can ask the families.

    Args:
        recipe: Recipe of the release.
        manifest: Manifest of the release.
        contents: Tables of the release.
        data_dir: The vocabulary.
        only: Families to ask. Default: all that a harness can ask.
    """
    kinds = {f: kind for f, kind in read_kinds(data_dir).items() if only is None or f in only}
    families = families_asked(contents, kinds)
    if not families or any(count_shards(t.name, contents) > 1 for t in (QUESTIONS, CONTROLS)):
        return {}  # the tasks read one file per config
    asked = [q for t in (QUESTIONS, CONTROLS) for q in contents.rows(t) if q.family in families]
    about = {
        "name": manifest.name,
        "version": manifest.version,
        "repo": recipe.release.repo,
        "tag": f"v{manifest.version}",
        "files": {t.name: config_file(t.name) for t in (QUESTIONS, CONTROLS) if contents.count(t.name)},
        "families": {f: kinds[f] | {"rows": _rows(f, asked)} for f in families},
        "prompts": prompts_of(asked, data_dir, kinds),
        "hidden_words": hidden_words([q for q in asked if has_free_answers(kinds[q.family])], data_dir),
    }
    files = {"eval.yaml": yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=1000)}
    folder = data_dir / "evals"
    files |= {name: (folder / name).read_text(encoding="utf-8") for name in PYTHON}
    files["reader.py"] = harness_source({q.language for q in asked}, data_dir)
    for family in families:
        for name in kinds[family].get("lm_eval", ()):
            task = Template((folder / name).read_text(encoding="utf-8"))
            text = task.safe_substitute(name=manifest.name, version=manifest.version, family=family)
            files[name.replace(ANY_FAMILY, family)] = text
    return files


def families_asked(contents: Contents, kinds: Mapping[str, Any]) -> list[str]:
    """Return the families that a harness can ask, in the order of data/evals/families.yaml."""
    released = {q["family"] for q in contents.records(QUESTIONS.name)}
    return [family for family in kinds if family in released]


def harness_commands(manifest: Manifest, contents: Contents, data_dir: Path) -> list[str]:
    """Return the commands that run the tasks of evals/."""
    kinds = read_kinds(data_dir)
    families = families_asked(contents, kinds)
    script = "evals/counterfoil_inspect.py"
    commands = [f"inspect eval {script}@{kinds[f]['inspect']} --model $MODEL" for f in families]
    models = {False: "local-chat-completions --apply_chat_template", True: "local-completions"}
    for scores_texts, model in models.items():
        tasks = [
            f"{manifest.name}_{f}"
            for f in families
            if "lm_eval" in kinds[f] and scores_texts == (kinds[f].get("reads") == "likelihood")
        ]
        if tasks:
            commands.append(f"lm_eval --include_path evals --tasks {','.join(tasks)} --model {model}")
    return commands


def read_kinds(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Read data/evals/families.yaml."""
    text = (data_dir / "evals" / "families.yaml").read_text(encoding="utf-8")
    kinds: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return kinds


def _rows(family: str, asked: Iterable[Question]) -> dict[str, int]:
    """Count the questions by kind of control."""
    return dict(sorted(Counter(q.control for q in asked if q.family == family).items()))


def prompts_of(
    asked: Sequence[Question], data_dir: Path, kinds: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the prompts by name and language. Some families are asked without a prompt."""
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    pairs = sorted({(q.family, q.language) for q in asked})
    prompts = read_asking_prompts(data_dir, sorted({family for family, _ in pairs}))
    for family, language in pairs:
        for name in prompt_names(family, kinds[family]):
            prompt = prompts.get(name if language == "en" else f"{language}/{name}")
            if prompt is not None:
                found[name][language] = {"system": prompt.system, "user": prompt.user}
    return dict(found)


def prompt_names(family: str, kind: Mapping[str, Any]) -> list[str]:
    """Return the names of the prompts of a family. One with `conditions` has a prompt for each."""
    by_condition = [f"{family}.{condition}" for condition in kind.get("conditions", ())]
    return [*(by_condition or [family]), *filter(None, [kind.get("persona_prompt")])]


def has_free_answers(kind: Mapping[str, Any]) -> bool:
    """Return whether the words of the answers are compared."""
    return kind["form"] == "text" and "reads" not in kind


def hidden_words(asked: Iterable[Question], data_dir: Path) -> dict[str, list[str]]:
    """Return by attribute the words that name the group, longest first."""
    group_words = read_group_words(data_dir)
    questions = list(asked)
    attributes = read_question_attributes(data_dir, questions)
    found: dict[str, set[str]] = defaultdict(set)
    for q in questions:
        found[q.attribute].update(words_to_mask(attributes[q.attribute], q, group_words))
    return {a: sorted(words, key=lambda w: (-len(w), w)) for a, words in sorted(found.items())}
