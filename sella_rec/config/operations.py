"""Sections on where and when training runs and what happens to the model; none of them changes a score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sella_rec.config.base import ConfigSection
from sella_rec.names import REGISTERED_MODEL


class TrainJobConfig(ConfigSection):
    """Training in separate pods by Kubeflow Trainer, for backbones that need several nodes."""

    nodes: int = Field(0, ge=0, description="Number of node pods; 0: tune-llm and fuse train in the step's own pod")
    runtime: str = Field(
        "torch-distributed",
        description="Name of the training runtime, of the namespace or the cluster; the default comes with Trainer",
    )
    resources_per_node: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(
        {"nvidia.com/gpu": "1", "cpu": "8", "memory": "64Gi"},
        description="Requests and limits of each node pod, in Kubernetes' units",
    )


class LaunchConfig(ConfigSection):
    """How many processes tune-llm and fuse train in, where those run, and where checkpoints are copied to."""

    processes: int | None = Field(
        None,
        ge=1,
        description="Processes in the step's pod, or in each node pod; none: one per accelerator, or one without any",
    )
    sharded: bool = Field(
        False,
        description="Split the frozen layers across processes (FSDP), for an LLM too large for one device; slower",
    )
    checkpoint_uri: str | None = Field(
        None,
        description="fsspec URI of a folder for copies of checkpoints, such as s3://bucket/checkpoints: with them, a "
        "retry continues even if the volume is lost; none: no copies",
    )
    train_job: TrainJobConfig = TrainJobConfig()


class PromoteConfig(ConfigSection):
    """When a newly trained model replaces the champion: a test of the UAUC difference, and limits that can forbid it.

    Differences are challenger minus champion on the same test rows, with 95 % intervals from a bootstrap over users.
    """

    model_name: str = Field(
        REGISTERED_MODEL, pattern="^[^/:']+$", description="Name of the registered model in MLflow; without / : and '"
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        description="How far below 0 the 95 % interval of the UAUC difference may reach. At 0, the challenger must be "
        "better beyond chance; above 0, being as good is enough, for teams that prefer the newer model",
    )
    first_tolerance: float = Field(
        0.01,
        ge=0,
        description="The same against MF and LightGCN if there is no champion: nothing is in use yet, so being as good "
        "is enough",
    )
    max_auc_loss: float = Field(
        0.01, ge=0, description="How far below 0 the interval of the AUC difference may reach; UAUC decides"
    )
    max_cold_loss: float = Field(
        0.05,
        ge=0,
        description="Largest AUC loss on items without training rows; these rows are few, so only a loss beyond chance "
        "counts",
    )
    max_calibration_error: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Largest expected calibration error of P(like); the default is twice MF's on the embedded ratings",
    )
    min_users: int = Field(
        100,
        ge=2,
        description="Fewest test users with both likes and dislikes; with fewer, percentile intervals are too narrow",
    )


class RetrainConfig(ConfigSection):
    """Whether a run trains at all, once there is a champion whose training data the new data can be compared with."""

    policy: Literal["always", "on-drift", "on-drift-or-days"] = Field(
        "always",
        description="always: every run trains; on-drift: only if new interactions have drifted; on-drift-or-days: also "
        "once the champion is `days` old",
    )
    days: float = Field(30, gt=0, description="Age in days at which on-drift-or-days retrains the champion anyway")
    psi: float = Field(
        0.2,
        gt=0,
        description="A distribution has drifted at this population stability index (PSI) or more: the usual rule, by "
        "which 0.1 is a slight change",
    )
    share: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="A share of the rows has drifted if it moved by this much or more: one row in twenty",
    )
    false_alarms: float = Field(
        0.01,
        ge=0.005,
        lt=1,
        description="Accepted probability that a check reports drift where there is none; below 0.005, more resamples "
        "would be needed than are drawn",
    )


class RecommendConfig(ConfigSection):
    """How many items batch recommendation writes per user, and how many the LLM ranks for that."""

    top_n: int = Field(10, ge=1, description="Recommendations per user")
    retrieve: int = Field(
        100,
        ge=1,
        description="Candidates per user that the LLM ranks, chosen by collaborative score; time grows with it",
    )
