"""Greedy games as videos and tables of steps."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rl_lightning.callbacks.tracking import run_folder
from rl_lightning.experience import Game


class GameWriter(BasePredictionWriter):
    """Writes each game that `predict` plays as an mp4 and as a CSV with a row a step.

    They lie in the folder `games` of the run whose checkpoint plays.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Game,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one game."""
        from gymnasium.utils.save_video import save_video

        folder = run_folder(trainer) / "games"
        folder.mkdir(parents=True, exist_ok=True)
        save_video(
            list(batch.frames.cpu().numpy()),
            str(folder),
            fps=batch.frames_per_second,
            name_prefix="game",
            episode_trigger=lambda _: True,
            episode_index=batch_idx,
        )
        _write_steps(folder / f"game-episode-{batch_idx}.csv", batch, prediction)
        total = batch.rollout.rewards.sum().item()
        rank_zero_info(f"Game {batch_idx}: return {total:g}, in {folder}")


def _write_steps(path: Path, game: Game, values: Tensor) -> None:
    actions, rewards = game.rollout.actions[:, 0], game.rollout.rewards[:, 0]
    rows: list[dict[str, Any]] = [
        {"step": step, "action": action, "reward": reward, "return_so_far": total, "value": value}
        for step, (action, reward, total, value) in enumerate(
            zip(
                actions.tolist(),
                rewards.tolist(),
                rewards.double().cumsum(0).tolist(),
                values.tolist(),
                strict=True,
            )
        )
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
