"""Commands on one file: relabel a retrieval set, deduplicate a table, paraphrase a template file.

They run without Prefect, because starting Prefect takes longer than most files.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.outputs import (
    Outputs,
    backup,
    check_target_file,
    check_writable,
    existing,
    output_lock,
    protect,
)
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.errors import InputError
from schemas.options import DeduplicateOptions, RelabelOptions, RewordOptions
from schemas.places import read_address
from schemas.tables import content_hash
from tasks.run.store import write_bytes

if TYPE_CHECKING:
    from tasks.models.settings import ModelSettings

MODEL_OPTIONS = ("budget_usd", "free", "batch", "api_key_env", "extra_body", "max_tokens")
"""Options of `relabel` that become model settings."""


def relabel_set(options: RelabelOptions, **run_parts: Any) -> dict[str, Any]:
    """Relabel a retrieval set and return its report with the fields of `relabel --json`.

    Args:
        options: Options of the command.
        **run_parts: `run_parts`, the function that runs the parts of the work. The default is one after the
            other.

    Raises:
        InputError: If an option, the input or a model is not usable. Models are checked first.
        ModelError: If a server cannot be reached or refuses.
        BudgetError: If the limit is reached.
    """
    from tasks.models.capabilities import changes_of
    from tasks.models.preflight import preflight
    from tasks.relabel.file import relabel_file

    settings = judge_settings(options)
    models = [name for name in _models_of(options) if not options.verdicts]
    models += [options.writer] if options.writer and options.write else []
    if options.plan:
        models = []
    else:
        preflight(models, settings)
    values = {name: getattr(options, name) for name in RelabelOptions.model_fields}
    for name in (*MODEL_OPTIONS, "input", "overwrite", "in_place", "runner"):
        del values[name]
    values |= run_parts
    if options.in_place:
        check_in_place(options)
    if options.plan:
        return relabel_file(options.input, settings=settings, **values)
    if options.in_place:
        with output_lock(options.input), backup(options.input) as copy, protect_sheet(options):
            check_target_file(options.input)
            check_writable(options.input.parent)
            result = relabel_file(options.input, settings=settings, **values | {"out": options.input})
        return result | {"backup": str(copy)} | changes_of(settings.run_dir, models)
    if options.out is None:
        return relabel_file(options.input, settings=settings, **values) | changes_of(settings.run_dir, models)
    if address := read_address(options.out):
        return relabel_to_storage(options, address, **run_parts)
    with protect(relabel_outputs(options, options.out), "relabel", options, open_workspace().home):
        result = relabel_file(options.input, settings=settings, **values)
        return result | changes_of(settings.run_dir, models)


def check_in_place(options: RelabelOptions) -> None:
    """Raise `InputError` if the options do not replace one whole input file."""
    if options.out is not None or not options.input.is_file():
        raise InputError(
            "--in-place replaces one input file",
            place=str(options.input),
            hint="leave out --out" if options.out is not None else "name a file, or use --out",
        )
    if (options.limit is not None or options.sample is not None) and not options.plan:
        raise InputError(
            f"--in-place with {'--limit' if options.limit is not None else '--sample'} would delete the "
            "other rows",
            place=str(options.input),
            hint="write the trial to another file with --out",
        )


def sheets_of(options: RelabelOptions, out: Path) -> tuple[Path, ...]:
    """Return the sheet for people beside a result, if one is written."""
    return (out.with_name(f"{out.name}.audit.csv"),) if options.audit else ()


def protect_sheet(options: RelabelOptions) -> AbstractContextManager[None]:
    """Protect a completed sheet beside a file that is replaced."""
    sheets = Outputs(sheets_of(options, options.input), inputs=existing((options.audited,)))
    return protect(sheets, "relabel", options, open_workspace().home) if sheets.files else nullcontext()


def relabel_to_storage(options: RelabelOptions, address: str, **run_parts: Any) -> dict[str, Any]:
    """Relabel into a folder of this machine, and upload the result.

    The folder is kept, so that an interrupted run resumes. Before anything is asked, a small file is written
    to the storage and deleted again.

    Raises:
        InputError: If the storage refuses to be written, or the result of another job is there.
    """
    from tasks.files.remote import RemoteFolder

    folder, _, name = address.rstrip("/").rpartition("/")
    storage = RemoteFolder(folder)
    staged = open_workspace().home / "outputs" / content_hash(address)[:24] / name
    outputs = relabel_outputs(options, staged)
    note = staged.with_name(f"{name}.uploaded.json")
    inside = {str(path.relative_to(staged.parent)): path for path in (*outputs.files, *outputs.appended)}
    storage.check_writable()
    uploaded = _read_versions(note)
    if not options.overwrite:
        for path in outputs.files:
            key = str(path.relative_to(staged.parent))
            version = storage.version(key)
            if version is not None and uploaded.get(key) != version:
                raise InputError(
                    f"{folder}/{key} exists and is not the result of this command on this machine",
                    hint="name another place, or add --overwrite to replace it",
                )
    for path in outputs.appended:  # a history of another machine is continued
        storage.download(str(path.relative_to(staged.parent)), path)
    result = relabel_set(options.model_copy(update={"out": staged}), **run_parts)
    written = {key: path for key, path in inside.items() if path.is_file()}
    storage.upload(dict(sorted(written.items(), key=lambda item: item[1] in outputs.files)))
    write_bytes(note, json.dumps({key: storage.version(key) for key in written}).encode())
    shown: dict[str, Any] = json.loads(json.dumps(result).replace(str(staged.parent), folder))
    return shown | {"out": f"{folder}/{name}"}


def _read_versions(note: Path) -> dict[str, Any]:
    """Return the versions of the files that were uploaded. Empty if there is no valid note."""
    try:
        content = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def judge_settings(options: RelabelOptions) -> ModelSettings:
    """Return the model settings of the judges of a relabelling."""
    from tasks.models.settings import keys_by_server, options_by_model

    settings = _model_settings("relabel", options.input, options.budget_usd, options.free)
    judges = _models_of(options)
    models = [*judges, *_score_models(options), *([options.writer] if options.writer else [])]
    return replace(
        settings,
        api_keys=keys_by_server(models, options.api_key_env),
        options=options_by_model(judges, options.extra_body, options.max_tokens),
        batch=frozenset(judges) if options.batch else frozenset(),
    )


def _models_of(options: RelabelOptions) -> list[str]:
    """Return the judges that are language models."""
    from tasks.relabel.scoring import is_score

    return [name for name in options.judges if ":" in name and not is_score(name)]


def _score_models(options: RelabelOptions) -> list[str]:
    """Return the models of embeddings and cross-encoders, for their API keys."""
    from tasks.relabel.mining import Screen
    from tasks.relabel.scoring import is_score, model_of

    screens = [Screen.parse(options.screen).by] if options.screen else []
    names = filter(is_score, [*options.judges, *screens, options.mine_by])
    return [model for name in names if (model := model_of(name)) is not None]


def relabel_outputs(options: RelabelOptions, out: Path) -> Outputs:
    """Return the files that a relabelling writes and reads."""
    beside_input = (options.corpus, options.verdicts, options.truth, options.positives, options.audited)
    beside = [out.with_name(f"{out.name}.{name}.jsonl") for name in ("review", "unwritable")]
    beside += sheets_of(options, out)
    is_folder = out.is_dir() or not out.suffix  # BEIR
    qrels = tuple(out / "qrels" / f"{split}.tsv" for split in ("train", "dev", "test"))
    files = (out / "corpus.jsonl", out / "queries.jsonl", *qrels) if is_folder else (out,)
    return Outputs(
        files=(*files, *beside),
        folder=out if is_folder else None,
        inputs=existing((options.input, *beside_input)),
        appended=(out.with_name(f"{out.name}.label_history.parquet"),),
    )


def deduplicate_table(options: DeduplicateOptions, **run_parts: Any) -> dict[str, Any]:
    """Deduplicate a table and return the fields of `deduplicate --json`.

    Args:
        options: Options of the command.
        **run_parts: `run_parts`, the function that runs the parts of the work. The default is one after the
            other.
    """
    outputs = Outputs(
        files=(options.out / "kept.parquet", options.out / "dropped.parquet"),
        folder=options.out,
        inputs=existing((options.input, *options.against)),
    )
    with protect(outputs, "deduplicate", options, open_workspace().home):
        return _deduplicate_table(options, **run_parts)


def _deduplicate_table(options: DeduplicateOptions, **run_parts: Any) -> dict[str, Any]:
    from tasks.deduplicate.file import deduplicate_file
    from tasks.deduplicate.semantic import SemanticOptions

    semantic = None
    if options.semantic is not None:
        settings = _model_settings("deduplicate", options.input, options.budget_usd, options.free)
        semantic = SemanticOptions(options.embedder, options.semantic, settings)
    return deduplicate_file(
        options.input,
        text=options.text,
        slots=options.slots,
        group=options.group,
        rank=options.rank,
        threshold=options.threshold,
        against=options.against,
        out=options.out,
        second_search=semantic,
        **run_parts,
    )


def run_reword(options: RewordOptions) -> dict[str, Any]:
    """Paraphrase the premises of a template file, and write those that fool a target.

    Raises:
        InputError: If the file, the recipe or a model is not usable.
        ModelError: If a server cannot be reached or refuses.
        BudgetError: If the calls may cost more than the rest of the recipe's budget.
    """
    import yaml

    from schemas.vocabulary import Themes
    from tasks.evolve.reword import reword
    from tasks.files.yaml import read_yaml
    from tasks.models.preflight import preflight
    from tasks.models.settings import ModelSettings
    from tasks.run.store import run_lock, write_bytes

    workspace, recipe = open_workspace(), read_recipe(options.recipe)
    run_dir = workspace.runs / f"{recipe.name}-reword-{options.file.stem}"
    context = workspace.context(recipe).model_copy(update={"run_dir": str(run_dir)})
    themes = read_yaml(options.file, Themes)
    models = [name for name in (recipe.models.generator, *recipe.models.targets) if ":" in name]
    outputs = Outputs((options.out,), inputs=existing((options.file, options.recipe)))
    with protect(outputs, "reword", options, workspace.home), run_lock(run_dir):
        preflight(models, ModelSettings.of(context))
        result = reword(context, themes, options.count)
        content = result.themes.model_dump(mode="json")
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        write_bytes(options.out, text.encode())
    reasons = Counter(wording.reason for wording in result.discarded)
    return {"out": str(options.out), "kept": result.kept, "discarded": dict(sorted(reasons.items()))}


def _model_settings(command: str, input: Path, budget_usd: float, free: tuple[str, ...]) -> ModelSettings:
    """Return the model settings of a command on one file. Its spending is recorded per file."""
    from schemas.tables import content_hash
    from tasks.models.settings import ModelSettings

    workspace: Workspace = open_workspace()
    return ModelSettings(
        data_dir=workspace.vocabulary,
        run_dir=workspace.runs / f"{command}-{content_hash(str(input.resolve()))[:12]}",
        cache_path=workspace.cache,
        budget_usd=budget_usd,
        free=frozenset(free),
    )
