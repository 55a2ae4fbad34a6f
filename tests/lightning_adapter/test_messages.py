"""Lines of libraries that are removed from the terminal, and those that are not."""

import logging
import re
import warnings
from pathlib import Path

import gymnasium
import lightning
import pytest
import torch

from rl_lightning.lightning_adapter.messages import quieten_libraries

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


# Parts of the texts that are removed, by the file of the library that has them.
TEXTS = {
    "pytorch/trainer/setup.py": ["GPU available: ", "TPU available: "],
    "pytorch/trainer/connectors/logger_connector/logger_connector.py": ["litlogger"],
    "pytorch/trainer/connectors/checkpoint_connector.py": ["Loaded model weights"],
    "pytorch/loops/fit_loop.py": [
        "`Trainer.fit` stopped: `max_epochs=",
        "The number of training batches (",
    ],
    "fabric/utilities/seed.py": ["Seed set to "],
    "pytorch/cli.py": ["LightningCLI's args parameter is intended to run from within Python"],
    "pytorch/utilities/data.py": ["`IterableDataset` has `__len__` defined"],
    "pytorch/trainer/connectors/data_connector.py": ["does not have many workers"],
    "pytorch/loops/prediction_loop.py": ["Couldn't infer the batch indices"],
    "pytorch/callbacks/model_checkpoint.py": [
        "The dirpath has changed from",
        "exists and is not empty",
    ],
}


@pytest.mark.parametrize("file", TEXTS)
def test_lightning_still_has_the_texts(file):
    """A filter whose text a new version has changed removes nothing."""
    source = (Path(lightning.__file__).parent / file).read_text()
    for text in TEXTS[file]:
        assert text in source


def test_gymnasium_and_torch_still_have_the_texts():
    source = (Path(gymnasium.__file__).parent / "vector/async_vector_env.py").read_text()
    assert "Received the following error" in source
    assert "Raising the last exception" in source
    source = (Path(torch.__file__).parent / "utils/_pytree.py").read_text()
    assert re.search(r"isinstance\(treespec, LeafSpec\)` is deprecated", source)


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("The 'train_dataloader' does not have many workers which may be a bottleneck.", False),
        ("The number of training batches (3) is smaller than the logging interval", False),
        ("Your `IterableDataset` has `__len__` defined.", False),
        ("the learning rate is 0", True),
    ],
)
def test_only_irrelevant_warnings_are_ignored(text, is_shown):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quieten_libraries()
        warnings.warn(text, stacklevel=1)
    assert [str(each.message) for each in shown] == [text] * is_shown
