"""Writes the board games that `predict` plays: as tables, pictures and SGF."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from rl_lightning.callbacks.alphago.figures import draw_game
from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import RecordedGame, RecordsGames
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.sgf import sgf_of
from rl_lightning.tracking.run_folder import run_folder, send_file
from rl_lightning.tracking.tables import write_table


class BoardGameWriter(NeedsCallback, BasePredictionWriter):
    """Writes each board game of `predict` to the folder `games` of the checkpoint's run.

    A game is a CSV with one row for each move, and a picture of the values along the game, with
    the priors and visits of some positions. A game of Go is an SGF file as well, with the
    evaluations as comments.
    """

    needs_of_data = RecordsGames

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: RecordedGame,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one game."""
        folder = run_folder(trainer) / "games"
        folder.mkdir(parents=True, exist_ok=True)
        number = trainer.global_rank + batch_idx * trainer.world_size
        path = folder / f"game-{number}.csv"
        game, rows = BoardGame(batch.game), rows_of(batch)
        write_table(path, rows)
        draw_game(game, batch).savefig(path.with_suffix(".png"), dpi=120)
        files = [path, path.with_suffix(".png")]
        if game.is_go:
            comments = [_comment(row) for row in rows]
            files.append(path.with_suffix(".sgf"))
            actions = batch.actions.tolist()
            files[-1].write_bytes(sgf_of(game, actions, batch.outcome, batch.players, comments))
        for file in files:
            send_file(trainer, file)
        result = {1.0: "won", -1.0: "lost", 0.0: "drew"}[batch.outcome]
        rank_zero_info(
            f"Game {number}: {batch.players[0]} {result} against {batch.players[1]} in "
            f"{len(rows)} moves, in {folder}"
        )


def rows_of(batch: RecordedGame) -> list[dict[str, Any]]:
    """One row for each move: its name, prior, part of the visits, and value for both sides."""
    game = BoardGame(batch.game)
    state, rows = game.start(), []
    for number, action in enumerate(batch.actions.tolist()):
        visits = batch.visits[number]
        before = state.clone()
        game.play(state, action)
        rows.append(
            {
                "move": number + 1,
                "player": before.current_player(),
                "action": before.action_to_string(before.current_player(), state.history()[-1]),
                "prior": float(batch.priors[number, action]),
                "visits": float(visits[action] / visits.sum()) if visits.sum() else 0.0,
                "value_of_first_player": float(batch.values[number]),
            }
        )
    return rows


def _comment(row: dict[str, Any]) -> str:
    return (
        f"prior {row['prior']:.3f}, visits {row['visits']:.3f}, value for Black "
        f"{row['value_of_first_player']:.2f}"
    )
