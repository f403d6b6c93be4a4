"""The pipeline: eleven steps, and an exit handler that closes the MLflow run. After check-drift only if it says so.

prepare-data ──┬─> check-drift ─┬─> train-collab ───────────────┐
find-champion ─┘                ├─> tune-llm ──> distill-items ─┴─> align-collab ──> fuse ──> evaluate ─┬─> promote
                                └─> score-champion ─────────────────────────────────────────────────────┘
"""

from collections.abc import Mapping

from kfp import dsl

from components.align_collab.component import align_collab
from components.check_drift.component import check_drift
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
        retries: how often a training step is tried again; it goes on from its last checkpoint.
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
        code_version: str = "",
        data_version: str = "",
        window_until: str = "",
    ):
        """Train SeLLa-Rec, an LLM recommender that knows the crowd, compare it, and promote it if it is better.

        Args:
            config: The configuration as one JSON string; what it leaves out has its default.
            code_version: Hash of the steps' source. Results are cached under it, so that changed code runs again.
            data_version: Names the state of the input. Results are cached under it, so that changed data is read again.
            window_until: ISO 8601 time; newer interactions are not read. A schedule passes its own time. Empty: all.
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

        common = {"config": config, "code_version": code_version}
        with dsl.ExitHandler(uncached(finish()), name="steps"):
            champion = uncached(find_champion(**common)).output
            prepared = prepare_data(**common, data_version=data_version, window_until=window_until)
            data = cluster.data(prepared).output
            drift = check_drift(**common, dataset=data, champion=champion, scheduled=window_until)
            # else the run ends here, and well: there is nothing to do
            with dsl.If(uncached(drift).outputs["Output"] == "yes", name="retrain"):
                collab = collaborative(train_collab(**common, dataset=data)).output
                adapter = training(tune_llm(**common, dataset=data)).output
                semantics = scoring(distill_items(**common, dataset=data, adapter=adapter)).output
                made = {"dataset": data, "collab": collab}
                aligned = collaborative(align_collab(**common, **made, semantics=semantics)).output
                made |= {"adapter": adapter, "aligned": aligned}
                bundle = training(fuse(**common, **made, semantics=semantics)).output
                evaluated = scoring(evaluate(**common, **made, bundle=bundle))
                scored = scoring(score_champion(**common, champion=champion, dataset=data)).output
                judged = {"evaluation": evaluated.outputs["evaluation"], "champion_scores": scored}
                uncached(promote(**common, bundle=bundle, champion=champion, **judged))

    return sella_rec
