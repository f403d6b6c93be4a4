"""finish, the exit handler, as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def finish(status: dsl.PipelineTaskFinalStatus):
    """Close the pipeline's MLflow run with the status that the steps ended with.

    Args:
        status: How the steps ended, from Kubeflow Pipelines.
    """
    from components.finish.step import close_run

    close_run(status.state)
