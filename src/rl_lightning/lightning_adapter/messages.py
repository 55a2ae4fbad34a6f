"""Removes log lines and warnings of libraries that a user cannot act on."""

import logging
import re
import warnings

# Lightning names the accelerators that it does not use, and another product.
_UNWANTED_LINES = re.compile(
    r"(GPU|TPU|HPU) available: |.*litlogger|Seed set to |Loaded model weights from|"
    r"`Trainer\.fit` stopped: `max_epochs"
)
_LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
# They log each migration of a new database.
_DATABASE = ("mlflow.store.db.utils", "alembic")

_UNWANTED_WARNINGS = (
    # The command line is read before Lightning reads it, to find configurations by name.
    r"LightningCLI's args parameter is intended to run from within Python",
    # Datasets need a length, so that Lightning does not prefetch. There are no workers, for which
    # Lightning warns here.
    r"Your `IterableDataset` has `__len__` defined",
    # Each worker would be a separate process with its own environments, so there are none.
    r"The '\w+_dataloader' does not have many workers",
    # `predict` yields recorded episodes, which are not items of a data set with indices.
    r"Couldn't infer the batch indices",
    # A resumed run writes to the folder that it had before. A run that starts from a checkpoint of
    # another folder has a new one.
    r"The dirpath has changed from",
    r"Checkpoint directory .* exists and is not empty",
    # Gymnasium prints tracebacks of environment copies in other processes. The error line of this
    # package has the same information.
    r"\x1b\[31mERROR: (Received the following error|Traceback|Raising the last exception)",
    # Metrics are logged at every `log_every_n_steps`-th update, across epochs.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Lightning uses a function that torch has deprecated.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def quieten_libraries() -> None:
    """Remove lines below the level of a warning, and warnings, that say nothing about the run."""
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)
    for name in _DATABASE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _UNWANTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def _is_wanted(record: logging.LogRecord) -> bool:
    return _UNWANTED_LINES.match(record.getMessage()) is None
