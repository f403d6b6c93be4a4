"""promote as a Kubeflow Pipelines component."""

from kfp import dsl

from components.core.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(config: str, code_version: str, bundle: dsl.Input[dsl.Model], evaluation: dsl.Input[dsl.Artifact]) -> str:
    """Register the model as the challenger.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        bundle: The complete model.
        evaluation: Its test results, kept with the registered version.

    Returns:
        The version registered; empty without an MLflow server.
    """
    from components.core.step import running

    inputs = {"bundle": bundle.path, "evaluation": evaluation.path}
    with running("promote", config, code_version, inputs) as step:
        from components.promote.step import promote

        step.log_outcome(step.inputs["evaluation"])
        version = promote(step.config, step.inputs["bundle"], step.inputs["evaluation"], step.tracker)
        step.result["model"] = {"name": step.config.promote.model_name, "version": version}
    return version
