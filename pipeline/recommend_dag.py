"""The second pipeline: recommendations for all users, a pod a shard.

load-champion ──> recommend (once a shard) ──> summarize
"""

from collections.abc import Mapping

from kfp import dsl

from components.finish.component import finish
from components.recommend.component import load_champion, recommend, summarize
from pipeline.resources import (
    LLM_ENVIRONMENT,
    Placement,
    StepResources,
    pipeline_config,
    with_object_store,
    with_placement,
    with_retries,
)
from pipeline.steps import PIPELINES

NAME = PIPELINES["recommend"]


def build_pipeline(
    retries: int = 2, backoff: str = "30s", llm_environment: Mapping[str, str] = LLM_ENVIRONMENT
) -> dsl.base_component.BaseComponent:
    """The DAG as a Kubeflow Pipelines pipeline.

    Args:
        retries: how often a shard is tried again.
        backoff: pause before the first retry, doubled for each more.
        llm_environment: environment of the shards; none where it is inherited.
    """

    @dsl.pipeline(name=NAME, display_name="SeLLa-Rec recommendations", pipeline_config=pipeline_config())
    @with_placement("accelerators")
    def sella_rec_recommend(
        placement: Placement,
        output: str,
        batch: str = "",
        config: str = "{}",
        shards: int = 4,
    ):
        """Recommend to all users of the champion: Parquet files, one a shard, with a summary in MLflow.

        Args:
            output: Where batches go, an fsspec URI such as s3://bucket/recommendations.
            batch: Names this batch; its folder is batch=<name>. Empty: the time at which the run starts, UTC.
            config: The configuration as one JSON string; used are recommend, promote.model_name, backbone.device.
            shards: How many parts the users are split into; each is a pod.
        """
        cluster = StepResources(placement)

        def light(task: dsl.PipelineTask) -> dsl.PipelineTask:
            return uncached(cluster.light(with_object_store(task)))

        def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
            # registry and output folder are not among the inputs, so an earlier result says nothing
            return with_retries(task.set_caching_options(False), retries, backoff)

        with dsl.ExitHandler(cluster.light(finish()).set_caching_options(False), name="steps"):
            champion = load_champion(config=config, output=output, batch=batch, shards=shards)
            made = light(champion).outputs
            common = {"bundle": made["bundle"], "planned": made["planned"]}
            with dsl.ParallelFor(items=made["Output"], name="shards") as shard:
                part = recommend(**common, shard=shard)
                uncached(cluster.llm(with_object_store(part), placement.scoring_accelerators, llm_environment))
            light(summarize(**common, users=dsl.Collected(part.output)))

    return sella_rec_recommend
