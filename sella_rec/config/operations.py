"""Sections of the configuration that change where and when there is training and what becomes of a model, no score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sella_rec.config.base import ConfigSection
from sella_rec.names import REGISTERED_MODEL


class TrainJobConfig(ConfigSection):
    """Training in pods of its own by Kubeflow Trainer, for backbones that want several nodes."""

    nodes: int = Field(0, ge=0, description="Node pods; 0: tune-llm and fuse train in the step's own pod")
    runtime: str = Field(
        "torch-distributed", description="Training runtime of the namespace or the cluster; Trainer's own for PyTorch"
    )
    resources_per_node: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(
        {"nvidia.com/gpu": "1", "cpu": "8", "memory": "64Gi"}, description="Requests and limits, as Kubernetes has them"
    )


class LaunchConfig(ConfigSection):
    """Which processes tune-llm and fuse train in."""

    processes: int | None = Field(
        None, ge=1, description="Processes in the step's pod, or in each node pod; none: one an accelerator, else one"
    )
    sharded: bool = Field(
        False,
        description="Divide the frozen layers over the processes (FSDP), where one device cannot hold the LLM; slower",
    )
    checkpoint_uri: str | None = Field(
        None,
        description="fsspec URI of a folder, s3://bucket/checkpoints for one, for copies of checkpoints: a new attempt "
        "goes on even where the volume is lost; none: the volume alone",
    )
    train_job: TrainJobConfig = TrainJobConfig()


class PromoteConfig(ConfigSection):
    model_name: str = Field(REGISTERED_MODEL, pattern="^[^/:']+$", description="In MLflow's registry")
    tolerance: float = Field(
        0.0,
        ge=0,
        description="UAUC that the 95 % interval of challenger minus champion may reach below 0. At 0, the challenger "
        "has to be better beyond chance; above, as good is enough, for whoever prefers the newer model",
    )
    first_tolerance: float = Field(
        0.01,
        ge=0,
        description="The same against MF and LightGCN where there is no champion: nothing better is in use, so as good "
        "is enough",
    )
    max_auc_loss: float = Field(0.01, ge=0, description="AUC that the interval may reach below 0; UAUC is what decides")
    max_cold_loss: float = Field(
        0.05, ge=0, description="AUC on items without training rows; they are few, so only a loss beyond chance counts"
    )
    max_calibration_error: float = Field(
        0.15, gt=0, le=1, description="Expected calibration error of P(like); twice MF's on the embedded ratings"
    )
    min_users: int = Field(
        100, ge=2, description="Test users with likes and dislikes; of fewer, percentile intervals are too narrow"
    )


class RetrainConfig(ConfigSection):
    """Whether a run trains at all, once there is a champion to compare its data with."""

    policy: Literal["always", "on-drift", "on-drift-or-days"] = Field(
        "always", description="on-drift: only where newer interactions differ; on-drift-or-days: or after `days`"
    )
    days: float = Field(30, gt=0, description="Age of the champion, in days, from which on it is retrained anyway")
    psi: float = Field(
        0.2, gt=0, description="A distribution has drifted from this PSI on: the usual rule, .1 being a slight change"
    )
    share: float = Field(
        0.05, gt=0, lt=1, description="A share of the rows has drifted when it moved so far: one row in twenty"
    )
    false_alarms: float = Field(
        0.01,
        ge=0.005,
        lt=1,
        description="How often a check may find drift where there is none; less takes more resamples than are drawn",
    )


class RecommendConfig(ConfigSection):
    top_n: int = Field(10, ge=1, description="Recommendations a user in a batch")
    retrieve: int = Field(
        100, ge=1, description="Candidates a user that the LLM ranks, chosen by collaborative score; it is the cost"
    )
