"""distill-items as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def distill_items(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    adapter: dsl.Input[dsl.Model],
    semantics: dsl.Output[dsl.Dataset],
):
    """Stage 1b: compute every item's semantics with the tuned LLM, one vector per item.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        adapter: The tuned LLM's adapter.
        semantics: Item semantics, float32 [items + 1, hidden size] (safetensors); row 0 is padding.
    """
    from sella_rec.runtime.step import running

    inputs = {"dataset": dataset.path, "adapter": adapter.path}
    with running("distill-items", settings, inputs, semantics.path) as step:
        from components.distill_items.step import distill_items

        distill_items(step.config, step.inputs["dataset"], step.inputs["adapter"], step.output, step.tracker)
