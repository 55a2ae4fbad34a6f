import gc

import torch
from lightning import Trainer
from moviepy import ImageSequenceClip

from rl_lightning.callbacks.episode_writer import _film
from rl_lightning.experience import RecordedEpisode


def test_frames_are_freed_after_a_video_is_written(tmp_path):
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    episode = RecordedEpisode(None, torch.zeros(3, 32, 32, 3, dtype=torch.uint8), 30)
    gc.disable()
    path = _film(trainer, episode, "film")
    gc.enable()
    assert path.exists()
    assert not [each for each in gc.get_objects() if type(each) is ImageSequenceClip]
