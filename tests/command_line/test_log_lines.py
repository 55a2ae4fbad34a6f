"""Lines of libraries that are removed from the terminal, and those that are not."""

import logging

import pytest

from rl_lightning.command_line.log_lines import quieten_libraries

RANK_ZERO = "lightning.pytorch.utilities.rank_zero"


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        ("GPU available: False, used: False", False),
        ("TPU available: False, using: 0 TPU cores", False),
        ("💡 Tip: For seamless cloud logging, try installing [litlogger]", False),
        ("`Trainer.fit` stopped: `max_epochs=3` reached.", False),
        ("`Trainer.fit` stopped: `max_time=00:01` reached.", True),
        ("Restoring states from the checkpoint path at last.ckpt", True),
        ("the weights are those of last.ckpt", True),
    ],
)
def test_only_lines_that_say_nothing_about_the_run_are_removed(line, is_kept, caplog):
    quieten_libraries()
    quieten_libraries()
    with caplog.at_level(logging.INFO, logger=RANK_ZERO):
        logging.getLogger(RANK_ZERO).info(line)
    assert (line in caplog.messages) is is_kept


def test_migrations_of_a_new_database_are_removed(caplog):
    quieten_libraries()
    with caplog.at_level(logging.INFO):
        logging.getLogger("mlflow.store.db.utils").info("Updating database tables")
        logging.getLogger("mlflow.store.db.utils").error("the database is locked")
    assert caplog.messages == ["the database is locked"]
