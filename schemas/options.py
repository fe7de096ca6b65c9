"""The options of every command, declared once.

The command line, the Prefect parameters and the Python API are generated from these models. An option that is
also a key of the recipe takes its default, its limits and its description from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from schemas.places import explain_path, local_path
from schemas.question import Framing
from schemas.recipe import (
    Budget,
    Comparison,
    Deduplicate,
    Holdout,
    Limits,
    ModelOptions,
    Recipe,
    Relabel,
    RelabelMode,
    RetrievalFile,
    Semantic,
    TooFewNegatives,
    Validate,
)
from schemas.secrets import refuse_secrets


@dataclass(frozen=True)
class Argument:
    """Mark an option that the command line takes by its position."""

    metavar: str | None = None


@dataclass(frozen=True)
class OffSwitch:
    """Mark an option that is on by default and has a switch on the command line to turn it off."""

    flag: str
    help: str


class ReleaseReference:
    """Mark a path that may also be a published release, `org/name@tag`. It is downloaded once."""


class DatasetReference:
    """Mark a path that may also be a dataset of the Hub, `org/name@revision`. It is downloaded once."""


class ModelReference:
    """Mark the name of a model. An address in it must not contain a password."""


class KeyVariableName:
    """Mark the name of an environment variable with a key. A key in its place is refused."""


class NotInForms:
    """Mark an option that is used before a flow run exists, so that no Prefect form can show it."""


def _read_json_object(value: Any) -> Any:
    """Return a JSON object as canonical text. The Python API may pass the object itself."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    refuse_secrets(value, "")
    return json.dumps(value, sort_keys=True)


def _refuse_key(name: str) -> str:
    refuse_secrets(name, "the name of the variable")
    return name


ReleasePath = Annotated[Path, ReleaseReference()]
JsonObject = Annotated[str, BeforeValidator(_read_json_object)]
NamedModel = Annotated[str, ModelReference()]
KeyVariable = Annotated[str, KeyVariableName(), AfterValidator(_refuse_key)]
Runner = Literal["threads", "dask", "ray"]
ReviewFormat = Literal["csv", "label-studio", "argilla"]
ExportFormat = Literal["csv", "jsonl", "parquet", "inspect", "lm-eval", "bbq", "cab"]
RELEASE = "RELEASE|org/name@TAG"


def like(section: type[BaseModel], key: str, **changes: Any) -> Any:
    """Declare an option with the default, the limits and the description of a recipe key.

    Args:
        section: A section of the recipe.
        key: A field of the section.
        **changes: Arguments of `Field` that differ for the option.
    """
    field = section.model_fields[key]
    option = Field(**{"default": field.default, "description": field.description} | changes)
    replaced = {type(limit) for limit in option.metadata}
    option.metadata = [limit for limit in field.metadata if type(limit) not in replaced] + option.metadata
    return option


OVERWRITE: Any = Field(
    default=False,
    description="replace files that another command, or this one with other options, has written",
)
PART_RUNNER: Any = Field(
    default=None,
    description="Prefect task runner of the parts; default: this process, without Prefect",
)
API_KEY_ENV: Any = Field(
    default=None,
    pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    description="environment variable with the API key of the models' servers",
)
EXTRA_BODY: Any = Field(
    default=None,
    description='more fields of every request as JSON, such as {"reasoning_effort": "low"}',
)
MAX_TOKENS: Any = like(
    ModelOptions,
    "max_tokens",
    description="length limit of an answer; set it higher for models that think; default: that of the stage",
)
OWN_RECIPE: Any = Field(
    default=None,
    description="a recipe of yours, whose judges, keys, limits, free models and engine options apply. "
    "Those of the release never do",
)


class Options(BaseModel):
    """Options of a command. Frozen, and rejects unknown names.

    The Python API and the Prefect parameters use the names of the fields. If a field has an alias, the
    command line uses the alias. Both are accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())
    addresses: ClassVar[frozenset[str]] = frozenset()
    """Options that may be addresses of object storage, such as `s3://bucket/key`. Inputs are copied once."""

    @field_validator("*", mode="before")
    @classmethod
    def _list_of_one(cls, value: Any, info: Any) -> Any:
        """Accept one value for an option that takes several. Refuse unsupported addresses."""
        annotation = cls.model_fields[info.field_name].annotation
        several = getattr(annotation, "__origin__", None) is tuple
        if "Path" in str(annotation):
            supported = info.field_name in cls.addresses
            for place in value if isinstance(value, (list, tuple)) else [value]:
                if reason := explain_path(place, supported=supported):
                    raise ValueError(reason)
            if isinstance(value, (str, Path)):
                value = local_path(value)
            elif isinstance(value, (list, tuple)):
                value = tuple(local_path(place) for place in value)
        return (value,) if several and isinstance(value, (str, Path)) else value


class PlanOptions(Options):
    """Options of `plan`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"recipe"})

    recipe: Annotated[Path, Argument()] = Field(description="recipe to estimate")
    refresh: bool = Field(
        default=False,
        description="estimate the next refresh instead of a build: anchors, material and, with "
        "`contamination`, its test",
    )
    contamination: bool = Field(
        default=False, description="with `refresh`: include the test if the targets know the questions"
    )
    period: str | None = Field(
        default=None, description="with `refresh`: its period, such as 2026-W47; default: this week"
    )
    out: Path | None = Field(
        default=None, description="with `refresh`: folder of the releases; default: data/releases"
    )


class BuildOptions(Options):
    """Options of `build`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"recipe"})

    recipe: Annotated[Path, Argument()] = Field(
        description="recipe to build, such as data/recipes/quickstart.yaml"
    )
    out: Path | None = Field(default=None, description="folder for releases; default: data/releases")
    budget_usd: float | None = Field(
        default=None, ge=0, alias="budget", description="limit in dollars; default: the recipe's"
    )
    limit: int | None = like(
        Recipe,
        "limit",
        description="build a stable sample of this many questions, as a run and a release of its own",
    )
    wait: bool = Field(
        default=False, description="wait for the reviews that the recipe requires, instead of stopping"
    )
    runner: Annotated[Runner, NotInForms()] = Field(
        default="threads", description="Prefect task runner of the stages"
    )
    fresh: Annotated[bool, NotInForms()] = Field(
        default=False, description="discard finished steps; answers stay cached and are not paid again"
    )
    prefect: Annotated[bool, NotInForms()] = Field(
        default=False,
        description="run on Prefect, which starts a temporary server if none is configured",
    )


class InitOptions(Options):
    """Options of `init`."""

    kind: Annotated[Literal["recipe", "attribute"] | None, Argument("[attribute]")] = Field(
        default=None, description="`attribute` for an attribute file; default: a recipe"
    )
    name: str | None = Field(default=None, description="name of the recipe or id of the attribute")
    attributes: tuple[str, ...] = Field(default=(), description="attribute to compare; may be repeated")
    questions: tuple[str, ...] = Field(
        default=(),
        description="file with own questions, may be repeated; or how many shipped questions to draw",
    )
    targets: tuple[NamedModel, ...] = Field(
        default=(), alias="target", description="model to ask; may be repeated"
    )
    judges: tuple[NamedModel, ...] = Field(
        default=(), alias="judge", description="model that judges, or `divergence`; may be repeated"
    )
    budget_usd: float = like(Budget, "usd", alias="budget", description="budget of the recipe in dollars")
    values: tuple[str, ...] = Field(
        default=(), alias="value", description="value of the attribute, such as `refugee`; may be repeated"
    )
    language: str = Field(
        default="en", pattern=r"^[a-z]{2,3}$", description="language of the words of the attribute"
    )
    out: Path | None = Field(default=None, description="file to write; default: named after the name")
    overwrite: bool = OVERWRITE

    @field_validator("attributes", "values", mode="after")
    @classmethod
    def _split_at_commas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part.strip() for text in value for part in text.split(",") if part.strip())


class PreviewOptions(Options):
    """Options of `preview`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"recipe"})

    recipe: Annotated[Path, Argument()] = Field(description="recipe to preview")
    rows: int = Field(default=3, ge=1, le=1000, description="prompts per family and condition")
    family: str | None = Field(default=None, description="only this family")
    send: bool = Field(
        default=False, description="also ask the targets these prompts; the answers are kept for the build"
    )
    budget_usd: float | None = Field(
        default=None, alias="budget", ge=0, description="limit in dollars; default: that of the recipe"
    )


class TranslateOptions(Options):
    """Options of `translate`."""

    recipe: Annotated[Path, Argument()] = Field(description="recipe with the questions to translate")
    to: str = Field(pattern=r"^[a-z]{2,3}$", description="language to translate to, such as `es`")
    model: NamedModel = Field(description="model that translates, and translates back to check itself")
    out: Path | None = Field(
        default=None, description="CSV file to write; default: <recipe>.<language>.csv beside the recipe"
    )
    overwrite: bool = OVERWRITE
    min_similarity: float = Field(
        default=60.0,
        ge=0,
        le=100,
        description="smallest similarity of the back-translation to the original, from 0 to 100",
    )
    budget_usd: float = like(Budget, "usd", alias="budget", description="limit for model calls in dollars")
    free: tuple[NamedModel, ...] = like(Budget, "free")


FileStrategy = Literal["two_stage", "cascade", "graded", "score"]
"""The strategies of a recipe, and `score` for retrieval files."""


class RelabelOptions(Options):
    """Options of `relabel`."""

    addresses: ClassVar[frozenset[str]] = frozenset(
        {"input", "out", "verdicts", "truth", "corpus", "positives", "audited"}
    )

    input: Annotated[Path, Argument("INPUT|org/name@REVISION"), DatasetReference()] = Field(
        description="file or folder of the retrieval set, or a dataset of the Hub"
    )
    out: Path | None = Field(default=None, description="file for the cleaned set; default: only report")
    overwrite: bool = OVERWRITE
    in_place: bool = Field(
        default=False, description="replace the input file; a copy is kept beside it as NAME.bak"
    )
    format: str = like(RetrievalFile, "format", description="format of the input; `auto` detects it")
    out_format: str | None = Field(default=None, description="format of the output; default: the input's")
    strategy: FileStrategy | None = Field(
        default=None,
        description=f"{Relabel.model_fields['strategy'].description}; `score` removes candidates that score "
        "too close to the positive; default: `graded` with recorded verdicts, otherwise `two_stage`",
    )
    judges: tuple[NamedModel, ...] = Field(
        default=(),
        alias="judge",
        description="`lexical`, `embedding` or a model; for `score`: bm25, score, embedding, "
        "embedding:openai:NAME@URL or rerank:openai:NAME@URL; may be repeated; default: `lexical` for "
        "`two_stage`",
    )
    verdicts: Path | None = Field(
        default=None, description="CSV of recorded grades: query_id,docid,judge,grade"
    )
    rule: str | None = Field(
        default=None,
        description=f"{Relabel.model_fields['rule'].description}, or `weighted`; default: `weighted` with "
        "three or more recorded judges, otherwise all:top/any:relevant",
    )
    truth: Path | None = Field(default=None, description="TREC qrels to measure the result against")
    relevant_from: int = Field(default=2, description="lowest grade in `truth` that counts as relevant")
    max_true_negatives_lost: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="choose the rule that loses at most this share of true negatives; needs `verdicts` and "
        "`truth`",
    )
    min_relabel_precision: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="choose the rule whose promotions reach this precision; needs `verdicts` and `truth`",
    )
    mode: RelabelMode = like(Relabel, "mode")
    min_negatives: int = like(Relabel, "min_negatives")
    too_few: TooFewNegatives = like(Relabel, "too_few")
    max_promoted: int = like(Relabel, "max_promoted")
    mine: int = Field(default=0, ge=0, description="negatives to mine for rows without any")
    mine_from: Literal["corpus", "rows"] | None = Field(
        default=None,
        alias="from",
        description="where negatives are mined: the `corpus` (`--corpus`, or that of a BEIR folder) or the "
        "other `rows`; default: the corpus if there is one",
    )
    mine_by: str = Field(
        default="bm25",
        description="score that finds negatives: bm25, embedding (the packaged encoder) or "
        "embedding:openai:NAME@URL",
    )
    relative_margin: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="a mined negative, or one that the strategy `score` keeps, scores at least this share "
        "below its positive; .05 is TopK-PercPos with 95 %, and the default if no other limit is set",
    )
    absolute_margin: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="it scores at least this much below its positive (TopK-MarginPos)",
    )
    max_score: float | None = Field(default=None, allow_inf_nan=False, description="its largest score")
    min_score: float | None = Field(default=None, allow_inf_nan=False, description="its smallest score")
    ranks: str | None = Field(
        default=None, description="its rank, as FIRST:LAST, such as 10:50; positives are not ranked"
    )
    screen: str | None = Field(
        default=None,
        description="skip unlikely candidates: SCORE:MARGIN[:CHECK], such as bm25:0.5, score:0.2:0.1, "
        "embedding:0.3 or rerank:openai:NAME@URL:0.3",
    )
    corpus: Path | None = Field(
        default=None, description="passages to mine, and texts of passages that the input names by id"
    )
    positives: Path | None = Field(default=None, description="qrels with the positives of RankLLM candidates")
    audit: int = Field(default=0, ge=0, description="candidates to write to a sheet for people to label")
    audited: Path | None = Field(
        default=None, description="a completed sheet: report the agreement of people and judges"
    )
    skip_bad: bool = Field(default=False, description="count malformed lines and continue")
    budget_usd: float = like(Budget, "usd", alias="budget", description="limit for model calls in dollars")
    free: tuple[NamedModel, ...] = like(Budget, "free")
    exactly: int | None = Field(
        default=None,
        ge=1,
        description="negatives of every written n-tuple or triplet set; rows are filled by mining, or go to "
        "a side file",
    )
    split: str | None = Field(default=None, description="split to read, for folders with several")
    min_judged: float = like(
        Validate, "min_judged", description="smallest share of candidates that the judges must decide"
    )
    allow_abstentions: bool = Field(
        default=False, description="write the result even if the judges decide fewer candidates"
    )
    soft_labels: bool = Field(
        default=False,
        description="write a probability or mean grade per passage in the score or label field of the format",
    )
    plan: bool = Field(
        default=False, description="only estimate calls, tokens, cost and time; nothing is asked or written"
    )
    limit: int | None = Field(default=None, ge=1, description="relabel only the first rows")
    sample: int | None = Field(default=None, ge=1, description="relabel only so many random rows")
    seed: int = Field(default=0, ge=0, description="seed of `sample`")
    max_in_flight: int | None = like(
        Limits, "max_in_flight", default=None, description="concurrent calls per model"
    )
    batch: bool = Field(
        default=False,
        description="ask through the provider's Batch API, which is cheaper and answers within a day",
    )
    api_key_env: KeyVariable | None = API_KEY_ENV
    extra_body: JsonObject | None = EXTRA_BODY
    max_tokens: int | None = MAX_TOKENS
    write: int = Field(
        default=0, ge=0, le=20, description="negatives that `writer` writes per row, for the judges to decide"
    )
    writer: NamedModel | None = Field(
        default=None, description="model that writes negatives, of another family than the judges"
    )
    runner: Annotated[Runner | None, NotInForms()] = PART_RUNNER


class DeduplicateOptions(Options):
    """Options of `deduplicate`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"input", "against"})

    input: Annotated[Path, Argument()] = Field(description="Parquet, JSON Lines or CSV file")
    text: str = Field(description="column with the text")
    out: Path = Field(description="folder for kept.parquet and dropped.parquet")
    overwrite: bool = OVERWRITE
    slots: tuple[str, ...] = Field(
        default=(), description="column whose values must be equal in duplicates; may be repeated"
    )
    group: str | None = Field(
        default=None, description="column of the group; rows of a group are kept or dropped together"
    )
    rank: str | None = Field(
        default=None, description="column that decides which row of a cluster is kept, highest first"
    )
    threshold: float = like(Deduplicate, "threshold")
    semantic: float | None = like(
        Semantic,
        "threshold",
        default=None,
        description="also drop paraphrases: minimum 100 · cosine of their embeddings; default: off",
    )
    embedder: str = like(
        Semantic,
        "model",
        description="embeddings for `semantic`: the embedded word vectors, "
        "or openai:NAME[@ENDPOINT] on a server",
    )
    budget_usd: float = like(Budget, "usd", alias="budget", description="limit for embeddings in dollars")
    free: tuple[NamedModel, ...] = like(Budget, "free")
    against: tuple[ReleasePath, ...] = Field(
        default=(), description="file or release whose texts count as earlier rows; may be repeated"
    )
    runner: Annotated[Runner | None, NotInForms()] = PART_RUNNER


class MeasureOptions(Options):
    """Options of `measure`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"input"})

    family: Annotated[str, Argument()] = Field(
        description="family of questions, such as `completion`, or `judge`"
    )
    input: Annotated[Path, Argument()] = Field(description="recorded answers, or a release")
    format: str = Field(
        description="format of the answers, such as subtler-biases, llm-iat, logits or release"
    )
    test: str | None = Field(
        default=None, description="name of the association test, if the file does not contain it"
    )
    min_coverage: float = like(
        Validate,
        "min_coverage",
        description="smallest share of usable rows of a file; a figure below it is not measured",
    )
    baselines: tuple[str, ...] = Field(
        default=(),
        alias="baseline",
        description="value that the others are compared with, as COLUMN=VALUE; may be repeated; default: "
        "the published one",
    )


class ExportOptions(Options):
    """Options of `export`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"release"})

    release: Annotated[Path, ReleaseReference(), Argument(RELEASE)] = Field(description="release to export")
    format: ExportFormat = Field(
        description="tables (csv, jsonl, parquet), tasks of a harness (inspect, lm-eval), or items of a data "
        "set (bbq, cab)"
    )
    out: Path | None = Field(
        default=None,
        description="file for the questions, or folder for everything; default: "
        "data/exports/<name>-<version>/<format>",
    )
    overwrite: bool = OVERWRITE


class CompareOptions(Options):
    """Options of `compare`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"release", "other"})

    release: Annotated[Path, ReleaseReference(), Argument(RELEASE)] = Field(
        description="release whose answers are compared"
    )
    other: Annotated[Path | None, ReleaseReference(), Argument("[RELEASE]")] = Field(
        default=None, description="second release, to compare with the first one; default: none"
    )
    models: tuple[str, ...] = Field(
        default=(),
        alias="model",
        description="model to compare, by full or short name; may be repeated; default: all",
    )
    languages: tuple[str, ...] = Field(
        default=(),
        alias="language",
        description="two languages to compare, such as en and es; one restricts the comparison to it",
    )
    framings: tuple[Framing, ...] = Field(
        default=(),
        alias="framing",
        description="two framings to compare; one restricts the comparison to it",
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="largest difference that does not matter, in the unit of each comparison; one that is "
        "inside with certainty is `equivalent`; default: the margins of the release, for contrasts",
    )


class RewordOptions(Options):
    """Options of `reword`."""

    file: Annotated[Path, Argument()] = Field(description="template file in data/templates/entailment")
    recipe: Path = Field(description="recipe with the generator that writes and the targets that answer")
    out: Path = Field(description="template file to write; read it before you use it")
    overwrite: bool = OVERWRITE
    count: int = Field(default=3, ge=1, le=20, description="wordings per premise")


class ModelsOptions(Options):
    """Options of `models`."""

    model: Annotated[str, Argument("RECIPE|MODEL")] = Field(
        description="recipe whose models to report on, or one model"
    )
    probe: bool = Field(
        default=False,
        description="send up to four tiny requests to every server; default: report the last run",
    )


class ValidateOptions(Options):
    """Options of `validate`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"path"})

    path: Annotated[Path, ReleaseReference(), Argument("PATH|org/name@TAG")] = Field(
        description="release, run, or file of another benchmark"
    )
    out: Path | None = Field(default=None, description="JSON Lines file for every failing row")
    overwrite: bool = OVERWRITE


class ShowOptions(Options):
    """Options of `show`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"place"})

    place: Annotated[Path, ReleaseReference(), Argument("RUN|RELEASE")] = Field(
        description="directory of a run or a release, or a published release such as org/name@v1.0.0"
    )


class RecipeOptions(Options):
    """Options of `recipe`."""

    explain: bool = Field(default=False, description="list every key with its type, default and description")


class PublishOptions(Options):
    """Options of `publish`."""

    release: Annotated[Path, Argument()] = Field(
        description="directory of the release, such as data/releases/everyday-advice/1.0.0"
    )
    repo: str | None = Field(
        default=None,
        description="dataset on the Hub, org/name. Always needed: a release that you downloaded may name any",
    )
    pr: bool = Field(
        default=False,
        description="open a pull request instead of a commit to main; publish again after the merge",
    )
    sign: Path | None = Field(
        default=None, description="SSH key to sign the release with (`ssh-keygen`), before it is published"
    )
    private: bool = Field(
        default=False, description="create a private dataset; refuse to publish to a public one"
    )
    token_block: str | None = Field(
        default=None, description="Prefect Secret block with the Hub token; default: HF_TOKEN"
    )


class VerifyOptions(Options):
    """Options of `verify`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"release"})

    release: Annotated[str, Argument(RELEASE)] = Field(description="directory, or published release")

    @field_validator("release")
    @classmethod
    def _is_local(cls, value: str) -> str:
        if reason := explain_path(value, supported=True):
            raise ValueError(reason)
        return local_path(value)

    signed_by: Path | None = Field(
        default=None,
        description="file of known signers, NAME KEYTYPE KEY per line; the release must be signed by one",
    )
    token_block: str | None = Field(
        default=None, description="Prefect Secret block with the Hub token; default: HF_TOKEN"
    )


class DiffOptions(Options):
    """Options of `diff`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"old", "new"})

    old: Annotated[Path, ReleaseReference(), Argument()] = Field(description="earlier release")
    new: Annotated[Path, ReleaseReference(), Argument()] = Field(description="later release")


class EvaluateOptions(Options):
    """Options of `evaluate`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"release", "recipe"})

    release: Annotated[Path, ReleaseReference(), Argument(RELEASE)] = Field(description="release to ask")
    models: tuple[NamedModel, ...] = Field(
        min_length=1,
        alias="model",
        description="model to evaluate, such as openai:gpt-5-mini; may be repeated",
    )
    judges: tuple[NamedModel, ...] = Field(
        default=(),
        alias="judge",
        description="judge of the answers; may be repeated; default: the judges of `recipe`, or the judge of "
        "the release if that is `divergence`",
    )
    recipe: Path | None = OWN_RECIPE
    samples: int = like(Holdout, "samples", ge=2, description="answers per variant")
    out: Path | None = Field(
        default=None, description="folder for the result; default: data/evaluations/<name>-<version>-<key>"
    )
    overwrite: bool = OVERWRITE
    budget_usd: float = like(Budget, "usd", alias="budget", description="limit in dollars")
    free: tuple[NamedModel, ...] = like(Budget, "free")
    hold_back: Path | None = Field(
        default=None,
        description="private file of the release; its questions replace the released ones, or are compared "
        "with them by `contamination`",
    )
    contamination: bool = Field(
        default=False,
        description="test if the models know the published questions: ask the private questions too, and "
        "for the second half of every question; default for `hold_back`: the private file in the home folder",
    )
    equate_to: Annotated[Path | None, ReleaseReference()] = Field(
        default=None,
        description="earlier release, on whose scale the scores are also given; default: the version before, "
        "if it is in the folder beside the release",
    )
    prefect: Annotated[bool, NotInForms()] = Field(
        default=False,
        description="run on Prefect, which starts a temporary server if none is configured",
    )


class RejudgeOptions(Options):
    """Options of `rejudge`."""

    addresses: ClassVar[frozenset[str]] = frozenset({"release", "recipe"})

    release: Annotated[Path, ReleaseReference(), Argument(RELEASE)] = Field(description="release to judge")
    judges: tuple[NamedModel, ...] = Field(
        min_length=1, alias="judge", description="new judge: `divergence` or a model; may be repeated"
    )
    recipe: Path | None = OWN_RECIPE
    out: Path | None = Field(
        default=None, description="folder for the result; default: data/rejudgements/<name>-<version>-<key>"
    )
    overwrite: bool = OVERWRITE
    budget_usd: float = like(Budget, "usd", alias="budget", description="limit in dollars")
    free: tuple[NamedModel, ...] = like(Budget, "free")
    prefect: Annotated[bool, NotInForms()] = Field(
        default=False,
        description="run on Prefect, which starts a temporary server if none is configured",
    )


class FixOptions(Options):
    """Options of `fix`."""

    release: Path = Field(description="directory of the last release")
    question_id: Annotated[str | None, Argument("[QUESTION_ID]")] = Field(
        default=None, description="id of the released question"
    )
    text: str | None = Field(default=None, description="the corrected template, with its slots")
    reason: str | None = Field(default=None, description="reason, for the errata")
    corrections: Path | None = Field(
        default=None,
        alias="from",
        description="CSV file with many corrections: question_id,text,reason. They make one patch release",
    )
    out: Path | None = Field(
        default=None, description="folder for releases; default: the folder of the release"
    )

    @model_validator(mode="after")
    def _names_corrections(self) -> FixOptions:
        one = {"question_id": self.question_id, "text": self.text, "reason": self.reason}
        given = [name for name, value in one.items() if value is not None]
        if self.corrections is not None and given:
            raise ValueError(f"--from has the corrections, so leave out {', '.join(given)}")
        if self.corrections is None and len(given) < len(one):
            missing = ", ".join(name for name in one if name not in given)
            raise ValueError(
                f"give a question id, --text and --reason, or a file with --from; missing: {missing}"
            )
        return self

    prefect: Annotated[bool, NotInForms()] = Field(
        default=False,
        description="run on Prefect, which starts a temporary server if none is configured",
    )


class RefreshOptions(Options):
    """Options of `refresh`."""

    recipe: Annotated[Path, Argument()] = Field(description="recipe of the next release")
    accept_changes: bool = Field(
        default=False,
        description="build although the recipe changes the meaning of scores: targets, judges, rubric or "
        "families differ from those of the last release",
    )
    period: str | None = Field(
        default=None, description="period that determines the seeds, such as 2026-W47; default: this week"
    )
    repo: str | None = Field(
        default=None, description="dataset on the Hub, org/name; default: `release.repo` of the recipe"
    )
    send: Annotated[bool, OffSwitch("--no-send", "only decide; publish and propose nothing")] = Field(
        default=True, description="publish a safe release and propose a risky one; if off, only decide"
    )
    private: bool = Field(default=False, description="create a private dataset")
    token_block: str | None = Field(
        default=None, description="Prefect Secret block with the Hub token; default: HF_TOKEN"
    )
    out: Path | None = Field(default=None, description="folder for releases; default: data/releases")
    budget_usd: float | None = Field(
        default=None, ge=0, alias="budget", description="limit in dollars; default: the recipe's"
    )
    contamination: bool = Field(
        default=False,
        description="test if the targets know the questions of the last release; a model that does makes the "
        "refresh risky",
    )
    prefect: Annotated[bool, NotInForms()] = Field(
        default=False,
        description="run on Prefect, which starts a temporary server if none is configured",
    )


class ServeOptions(Options):
    """Options of `serve`."""

    port: int = Field(default=4200, ge=1, le=65535, description="port of the local Prefect server")
    limit: int = Field(default=1, ge=1, description="concurrent runs")
    only: tuple[str, ...] = Field(
        default=(), description="deployment of prefect.yaml; may be repeated; default: all"
    )
    recipe: Path | None = Field(default=None, description="recipe for the deployments `build` and `refresh`")


class ReviewOptions(Options):
    """Options of `review`."""

    place: Annotated[Path, ReleaseReference(), Argument("RUN|RELEASE|org/name@TAG")] = Field(
        description="run or release to review"
    )
    port: int = Field(default=4280, ge=0, le=65535, description="port of the page; 0: any free port")
    reviewers: tuple[str, ...] = Field(
        default=(),
        alias="reviewer",
        description="name of a reviewer; may be repeated to share the queue; default: asked on the page",
    )
    export_to: Path | None = Field(
        default=None, alias="export", description="write all reviews to a file instead"
    )
    overwrite: bool = OVERWRITE
    import_from: Path | None = Field(
        default=None, alias="import", description="add the reviews of a file instead"
    )
    format: ReviewFormat | None = Field(
        default=None,
        description="format of the file; default: `csv` for *.csv; detected on import",
    )


class AuditJudgeOptions(Options):
    """Options of `audit-judge`."""

    judge: Annotated[str, Argument("MODEL|divergence")] = Field(description="`divergence` or a model")
    task: Literal["bias", "relevance"] = Field(
        default="bias",
        description="what it judges: treatment of people, or relevance of passages (NovelEval grades)",
    )
    rubric: str | None = Field(
        default=None, description="file in data/rubrics; default: the recipe's, otherwise four_scores"
    )
    comparison: Comparison | None = Field(
        default=None, description="presentation of answers; default: the recipe's, otherwise all_at_once"
    )
    recipe: Path | None = Field(
        default=None, description="judge as in this recipe; exit code 3 below its bar"
    )
    scenes: int | None = Field(
        default=None, ge=8, description="number of scenes; fewer cost less and are less precise; default: all"
    )
    budget_usd: float | None = Field(
        default=None, ge=0, alias="budget", description="limit in dollars; default: the recipe's, otherwise 0"
    )
    free: tuple[NamedModel, ...] = like(Budget, "free")
    api_key_env: KeyVariable | None = API_KEY_ENV
    extra_body: JsonObject | None = EXTRA_BODY
    max_tokens: int | None = MAX_TOKENS


class PruneOptions(Options):
    """Options of `prune`."""

    keep: int | None = Field(
        default=None, ge=0, description="keep the newest N runs and the newest N downloaded releases"
    )
    older_than: str | None = Field(
        default=None,
        pattern=r"^\d{1,5}[dhw]$",
        description="remove only what nothing was written to for this time, such as 30d, 12h or 8w",
    )
    dry_run: bool = Field(default=False, description="only list what would be removed")
