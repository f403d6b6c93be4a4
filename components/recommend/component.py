"""The steps of batch recommendation as Kubeflow Pipelines components."""

from typing import NamedTuple

from kfp import dsl

from components.core.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def load_champion(
    config: str, code_version: str, output: str, batch: str, shards: int, bundle: dsl.Output[dsl.Model]
) -> NamedTuple("Planned", [("config", str), ("plan", str), ("folder", str), ("shards", list[str])]):  # type: ignore[valid-type]
    """Take the champion from the registry, once for all shards.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source; another one is another batch.
        output: Where batches go, a folder or fsspec URI.
        batch: Names this batch's folder there.
        shards: How many parts the users are split into.
        bundle: The champion.

    Returns:
        The champion's configuration as JSON, the plan as JSON, the batch's folder, the shards' numbers.
    """
    from components.core.step import running

    with running("load-champion", config, code_version, output=bundle.path) as step:
        from components.recommend.plan import batch_folder, load_champion

        folder = batch_folder(output, batch)
        planned = load_champion(step.config, code_version, folder, shards, step.output, step.tracker)
    # as text: a list's numbers would arrive as floats
    numbers = [str(shard) for shard in range(shards)]
    return planned.config.to_json(), planned.plan.to_json(), folder, numbers


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def recommend(config: str, code_version: str, bundle: dsl.Input[dsl.Model], folder: str, plan: str, shard: str) -> int:
    """Recommend to one shard of the users.

    Args:
        config: The champion's configuration as JSON.
        code_version: Hash of the steps' source.
        bundle: The champion.
        folder: The batch's folder.
        plan: What the batch is made from, as JSON.
        shard: The shard's number.

    Returns:
        How many users it has.
    """
    from components.core.step import running

    with running(f"recommend-{int(shard):03}", config, code_version, {"bundle": bundle.path}) as step:
        from components.recommend.output import Plan
        from components.recommend.step import recommend

        users = recommend(step.config, step.inputs["bundle"], folder, Plan.from_json(plan), int(shard), step.tracker)
    return users


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def summarize(
    config: str,
    code_version: str,
    bundle: dsl.Input[dsl.Model],
    folder: str,
    plan: str,
    users: list[int],
    metrics: dsl.Output[dsl.Metrics],
):
    """Measure the batch and mark it as whole.

    Args:
        config: The champion's configuration as JSON.
        code_version: Hash of the steps' source.
        bundle: The champion.
        folder: The batch's folder.
        plan: What the batch is made from, as JSON.
        users: How many users each shard has: the step waits for all of them.
        metrics: Coverage, diversity, popularity and share of cold items.
    """
    from components.core.step import running

    with running("summarize", config, code_version, {"bundle": bundle.path}) as step:
        from components.recommend.output import Plan
        from components.recommend.publish import publish
        from components.recommend.summarize import summarize

        planned = Plan.from_json(plan)
        measures = summarize(step.inputs["bundle"], folder, planned, step.tracker)
        publish(step.run, measures, planned.model, folder)
        for name, value in measures.items():
            metrics.log_metric(name, value)
