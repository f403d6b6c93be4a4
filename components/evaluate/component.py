"""evaluate as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def evaluate(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    collab: dsl.Input[dsl.Model],
    adapter: dsl.Input[dsl.Model],
    aligned: dsl.Input[dsl.Model],
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
):
    """Compare SeLLa-Rec with matrix factorization, LightGCN and the text-only LLM on the test split.

    Args:
        settings: What configure has for this step, JSON.
        dataset: The prepared data set.
        collab: The collaborative models, two arms of the comparison.
        adapter: The text-only LLM: its loss curve, and its scores on validation rows for late fusion.
        aligned: The aligned collaborative model: its curves and the map of the alignment.
        bundle: The complete model, two arms of the comparison: text-only and SeLLa-Rec.
        evaluation: Test predictions, summary and report.
        metrics: AUC, UAUC, NDCG and MAP of every arm on all test rows.
        roc: SeLLa-Rec's ROC curve on all test rows.
        report: The comparison as one self-contained page.
    """
    from sella_rec.runtime.step import running

    inputs = {"dataset": dataset.path, "collab": collab.path, "adapter": adapter.path}
    inputs |= {"aligned": aligned.path, "bundle": bundle.path}
    with running("evaluate", settings, inputs, evaluation.path) as step:
        from components.evaluate.publish import find_curves, publish
        from components.evaluate.step import evaluate

        paths = step.inputs
        evaluate(
            step.config,
            paths["dataset"],
            paths["collab"],
            paths["adapter"],
            paths["bundle"],
            find_curves(paths),
            step.output,
            step.tracker,
            alignment=paths["aligned"] / "alignment.parquet",
            seconds={name: times["seconds"] for name, times in step.before.items()},
            run_config=step.run_config(),
        )
        publish(step.output, metrics, roc, report.path)
