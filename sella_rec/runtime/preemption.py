"""SIGTERM in training, as evicted pods get it: finish the optimizer step, write a checkpoint, exit to be retried."""

from __future__ import annotations

import logging
import signal
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)


class PreemptedError(SystemExit):
    """The training was stopped early by SIGTERM and has written a checkpoint; exits with 143, as shells do."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class StopOnSigterm(TrainerCallback):
    """While its context lasts, SIGTERM ends the training after the current optimizer step, with a checkpoint.

    All processes of a training stop at the same step, whichever of them got the signal. transformers'
    `enable_jit_checkpoint` does not fit: it saves within an accumulated batch, after that batch's dropout was drawn, so
    that a resumed training would differ, and it ends as if the training had succeeded.

    Raises:
        PreemptedError: at the end of the context, if SIGTERM has arrived.
    """

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> StopOnSigterm:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)
        if self._asked and error is None:
            raise PreemptedError

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        log.warning("received SIGTERM: stopping after this optimizer step, with a checkpoint")
        self._asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._asked = _any_process(self._asked, args.device)
        if self._asked:
            # logged, since a resumed training does not know the losses since the last point of the curve
            control.should_log = control.should_save = control.should_training_stop = True


def _any_process(mine: bool, device: torch.device) -> bool:
    if not distributed.is_initialized():
        return mine
    asked = torch.tensor(int(mine), device=device)
    distributed.all_reduce(asked, distributed.ReduceOp.MAX)
    return bool(asked)
