"""train-collab as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def train_collab(config: str, code_version: str, dataset: dsl.Input[dsl.Dataset], collab: dsl.Output[dsl.Model]):
    """Train matrix factorization and LightGCN on who liked what.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        dataset: The prepared data set.
        collab: Both collaborative models (safetensors) with their validation metrics and loss curves.
    """
    from sella_rec.runtime.step import running

    with running("train-collab", config, code_version, {"dataset": dataset.path}, collab.path) as step:
        from components.train_collab.step import train_collab

        train_collab(step.config, step.inputs["dataset"], step.output, step.tracker)
