"""The steps of batch recommendation as Kubeflow Pipelines components."""

from kfp import dsl

from components.kfp import component


@component
def load_champion(
    config: str,
    output: str,
    batch: str,
    shards: int,
    bundle: dsl.Output[dsl.Model],
    planned: dsl.Output[dsl.Artifact],
) -> list[str]:
    """Take the champion from the registry, once for all shards.

    Args:
        config: The configuration of the run as JSON.
        output: Folder or fsspec URI that batches are written to.
        batch: Name of this batch's folder there; empty: the time at which this step starts.
        shards: Number of parts that the users are split into.
        bundle: The champion.
        planned: What the batch is made from, and its folder.

    Returns:
        The shards' numbers, as text: numbers in a list would arrive as floats.
    """
    from components.code_version import code_version
    from sella_rec.runtime.step import running, whole_settings

    version = code_version("recommend")
    with running("load-champion", whole_settings(config, version), output=bundle.path) as step:
        from pathlib import Path

        from components.recommend.champion import batch_folder, load_champion
        from sella_rec.config import Config
        from sella_rec.tracking.runs import describe_pipeline_run

        folder = batch_folder(output, batch)
        found = load_champion(step.config, version, folder, shards, step.output, step.tracker)
        found.save(Path(planned.path))
        if step.run is not None:
            describe_pipeline_run(step.run, Config.from_json(config), version)
    return [str(shard) for shard in range(shards)]


@component
def recommend(bundle: dsl.Input[dsl.Model], planned: dsl.Input[dsl.Artifact], shard: str) -> int:
    """Recommend to one shard of the users.

    Args:
        bundle: The champion.
        planned: What the batch is made from, and its folder.
        shard: The shard's number.

    Returns:
        The number of its users.
    """
    from pathlib import Path

    from components.recommend.plan import BatchJob
    from sella_rec.runtime.step import running

    batch = BatchJob.load(Path(planned.path))
    name, inputs = f"recommend-{int(shard):03}", {"bundle": bundle.path}
    with running(name, batch.settings, inputs, reads="recommend") as step:
        from components.recommend.step import recommend

        users = recommend(step.config, step.inputs["bundle"], batch.folder, batch.plan, int(shard), step.tracker)
    return users


@component
def summarize(
    bundle: dsl.Input[dsl.Model], planned: dsl.Input[dsl.Artifact], users: list[int], metrics: dsl.Output[dsl.Metrics]
):
    """Measure the batch and mark it as complete.

    Args:
        bundle: The champion.
        planned: What the batch is made from, and its folder.
        users: The number of users of each shard; the step waits for all shards.
        metrics: Coverage, diversity, popularity and share of cold items.
    """
    from pathlib import Path

    from components.recommend.plan import BatchJob
    from sella_rec.runtime.step import running

    batch = BatchJob.load(Path(planned.path))
    with running("summarize", batch.settings, {"bundle": bundle.path}) as step:
        from components.recommend.publish import publish
        from components.recommend.summarize import summarize

        measures = summarize(step.inputs["bundle"], batch.folder, batch.plan, step.tracker)
        publish(step.run, measures, batch.plan.model, batch.folder)
        for name, value in measures.items():
            metrics.log_metric(name, value)
