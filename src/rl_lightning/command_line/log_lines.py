"""Removes log lines of libraries that a user cannot act on."""

import logging
import re

# Lightning names the accelerators that it does not use, and another product.
_UNWANTED = re.compile(
    r"(GPU|TPU|HPU) available: |.*litlogger|Seed set to |Loaded model weights from|"
    r"`Trainer\.fit` stopped: `max_epochs"
)
_LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
# They log each migration of a new database.
_DATABASE = ("mlflow.store.db.utils", "alembic")


def _is_wanted(record: logging.LogRecord) -> bool:
    return _UNWANTED.match(record.getMessage()) is None


def quieten_libraries() -> None:
    """Remove lines below the level of a warning that say nothing about the run."""
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)
    for name in _DATABASE:
        logging.getLogger(name).setLevel(logging.WARNING)
