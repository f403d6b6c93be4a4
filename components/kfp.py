"""How a step becomes a Kubeflow Pipelines component; of a step's files, `component.py` alone imports it."""

from functools import partial

from kfp import dsl

# The pipeline's parameter `image` takes its place in every run.
IMAGE = "sella-rec:latest"

component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
