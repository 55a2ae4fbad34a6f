"""Writes greedy episodes as videos and as tables of steps."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.callbacks.schedule import is_due
from rl_lightning.experience import RecordedEpisode, RecordsEpisodes
from rl_lightning.runtime.allocator import return_freed_memory
from rl_lightning.tracking.run_folder import run_folder, send_file
from rl_lightning.tracking.tables import write_table


class EpisodeWriter(NeedsCallback, BasePredictionWriter):
    """Writes each episode that `predict` plays as an mp4 and as a CSV with one row per step.

    A row has the observation, unless it is an image, the action, the reward and the value. The
    files are in the folder `episodes` of the run whose checkpoint is used. During training
    one greedy episode is filmed after every `every_n_epochs` epochs, and the film is sent to
    MLflow as well.

    Args:
        every_n_epochs: Epochs between two films in training; the last epoch is always filmed.
            With None only `predict` is filmed.
    """

    needs_of_data = RecordsEpisodes

    def __init__(self, every_n_epochs: Annotated[int, Ge(1)] | None = None) -> None:
        super().__init__(write_interval="batch")
        self.every_n_epochs = every_n_epochs

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Film the current policy after every `every_n_epochs` epochs."""
        if not is_due(trainer, self.every_n_epochs):
            return
        epoch = trainer.current_epoch + 1
        data: RecordsEpisodes = trainer.datamodule  # type: ignore[attr-defined]
        send_file(trainer, _film(trainer, data.record_episode(), f"after-epoch-{epoch}"))
        return_freed_memory()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: RecordedEpisode,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one episode."""
        path = _film(trainer, batch, "greedy", batch_idx)
        _write_steps(path.with_suffix(".csv"), batch, prediction)
        for file in (path, path.with_suffix(".csv")):
            send_file(trainer, file)
        total = batch.rollout.rewards.sum().item()
        rank_zero_info(f"Episode {batch_idx}: return {total:g}, in {path.parent}")


def _film(trainer: Trainer, episode: RecordedEpisode, name: str, number: int = 0) -> Path:
    from gymnasium.utils.save_video import save_video

    folder = run_folder(trainer) / "episodes"
    save_video(
        list(episode.frames.cpu().numpy()),
        str(folder),
        fps=episode.frames_per_second,
        name_prefix=name,
        episode_trigger=lambda _: True,
        episode_index=number,
    )
    # The video writer is part of a reference cycle, which keeps all frames in memory until it
    # is collected.
    gc.collect()
    return folder / f"{name}-episode-{number}.mp4"


def _write_steps(path: Path, episode: RecordedEpisode, values: Tensor) -> None:
    rollout = episode.rollout
    rewards = rollout.rewards[:, 0]
    columns: dict[str, Tensor] = {
        "step": torch.arange(len(rewards)),
        **_observation_columns(rollout.observations[:-1, 0]),
        "action": rollout.actions[:, 0],
        "reward": rewards,
        "return_so_far": rewards.double().cumsum(0),
        "value": values,
    }
    values_of_steps = zip(*(column.tolist() for column in columns.values()), strict=True)
    write_table(path, [dict(zip(columns, row, strict=True)) for row in values_of_steps])


def _observation_columns(observations: Tensor) -> dict[str, Tensor]:
    """One column for each number of an observation. Images have none: they are in the film."""
    if observations.ndim == 1:
        return {"observation": observations}
    if observations.ndim == 2:
        return {f"observation_{i}": column for i, column in enumerate(observations.T)}
    return {}
