"""score-champion as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def score_champion(
    settings: str,
    champion: str,
    dataset: dsl.Input[dsl.Dataset],
    champion_scores: dsl.Output[dsl.Artifact],
):
    """Score this run's test split with the champion, loaded from the registry.

    Args:
        settings: What configure has for this step, JSON.
        champion: What find-champion found; empty if there is none; then nothing is scored.
        dataset: The prepared data set.
        champion_scores: The champion's predictions for evaluate's rows, in their order.
    """
    from sella_rec.runtime.step import running

    with running("score-champion", settings, {"dataset": dataset.path}, champion_scores.path) as step:
        from components.score_champion.step import score_champion

        score_champion(step.config, step.inputs["dataset"], champion, step.output, step.tracker)
