"""The one configuration tree of a pipeline run, read from YAML, validated, and passed between steps as one JSON string.

Every field says its unit and why it has its default. Defaults suit the packaged ratings and the packaged 135M LLM,
trained for one epoch over all labels. `sella run` without `--config` reads pipeline/configs/quickstart.yaml instead: it
changes tune, fuse and evaluate so that a run takes 15 minutes on two CPU cores.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, model_validator

from sella_rec.config.base import ConfigError, ConfigSection
from sella_rec.config.data import DataConfig
from sella_rec.config.llm import BackboneConfig, DistillConfig, FuseConfig, PromptConfig, TuneConfig
from sella_rec.config.operations import LaunchConfig, PromoteConfig, RecommendConfig, RetrainConfig


class CollabModelConfig(ConfigSection):
    """Training of one collaborative model; the defaults are those of matrix factorization (Koren et al. 2009).

    They were chosen by valid AUC on the embedded ratings.
    """

    learning_rate: float = Field(5e-3, gt=0, description="Learning rate of Adam")
    weight_decay: float = Field(
        1e-4,
        ge=0,
        description="Adam's L2 penalty on vectors and biases; half or twice the default costs .005 to .01 of AUC",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of vector entries dropped before the product; .2 changed nothing"
    )
    batch_size: int = Field(
        4096, ge=1, description="Rows per step; from the number of training rows on, it is full batch; 20,000 was worse"
    )
    max_epochs: int = Field(100, ge=1, description="Most passes over train; a bound that `patience` stops short of")
    patience: int = Field(
        4, ge=1, description="Epochs without a better valid AUC before stopping; after the best epoch it only falls"
    )


class LightGCNConfig(CollabModelConfig):
    """Training of LightGCN (He et al. 2020, arXiv 2002.02126)."""

    learning_rate: float = Field(
        1e-2,
        gt=0,
        description="Learning rate of Adam; twice MF's, as the graph averages gradients: a third of the time",
    )
    weight_decay: float = Field(
        2e-5, ge=0, description="Adam's L2 penalty; less than MF's, as the graph already smooths"
    )
    layers: int = Field(2, ge=1, description="Propagation steps over the graph of likes; 1 and 3 were worse")


class CollabConfig(ConfigSection):
    """The two collaborative models that train-collab trains, and which of them later stages build on."""

    fused_model: Literal["mf", "lightgcn"] = Field(
        "lightgcn",
        # what bundles and configurations called it before
        validation_alias=AliasChoices("fused_model", "feeds"),
        description="Model whose vectors go into the LLM; both are trained and compared. LightGCN had the better "
        "valid UAUC",
    )
    dim: int = Field(
        64,
        ge=1,
        description="Dimension k of the vectors; on the embedded ratings the paper's 256 took four times as long and "
        "was no better",
    )
    mf: CollabModelConfig = CollabModelConfig()
    lightgcn: LightGCNConfig = LightGCNConfig()


class AlignConfig(ConfigSection):
    """Stage 2, step align-collab: collaborative vectors and their projection are trained towards the items' semantics.

    The loss is L_collab + weight * L_align (SeLLa-Rec, arXiv 2504.10107, semantic alignment).
    """

    loss: Literal["infonce", "rince"] = Field(
        "infonce", description="L_align: InfoNCE as in the paper, or RINCE (arXiv 2201.04309) as in the authors' code"
    )
    weight: float = Field(1.0, ge=0, description="Weight of the alignment loss against the collaborative loss")
    temperature: float = Field(0.2, gt=0, description="Divides the cosines of the alignment loss; as in the paper")
    rince_q: float = Field(0.01, gt=0, le=1, description="RINCE's q: near 0 it is InfoNCE; as in the authors' code")
    rince_lambda: float = Field(0.1, gt=0, description="RINCE's weight of the negatives; as in the authors' code")
    hidden: int = Field(1024, ge=1, description="Width of the projection's hidden layer; as in the paper")
    train_semantics: bool = Field(False, description="Train the item semantics too (the paper's 'bidirectional')")
    semantic_bias: bool = Field(
        True, description="Add a linear function of its semantics to an item's bias (ours, not the paper's)"
    )
    semantic_bias_learning_rate: float = Field(
        1e-4, gt=0, description="Learning rate of `semantic_bias`; three times that lost what it gains in valid UAUC"
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="Learning rate of Adam; twice that lost valid AUC without better retrieval"
    )
    weight_decay: float = Field(
        1e-6,
        ge=0,
        description="Adam's L2 penalty on projection and semantics; as in the paper. The collaborative model keeps "
        "its own",
    )
    batch_size: int = Field(4096, ge=1, description="Rows per step; as in train-collab")
    align_items: int = Field(
        512, ge=2, description="Most distinct items of a batch that are aligned; each has the others as negatives"
    )
    max_epochs: int = Field(
        15,
        ge=1,
        description="Most passes over train; by then 98 of 100 items of the embedded data find their own semantics "
        "among the ten nearest",
    )
    patience: int = Field(
        3, ge=1, description="Epochs without a better sum of valid AUC and top-10 retrieval before stopping"
    )


class EvaluateConfig(ConfigSection):
    """Which rows evaluate scores, how fast, and what the report shows; the same rows for every arm."""

    max_rows_per_user: int | None = Field(
        None, ge=1, description="Number of each user's first test rows to score; none: all"
    )
    share_history: bool = Field(
        True,
        description="On: all of a user's rows have the history as of the first, which is faster; off: each has its "
        "own, as in the papers",
    )
    tokens_per_batch: int = Field(
        2048, ge=64, description="Padded tokens per scoring pass; memory grows with it, scores change by rounding only"
    )
    bootstrap_samples: int = Field(
        1000, ge=100, description="Resamples of users for each 95 % interval; 1,000 is usual for percentiles"
    )
    examples: int = Field(20, ge=1, description="Example recommendations in the report")


class Config(ConfigSection):
    """The whole configuration of a run: one section per step or concern, and what concerns all of them."""

    seed: int = Field(0, ge=0, description="Of every random draw: initial weights, dropout, order, samples, bootstrap")
    deterministic: bool = Field(
        False,
        description="The same losses bit for bit on the same machine: one thread, needs float32; several times slower",
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
            raise ValueError("deterministic needs backbone.dtype: float32; set it, or turn deterministic off")
        return self

    @model_validator(mode="after")
    def _compiled_whole(self) -> Config:
        for name, section in (("tune", self.tune), ("fuse", self.fuse)):
            if section.compile and (self.launch.sharded or section.gradient_checkpointing):
                raise ValueError(
                    f"{name}.compile does not work with launch.sharded or gradient_checkpointing; turn one of them off"
                )
        return self

    def until(self, time: str) -> Config:
        """This configuration with `data.window_until` set to an ISO 8601 time; unchanged if `time` is empty.

        Raises:
            ConfigError: not a time.
        """
        if not time:
            return self
        try:
            data = self.data.model_validate(self.data.model_dump() | {"window_until": time})
        except ValidationError as error:
            raise ConfigError(
                f"window_until = {time!r}: not a time; give ISO 8601, such as 2026-11-23T03:00:00Z"
            ) from error
        return self.model_copy(update={"data": data})

    def to_json(self) -> str:
        """What differs from the defaults, as JSON."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        return cls.model_validate_json(text)
