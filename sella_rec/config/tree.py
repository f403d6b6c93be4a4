"""The one configuration tree of a pipeline run, read from YAML, validated, and passed between steps as one JSON string.

Every field says its unit and why it has its default. Defaults are the quickstart's: the embedded ratings and the
embedded 135M backbone on two CPU cores within 15 minutes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator, model_validator

from sella_rec.config.base import ConfigError, ConfigSection
from sella_rec.config.data import DataConfig
from sella_rec.config.operations import LaunchConfig, PromoteConfig, RecommendConfig, RetrainConfig


class CollabModelConfig(ConfigSection):
    """Defaults chosen by valid AUC on the embedded ratings."""

    learning_rate: float = Field(5e-3, gt=0, description="Adam")
    weight_decay: float = Field(
        1e-4,
        ge=0,
        description="L2 on vectors and biases, as Adam applies it; half or twice of it costs .005 to .01 of AUC",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On the two vectors before their product; .2 changed nothing")
    batch_size: int = Field(
        4096, ge=1, description="Rows a step; at or above the training rows it is full batch; 20,000 was worse"
    )
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(
        4, ge=1, description="Epochs without a better valid AUC before stopping; past the best it only falls"
    )


class LightGCNConfig(CollabModelConfig):
    learning_rate: float = Field(
        1e-2, gt=0, description="Adam; twice MF's, as the graph averages the gradients, and a third of the time"
    )
    weight_decay: float = Field(2e-5, ge=0, description="Less than MF's: the graph smooths already")
    layers: int = Field(2, ge=1, description="Propagation steps over the graph of likes; 1 and 3 were worse")


class CollabConfig(ConfigSection):
    fused_model: Literal["mf", "lightgcn"] = Field(
        "lightgcn",
        # what bundles and configurations called it before
        validation_alias=AliasChoices("fused_model", "feeds"),
        description="Whose vectors go into the LLM; both are trained as arms. LightGCN had the better valid UAUC",
    )
    dim: int = Field(
        64, ge=1, description="k; the paper's 256 was no better on the embedded ratings at four times the time"
    )
    mf: CollabModelConfig = CollabModelConfig()
    lightgcn: LightGCNConfig = LightGCNConfig()


class PromptConfig(ConfigSection):
    """Wordings; `{titles}` and `{title}` are replaced, `wording` fills `{one}` and `{many}`."""

    wording: Literal["film", "book", "product"] = "film"
    system: str = "Answer Yes or No."
    history: str = Field(
        "Liked {many}: {titles}.\n", description="Shared by all targets of a row; `{titles}` oldest first"
    )
    no_history: str = Field("No liked {many} yet.\n", description="In place of `history` where there is none")
    target: str = Field("Like {title}?", description="One a target; stands where the answer is asked")
    item: str = Field("{One}: {title}", description="The short prompt that item semantics are distilled from")
    separator: str = "; "
    max_title_tokens: int = Field(12, ge=1, description="Longer titles are cut: 95 of 100 film titles are shorter")

    @field_validator("history", "target", "item")
    @classmethod
    def _one_place_for_titles(cls, template: str, info: ValidationInfo) -> str:
        mark = "{titles}" if info.field_name == "history" else "{title}"
        if template.count(mark) != 1:
            raise ValueError(f"must hold {mark} once")
        return template


class BackboneConfig(ConfigSection):
    name: str = Field("embedded:smollm2-135m-instruct", description="Folder, hub name or the packaged SmolLM2")
    revision: str | None = Field(None, description="Hub commit or tag")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto measures both on CPU; bfloat16 on CUDA"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class LLMTrainingConfig(ConfigSection):
    """What stage 1 and stage 3 have in common."""

    learning_rate: float = Field(
        1e-3, gt=0, description="Peak, cosine decay; small backbones want more than the paper's 8e-5"
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps")
    weight_decay: float = Field(0.01, ge=0)
    adam_beta2: float = Field(0.95, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    max_labels: int | None = Field(
        None, ge=1, description="Training labels to see, give or take a packed row, in a random sample; none: one epoch"
    )
    targets_per_history: int = Field(16, ge=1, description="Targets packed behind one history in training")
    rows_per_step: int = Field(4, ge=1, description="Packed rows an optimizer step on each device")
    gradient_accumulation: int = Field(1, ge=1, description="Steps summed into one update")
    valid_users: int = Field(200, ge=1, description="Users of valid that are scored after training, drawn at random")
    save_every: int = Field(20, ge=1, description="Optimizer steps between checkpoints")
    gradient_checkpointing: bool = Field(False, description="Less memory for a third more time; for 7B backbones")
    compile: bool = Field(
        False, description="torch.compile; on CPU it takes a C++ compiler and a minute; a fifth to three fifths faster"
    )


class TuneConfig(LLMTrainingConfig):
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    lora_layers: int | None = Field(
        None, ge=1, description="Adapt the last so many layers only; none: all, as the paper"
    )
    title_epochs: float = Field(
        0.0,
        ge=0,
        description="Epochs over the labels before the others, asked about titles alone, without a history: "
        "what raters say on average; 0: as the paper",
    )
    max_title_labels: int | None = Field(
        None,
        ge=1,
        description="Labels that title_epochs may take, give or take a packed row, in a random sample; none: all",
    )
    title_learning_rate: float = Field(2e-3, gt=0, description="Their peak; 1e-3 learned less")
    label_shrinkage: float = Field(
        0.0, ge=0, le=1, description="Share of the item's mean label in every training label; 0: as the paper"
    )


class DistillConfig(ConfigSection):
    batch_size: int = Field(64, ge=1, description="Item prompts a forward pass")


class AlignConfig(ConfigSection):
    loss: Literal["infonce", "rince"] = "infonce"
    weight: float = Field(1.0, ge=0, description="Of the alignment loss beside the collaborative one")
    temperature: float = Field(0.2, gt=0, description="The paper's")
    rince_q: float = Field(0.01, gt=0, le=1, description="The authors' code")
    rince_lambda: float = Field(0.1, gt=0, description="The authors' code")
    hidden: int = Field(1024, ge=1, description="Width of the projection's hidden layer")
    train_semantics: bool = Field(False, description="Train the item semantics too ('bidirectional')")
    semantic_bias: bool = Field(True, description="Judge items by their semantics too (ours, not the paper's)")
    semantic_bias_learning_rate: float = Field(
        1e-4, gt=0, description="Adam; thrice that lost what it gained in valid UAUC"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam; twice that lost valid AUC for no better retrieval")
    weight_decay: float = Field(
        1e-6, ge=0, description="On projection and semantics; the collaborative model keeps its own"
    )
    batch_size: int = Field(4096, ge=1)
    align_items: int = Field(
        512, ge=2, description="Distinct items of a batch that are aligned: each has the others as negatives"
    )
    max_epochs: int = Field(
        15, ge=1, description="By then 98 of 100 items retrieve their own semantics among ten on the embedded data"
    )
    patience: int = Field(3, ge=1, description="Epochs without a better valid AUC + top-10 retrieval")


class FuseConfig(LLMTrainingConfig):
    aligned: bool = Field(True, description="Off: collaborative vectors straight from train-collab (ablation)")
    warm_start: bool = Field(True, description="Off: the projection starts at random (ablation)")
    warm_token: bool = Field(True, description="Off: no <Warm_ID> (ablation)")
    gain: float = Field(0.3, gt=0, description="Norm a special token starts with, as a share of a real token's")
    residual: bool = Field(
        True,
        description="Weigh the LLM's logit with the collaborative score, fitted on valid; off: the paper's form",
    )


class EvaluateConfig(ConfigSection):
    max_rows_per_user: int | None = Field(
        None, ge=1, description="Score only so many of a user's first test rows; none: all"
    )
    share_history: bool = Field(
        True, description="All of a user's rows with the history as of the first; off: each row its own history"
    )
    tokens_per_batch: int = Field(2048, ge=64, description="Padded tokens a scoring pass")
    bootstrap_samples: int = Field(1000, ge=100)
    examples: int = Field(20, ge=1, description="Example recommendations in the report")


class Config(ConfigSection):
    seed: int = Field(0, ge=0)
    deterministic: bool = Field(
        False, description="The same losses bit for bit every time: one thread, float32; several times slower"
    )
    data: DataConfig = DataConfig()
    collab: CollabConfig = CollabConfig()
    prompt: PromptConfig = PromptConfig()
    backbone: BackboneConfig = BackboneConfig()
    tune: TuneConfig = TuneConfig()
    distill: DistillConfig = DistillConfig()
    align: AlignConfig = AlignConfig()
    fuse: FuseConfig = FuseConfig()
    launch: LaunchConfig = LaunchConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    recommend: RecommendConfig = RecommendConfig()

    @model_validator(mode="after")
    def _deterministic_in_float32(self, info: ValidationInfo) -> Config:
        alone = bool(info.context and info.context.get("of_one_step"))
        if not alone and self.deterministic and self.backbone.dtype != "float32":
            raise ValueError("deterministic needs backbone.dtype: float32")
        return self

    @model_validator(mode="after")
    def _compiled_whole(self) -> Config:
        for name, section in (("tune", self.tune), ("fuse", self.fuse)):
            if section.compile and (self.launch.sharded or section.gradient_checkpointing):
                raise ValueError(
                    f"{name}.compile is not for launch.sharded or gradient_checkpointing; unset one of them"
                )
        return self

    def until(self, time: str) -> Config:
        """This configuration with `data.window_until` set to an ISO 8601 time; as it is where `time` is empty.

        Raises:
            ConfigError: not a time.
        """
        if not time:
            return self
        try:
            data = self.data.model_validate(self.data.model_dump() | {"window_until": time})
        except ValidationError as error:
            raise ConfigError(f"window_until = {time!r}: give an ISO 8601 time, 2026-11-23T03:00:00Z") from error
        return self.model_copy(update={"data": data})

    def to_json(self) -> str:
        """What differs from the defaults, as JSON."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        return cls.model_validate_json(text)
