"""Optuna's storage of a study."""

from typing import Any

from optuna import Study, Trial
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial

from rl_lightning.tracking.database_lock import database_lock

# Seconds between two heartbeats that a running trial writes to the storage. A trial without one for
# three times as long was interrupted, and is resumed from its last checkpoint.
HEARTBEAT = 5


def open_storage(address: str) -> RDBStorage:
    """Open a database in which interrupted trials are found and queued again.

    Args:
        address: SQLAlchemy's address of a database. Several machines need a server, such as
            postgresql://…; a local file, sqlite:///optuna.db, serves several processes.
    """
    return _Storage(
        address,
        heartbeat_interval=HEARTBEAT,
        grace_period=3 * HEARTBEAT,
        heartbeat_stale_trial_callback=_queue_again,
    )


def requeue(study: Study, trial: Trial) -> None:
    """Queue the parameters and attributes of a trial that was stopped.

    The storage may not learn that this trial has ended. It is marked, so that it is not queued a
    second time when its heartbeat is missing.
    """
    attributes = trial.user_attrs
    trial.set_user_attr("requeued", True)
    study.enqueue_trial(trial.params, user_attrs=attributes)


def _queue_again(study: Study, trial: FrozenTrial) -> None:
    if "requeued" not in trial.user_attrs:
        RetryHeartbeatStaleTrialCallback()(study, trial)


class _Storage(RDBStorage):
    """Lets one thread at a time change the state of a trial in a SQLite file.

    Optuna relies on SELECT … FOR UPDATE, which SQLite does not have. Without the lock two threads
    may take the same trial from the queue.
    """

    def __init__(self, address: str, **options: Any) -> None:
        self._lock = database_lock(address)
        super().__init__(address, **options)

    def set_trial_state_values(self, *args: Any, **kwargs: Any) -> bool:
        with self._lock:
            return super().set_trial_state_values(*args, **kwargs)
