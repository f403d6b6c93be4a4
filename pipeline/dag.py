"""The pipeline: eight steps, and an exit handler that closes the MLflow run.

prepare-data ─┬─> train-collab ───────────────┐
              └─> tune-llm ──> distill-items ─┴─> align-collab ──> fuse ──> evaluate ──> promote
"""

from kfp import dsl, kubernetes

from components.align_collab.component import align_collab
from components.distill_items.component import distill_items
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.fuse.component import fuse
from components.prepare_data.component import prepare_data
from components.promote.component import promote
from components.train_collab.component import train_collab
from components.tune_llm.component import tune_llm

NAME = "sella-rec"


def build_pipeline(retries: int = 2, backoff: str = "30s") -> dsl.base_component.BaseComponent:
    """The DAG as a Kubeflow Pipelines pipeline.

    Args:
        retries: how often a training step is tried again; it goes on from its last checkpoint.
        backoff: pause before the first retry, doubled for each more.
    """

    def retried(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return task.set_retry(retries, backoff_duration=backoff, backoff_factor=2.0, backoff_max_duration="600s")

    @dsl.pipeline(name=NAME, display_name="SeLLa-Rec")
    def sella_rec(config: str = "{}", code_version: str = "", data_version: str = ""):
        """Train SeLLa-Rec, an LLM recommender that knows the crowd, compare it with its rivals, and register it.

        Args:
            config: The configuration as one JSON string; what it leaves out has its default.
            code_version: Hash of the steps' source. Results are cached under it, so that changed code runs again.
            data_version: Names the state of the input. Results are cached under it, so that changed data is read again.
        """
        common = {"config": config, "code_version": code_version}
        with dsl.ExitHandler(_tracked(finish()).set_caching_options(False), name="steps"):
            data = _tracked(prepare_data(**common, data_version=data_version)).output
            collab = retried(_tracked(train_collab(**common, dataset=data))).output
            adapter = retried(_tracked(tune_llm(**common, dataset=data))).output
            semantics = retried(_tracked(distill_items(**common, dataset=data, adapter=adapter))).output
            made = {"dataset": data, "collab": collab}
            aligned = retried(_tracked(align_collab(**common, **made, semantics=semantics))).output
            made |= {"adapter": adapter, "aligned": aligned}
            bundle = retried(_tracked(fuse(**common, **made, semantics=semantics))).output
            evaluated = retried(_tracked(evaluate(**common, **made, bundle=bundle)))
            registered = promote(**common, bundle=bundle, evaluation=evaluated.outputs["evaluation"])
            # the registry is not among its inputs, so an earlier result says nothing
            _tracked(registered).set_caching_options(False)

    return sella_rec


def _tracked(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Tell a step which pipeline run it belongs to: MLflow runs are found by it."""
    return kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
