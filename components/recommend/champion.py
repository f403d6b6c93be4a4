"""load-champion: which model recommends, and into how many shards its users are split."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from components.recommend.output import Output, OutputError
from components.recommend.plan import BatchJob, BatchPlan
from sella_rec.config import Config
from sella_rec.model.bundle import check_bundle
from sella_rec.runtime.checkpoints import content_digest
from sella_rec.tracking.promotions import require_champion
from sella_rec.tracking.registry import RegistryError, download_bundle
from sella_rec.tracking.server import NO_REGISTRY, has_server
from sella_rec.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def load_champion(
    config: Config, code_version: str, output: str, shards: int, bundle: Path, tracker: Tracker
) -> BatchJob:
    """Download the champion, once for all shards, so that a promotion meanwhile does not mix models.

    Args:
        config: sections promote (the model's name), recommend, backbone (device).
        code_version: part of the plan.
        output: where the recommendations will go.
        shards: how many parts.
        bundle: folder to download the champion's bundle to.
        tracker: receives the plan as parameters.

    Raises:
        RegistryError: there is no registry, no champion, or it holds no bundle.
        BundleError: it holds one that cannot be read.
        OutputError: the folder holds another batch.
    """
    if not has_server():
        raise RegistryError(f"{NO_REGISTRY}: set it to the MLflow server that has the champion")
    from mlflow import MlflowClient

    version = require_champion(MlflowClient(), config.promote.model_name)
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
        raise OutputError("output is empty: set it to a folder or fsspec URI, such as s3://bucket/recommendations")
    return f"{output.rstrip('/')}/batch={batch or format(datetime.now(UTC), '%Y%m%d-%H%M%S')}"
