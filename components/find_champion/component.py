"""find-champion as a Kubeflow Pipelines component."""

from components.kfp import component


@component
def find_champion(settings: str) -> str:
    """Look up the model that is in use, before anything is trained.

    Args:
        settings: What configure has for this step, JSON.

    Returns:
        The champion as name/version/model id; empty if there is none, or no MLflow server.
    """
    from sella_rec.runtime.step import running

    with running("find-champion", settings) as step:
        from components.find_champion.step import find_champion

        champion = find_champion(step.config, step.tracker)
    return champion
