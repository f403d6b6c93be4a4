"""Sizes of the images and what dominates them; how much later a step's code starts in a container than without one.

    make images && python -m benchmarks.containers

A start is measured as the pipeline does it: kfp's executor runs a component that only prints; once as a process of this
Python, once in a container of the image. Needs podman; where its usual runtime does not work, set CONTAINERS_CONF, as
`.ci/images` does. `--check` fails where an image is above its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import yaml

from benchmarks._report import REPOSITORY, RESULTS_PAGE, provenance, replace_block

IMAGES = {"train": "sella-rec", "serve": "sella-rec-serve"}
GB = 1e9
SIZE_LIMITS = {"train": 1.6, "serve": 1.2}
_PACKAGES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    parser.add_argument("--tag", default=version, help="of the images (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of each kind, alternating (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail where an image is above its limit")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    options = parser.parse_args()

    sizes = {target: size(f"{name}:{options.tag}") for target, name in IMAGES.items()}
    rows = [
        f"| {target} | {sizes[target]:.2f} GB | {base_size(f'{name}:{options.tag}'):.2f} GB | "
        f"{largest(f'{name}:{options.tag}')} |"
        for target, name in IMAGES.items()
    ]
    bare, contained = starts(f"{IMAGES['train']}:{options.tag}", options.starts)
    table = "\n".join(
        [
            "| image | size | of it base | largest packages, MB |",
            "|---|---:|---:|---|",
            *rows,
            "",
            f"From the start to a step's code, median of {options.starts}: {bare:.2f} s as a process, "
            f"{contained:.2f} s in a container.",
            "",
            f"`python -m benchmarks.containers`: {provenance('images for CPU', [0])}",
        ]
    )
    print(table)
    if options.write:
        replace_block("containers", table, RESULTS_PAGE)
    if options.check:
        check(sizes)


def size(image: str) -> float:
    """In GB (10^9 bytes), unpacked, as `docker images` and `podman images` show it."""
    return float(podman("image", "inspect", "--format", "{{.Size}}", image)) / GB


def base_size(image: str) -> float:
    """GB in the layers that come from the base image: all before the Dockerfile's first."""
    history = json.loads(podman("history", "--format", "json", image))
    own = next(index for index, layer in enumerate(reversed(history)) if "useradd" in layer.get("CreatedBy", ""))
    return sum(layer["size"] for layer in list(reversed(history))[:own]) / GB


def largest(image: str) -> str:
    program = "cd /opt/sella/lib/python3.*/site-packages && du --block-size=1000000 --summarize -- *"
    printed = podman("run", "--rm", "--network=none", image, "sh", "-c", program)
    megabytes = sorted(((int(line.split("\t")[0]), line.split("\t")[1]) for line in printed.splitlines()), reverse=True)
    return ", ".join(f"{name} {amount}" for amount, name in megabytes[:_PACKAGES])


def starts(image: str, times: int) -> tuple[float, float]:
    """Median seconds from asking for a step to its first line, bare and in a container."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = started_component(Path(folder))
        locked = ["--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=all"]
        contained = ["podman", "run", "--rm", *locked, f"--volume={folder}:{folder}", image, *command]
        bare = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        kinds = [(command, bare), (contained, dict(os.environ))]
        for each, environment in kinds:  # warm the disk's cache
            seconds_until_printed(each, environment)
        pairs = [[seconds_until_printed(each, environment) for each, environment in kinds] for _ in range(times)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def started_component(folder: Path) -> list[str]:
    """The pipeline's own command of a step, whose body is replaced by a line that says that it has begun."""
    pipeline = next(yaml.safe_load_all((REPOSITORY / "pipeline.yaml").read_text()))
    container = pipeline["deploymentSpec"]["executors"]["exec-tune-llm"]["container"]
    shell, option, script, source = container["command"]
    before = source[: source.index("def tune_llm")]
    body = "def tune_llm():\n    import sella_rec.runtime.step\n    print('the step has begun', flush=True)\n"
    executor_input = json.dumps({"outputs": {"outputFile": str(folder / "output.json")}})
    return [
        shell,
        option,
        script,
        before + body,
        "--executor_input",
        executor_input,
        "--function_to_execute",
        "tune_llm",
    ]


def seconds_until_printed(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "the step has begun" in line:
                return time.monotonic() - started
    raise RuntimeError(f"{' '.join(command[:3])} ... ended without a step:\n{''.join(printed)}")


def podman(*arguments: str) -> str:
    # its errors go to the terminal
    return subprocess.run(["podman", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def check(sizes: dict[str, float]) -> None:
    """
    Raises:
        SystemExit: an image is above its limit.
    """
    above = [
        f"{target}: {size:.2f} GB > {SIZE_LIMITS[target]} GB"
        for target, size in sizes.items()
        if size > SIZE_LIMITS[target]
    ]
    if above:
        raise SystemExit("; ".join(above))


if __name__ == "__main__":
    main()
