"""Files of the run folder in MLflow, and what becomes of them when the store is lost."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from mlflow.exceptions import MlflowException

from rl_lightning.callbacks.episode_writer import EpisodeWriter
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker, send_file


@pytest.fixture
def trainer(tmp_path):
    tracker = create_autospec(MLflowTracker, instance=True, run_id="abc")
    return SimpleNamespace(
        loggers=[tracker], logger=None, default_root_dir=tmp_path, ckpt_path=None
    )


def test_a_file_keeps_its_place_in_the_run_folder(trainer, tmp_path):
    path = tmp_path / "games" / "game.mp4"
    send_file(trainer, path)
    arguments = trainer.loggers[0].experiment.log_artifact.call_args.args
    assert arguments == ("abc", str(path), "games")


@pytest.mark.parametrize("error", [MlflowException("gone"), ConnectionError("gone")])
def test_a_lost_store_ends_no_run(trainer, tmp_path, error):
    trainer.loggers[0].experiment.log_artifact.side_effect = error
    with pytest.warns(UserWarning, match=r"games.*gone.*it stays there"):
        send_file(trainer, Path(tmp_path, "games", "game.mp4"))


def test_films_every_no_epochs_are_refused():
    with pytest.raises(ConfigurationError, match="at least 1"):
        EpisodeWriter(every_n_epochs=0)
