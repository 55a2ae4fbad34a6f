"""The interval at which metrics are logged."""

from lightning import Trainer


def should_log(trainer: Trainer) -> bool:
    """Whether the metrics of this update are sent to the logger (see `log_every_n_steps`).

    Lightning drops the metrics of all other updates, and computing a metric costs as much time as
    a layer of a small network. This calls Lightning's own test, so that both always agree.
    """
    return bool(trainer._logger_connector.should_update_logs)
