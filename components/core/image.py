"""The image that a component names; the pipeline's parameter `image` takes its place in every run."""

IMAGE = "sella-rec:latest"
