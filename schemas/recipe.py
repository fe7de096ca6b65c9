"""The recipe: one YAML file that says everything about a build. Unknown keys are refused."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ModelName = Annotated[
    str,
    Field(
        pattern=r"^(openai|vllm|embedded|replay):\S+$",
        description="`backend:name[@endpoint]`: `openai:gpt-5-mini`, "
        "`openai:Qwen/Qwen3-32B@http://localhost:8000/v1`, `vllm:/models/qwen3`, `embedded:smollm2-135m`, "
        "`replay:answers.parquet`",
    ),
]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]

Strategy = Literal["quotas", "map_elites", "thompson", "random"]


class Section(BaseModel):
    """Part of a recipe: frozen, and closed to keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Models(Section):
    """Who generates, who answers, who judges."""

    generator: Literal["recombine"] | ModelName = Field(
        default="recombine",
        description="`recombine` writes questions from the taxonomy without a model; or a model's name",
    )
    targets: tuple[ModelName, ...] = Field(min_length=1, description="models whose answers drive the search")
    holdout_targets: tuple[ModelName, ...] = Field(
        default=(), description="models that answer the selected questions afresh; default: the targets"
    )
    judges: tuple[Literal["divergence"] | ModelName, ...] = Field(
        default=("divergence",),
        min_length=1,
        description="`divergence` is a permutation test on the answers, without a model; or models' names",
    )
    adjudicator: ModelName | None = Field(
        default=None, description="model that decides where the panel is split; default: the median does"
    )
    relabel_judges: tuple[Literal["lexical"] | ModelName, ...] = Field(
        default=("lexical",),
        min_length=1,
        description="`lexical` finds evidence by word overlap, without a model; or models' names",
    )

    batch: tuple[ModelName, ...] = Field(
        default=(),
        description="models that are asked through the provider's Batch API: cheaper, and answered within a "
        "day; each of `openai:`, and named above",
    )
    engine: dict[str, bool | int | float | str] = Field(
        default={},
        description="vLLM's own engine arguments for models of `vllm:`, such as {max_model_len: 8192, "
        "tensor_parallel_size: 2}; part of the cache key",
    )
    may_share_family: bool = Field(
        default=False,
        description="whether generator, targets and judges may be of one model family: models favour their "
        "own",
    )

    @model_validator(mode="after")
    def _batches_go_to_a_provider(self) -> Models:
        for name in self.batch:
            if not name.startswith("openai:") or name not in self.all_names():
                raise ValueError(f"models.batch: {name!r} is not one of this recipe's models of `openai:`")
        return self

    def all_names(self) -> tuple[str, ...]:
        """Every real model that a build may call, each once; rules such as `divergence` are none."""
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
    """Questions that others made, read in beside our own."""

    path: str = Field(description="relative to where the command is run")
    format: str = Field(default="auto", description="`auto` recognises it by its columns")
    last_words: bool = Field(
        default=False,
        description="read `{{a man/woman}}` as CAB meant it: an option replaces as many of the last words of "
        "the first one as it has itself",
    )


class Family(Section):
    """How one family of questions is asked."""

    questions: int = Field(
        default=0, ge=0, description="how many questions to draw, twins and controls not counted; 0: all"
    )
    samples: int = Field(default=3, ge=1, le=1000, description="answers per variant")
    max_tokens: int = Field(default=300, ge=1, description="length limit of one answer")
    temperature: float = Field(default=1.0, ge=0, le=2, description="of the answers")
    framings: tuple[Literal["explicit", "implicit"], ...] = Field(
        default=("explicit",), min_length=1, description="group named by a word, by a person's name, or both"
    )
    attributes: tuple[Slug, ...] = Field(default=(), description="default: the recipe's attributes")
    templates: tuple[Slug, ...] = Field(
        default=(), description="template files by name; default: every file of the family"
    )
    conditions: tuple[Slug, ...] = Field(
        default=(),
        description="ways of asking by name, such as an attack, a persona or a mitigating instruction; "
        "default: all that the family has",
    )
    files: tuple[QuestionFile, ...] = Field(default=(), description="question files to read in")


class Evolve(Section):
    """Mutate, ask, judge, select; round after round. Works on the family `open`."""

    rounds: int = Field(default=0, ge=0, le=100, description="after round 0, which asks the seeds")
    questions_per_round: int = Field(default=200, ge=1, description="twins and controls not counted")
    strategy: Strategy = Field(
        default="thompson",
        description="`thompson` samples domains and operators by what they gave; `quotas` asks more where "
        "more was found, as CAB did; `map_elites` fills and betters an archive of domain x framing x "
        "attribute; `random` has no memory",
    )
    fluency: Literal["rules", "judge"] = Field(
        default="judge",
        description="`judge`: where rules cannot say, the first model among the judges checks that all "
        "variants read equally well; without such a model, rules decide alone",
    )
    max_tokens: int = Field(
        default=400,
        ge=50,
        description="length limit of what the generator writes; more for models that think",
    )
    save_threshold: float | None = Field(
        default=None,
        ge=0,
        le=5,
        description="fitness from which a question is saved; default: above the 95th percentile of the "
        "round's A/A controls",
    )
    max_saved: int | None = Field(default=None, ge=1, description="stop when so many questions are saved")
    fitness: Literal["normalised", "search"] = Field(
        default="normalised", description="which of the two published forms LLM verdicts are turned into"
    )


class Bar(Section):
    """What the audit must have shown of a judge before it may decide anything."""

    max_false_positive_rate: float = Field(
        default=0.15, ge=0, le=1, description="on identical treatment (A/A), beyond the repeat floor"
    )
    min_position_consistency: float = Field(
        default=0.6, ge=0, le=1, description="share of verdicts that stand when the order is swapped"
    )
    min_planted_recall: float = Field(
        default=0.6, ge=0, le=1, description="of differences planted at the middle size"
    )
    max_cue_loss: float = Field(
        default=0.2, ge=0, le=1, description="accuracy lost to any one cue (authority, length, ...)"
    )


class Judging(Section):
    """How answers are judged by models, and what a judge must be to do so."""

    rubric: Slug = Field(default="four_scores", description="file in data/rubrics")
    comparison: Literal["all_at_once", "pairwise"] = Field(
        default="all_at_once", description="all variants side by side, or every two of them"
    )
    split: float = Field(
        default=0.25, ge=0, description="range of the panel's fitness from which it counts as split"
    )
    max_tokens: int = Field(
        default=900, ge=50, description="length limit of a verdict; more for models that think"
    )
    length_control: bool = Field(
        default=True, description="report effects with the length of answers held equal as well"
    )
    audit: Literal["off", "warn", "stop"] = Field(
        default="warn",
        description="judges without a passport, or below the bar: not looked at, a warning in the card, "
        "or no build",
    )
    bar: Bar = Bar()


class Controls(Section):
    """Questions whose true effect is zero by construction, as shares of the questions they stand beside."""

    a_a: float = Field(default=0.15, ge=0, le=1, description="the same value twice")
    placebo: float = Field(default=0.15, ge=0, le=1, description="an attribute that cannot matter")
    neutral: float = Field(default=0.1, ge=0, le=1, description="topics where a difference is legitimate")


class Holdout(Section):
    """Selected questions are answered and judged again on fresh samples before they are released."""

    samples: int = Field(default=4, ge=0, le=1000, description="fresh answers per variant; 0: none")


class RetrievalFile(Section):
    """A retrieval training file whose hard negatives are relabelled in the same build."""

    path: str = Field(description="relative to where the command is run")
    format: str = Field(default="auto", description="`auto` recognises it")


class Relabel(Section):
    """Find false negatives among the hard negatives, then promote, filter or keep them."""

    strategy: Literal["two_stage", "cascade", "graded"] = Field(
        default="two_stage",
        description="`two_stage` ranks evidence; `cascade` asks the judges in order, each only where the "
        "one before it objects; `graded` applies `rule` to grades from 0 to 3",
    )
    mode: Literal["both", "relabel", "filter", "remove_row"] = Field(
        default="both",
        description="promote and remove, promote only, remove only, or drop every row with a false negative",
    )
    rule: str = Field(
        default="all:top/any:relevant",
        pattern=r"^(all|majority|any):(top|relevant|marginal)/(all|majority|any):(top|relevant|marginal)$",
        description="for `graded`: who must agree on what to promote, and to remove",
    )
    candidates: int = Field(default=5, ge=1, le=100, description="near misses per accepted question")
    min_negatives: int = Field(default=1, ge=0, description="that a row should keep")
    too_few: Literal["keep_row", "drop_row", "backfill"] = Field(
        default="keep_row",
        description="for a row with fewer than `min_negatives`; `backfill` mines others from the file",
    )
    max_promoted: int = Field(default=7, ge=1, description="more than this: the row is flagged ambiguous")
    files: tuple[RetrievalFile, ...] = ()


class Semantic(Section):
    """Paraphrases by embeddings."""

    model: str = Field(
        default="embedded:wordllama-256",
        description="`embedded:wordllama-256` (extra `semantic`), or a server's: openai:NAME[@ENDPOINT]",
    )
    threshold: float = Field(default=95.0, gt=0, le=100, description="100 · cosine from which two match")


class Deduplicate(Section):
    """Near-duplicate groups: the best of a cluster stays."""

    threshold: float = Field(default=90.0, gt=0, le=100, description="rapidfuzz ratio from which two match")
    against: tuple[str, ...] = Field(
        default=(), description="earlier releases (folders, org/name@v1.0.0) or files to stay clear of"
    )
    semantic: Semantic | None = Field(
        default=None, description="drop paraphrases, too; off where nothing stands here"
    )


class Validate(Section):
    """The gate."""

    max_failure_rate: float = Field(
        default=0.02, ge=0, le=1, description="share of failed calls or abstentions that is tolerated"
    )
    on_failure: Literal["stop", "quarantine"] = Field(
        default="stop",
        description="when questions fail a check: no release, or one without them (they go to `dropped`)",
    )
    max_quarantine_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="share of the questions that may be taken out; if more fail, the build stops after all",
    )


class Review(Section):
    """What people must have looked at before a release is made."""

    required: bool = Field(
        default=False, description="whether the build waits until people have reviewed enough"
    )
    share: float = Field(
        default=0.2, gt=0, le=1, description="of the accepted open questions that must have a verdict"
    )
    overlap: float = Field(
        default=0.2, ge=0, le=1, description="share of the queue that every reviewer gets, for agreement"
    )


class Limits(Section):
    """How hard a model may be asked. Never part of a cache key."""

    max_in_flight: int = Field(default=64, ge=1, le=4096, description="calls at a time; falls when throttled")
    requests_per_minute: int | None = Field(default=None, ge=1, description="default: no limit")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="default: no limit")
    timeout_s: float = Field(default=120.0, gt=0, description="seconds until a try counts as lost")
    attempts: int = Field(default=6, ge=1, le=50, description="tries per call, the first included")
    outage_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds for which a server may be out of reach before the build stops",
    )


class Budget(Section):
    """What may be spent."""

    usd: float = Field(default=0.0, ge=0, description="dollars that the whole build may cost, resumed or not")
    free: tuple[str, ...] = Field(
        default=(), description="models that cost nothing (your own server); embedded and replay are free"
    )


class Release(Section):
    """What the result is called, and under which terms."""

    repo: str | None = Field(
        default=None, pattern=r"^[\w.-]+/[\w.-]+$", description="`org/name` on the Hub, for the card"
    )
    licence: str = Field(default="cc-by-4.0", description="an identifier that the Hub knows")
    version: str | None = Field(
        default=None, pattern=r"^\d+\.\d+\.\d+$", description="default: decided by the diff with the last one"
    )
    homepage: str | None = None
    hold_back: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the accepted open questions that is never released, but kept in a private file "
        "with its answers",
    )


class Recipe(Section):
    """Everything about a build."""

    name: Slug = Field(description="names the run and the release directory")
    title: str = Field(default="", description="of the card and the report")
    description: str = Field(default="", description="one paragraph for the card")
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="decides every draw; the same seed, the same questions"
    )
    attributes: tuple[Slug, ...] = Field(min_length=1, description="files in data/attributes")
    superdomains: tuple[Slug, ...] = Field(
        default=(), description="which of data/taxonomy to use; default: all"
    )
    models: Models
    families: dict[str, Family] = Field(min_length=1)
    evolve: Evolve = Evolve()
    judging: Judging = Judging()
    controls: Controls = Controls()
    holdout: Holdout = Holdout()
    relabel: Relabel = Relabel()
    deduplicate: Deduplicate = Deduplicate()
    review: Review = Review()
    validation: Validate = Field(default=Validate(), alias="validate")
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = Field(default={}, description="limits of single models, by name")
    api_keys: dict[str, str] = Field(
        default={},
        description="name of the environment variable that holds the key, by endpoint "
        "(`http://host:port`); api.openai.com and loopback endpoints use OPENAI_API_KEY",
    )
    budget: Budget = Budget()
    release: Release = Release()

    @field_validator("families")
    @classmethod
    def _known_families(cls, families: dict[str, Family]) -> dict[str, Family]:
        unknown = sorted(set(families) - set(FAMILIES))
        if unknown:
            raise ValueError(f"unknown family {unknown[0]!r}; there are: {', '.join(FAMILIES)}")
        return families

    @field_validator("api_keys")
    @classmethod
    def _names_of_variables(cls, api_keys: dict[str, str]) -> dict[str, str]:
        """Never shows what was given: it may be the key itself."""
        if not all(re.fullmatch(r"[A-Z][A-Z0-9_]*", variable) for variable in api_keys.values()):
            raise ValueError(
                "holds names of environment variables (capital letters, digits, _), never keys themselves"
            )
        return api_keys

    @model_validator(mode="after")
    def _addresses_hold_no_secrets(self) -> Recipe:
        named = (*self.api_keys, *self.model_limits, *self.budget.free)
        if any(re.search(r"https?://(\S*\?|[^/\s]*@)", text) for text in named):
            raise ValueError(
                "an address in api_keys, model_limits or budget.free has a user, a password or a query"
            )
        return self

    @model_validator(mode="after")
    def _only_two_stages_go_without_a_model(self) -> Recipe:
        if self.relabel.strategy != "two_stage" and "lexical" in self.models.relabel_judges:
            raise ValueError(
                f"relabel.strategy {self.relabel.strategy!r} needs models, not `lexical`, as relabel_judges"
            )
        return self

    @model_validator(mode="after")
    def _evolution_needs_open_questions(self) -> Recipe:
        if self.evolve.rounds and "open" not in self.families:
            raise ValueError("evolve.rounds needs the family `open` under `families`")
        return self

    @property
    def evolved_families(self) -> tuple[str, ...]:
        """Families whose questions are searched for; the others are asked as they stand."""
        return tuple(f for f in self.families if f == "open")

    @property
    def templated_families(self) -> tuple[str, ...]:
        return tuple(f for f in self.families if f != "open")

    def limits_of(self, model: str) -> Limits:
        """The limits that hold for one model."""
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
)
"""Families that this version can ask."""
