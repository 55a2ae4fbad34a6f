import csv
import gc

import pytest
import torch
from lightning import Trainer
from moviepy import ImageSequenceClip

from rl_lightning.callbacks.episode_writer import _film, _write_steps
from rl_lightning.experience import RecordedEpisode, Rollout


def test_frames_are_freed_after_a_video_is_written(tmp_path):
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    episode = RecordedEpisode(None, torch.zeros(3, 32, 32, 3, dtype=torch.uint8), 30)
    gc.disable()
    path = _film(trainer, episode, "film")
    gc.enable()
    assert path.exists()
    assert not [each for each in gc.get_objects() if type(each) is ImageSequenceClip]


@pytest.mark.parametrize(
    ("shape", "columns"),
    [((), ["observation"]), ((2,), ["observation_0", "observation_1"]), ((4, 8, 8), [])],
)
def test_a_step_has_the_numbers_of_its_observation_and_no_image(shape, columns, tmp_path):
    observations = torch.arange(4.0).reshape(4, 1, *(1 for _ in shape)).expand(4, 1, *shape)
    actions, per_step = torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1)
    rollout = Rollout(observations, actions, per_step, per_step, per_step > 1, per_step > 0)
    episode = RecordedEpisode(rollout, torch.zeros(4, 8, 8, 3, dtype=torch.uint8), 30)
    _write_steps(tmp_path / "steps.csv", episode, torch.zeros(3))
    with (tmp_path / "steps.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == ["step", *columns, "action", "reward", "return_so_far", "value"]
    for step, row in enumerate(rows):
        assert [float(row[name]) for name in columns] == [step] * len(columns)
