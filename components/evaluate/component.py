"""evaluate as a Kubeflow Pipelines component."""

from kfp import dsl

from components.core.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    config: str,
    code_version: str,
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
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        dataset: The prepared data set.
        collab: The collaborative models, two arms of the comparison.
        adapter: The text-only LLM, for its loss curve.
        aligned: The aligned collaborative model, for its curves.
        bundle: The complete model, two arms of the comparison: text-only and SeLLa-Rec.
        evaluation: Test predictions, summary and report.
        metrics: AUC, UAUC, NDCG and MAP of every arm on all test rows.
        roc: SeLLa-Rec's ROC curve on all test rows.
        report: The comparison as one self-contained page.
    """
    from components.core.step import running

    inputs = {"dataset": dataset.path, "collab": collab.path, "adapter": adapter.path}
    inputs |= {"aligned": aligned.path, "bundle": bundle.path}
    with running("evaluate", config, code_version, inputs, evaluation.path) as step:
        from components.evaluate.publish import find_curves, publish
        from components.evaluate.step import evaluate

        paths = step.inputs
        curves = find_curves(paths)
        evaluate(step.config, paths["dataset"], paths["collab"], paths["bundle"], curves, step.output, step.tracker)
        publish(step.output, metrics, roc, report.path)
