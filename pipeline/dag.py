"""The pipeline: twelve steps, and an exit handler that closes the MLflow run. After check-drift only if it says so.

configure ─┬─> prepare-data ──┬─> check-drift ─┬─> train-collab ─────────────┐
           └─> find-champion ─┘                ├─> tune-llm ─> distill-items ┴─> align-collab ─> fuse ─> evaluate ─┐
                                               └─> score-champion ─────────────────────────────────────> promote <─┘

configure gives each step the settings that it reads, and no step gets more: what is among a step's inputs is in the key
of its cached result, and Argo keeps some ten copies of it.
"""

from collections.abc import Mapping

from kfp import dsl

from components.align_collab.component import align_collab
from components.check_drift.component import check_drift
from components.configure.component import configure
from components.distill_items.component import distill_items
from components.evaluate.component import evaluate
from components.find_champion.component import find_champion
from components.finish.component import finish
from components.fuse.component import fuse
from components.prepare_data.component import prepare_data
from components.promote.component import promote
from components.score_champion.component import score_champion
from components.train_collab.component import train_collab
from components.tune_llm.component import tune_llm
from pipeline.resources import (
    CHECKPOINT_STORE_SECRET,
    LLM_ENVIRONMENT,
    Placement,
    StepResources,
    pipeline_config,
    with_data_access,
    with_object_store,
    with_placement,
    with_retries,
)
from pipeline.steps import PIPELINES

NAME = PIPELINES["train"]


def build_pipeline(
    retries: int = 2, backoff: str = "30s", llm_environment: Mapping[str, str] = LLM_ENVIRONMENT
) -> dsl.base_component.BaseComponent:
    """The DAG as a Kubeflow Pipelines pipeline.

    Args:
        retries: how often a training step is tried again; it continues from its last checkpoint.
        backoff: pause before the first retry, doubled for each more.
        llm_environment: environment of the steps that run the LLM; none where it is inherited, as on a laptop.
    """

    def retried(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return with_retries(task, retries, backoff)

    @dsl.pipeline(name=NAME, display_name="SeLLa-Rec", pipeline_config=pipeline_config())
    @with_placement()
    def sella_rec(
        placement: Placement,
        config: str = "{}",
        window_until: str = "",
    ):
        """Train SeLLa-Rec, an LLM recommender that knows the crowd, compare it, and promote it if it is better.

        Args:
            config: The configuration as one JSON string; what it leaves out has its default.
            window_until: ISO 8601 time; newer interactions are not read. Empty: as the configuration says.
        """
        cluster = StepResources(placement)

        def training(task: dsl.PipelineTask) -> dsl.PipelineTask:
            with_object_store(task, CHECKPOINT_STORE_SECRET)
            return retried(cluster.llm(task, placement.accelerators, llm_environment))

        def scoring(task: dsl.PipelineTask) -> dsl.PipelineTask:
            return retried(cluster.llm(task, placement.scoring_accelerators, llm_environment))

        def collaborative(task: dsl.PipelineTask) -> dsl.PipelineTask:
            return retried(cluster.collab(task))

        def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
            # MLflow is not among its inputs, so an earlier result says nothing
            return cluster.light(task).set_caching_options(False)

        with dsl.ExitHandler(uncached(finish()), name="steps"):
            configured = with_data_access(configure(config=config, window_until=window_until))
            settings = uncached(configured).outputs
            champion = uncached(find_champion(settings=settings["find_champion"])).output
            data = cluster.data(prepare_data(settings=settings["prepare_data"])).output
            drift = check_drift(settings=settings["check_drift"], dataset=data, champion=champion)
            # else the run ends here, and well: there is nothing to do
            with dsl.If(uncached(drift).outputs["Output"] == "yes", name="retrain"):
                collab = collaborative(train_collab(settings=settings["train_collab"], dataset=data)).output
                adapter = training(tune_llm(settings=settings["tune_llm"], dataset=data)).output
                distilled = distill_items(settings=settings["distill_items"], dataset=data, adapter=adapter)
                semantics = scoring(distilled).output
                artifacts = {"dataset": data, "collab": collab}
                aligned = collaborative(
                    align_collab(settings=settings["align_collab"], **artifacts, semantics=semantics)
                ).output
                artifacts |= {"adapter": adapter, "aligned": aligned}
                bundle = training(fuse(settings=settings["fuse"], **artifacts, semantics=semantics)).output
                evaluated = scoring(evaluate(settings=settings["evaluate"], **artifacts, bundle=bundle))
                scored = scoring(
                    score_champion(settings=settings["score_champion"], champion=champion, dataset=data)
                ).output
                gate_inputs = {"evaluation": evaluated.outputs["evaluation"], "champion_scores": scored}
                uncached(promote(settings=settings["promote"], bundle=bundle, champion=champion, **gate_inputs))

    return sella_rec
