"""When metrics are logged."""

from lightning import Trainer


def is_logging(trainer: Trainer) -> bool:
    """Whether the logger takes this update's metrics.

    Between two of `log_every_n_steps` a metric would cost as much as a small network's
    layer and be thrown away. Lightning's own test, so that the two never disagree.
    """
    return bool(trainer._logger_connector.should_update_logs)
