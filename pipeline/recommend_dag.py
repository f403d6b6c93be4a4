"""The second pipeline: recommendations for all users, a pod a shard.

load-champion ──> recommend (once a shard) ──> summarize
"""

from collections.abc import Mapping

from kfp import dsl

from components.finish.component import finish
from components.recommend.component import load_champion, recommend, summarize
from pipeline.resources import LLM_ENVIRONMENT, StepResources, pipeline_config, with_object_store, with_retries
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
    def sella_rec_recommend(
        image: str,
        output: str,
        batch: str = "",
        config: str = "{}",
        code_version: str = "",
        shards: int = 4,
        accelerator_type: str = "nvidia.com/gpu",
        scoring_accelerators: str = "1",
        llm_cpu: str = "8",
        llm_memory: str = "32Gi",
        node_selector: dict = {},  # noqa: B006 (kfp wants the value itself)
        tolerations: list = [],  # noqa: B006
    ):
        """Recommend to all users of the champion: Parquet files, one a shard, with a summary in MLflow.

        Args:
            image: The container image that every step runs in.
            output: Where batches go, an fsspec URI such as s3://bucket/recommendations.
            batch: Names this batch; its folder is batch=<name>. Empty: the time at which the run starts, UTC.
            config: The configuration as one JSON string; used are recommend, promote.model_name, backbone.device.
            code_version: Hash of the steps' source.
            shards: How many parts the users are split into; each is a pod.
            accelerator_type: The resource that GPU nodes offer.
            scoring_accelerators: How many each shard takes, as text: 1, or 0 for the CPU alone.
            llm_cpu: CPU cores that a shard asks for.
            llm_memory: Memory that a shard asks for and may use.
            node_selector: Labels of the nodes for the shards.
            tolerations: Taints that the shards tolerate beside the usual one of GPU nodes.
        """
        cluster = StepResources(image, accelerator_type, llm_cpu, llm_memory, node_selector, tolerations)

        def light(task: dsl.PipelineTask) -> dsl.PipelineTask:
            return uncached(cluster.light(with_object_store(task)))

        def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
            # registry and output folder are not among the inputs, so an earlier result says nothing
            return with_retries(task.set_caching_options(False), retries, backoff)

        with dsl.ExitHandler(cluster.light(finish()).set_caching_options(False), name="steps"):
            champion = load_champion(
                config=config, code_version=code_version, output=output, batch=batch, shards=shards
            )
            made = light(champion).outputs
            common = {"bundle": made["bundle"], "planned": made["planned"]}
            with dsl.ParallelFor(items=made["Output"], name="shards") as shard:
                part = recommend(**common, shard=shard)
                uncached(cluster.llm(with_object_store(part), scoring_accelerators, llm_environment))
            light(summarize(**common, users=dsl.Collected(part.output)))

    return sella_rec_recommend
