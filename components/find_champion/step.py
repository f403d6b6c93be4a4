"""find-champion: which registered version the run's model will have to beat."""

from __future__ import annotations

import logging

from sella_rec.config import Config
from sella_rec.tracking import promotions as champion
from sella_rec.tracking.server import NO_REGISTRY, has_server
from sella_rec.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def find_champion(config: Config, tracker: Tracker) -> str:
    """The champion in the registry, as `sella_rec.tracking.registry.ModelVersion` writes itself.

    Args:
        config: section promote, the model's name.
        tracker: receives it as a parameter.

    Returns:
        Empty if there is none, or if `MLFLOW_TRACKING_URI` is not set.
    """
    if not has_server():
        log.warning("%s, and so no champion", NO_REGISTRY)
        return ""
    from mlflow import MlflowClient

    found = champion.find_champion(MlflowClient(), config.promote.model_name)
    text = str(found or "")
    tracker.params({"champion": text})
    log.info("champion: %s", found.label if found else "none")
    return text
