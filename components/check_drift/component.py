"""check-drift as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def check_drift(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    champion: str,
    drift: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Compare the interactions since the champion with those it was trained on, and say whether to train.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        champion: The champion's registered version; empty if there is none.
        drift: The decision and its figures.
        metrics: By how much each measure has moved.
        report: The comparison as one self-contained page.

    Returns:
        yes or no.
    """
    from tempfile import TemporaryDirectory

    from sella_rec.runtime.step import running

    with running("check-drift", settings, {"dataset": dataset.path}, drift.path) as step:
        import json
        from datetime import datetime
        from pathlib import Path

        from components.check_drift.champion import fetch_champion
        from components.check_drift.publish import log_drift, publish
        from components.check_drift.step import check_drift
        from sella_rec.tracking.registry import ModelVersion

        with TemporaryDirectory() as folder:
            known = fetch_champion(ModelVersion.parse(champion), Path(folder))
            now = datetime.fromisoformat(json.loads(settings)["time"])
            decision = check_drift(step.config, step.inputs["dataset"], known, now, step.output, step.tracker)
        publish(step.output, metrics, report.path)
        if step.run is not None:
            log_drift(step.run, step.output)
        step.result |= {"retrain": decision.retrain, "reason": decision.reason, "folder": drift.path}
    return "yes" if decision.retrain else "no"
