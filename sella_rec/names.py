"""Names that MLflow and Kubeflow Pipelines know this project by, unless a setting says otherwise."""

REGISTERED_MODEL = "sella-rec"
EXPERIMENT = "sella-rec"
