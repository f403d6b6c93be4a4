"""train-collab as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def train_collab(settings: str, dataset: dsl.Input[dsl.Dataset], collab: dsl.Output[dsl.Model]):
    """Train matrix factorization and LightGCN on who liked what.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        collab: Both collaborative models (safetensors) with their validation metrics and loss curves.
    """
    from sella_rec.runtime.step import running

    with running("train-collab", settings, {"dataset": dataset.path}, collab.path) as step:
        from components.train_collab.step import train_collab

        train_collab(step.config, step.inputs["dataset"], step.output, step.tracker)
