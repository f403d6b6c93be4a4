"""align-collab as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def align_collab(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    collab: dsl.Input[dsl.Model],
    semantics: dsl.Input[dsl.Dataset],
    aligned: dsl.Output[dsl.Model],
):
    """Stage 2: train the collaborative model and a projection that aligns item vectors with the items' semantics.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        collab: The collaborative models to start from.
        semantics: The items' semantics.
        aligned: The aligned collaborative model and the projection (safetensors), with alignment before and after.
    """
    from sella_rec.runtime.step import running

    inputs = {"dataset": dataset.path, "collab": collab.path, "semantics": semantics.path}
    with running("align-collab", settings, inputs, aligned.path) as step:
        from components.align_collab.step import align_collab

        paths = step.inputs
        align_collab(step.config, paths["dataset"], paths["collab"], paths["semantics"], step.output, step.tracker)
