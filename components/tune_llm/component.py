"""tune-llm as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def tune_llm(settings: str, dataset: dsl.Input[dsl.Dataset], adapter: dsl.Output[dsl.Model]):
    """Stage 1: tune the LLM with LoRA to say from titles alone whether a user will like an item.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        adapter: The LoRA adapter (peft format) with validation metrics and loss curve.
    """
    from sella_rec.runtime.step import running

    with running("tune-llm", settings, {"dataset": dataset.path}, adapter.path) as step:
        from components.tune_llm.step import run
        from sella_rec.runtime.launch import launch

        launch(run, step)
