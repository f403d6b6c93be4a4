"""The container image that every step runs in on a cluster; `SELLA_IMAGE` names another when the DAG is compiled."""

import os

IMAGE = os.environ.get("SELLA_IMAGE", "sella-rec:latest")
