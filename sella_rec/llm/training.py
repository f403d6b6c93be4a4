"""Training of stage 1 and stage 3 with the Hugging Face Trainer: packed rows in, only trainable weights saved."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from sella_rec.config import LLMTrainingConfig
from sella_rec.data.dataset import Split
from sella_rec.errors import UserError
from sella_rec.llm.packing import (
    IGNORED,
    PackedRow,
    Packer,
    group_by_user,
    pad_to_multiple,
    sample_labels,
    training_order,
)
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.runtime.checkpoint_store import STATE, CheckpointStore, global_step_of
from sella_rec.runtime.distributed import broadcast_from_rank_zero
from sella_rec.runtime.preemption import StopOnSigterm
from sella_rec.tracking.tracker import Tracker

Curves = dict[str, dict[str, list[float]]]
_WEIGHTS = "trainable.safetensors"
_UNFINISHED = ".unfinished"
_CHECKPOINTS_KEPT = 2
log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint cannot be continued from; the message names it and the fix."""


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that receive gradients, by name, on the CPU: views where they are there already."""
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}


class _PackedTrainer(Trainer):
    """Saves and restores only what is trained: a checkpoint of a frozen 7B backbone would be all backbone.

    A checkpoint is written under `.unfinished/` and then moved, so that one that was cut off never counts.

    Args:
        store: receives copies.
        **of_trainer: see `Trainer`.
    """

    def __init__(self, store: CheckpointStore | None, **of_trainer: Any):
        super().__init__(**of_trainer)
        self._store = store

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        # every process has written its own part
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            written = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            final = written.parents[1] / written.name
            # an incomplete one of an earlier attempt
            shutil.rmtree(final, ignore_errors=True)
            written.replace(final)
            rotate_checkpoints(str(final.parent), _CHECKPOINTS_KEPT)
            if self._store is not None:
                self._store.keep(final, _CHECKPOINTS_KEPT)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trainable_state(self.accelerator.unwrap_model(self.model)), folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.accelerator.unwrap_model(model or self.model)
        wanted, found = trainable_state(target), load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in found.items()}:
            raise CheckpointError(
                f"{resume_from_checkpoint} was written with another configuration: delete it and start again"
            )
        target.load_state_dict(found, strict=False)


class _Report(TrainerCallback):
    """Passes the Trainer's logs on as curves, metrics and progress."""

    def __init__(self, tracker: Tracker, curves: Curves, phase: str):
        self._tracker, self._curves = tracker, curves
        self._prefix, self._note = (f"{phase}_", f"training on {phase}") if phase else ("", "training")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" not in (logs or {}):
            return
        values = {"train_loss": logs["loss"], "learning_rate": logs["learning_rate"]}
        self._tracker.metrics({f"{self._prefix}{name}": value for name, value in values.items()}, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._tracker.progress(state.global_step, state.max_steps, self._note)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        logged = [entry for entry in state.log_history if "loss" in entry]
        self._curves[f"{self._prefix}train_loss"] = {
            "step": [entry["step"] for entry in logged],
            "value": [entry["loss"] for entry in logged],
        }


def train(
    scorer: YesNoScorer,
    packer: Packer,
    split: Split,
    config: LLMTrainingConfig,
    checkpoints: Path,
    tracker: Tracker,
    seed: int,
    store: CheckpointStore | None = None,
    phase: str = "",
) -> Curves:
    """Train the parameters of `scorer` that require gradients, in place; continue from `checkpoints` if it holds any.

    Args:
        store: has copies of `checkpoints`; a later one is fetched from it.
        phase: what this training is on, where a step trains more than once; metrics and curve carry it in their names.

    Returns:
        The loss curve: mean binary cross-entropy of the labels of the logged steps, in nats.

    Raises:
        CheckpointStoreError: the store cannot be used.
        PreemptedError: SIGTERM came; a checkpoint holds what was trained until then.
        CheckpointError: `checkpoints` was written with another configuration.
    """
    groups = sample_labels(group_by_user(split, config.targets_per_history), config.max_labels, seed)
    rows = _in_order(packer.pack(split, groups), config.rows_per_step, seed)
    curves: Curves = {}
    trainer = _PackedTrainer(
        store,
        model=scorer,
        args=_arguments(config, checkpoints, seed, scorer.device),
        train_dataset=rows,
        data_collator=lambda batch: _without_index(packer, split, batch),
        compute_loss_func=_mean_cross_entropy,
        callbacks=[_Report(tracker, curves, phase)],
    )
    trainer.pop_callback(PrinterCallback)
    _leave_shards_alone(scorer)
    scorer.train()
    if trainer.args.should_save:
        shutil.rmtree(checkpoints / _UNFINISHED, ignore_errors=True)
        if store is not None:
            here = last_complete_checkpoint(checkpoints)
            store.fetch(checkpoints, after=global_step_of(here) if here else -1)
    # on a network file system one process may see a checkpoint later than another
    resume_from = broadcast_from_rank_zero(last_complete_checkpoint(checkpoints))
    if resume_from:
        log.info("continuing from %s", resume_from)
    with StopOnSigterm() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return curves


def _leave_shards_alone(scorer: YesNoScorer) -> None:
    """Data parallelism would send every process the first one's weights, but of a sharded one each has its part."""
    shards = [name for name, parameter in scorer.named_parameters() if isinstance(parameter, DTensor)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(scorer, shards)


def _in_order(packed: list[PackedRow], rows_per_step: int, seed: int) -> list[PackedRow]:
    """The rows as all processes together see them, which is as one would whose steps are as large as all of theirs.

    The Trainer hands each batch of `rows_per_step` to the next process in turn.
    """
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    ordered = training_order(packed, rows_per_step * processes, seed)
    return pad_to_multiple(ordered, rows_per_step * processes) if processes > 1 else ordered


def _without_index(packer: Packer, split: Split, rows: list[PackedRow]) -> dict[str, torch.Tensor]:
    batch: dict[str, Any] = dict(packer.batch(split, rows))
    del batch["index"]
    return batch


def _mean_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross-entropy over the two answers; the mean runs over all labels of an accumulated batch, of all processes."""
    counted = labels != IGNORED
    total = nn.functional.binary_cross_entropy_with_logits(logits[counted], labels[counted], reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _arguments(config: LLMTrainingConfig, checkpoints: Path, seed: int, device: torch.device) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints / _UNFINISHED),
        use_cpu=device.type == "cpu",
        per_device_train_batch_size=config.rows_per_step,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        logging_steps=5,
        save_steps=config.save_every,
        remove_unused_columns=False,
        label_names=["labels"],
        # every step reaches every trained weight, and no forward pass changes a buffer
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
        seed=seed,
    )


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose last file, the Trainer's state, can be read: a lost disk may truncate the others."""
    found = sorted(folder.glob("checkpoint-*"), key=global_step_of, reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / STATE).read_text())
        except (OSError, json.JSONDecodeError):
            log.warning("ignoring the incomplete checkpoint %s", checkpoint)
            continue
        return checkpoint
    return None
