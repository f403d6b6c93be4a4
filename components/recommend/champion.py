"""load-champion: which model recommends, and into how many shards its users are split."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from components.recommend.output import Output, OutputError
from components.recommend.plan import BatchJob, BatchPlan
from sella_rec.config import Config
from sella_rec.model.bundle import check_bundle
from sella_rec.runtime.checkpoints import content_digest
from sella_rec.tracking import promotions as champion
from sella_rec.tracking.registry import RegistryError, download_bundle
from sella_rec.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def load_champion(
    config: Config, code_version: str, output: str, shards: int, bundle: Path, tracker: Tracker
) -> BatchJob:
    """Download the champion, once for all shards, so that a promotion in between mixes no models.

    Args:
        config: sections promote (the model's name), recommend, backbone (device).
        code_version: part of the plan.
        output: where the recommendations will go.
        shards: how many parts.
        bundle: where the champion's bundle is put.
        tracker: receives the plan as parameters.

    Raises:
        RegistryError: there is no registry, no champion, or it holds no bundle.
        BundleError: it holds one that cannot be read.
        OutputError: the folder holds another batch.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise RegistryError("MLFLOW_TRACKING_URI is not set: there is no registry to take the champion from")
    from mlflow import MlflowClient

    name = config.promote.model_name
    version = champion.find_champion(MlflowClient(), name)
    if version is None:
        raise RegistryError(f"{name} has no champion: `sella promote VERSION` makes a version champion")
    check_bundle(download_bundle(version, bundle))
    plan = make_plan(bundle, code_version, config, shards, version.label)
    tracker.params(vars(plan))
    Output.at(output).check(plan)
    log.info("%s recommends, in %d shards, to %s", version.label, shards, output)
    own = Config.from_json((bundle / "config.json").read_text())
    backbone = own.backbone.model_copy(update={"device": config.backbone.device})
    return BatchJob(own.model_copy(update={"backbone": backbone, "recommend": config.recommend}), plan, output)


def make_plan(bundle: Path, code_version: str, config: Config, shards: int, model: str = "") -> BatchPlan:
    """The plan for a bundle.

    Args:
        config: section recommend.
        model: the registered version that the bundle is.
    """
    recommend = config.recommend
    return BatchPlan(model, content_digest(bundle), code_version, recommend.top_n, recommend.retrieve, shards)


def batch_folder(output: str, batch: str) -> str:
    """The folder of one batch, named so that readers of partitioned tables see it as a column.

    Args:
        batch: the batch's name; empty: the present time, UTC.

    Raises:
        OutputError: no output is named.
    """
    if not output:
        raise OutputError("output is empty: name a folder or fsspec URI, such as s3://bucket/recommendations")
    return f"{output.rstrip('/')}/batch={batch or format(datetime.now(UTC), '%Y%m%d-%H%M%S')}"
