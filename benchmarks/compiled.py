"""Labels per second with the LLM's layers compiled and as they are: both trainings and scoring, packed rows.

    python -m benchmarks.compiled [--write]

Prints a table; `--write` also puts it into docs/experiments.md. Takes some four minutes on two cores.
"""

from __future__ import annotations

import argparse

from benchmarks._report import REPOSITORY, replace_block
from benchmarks.packing import PROMPTS_A_BATCH, REPEATS, make_scorer, quickstart, rate, score, source, train
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.llm.packing import Packer, group_by_user
from sella_rec.llm.scorer import YesNoScorer, compile_layers

TARGETS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/experiments.md")
    write = parser.parse_args().write
    with quickstart() as (config, data):
        plain, compiled = measure(config, data)
    lines = ["| labels per second | as they are | compiled | times |", "|---|---:|---:|---:|"]
    pairs = [(what, plain[what], compiled[what]) for what in plain]
    lines += [f"| {what} | {before:.1f} | {after:.1f} | {after / before:.2f} |" for what, before, after in pairs]
    text = "\n".join([*lines, "", source("compiled", f"best of {REPEATS}, compiled before", config.seed)])
    print(text)
    if write:
        replace_block("compiled", text, REPOSITORY / "docs" / "experiments.md")


def measure(config: Config, data: PreparedData) -> list[dict[str, float]]:
    """Labels per second by what is done, before and after the compilation."""
    scorer, packer = make_scorer(config, data)
    before = rates(scorer, packer, data)
    compile_layers(scorer.llm)
    return [before, rates(scorer, packer, data)]


def rates(scorer: YesNoScorer, packer: Packer, data: PreparedData) -> dict[str, float]:
    """Labels per second by what is done: LoRA trains; LoRA is frozen and the inputs get gradients; no gradients."""
    of_adapter = [parameter for name, parameter in scorer.named_parameters() if "lora_" in name]
    found, at_once = {}, (scorer, packer, data.train, group_by_user(data.train, TARGETS), PROMPTS_A_BATCH)
    found["tune-llm, LoRA in the last 8 layers"] = rate(*at_once, train)
    for parameter in of_adapter:
        parameter.requires_grad_(False)
    scorer.llm.enable_input_require_grads()
    found["fuse, gradients back to the special tokens"] = rate(*at_once, train)
    scorer.llm.disable_input_require_grads()
    for parameter in of_adapter:
        parameter.requires_grad_(True)
    found["scoring"] = rate(*at_once, score)
    return found


if __name__ == "__main__":
    main()
