"""prepare-data as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def prepare_data(settings: str, dataset: dsl.Output[dsl.Dataset]):
    """Read, validate and split interactions and items.

    Args:
        settings: What configure has for this step, JSON.
        dataset: Parquet splits train, valid and test with histories; users, items and the data report.
    """
    from sella_rec.runtime.step import running

    with running("prepare-data", settings, {}, dataset.path) as step:
        from components.prepare_data.publish import log_data
        from components.prepare_data.step import prepare_data

        prepare_data(step.config, step.output, step.tracker)
        if step.run is not None:
            log_data(step.run, step.output)
