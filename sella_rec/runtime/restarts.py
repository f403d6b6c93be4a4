"""A training that dies is started again from its checkpoint: Kubeflow Pipelines tries no failed container again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from sella_rec.runtime.step import Step
from sella_rec.runtime.work import TrainingDiedError

RESTARTS = 2
log = logging.getLogger(__name__)


def with_restarts(train: Callable[[], None], step: Step) -> None:
    """Do a step's training in other processes, and start it again where they die, twice at most.

    Args:
        train: continues from the step's checkpoints, and reports to its run as it is then.

    Raises:
        TrainingDiedError: it died each time.
        UserError: from the processes; not tried again, as no other error that `train` raises is.
        PreemptedError: SIGTERM came; not tried again.
    """
    for attempt in range(RESTARTS + 1):
        try:
            train()
            return
        except TrainingDiedError as died:
            if attempt == RESTARTS:
                raise TrainingDiedError(f"{step.name} died {RESTARTS + 1} times, the last time so: {died}") from died
            log.warning("%s died (%d of %d restarts follows): %s", step.name, attempt + 1, RESTARTS, died)
        if step.run is not None:
            # the curve has points already, which are not logged again
            step.run = replace(step.run, resumed=True)
