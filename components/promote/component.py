"""promote as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def promote(
    settings: str,
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    champion: str,
    champion_scores: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.HTML],
) -> str:
    """Register the model as the challenger, and make it champion if it is better than the one in use.

    Args:
        settings: What configure has for this step, JSON.
        bundle: The complete model.
        evaluation: Its test results, kept with the registered version.
        champion: What find-champion found; empty if there is none.
        champion_scores: The champion's scores of the same test rows.
        decision: Whether it was promoted, and why, as one page.

    Returns:
        The version registered; empty without an MLflow server.
    """
    from sella_rec.runtime.step import running

    inputs = {"bundle": bundle.path, "evaluation": evaluation.path, "champion_scores": champion_scores.path}
    with running("promote", settings, inputs) as step:
        from components.promote.page import as_json, write_page
        from components.promote.publish import log_decision, log_outcome
        from components.promote.step import promote

        paths = step.inputs
        if step.run is not None:
            log_outcome(step.run, paths["evaluation"])
        outcome = promote(
            step.config,
            paths["bundle"],
            paths["evaluation"],
            paths["champion_scores"],
            champion,
            step.tracker,
            step.run_config(),
        )
        write_page(outcome, decision.path)
        if step.run is not None:
            log_decision(step.run, decision.path, outcome.tags)
        step.result["model"] = {"name": outcome.model, "version": outcome.version}
        step.result["decision"] = as_json(outcome) | {"page": decision.path}
    return outcome.version
