"""prepare-data as a Kubeflow Pipelines component."""

from kfp import dsl

from components.kfp import component


@component
def prepare_data(
    config: str, code_version: str, data_version: str, window_until: str, dataset: dsl.Output[dsl.Dataset]
):
    """Read, validate and split interactions and items.

    Args:
        config: The configuration of the run as JSON.
        code_version: Hash of the steps' source, so that changed code runs again.
        data_version: Identifies the state of the input; with another one every step runs again.
        window_until: ISO 8601 time; later interactions are left out. Empty: as in the configuration.
        dataset: Parquet splits train, valid and test with histories; users, items and the data report.
    """
    from sella_rec.runtime.step import running

    with running("prepare-data", config, code_version, {}, dataset.path) as step:
        from components.prepare_data.step import prepare_data

        prepare_data(step.config.until(window_until), step.output, step.tracker)
        step.log_data(step.output)
