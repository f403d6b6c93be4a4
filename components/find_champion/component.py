"""find-champion as a Kubeflow Pipelines component."""

from components.kfp import component


@component
def find_champion(config: str, code_version: str) -> str:
    """Look up the model that is in use, before anything is trained.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.

    Returns:
        The champion as name/version/model id; empty if there is none, or no MLflow server.
    """
    from sella_rec.runtime.step import running

    with running("find-champion", config, code_version) as step:
        from components.find_champion.step import find_champion

        champion = find_champion(step.config, step.tracker)
    return champion
