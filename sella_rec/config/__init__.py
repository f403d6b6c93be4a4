"""The configuration of a run: one tree of frozen sections, read from YAML, validated, passed between steps as JSON."""

from sella_rec.config.base import ConfigError
from sella_rec.config.data import HALF, ColumnNames, DataConfig
from sella_rec.config.llm import (
    BackboneConfig,
    DistillConfig,
    FuseConfig,
    LLMTrainingConfig,
    PromptConfig,
    TuneConfig,
)
from sella_rec.config.load import load_config
from sella_rec.config.operations import LaunchConfig, PromoteConfig, RecommendConfig, RetrainConfig, TrainJobConfig
from sella_rec.config.step_config import READS, UndeclaredSettingError, merged, settings_of, step_config
from sella_rec.config.tree import AlignConfig, CollabConfig, CollabModelConfig, Config, EvaluateConfig, LightGCNConfig

__all__ = [
    "HALF",
    "READS",
    "AlignConfig",
    "BackboneConfig",
    "CollabConfig",
    "CollabModelConfig",
    "ColumnNames",
    "Config",
    "ConfigError",
    "DataConfig",
    "DistillConfig",
    "EvaluateConfig",
    "FuseConfig",
    "LLMTrainingConfig",
    "LaunchConfig",
    "LightGCNConfig",
    "PromoteConfig",
    "PromptConfig",
    "RecommendConfig",
    "RetrainConfig",
    "TrainJobConfig",
    "TuneConfig",
    "UndeclaredSettingError",
    "load_config",
    "merged",
    "settings_of",
    "step_config",
]
