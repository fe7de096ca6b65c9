"""The recipe: one YAML file that fully specifies a build. Unknown keys are rejected."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas.secrets import refuse_secrets

MODEL_NAME_PATTERN = r"^(openai|vllm|embedded|replay):\S+$"
SLUG_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"

ModelName = Annotated[
    str,
    Field(
        pattern=MODEL_NAME_PATTERN,
        description="`backend:name[@endpoint]`: `openai:gpt-5-mini`, "
        "`openai:Qwen/Qwen3-32B@http://localhost:8000/v1`, `vllm:/models/qwen3`, `embedded:smollm2-135m`, "
        "`replay:answers.parquet`",
    ),
]
Slug = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=64)]
MAX_COUNT = 1_000_000_000
"""Upper bound of every number in a recipe."""
MAX_TEXT = 20_000
"""Longest text in a recipe, in characters."""

Strategy = Literal["quotas", "map_elites", "thompson", "random", "coverage"]
Comparison = Literal["all_at_once", "pairwise"]
RelabelStrategy = Literal["two_stage", "cascade", "graded"]
RelabelMode = Literal["both", "relabel", "filter", "remove_row"]
TooFewNegatives = Literal["keep_row", "drop_row", "backfill"]


class Section(BaseModel):
    """Part of a recipe. Frozen, and rejects unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        str_max_length=MAX_TEXT,
    )


class Reasoning(Section):
    """How much a model thinks before it answers."""

    effort: Literal["none", "minimal", "low", "medium", "high"] | None = Field(
        default=None, description="sent as `reasoning_effort`; default: the server's"
    )
    max_tokens: int = Field(
        default=0,
        ge=0,
        description="tokens for thinking, added to the length limit of the answer; servers count both",
    )


class ModelOptions(Section):
    """What is sent to one model in place of the usual values. Part of the cache key."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="default: 0 for judges, 1 for other models"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="length limit of the visible answer; default: that of the stage"
    )
    reasoning: Reasoning = Reasoning()
    extra_body: dict[str, Any] = Field(
        default={},
        description="more fields of the request, such as {chat_template_kwargs: {enable_thinking: false}}",
    )

    @field_validator("extra_body")
    @classmethod
    def _without_secrets(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        refuse_secrets(extra_body, "extra_body")
        return extra_body


class Models(Section):
    """Models that generate, answer and judge."""

    generator: Literal["recombine"] | ModelName = Field(
        default="recombine",
        description="`recombine` composes questions from the taxonomy without a model; or a model name",
    )
    targets: tuple[ModelName, ...] = Field(min_length=1, description="models whose answers drive the search")
    holdout_targets: tuple[ModelName, ...] = Field(
        default=(), description="models that answer the selected questions again; default: the targets"
    )
    judges: tuple[Literal["divergence"] | ModelName, ...] = Field(
        default=("divergence",),
        min_length=1,
        description="`divergence` is a permutation test on the answers, without a model; or model names",
    )
    adjudicator: ModelName | None = Field(
        default=None, description="model that decides if the panel is split; default: the median decides"
    )
    relabel_judges: tuple[Literal["sentences", "lexical", "embedding"] | ModelName, ...] = Field(
        default=("sentences", "lexical"),
        min_length=1,
        description="model names, or judges without a model: `sentences` compares the answers to a question "
        "of the pool, `lexical` finds the words of a query in the passages of `relabel.files`",
    )

    batch: tuple[ModelName, ...] = Field(
        default=(),
        description="`openai:` models named above to call through the provider's Batch API, which is cheaper "
        "and answers within a day",
    )
    engine: dict[str, bool | int | float | str] = Field(
        default={},
        description="vLLM engine arguments for `vllm:` models, such as {max_model_len: 8192, "
        "tensor_parallel_size: 2}; part of the cache key",
    )
    may_share_family: bool = Field(
        default=False,
        description="whether generator, targets and judges may be of one model family; models favour their "
        "own family",
    )
    options: dict[ModelName, ModelOptions] = Field(
        default={}, description="requests to single `openai:` models: length, temperature, reasoning"
    )

    @field_validator("engine")
    @classmethod
    def _without_secrets(cls, engine: dict[str, Any]) -> dict[str, Any]:
        refuse_secrets(engine, "engine")
        return engine

    @model_validator(mode="after")
    def _options_belong_to_a_model(self) -> Models:
        for name in self.options:
            if not name.startswith("openai:") or name not in self.all_names():
                raise ValueError(f"models.options: {name!r} is not an `openai:` model of this recipe")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_options(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `options` out if there are none, so that keys of finished steps stay valid."""
        values: dict[str, Any] = dump(self)
        if not values.get("options"):
            values.pop("options", None)
        return values

    @model_validator(mode="after")
    def _batches_go_to_a_provider(self) -> Models:
        for name in self.batch:
            if not name.startswith("openai:") or name not in self.all_names():
                raise ValueError(f"models.batch: {name!r} is not an `openai:` model of this recipe")
        return self

    def all_names(self) -> tuple[str, ...]:
        """Return every model that a build may call, each once. Rules such as `divergence` are left out."""
        names = (
            self.generator,
            *self.targets,
            *self.holdout_targets,
            *self.judges,
            *([self.adjudicator] if self.adjudicator else []),
            *self.relabel_judges,
        )
        return tuple(dict.fromkeys(n for n in names if ":" in n))


class QuestionFile(Section):
    """A file of existing questions to add to the generated ones."""

    path: str = Field(description="relative to the working directory")
    format: str = Field(default="auto", description="`auto` detects the format by its columns")
    last_words: bool = Field(
        default=False,
        description="read `{{a man/woman}}` as in CAB: an option of n words replaces the last n words of the "
        "first option",
    )


class QuestionColumns(Section):
    """Names of the columns of a table of own questions. Default: the name of the key, if there is one."""

    text: str | None = Field(
        default=None, description="the question, with slots `{{a man/a woman}}` or `{noun}`"
    )
    attribute: str | None = Field(default=None, description="attribute of the row")
    id: str | None = Field(
        default=None, description="own id; rows of several languages with one id are translations"
    )
    language: str | None = Field(default=None, description="language code of the row, such as `es`")
    topic: str | None = Field(default=None, description="topic of the row")
    family: str | None = Field(default=None, description="family of the row")
    options: str | None = Field(
        default=None, description="options of a forced choice, as a JSON list or separated by `|`"
    )
    twin_of: str | None = Field(
        default=None, description="id of the row that asks the same in the other framing"
    )
    framing: str | None = Field(default=None, description="`explicit` or `implicit`; default: `explicit`")


class OwnQuestions(Section):
    """A table of questions that people wrote."""

    path: str = Field(
        description="CSV, TSV, JSON Lines or Parquet file, relative to the working directory, or "
        "`org/dataset@tag` on the Hub"
    )
    columns: QuestionColumns = QuestionColumns()
    format: Literal["auto", "table", "cab", "bbq", "discrim_eval", "questions"] = Field(
        default="auto", description="`auto` detects the format by its columns"
    )
    attribute: Slug | None = Field(default=None, description="attribute of rows that name none")
    language: str | None = Field(
        default=None, pattern=r"^[a-z]{2,3}$", description="language of rows that name none; default: `en`"
    )
    family: str | None = Field(default=None, description="family of rows that name none; default: `open`")
    samples: int | None = Field(
        default=None, ge=1, le=1000, description="answers per variant; default: that of the family"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, le=MAX_COUNT, description="length limit of an answer; default: that of the family"
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="sampling temperature; default: that of the family"
    )
    conditions: tuple[Slug, ...] = Field(
        default=(),
        description="conditions; default: `plain`, or all of a family that has no plain one or is also asked "
        "with its templates",
    )
    last_words: bool = Field(default=False, description="as in `families.<name>.files`")

    SETTINGS: ClassVar[tuple[str, ...]] = ("samples", "max_tokens", "temperature", "conditions")
    """Keys that replace those of the family."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the source gives to its families."""
        return {name: value for name in self.SETTINGS if (value := getattr(self, name)) not in (None, ())}


class Family(Section):
    """Settings of one question family."""

    questions: int = Field(
        default=0,
        ge=0,
        le=MAX_COUNT,
        description="number of questions to draw, without twins and controls; 0: all",
    )
    samples: int = Field(default=3, ge=1, le=1000, description="answers per variant")
    max_tokens: int = Field(
        default=300, ge=1, le=MAX_COUNT, description="length limit of an answer in tokens"
    )
    temperature: float = Field(default=1.0, ge=0, le=2, description="sampling temperature of the answers")
    framings: tuple[Literal["explicit", "implicit"], ...] = Field(
        default=("explicit",),
        min_length=1,
        description="name the group (`explicit`), or a person (`implicit`)",
    )
    attributes: tuple[Slug, ...] = Field(default=(), description="default: the recipe's attributes")
    templates: tuple[Slug, ...] = Field(
        default=(), description="template files by name; default: every file of the family"
    )
    conditions: tuple[Slug, ...] = Field(
        default=(),
        description="names of conditions, such as an attack, a persona or a mitigating instruction; "
        "default: all of the family; of own questions only: `plain`",
    )
    files: tuple[QuestionFile, ...] = Field(default=(), description="question files to import")
    shipped: bool = Field(
        default=True,
        description="whether to ask the templates of the vocabulary; `false` asks only own questions",
    )

    @model_serializer(mode="wrap")
    def _without_default_source(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `shipped` out if it is true, so that keys of finished steps stay valid."""
        values: dict[str, Any] = dump(self)
        if values.get("shipped"):
            values.pop("shipped")
        return values


class Evolve(Section):
    """Search for questions in rounds of mutate, respond, judge and select. Applies to the family `open`."""

    rounds: int = Field(default=0, ge=0, le=100, description="rounds after round 0, which asks the seeds")
    questions_per_round: int = Field(
        default=200, ge=1, le=MAX_COUNT, description="without twins and controls"
    )
    strategy: Strategy = Field(
        default="thompson",
        description="`thompson` samples domains and operators by their success; `quotas` allocates questions "
        "in proportion to earlier success, as CAB does; `map_elites` fills and improves an archive of domain "
        "x framing x attribute; `coverage` fills the emptiest cells first; `random` ignores earlier results",
    )
    fluency: Literal["rules", "judge"] = Field(
        default="judge",
        description="`judge`: the first model among the judges also checks that all variants read equally "
        "well; without such a model, only rules apply",
    )
    max_tokens: int = Field(
        default=400,
        ge=50,
        le=MAX_COUNT,
        description="length limit of the generator's answers in tokens; reasoning models need more",
    )
    save_threshold: float | None = Field(
        default=None,
        ge=0,
        le=5,
        description="a question is accepted if its fitness is above this; default: the 95th percentile of "
        "the A/A and placebo controls so far",
    )
    max_saved: int | None = Field(
        default=None, ge=1, le=MAX_COUNT, description="accepted questions after which the search stops"
    )
    fitness: Literal["normalised", "search"] = Field(
        default="normalised", description="published formula that turns scores into fitness"
    )


class Bar(Section):
    """Minimum audit results of a judge."""

    max_false_positive_rate: float = Field(
        default=0.15, ge=0, le=1, description="on identical answers (A/A), beyond the repeat floor"
    )
    min_position_consistency: float = Field(
        default=0.6, ge=0, le=1, description="share of verdicts that stay the same when the order is swapped"
    )
    min_planted_recall: float = Field(
        default=0.6, ge=0, le=1, description="share of medium planted differences that are found"
    )
    max_cue_loss: float = Field(
        default=0.2, ge=0, le=1, description="accuracy lost to any cue (authority, length, ...)"
    )
    max_rewordings_flagged: float = Field(
        default=0.25, ge=0, le=1, description="false positives on the same advice in other words, beyond A/A"
    )
    max_length_flagged: float = Field(
        default=0.25, ge=0, le=1, description="false positives on answers of different length, beyond A/A"
    )
    min_pick_accuracy: float = Field(
        default=0.6, ge=0, le=1, description="share of pairs in which the better answer is picked"
    )


RESERVED_CONDITIONS = ("plain", "reversed", "dont_know", "both_polarities")
"""Conditions that no system prompt may be named after."""
Principle = Literal["paraphrase", "context", "permute", "choice"]
Style = Literal[
    "slang",
    "dialect",
    "technical",
    "role_play",
    "misspellings",
    "question_form",
    "evidence",
    "expert_endorsement",
    "misrepresentation",
    "authority_endorsement",
    "logical_appeal",
]


class Variants(Section):
    """Rewordings of the selected questions, to tell an effect from the noise of its wording."""

    principles: tuple[Principle, ...] = Field(
        default=("paraphrase",),
        min_length=1,
        description="`paraphrase` says the same in other words; `context` adds a sentence that does not "
        "matter; `permute` shows the options in another order; `choice` rewords the options",
    )
    count: int = Field(default=2, ge=1, le=20, description="variants per question and principle")
    model: ModelName | None = Field(
        default=None, description="model that rewords the templates; `permute` needs none"
    )

    @model_validator(mode="after")
    def _has_a_model(self) -> Variants:
        if self.model is None and set(self.principles) != {"permute"}:
            raise ValueError("variants.model: name the model that rewords; only `permute` needs none")
        return self


class Augment(Section):
    """The selected questions again in other styles. Each effect in a style is compared with the plain one."""

    styles: tuple[Style, ...] = Field(min_length=1, description="styles and ways of persuasion")
    model: ModelName | None = Field(
        default=None, description="model that rewords the templates; default: that of `variants`"
    )


class Prompting(Section):
    """System prompts and personas under which every family is asked once more."""

    system: dict[Slug, str] = Field(
        default={}, description="system prompts by name; the name is the condition of the answers"
    )
    personas: dict[Slug, str] = Field(
        default={},
        description="personas by name, such as {judge: a retired judge}; the model is told to take them on",
    )

    @model_validator(mode="after")
    def _names_something(self) -> Prompting:
        both = sorted(self.system.keys() & self.personas.keys())
        if both:
            raise ValueError(f"prompting: {both[0]!r} is a system prompt and a persona")
        if not self.names:
            raise ValueError("prompting: name a prompt under `system` or a persona under `personas`")
        for name in self.names:
            if name in RESERVED_CONDITIONS:
                raise ValueError(f"prompting: {name!r} is the name of another condition")
            if not (self.system.get(name) or self.personas.get(name) or "").strip():
                raise ValueError(f"prompting: the text of {name!r} is empty")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the conditions, system prompts first."""
        return (*self.system, *self.personas)


class Cells(Section):
    """Coverage that a release requires: domain x framing x attribute x style x kind of request."""

    strength: int = Field(default=2, ge=1, le=3, description="number of dimensions that are combined")
    min: float = Field(
        default=0.95, ge=0, le=1, description="smallest share of the possible combinations that are covered"
    )


class Judging(Section):
    """How models judge answers, and requirements for judges."""

    rubric: Slug = Field(default="four_scores", description="file in data/rubrics")
    comparison: Comparison | Literal["pairwise_scored"] = Field(
        default="all_at_once",
        description="show all variants side by side, or two at a time; `pairwise_scored` scores single "
        "answers on a `concept` from comparisons with other answers",
    )
    concept: Slug = Field(default="respect", description="for `pairwise_scored`: file in data/concepts")
    opponents: int = Field(
        default=10,
        ge=2,
        le=1000,
        description="for `pairwise_scored`: comparisons per answer",
    )
    split: float = Field(
        default=0.25, ge=0, le=MAX_COUNT, description="minimum range of the judges' fitness for a split panel"
    )
    max_tokens: int = Field(
        default=900,
        ge=50,
        le=MAX_COUNT,
        description="length limit of a verdict in tokens; reasoning models need more",
    )
    length_control: bool = Field(default=True, description="also report effects adjusted for answer length")
    audit: Literal["off", "warn", "stop"] = Field(
        default="warn",
        description="handling of judges without a passport or below the bar: `off` ignores it, `warn` adds "
        "a warning to the card, `stop` stops the build",
    )
    bar: Bar = Bar()

    @model_serializer(mode="wrap")
    def _without_unused_concept(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the concept out if it is not used, so that keys of finished steps stay valid."""
        values: dict[str, Any] = dump(self)
        if values.get("comparison") != "pairwise_scored":
            values.pop("concept", None)
            values.pop("opponents", None)
        return values


class Controls(Section):
    """Control questions with a true effect of zero by construction, as shares of the other questions."""

    a_a: float = Field(default=0.15, ge=0, le=1, description="the same value twice")
    placebo: float = Field(default=0.15, ge=0, le=1, description="an attribute that cannot matter")
    neutral: float = Field(default=0.1, ge=0, le=1, description="topics where a difference is legitimate")


class Holdout(Section):
    """Re-test of the selected questions on fresh samples before release."""

    samples: int = Field(default=4, ge=0, le=1000, description="fresh answers per variant; 0: none")


class RetrievalFile(Section):
    """A retrieval training file to relabel in the same build."""

    path: str = Field(description="relative to the working directory")
    format: str = Field(default="auto", description="`auto` detects the format")


class Relabel(Section):
    """Find false negatives among the hard negatives, and promote, remove or keep them."""

    strategy: RelabelStrategy = Field(
        default="two_stage",
        description="`two_stage` ranks evidence; `cascade` asks the judges in order, each only if the "
        "previous one finds a false negative; `graded` applies `rule` to grades from 0 to 3",
    )
    mode: RelabelMode = Field(
        default="both",
        description="promote and remove, promote only, remove only, or drop every row with a false negative",
    )
    rule: str = Field(
        default="all:top/any:relevant",
        pattern=r"^(all|majority|any):(top|relevant|marginal)/(all|majority|any):(top|relevant|marginal)$",
        description="for `graded`: agreement and grade needed to promote / to remove",
    )
    candidates: int = Field(default=5, ge=1, le=100, description="mined near misses per accepted question")
    min_negatives: int = Field(
        default=1, ge=0, le=MAX_COUNT, description="minimum number of negatives per row"
    )
    too_few: TooFewNegatives = Field(
        default="keep_row",
        description="for rows with fewer than `min_negatives`; `backfill` mines others from the file",
    )
    max_promoted: int = Field(
        default=7, ge=1, le=MAX_COUNT, description="rows with more promotions are flagged ambiguous"
    )
    files: tuple[RetrievalFile, ...] = ()


class Semantic(Section):
    """Detection of paraphrases with embeddings."""

    model: str = Field(
        default="embedded:wordllama-256",
        description="`embedded:wordllama-256` (extra `semantic`), or openai:NAME[@ENDPOINT] on a server",
    )
    threshold: float = Field(default=95.0, gt=0, le=100, description="minimum 100 · cosine of duplicates")


class Deduplicate(Section):
    """Removal of near-duplicate groups. The best of each cluster is kept."""

    threshold: float = Field(default=90.0, gt=0, le=100, description="minimum rapidfuzz ratio of duplicates")
    against: tuple[str, ...] = Field(
        default=(), description="earlier releases (folders, org/name@v1.0.0) or files not to overlap"
    )
    semantic: Semantic | None = Field(default=None, description="also drop paraphrases; default: off")


def _check_margins(margins: dict[str, float]) -> dict[str, float]:
    """Return margins by family. Raise `ValueError` if a family is unknown or a margin is not above 0."""
    unknown = sorted(set(margins) - set(FAMILIES))
    if unknown:
        raise ValueError(f"there is no family {unknown[0]!r}; choose from: {', '.join(FAMILIES)}")
    wrong = sorted(name for name, margin in margins.items() if not margin > 0)
    if wrong:
        raise ValueError(f"the margin of {wrong[0]!r} must be above 0")
    return margins


class Validate(Section):
    """Settings of the gate."""

    max_failure_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="tolerated share of failed calls. Answers without content count against `min_coverage`",
    )
    on_failure: Literal["stop", "quarantine"] = Field(
        default="stop",
        description="if questions fail a check: `stop` the build, or `quarantine` (move them to `dropped`)",
    )
    max_quarantine_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="highest share of questions to quarantine; if more fail, the build stops",
    )
    min_coverage: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="smallest share of readable answers, of all asked; an effect below it is not measured",
    )
    below_coverage: Literal["stop", "report"] = Field(
        default="stop",
        description="if a whole family is not measured: `stop` the build, or `report` it in the release",
    )
    suites: tuple[str, ...] = Field(
        default=(),
        description="JSON files with Great Expectations suites for tables of the release; a failed "
        "expectation stops the build",
    )
    fdr: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="false discovery rate of differences, and of the questions that are confirmed",
    )
    equivalence: dict[str, float] = Field(
        default={},
        description="by family: largest contrast, in the unit of its findings, that does not matter; a "
        "contrast that is inside with certainty is `equivalent`",
    )
    min_judged: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="smallest share of usable answers of a judge or generator, of all asked; below it "
        "the build stops",
    )

    @field_validator("equivalence")
    @classmethod
    def _margins_are_of_families(cls, margins: dict[str, float]) -> dict[str, float]:
        return _check_margins(margins)


class Review(Section):
    """Human review required before a release."""

    required: bool = Field(default=False, description="whether the build waits for reviews")
    share: float = Field(
        default=0.2, gt=0, le=1, description="share of the accepted open questions that must have a verdict"
    )
    overlap: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of the queue shown to all reviewers, to measure agreement",
    )
    answers: int = Field(
        default=0,
        ge=0,
        le=MAX_COUNT,
        description="groups of answers in which people score who is treated worse, to correct the judges",
    )
    stratify: Literal["score", "none"] = Field(
        default="score",
        description="draw half of them from the fifth that the judges score highest, or all by chance",
    )


class Limits(Section):
    """Rate limits and retries of a model. Never part of a cache key."""

    max_in_flight: int = Field(
        default=64, ge=1, le=4096, description="concurrent calls, reduced if throttled"
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=MAX_COUNT, description="default: no limit")
    tokens_per_minute: int | None = Field(default=None, ge=1, le=MAX_COUNT, description="default: no limit")
    timeout_s: float = Field(default=120.0, gt=0, le=MAX_COUNT, description="timeout per attempt in seconds")
    attempts: int = Field(default=6, ge=1, le=50, description="attempts per call, including the first")
    outage_s: float = Field(
        default=300.0,
        ge=0,
        le=MAX_COUNT,
        description="seconds that a server may be unreachable before the build stops",
    )
    patience_s: float = Field(
        default=120.0,
        gt=0,
        le=MAX_COUNT,
        description="seconds that a server may refuse every request before the build stops",
    )
    max_answer_mb: float = Field(
        default=8.0,
        gt=0,
        le=MAX_COUNT,
        description="largest answer in megabytes, decompressed; larger ones are failures",
    )


class Budget(Section):
    """Spending limit."""

    usd: float = Field(
        default=0.0,
        ge=0,
        le=MAX_COUNT,
        description="maximum cost of the build in dollars, resumed runs included",
    )
    free: tuple[str, ...] = Field(
        default=(), description="models without cost, such as your own server; embedded and replay are free"
    )


class Release(Section):
    """Name, licence and version of the release."""

    repo: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        max_length=128,
        description="`org/name` on the Hub, shown in the card",
    )
    licence: str = Field(default="cc-by-4.0", description="licence identifier of the Hub")
    version: str | None = Field(
        default=None,
        pattern=r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$",
        description="default: follows from the changes since the last one",
    )
    homepage: str | None = None
    hold_back: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the accepted open questions to keep in a private file with their answers and "
        "never release",
    )
    ghosts: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="open questions that are composed for the private file only, never asked and never "
        "released: what a model that knows nothing reproduces, for the test for contamination",
    )

    @model_serializer(mode="wrap")
    def _without_ghosts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `ghosts` out if there are none."""
        values: dict[str, Any] = dump(self)
        if not values.get("ghosts"):
            values.pop("ghosts", None)
        return values


class MaterialSource(Section):
    """News items or documents, of which the generator makes new topics."""

    path: str = Field(
        description="a text file, a feed (RSS or Atom, a file or an http(s) address), a table, or "
        "`org/dataset@revision` on the Hub"
    )
    format: Literal["auto", "text", "feed", "table"] = Field(
        default="auto", description="`auto` decides by the suffix; addresses are feeds"
    )
    column: str = Field(default="text", description="column of a table with the text")
    items: int = Field(default=20, ge=1, le=1000, description="number of items that are used, the first ones")

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given


class Refresh(Section):
    """Linked releases: which questions stay from one release to the next, and which changes matter."""

    carry_over: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of the last release's questions that the next one asks again (anchors), the same "
        "in every attribute, superdomain and third of effect sizes; the others are retired",
    )
    max_age: int = Field(
        default=4, ge=1, le=MAX_COUNT, description="number of releases after which a question is retired"
    )
    margin: float = Field(
        default=1.0,
        gt=0,
        le=MAX_COUNT,
        description="largest change of a slice that does not matter, in standard deviations of the scores of "
        "its questions; a refresh is safe only if every slice is inside with certainty",
    )
    margins: dict[str, float] = Field(
        default={},
        description="by family: the same in the unit of the scores, such as {decision: 0.5}, instead of "
        "`margin`; then more samples decide, not only more questions",
    )
    base: str | None = Field(
        default=None,
        pattern=r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$",
        description="version since which the change of every model is given as well; default: the first one",
    )
    material: tuple[MaterialSource, ...] = Field(
        default=(),
        description="files, feeds and datasets with new topics: a path, or {path, format, column, items}",
    )

    @field_validator("margins")
    @classmethod
    def _margins_are_of_families(cls, margins: dict[str, float]) -> dict[str, float]:
        return _check_margins(margins)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys that are not given."""
        values: dict[str, Any] = dump(self)
        for name in ("material", "base", "margins"):
            if not values.get(name):
                values.pop(name, None)
        return values


class Recipe(Section):
    """Full specification of a build."""

    name: Slug = Field(description="name of the run and the release directory")
    title: str = Field(default="", description="title of the card and the report")
    description: str = Field(default="", description="one paragraph for the card")
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="seed of all random draws; equal seeds, equal questions",
    )
    attributes: tuple[Slug, ...] = Field(
        default=(),
        description="names of files in data/attributes, or in a folder `attributes` beside the recipe; "
        "default with `questions`: those that the questions name",
    )
    superdomains: tuple[Slug, ...] = Field(
        default=(), description="names of files in data/taxonomy; default: all"
    )
    models: Models
    families: dict[str, Family] = Field(
        default={}, description="families of questions; not needed with `questions`"
    )
    questions: tuple[OwnQuestions, ...] = Field(
        default=(),
        description="own questions. The templates of the vocabulary are then asked only for families that "
        "`families` names",
    )
    selection: Literal["none", "floor"] | None = Field(
        default=None,
        description="`floor` accepts open questions above the noise floor; `none` is a survey: every valid "
        "question is asked once and released, also if no difference is found. Default: `none` with "
        "`questions` and without `evolve.rounds`, else `floor`",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description="ask a stable sample of this many questions, to try a recipe; default: all",
    )
    evolve: Evolve = Evolve()
    judging: Judging = Judging()
    controls: Controls = Controls()
    holdout: Holdout = Holdout()
    relabel: Relabel = Relabel()
    deduplicate: Deduplicate = Deduplicate()
    review: Review = Review()
    validation: Validate = Field(default=Validate(), alias="validate")
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = Field(default={}, description="limits of individual models, by name")
    api_keys: dict[str, str] = Field(
        default={},
        description="name of the environment variable with the key, by endpoint (`http://host:port`); "
        "api.openai.com and loopback endpoints use OPENAI_API_KEY",
    )
    budget: Budget = Budget()
    release: Release = Release()
    variants: Variants | None = Field(default=None, description="rewordings of the selected questions")
    augment: Augment | None = Field(default=None, description="the selected questions in other styles")
    coverage: Cells | None = Field(default=None, description="combinations that the questions must cover")
    prompting: Prompting | None = Field(
        default=None, description="system prompts and personas under which every family is asked once more"
    )
    refresh: Refresh = Refresh()

    @model_validator(mode="after")
    def _styles_have_a_model(self) -> Recipe:
        if self.augment and not (self.augment.model or (self.variants and self.variants.model)):
            raise ValueError("augment.model: name the model that rewords the questions")
        return self

    @property
    def rewording_models(self) -> tuple[str, ...]:
        """Models that reword questions."""
        named = (section.model for section in (self.variants, self.augment) if section is not None)
        return tuple(dict.fromkeys(name for name in named if name))

    def every_model(self) -> tuple[str, ...]:
        """Return every model that a build may call, each once."""
        return tuple(dict.fromkeys((*self.models.all_names(), *self.rewording_models)))

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out optional sections that are not set, so that manifests of other recipes stay the same."""
        values: dict[str, Any] = dump(self)
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in ("variants", "augment", "coverage", "prompting")
        }

    @field_validator("families")
    @classmethod
    def _known_families(cls, families: dict[str, Family]) -> dict[str, Family]:
        unknown = sorted(set(families) - set(FAMILIES))
        if unknown:
            raise ValueError(f"unknown family {unknown[0]!r}; known families: {', '.join(FAMILIES)}")
        return families

    @field_validator("api_keys")
    @classmethod
    def _names_of_variables(cls, api_keys: dict[str, str]) -> dict[str, str]:
        # The message does not repeat the value, because it may be the key itself.
        if not all(re.fullmatch(r"[A-Z][A-Z0-9_]*", variable) for variable in api_keys.values()):
            raise ValueError(
                "must hold names of environment variables (capital letters, digits, _), never the keys"
            )
        return api_keys

    @model_validator(mode="after")
    def _addresses_hold_no_secrets(self) -> Recipe:
        named = (*self.api_keys, *self.model_limits, *self.budget.free)
        if any(re.search(r"https?://(\S*\?|[^/\s]*@)", text) for text in named):
            raise ValueError(
                "an address in api_keys, model_limits or budget.free contains a user, a password or a query"
            )
        return self

    @model_validator(mode="after")
    def _relabel_judges_fit(self) -> Recipe:
        judges, strategy = self.models.relabel_judges, self.relabel.strategy
        rules = [name for name in judges if name in ("sentences", "lexical", "embedding")]
        if strategy != "two_stage" and rules:
            raise ValueError(
                f"relabel.strategy {strategy!r} needs models, not `{rules[0]}`, as models.relabel_judges"
            )
        if set(judges) <= {"lexical", "embedding"}:
            raise ValueError(
                f"models.relabel_judges: `{judges[0]}` cannot judge the question pool; "
                "add `sentences` or a model"
            )
        if set(judges) == {"sentences"} and self.relabel.files:
            raise ValueError(
                "models.relabel_judges: `sentences` cannot judge relabel.files; add `lexical` or a model"
            )
        return self

    @model_validator(mode="after")
    def _evolution_needs_open_questions(self) -> Recipe:
        if self.evolve.rounds and "open" not in self.families:
            raise ValueError("evolve.rounds needs the family `open` under `families`")
        return self

    @model_validator(mode="after")
    def _asks_something(self) -> Recipe:
        if not self.families and not self.questions:
            raise ValueError("name `families`, or give `questions`")
        drawing = [name for name, family in self.families.items() if family.shipped and not family.attributes]
        if drawing and not self.attributes:
            raise ValueError(f"`attributes` is missing, and the family {drawing[0]!r} needs it")
        for number, source in enumerate(self.questions):
            if source.family is not None and source.family not in FAMILIES:
                raise ValueError(
                    f"questions.{number}.family: unknown family {source.family!r}; "
                    f"known families: {', '.join(FAMILIES)}"
                )
        return self

    @model_validator(mode="after")
    def _material_needs_a_model(self) -> Recipe:
        if self.refresh.material and ":" not in self.models.generator:
            raise ValueError("refresh.material: name a model as `models.generator`; it makes the topics")
        if self.refresh.material and "open" not in self.families:
            raise ValueError("refresh.material needs the family `open` under `families`")
        return self

    @model_validator(mode="after")
    def _scored_pairs_have_judges(self) -> Recipe:
        if self.judging.comparison != "pairwise_scored":
            return self
        if all(":" not in judge for judge in self.models.judges):
            raise ValueError("judging.comparison: `pairwise_scored` needs a model under `models.judges`")
        if self.models.adjudicator:
            raise ValueError(
                "models.adjudicator: `judging.comparison: pairwise_scored` has no split panels to decide"
            )
        return self

    @model_validator(mode="after")
    def _ghosts_are_like_the_others(self) -> Recipe:
        if not self.release.ghosts:
            return self
        if "open" not in self.families:
            raise ValueError("release.ghosts needs the family `open` under `families`")
        written = self.evolve.rounds > 0 and self.models.generator != "recombine"
        if self.questions or self.families["open"].files or written:
            raise ValueError(
                "release.ghosts: ghosts are composed like shipped questions, so they tell nothing about own "
                "questions or those of a generator. Use release.hold_back instead"
            )
        return self

    @model_validator(mode="after")
    def _surveys_do_not_search(self) -> Recipe:
        if self.selection == "none" and self.evolve.rounds:
            raise ValueError("`selection: none` does not fit `evolve.rounds`: a survey does not search")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_sections(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave newer keys out if they are not set, so that keys of finished steps stay valid."""
        values: dict[str, Any] = dump(self)
        for name in ("questions", "selection", "limit"):
            if not values.get(name):
                values.pop(name, None)
        if self.refresh == Refresh():
            values.pop("refresh", None)
        return values

    @property
    def is_survey(self) -> bool:
        """Whether every valid open question is released, without selection."""
        if self.selection is None:
            return bool(self.questions) and not self.evolve.rounds
        return self.selection == "none"

    @property
    def evolved_families(self) -> tuple[str, ...]:
        """Families with evolved questions. All others are asked as written."""
        return tuple(f for f in self.families if f == "open")

    @property
    def templated_families(self) -> tuple[str, ...]:
        """Families with fixed questions."""
        return tuple(f for f in self.families if f != "open")

    def limits_of(self, model: str) -> Limits:
        """Return the limits of one model."""
        return self.model_limits.get(model, self.limits)


FAMILIES: tuple[str, ...] = (
    "open",
    "completion",
    "association",
    "relative_decision",
    "decision",
    "task_accuracy",
    "entailment",
    "perplexity_pair",
    "agreement",
    "dialect",
    "autocomplete",
    "persona",
    "description_pair",
    "ambiguous",
    "refusal",
    "political",
    "rating",
)
"""All supported families."""
