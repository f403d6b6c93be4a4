"""Shows the data in MLflow: the splits as inputs of the run, and the report, also as a page."""

from __future__ import annotations

from pathlib import Path

from components.prepare_data.details import DETAILS_FILE
from components.prepare_data.page import PAGE
from sella_rec.tracking.runs import StepRun
from sella_rec.tracking.shared_writes import log_inputs


def log_data(run: StepRun, folder: Path) -> None:
    """Log the splits of a prepared data set as inputs, and its report, to the step's run and its parent."""
    import polars as pl
    from mlflow.data.polars_dataset import from_polars
    from mlflow.entities import DatasetInput, InputTag

    inputs = []
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.parquet"
        frame = pl.read_parquet(path)
        # MLflow's schema knows no lists
        flat = frame.with_columns(pl.col("history").list.len())
        dataset = from_polars(flat, source=str(path), targets="label", name=split)
        inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", split)]))
    for run_id in run.run_ids():
        log_inputs(run.client, run_id, inputs)
        for name in ("report.json", DETAILS_FILE, PAGE):
            run.client.log_artifact(run_id, str(folder / name), "data")
