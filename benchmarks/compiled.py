"""Labels per second with the LLM's layers compiled and as they are: both trainings and scoring, packed rows.

    python benchmarks/compiled.py [--write]

Prints a table; `--write` also puts it into docs/experiments.md. Takes some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from packing import PROMPTS_A_BATCH, REPEATS, rate, score, train
from provenance import REPOSITORY, provenance, replace_block

from components.core.adapter import add_adapter
from components.core.backbone import load_backbone
from components.core.config import Config, load_config
from components.core.dataset import PreparedData
from components.core.packing import Packer, group_by_user
from components.core.prompt import PromptBuilder
from components.core.scorer import YesNoScorer, compile_layers
from components.core.tracking import Tracker
from components.prepare_data.step import prepare_data
from pipeline import PACKAGED

TARGETS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/experiments.md")
    write = parser.parse_args().write
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as folder:
        prepare_data(config, Path(folder) / "data", Tracker())
        plain, compiled = measure(config, PreparedData(Path(folder) / "data"))
    lines = ["| labels per second | as they are | compiled | times |", "|---|---:|---:|---:|"]
    pairs = [(what, plain[what], compiled[what]) for what in plain]
    lines += [f"| {what} | {before:.1f} | {after:.1f} | {after / before:.2f} |" for what, before, after in pairs]
    source = provenance("embedded MovieLens, SmolLM2-135M-Instruct", [config.seed])
    text = "\n".join([*lines, "", f"`python benchmarks/compiled.py`: best of {REPEATS}, compiled before. {source}"])
    print(text)
    if write:
        replace_block("compiled", text, REPOSITORY / "docs" / "experiments.md")


def measure(config: Config, data: PreparedData) -> list[dict[str, float]]:
    """Labels per second by what is done, before and after the compilation."""
    llm, tokenizer = load_backbone(config.backbone)
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    scorer = YesNoScorer(add_adapter(llm, config.tune), prompts.yes_id, prompts.no_id)
    before = rates(scorer, Packer(prompts), data)
    compile_layers(scorer.llm)
    return [before, rates(scorer, Packer(prompts), data)]


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
