"""score-champion as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def score_champion(
    config: str,
    code_version: str,
    champion: str,
    dataset: dsl.Input[dsl.Dataset],
    champion_scores: dsl.Output[dsl.Artifact],
):
    """Score this run's test split with the champion, loaded from the registry.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        champion: What find-champion found; empty if there is none; then nothing is scored.
        dataset: The prepared data set.
        champion_scores: The champion's predictions for evaluate's rows, in their order.
    """
    from sella_rec.runtime.step import running

    with running("score-champion", config, code_version, {"dataset": dataset.path}, champion_scores.path) as step:
        from components.score_champion.step import score_champion

        score_champion(step.config, step.inputs["dataset"], champion, step.output, step.tracker)
