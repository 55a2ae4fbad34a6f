"""Files of the run folder in MLflow, also when the store is lost."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from mlflow.exceptions import MlflowException

from rl_lightning.callbacks.episode_writer import EpisodeWriter
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_folder import send_file


@pytest.fixture
def trainer(tmp_path):
    tracker = create_autospec(MLflowTracker, instance=True, run_id="abc")
    return SimpleNamespace(
        loggers=[tracker], logger=None, default_root_dir=tmp_path, ckpt_path=None
    )


def test_a_file_keeps_its_place_in_the_run_folder(trainer, tmp_path):
    path = tmp_path / "episodes" / "episode.mp4"
    send_file(trainer, path)
    arguments = trainer.loggers[0].experiment.log_artifact.call_args.args
    assert arguments == ("abc", str(path), "episodes")


@pytest.mark.parametrize("error", [MlflowException("gone"), ConnectionError("gone")])
def test_a_lost_store_does_not_end_the_run(trainer, tmp_path, error):
    trainer.loggers[0].experiment.log_artifact.side_effect = error
    with pytest.warns(UserWarning, match=r"episodes.*gone.*in the run folder only"):
        send_file(trainer, Path(tmp_path, "episodes", "episode.mp4"))


def test_a_film_every_zero_epochs_is_refused():
    with pytest.raises(ConfigurationError, match="EpisodeWriter is 0: it must be greater"):
        EpisodeWriter(every_n_epochs=0)
