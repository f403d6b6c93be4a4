"""fuse as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def fuse(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    collab: dsl.Input[dsl.Model],
    adapter: dsl.Input[dsl.Model],
    semantics: dsl.Input[dsl.Dataset],
    aligned: dsl.Input[dsl.Model],
    bundle: dsl.Output[dsl.Model],
):
    """Stage 3: teach the tuned LLM to read collaborative vectors and item semantics as special tokens.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        collab: The collaborative models, used where alignment is switched off.
        adapter: The tuned LLM's adapter.
        semantics: The items' semantics.
        aligned: The aligned collaborative model and the projection.
        bundle: The complete SeLLa-Rec model; it loads alone.
    """
    from sella_rec.runtime.step import running

    inputs = {
        "dataset": dataset.path,
        "collab": collab.path,
        "adapter": adapter.path,
        "semantics": semantics.path,
        "aligned": aligned.path,
    }
    with running("fuse", settings, inputs, bundle.path) as step:
        from components.fuse.step import run
        from sella_rec.runtime.launch import launch

        launch(run, step)
