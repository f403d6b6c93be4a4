"""tune-llm as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def tune_llm(config: str, code_version: str, dataset: dsl.Input[dsl.Dataset], adapter: dsl.Output[dsl.Model]):
    """Stage 1: tune the LLM with LoRA to say from titles alone whether a user will like an item.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        dataset: The prepared data set.
        adapter: The LoRA adapter (peft format) with validation metrics and loss curve.
    """
    from sella_rec.runtime.step import running

    with running("tune-llm", config, code_version, {"dataset": dataset.path}, adapter.path) as step:
        from components.tune_llm.step import run
        from sella_rec.runtime.launch import launch

        launch(run, step)
