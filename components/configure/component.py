"""configure as a Kubeflow Pipelines component."""

from typing import NamedTuple

from components.kfp import component


@component
def configure(config: str, window_until: str) -> NamedTuple(  # type: ignore[valid-type]
    "Settings",
    [
        ("find_champion", str),
        ("prepare_data", str),
        ("check_drift", str),
        ("train_collab", str),
        ("tune_llm", str),
        ("distill_items", str),
        ("align_collab", str),
        ("fuse", str),
        ("evaluate", str),
        ("score_champion", str),
        ("promote", str),
    ],
):
    """Validate the run's configuration, look at the data, and give each step just what it reads.

    Args:
        config: The configuration of the run as JSON; what it leaves out has its default.
        window_until: ISO 8601 time; newer interactions are not read. Empty: as the configuration says.

    Returns:
        For each step its settings, JSON.
    """
    from sella_rec.runtime.step import running, whole_settings

    with running("configure", whole_settings(config)) as step:
        from components.configure.publish import describe
        from components.configure.step import configure

        settings = configure(step.config, window_until)
        describe(step, settings)
    return tuple(settings.values())
