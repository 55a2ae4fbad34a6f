"""Positions of recorded games of Go, for supervised learning of moves and results."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from rl_lightning.datamodules.source import (
    Batches,
    SourceDataModule,
    WholeBatchLoader,
    batches_of_an_epoch,
    require_positive,
)
from rl_lightning.experience import LabelledPositions
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.go import encode
from rl_lightning.games.go_planes import GoPositions
from rl_lightning.games.records import ExpertPositions, Record, join_positions, read_records, replay
from rl_lightning.games.symmetries import turn_actions, turn_planes
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import numpy_stream

# The split does not depend on the run's seed, so that runs can be compared.
SPLIT_SEED = 0


class ExpertGamesDataModule(SourceDataModule):
    """Positions of recorded games of Go, split into training, validation and test by game.

    Training positions are drawn without repetition until all have been drawn, and each is turned
    by a random symmetry of the board. Positions are kept without their planes, which are computed
    for each batch.
    """

    batch_type = LabelledPositions

    def __init__(
        self,
        path: str = "data/go",
        game: str = "go(board_size=9,komi=7.5)",
        batch_size: int = 256,
        updates_per_epoch: int = 500,
        validation_share: float = 0.05,
        test_share: float = 0.05,
        symmetries: bool = True,
        learn_passes: bool = False,
        seed: int = 0,
    ) -> None:
        """Check the arguments. The files are read later, in `prepare_data`.

        Args:
            path: A folder or a tar archive of SGF files.
            game: OpenSpiel's Go, with the size of the board and the komi.
            batch_size: Positions of a batch, on each rank.
            updates_per_epoch: Training batches of an epoch, on each rank.
            validation_share: Part of the games for validation.
            test_share: Part of the games for the test.
            symmetries: Whether to turn training positions.
            learn_passes: Whether to keep positions in which the expert passed. People often stop
                with dead stones on the board, and a policy that learns to pass there loses.
            seed: Seed of the order and the symmetries.

        Raises:
            ConfigurationError: If an argument cannot be used.
        """
        super().__init__(seed)
        self.save_hyperparameters()
        require_positive(batch_size=batch_size, updates_per_epoch=updates_per_epoch)
        if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1:
            raise ConfigurationError(
                f"validation_share is {validation_share} and test_share is {test_share}: make each "
                "greater than 0 and their sum less than 1"
            )
        self.game = BoardGame(game)
        if not self.game.is_go:
            raise ConfigurationError(
                f"SGF files hold games of Go, and game is {game}: set it to go"
            )
        self.environment = self.game.spec
        self.task = game
        self.path = Path(path)
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.shares = {"validate": validation_share, "test": test_share}
        self.symmetries = symmetries
        self.learn_passes = learn_passes
        self.splits: dict[str, ExpertPositions] = {}
        self._games: dict[str, list[Record]] = {}
        self._drawn_pass = -1
        self._order = np.empty(0, np.int64)

    @property
    def board_size(self) -> int:
        """Rows and columns of the board."""
        return self.game.board_shape[0]

    def prepare_data(self) -> None:
        """Read the games, before anything is written.

        Raises:
            ConfigurationError: If there are no games, or too few for the three splits.
        """
        if not self._games:
            self._games = self._read()

    def setup(self, stage: str) -> None:
        """Replay the games of the stage at its first call.

        Raises:
            ConfigurationError: As `prepare_data`, in a process that it was not called in.
        """
        super().setup(stage)
        if not self._games:
            self._games = self._read()
        for name in {"fit": ("train", "validate"), "validate": ("validate",)}.get(stage, ("test",)):
            if name not in self.splits:
                games = replay(self.game, self._games[name], self.learn_passes)
                self.splits[name] = join_positions(games)

    def _read(self) -> dict[str, list[Record]]:
        """Read the games and split them."""
        records, skipped = read_records(self.path, self.board_size)
        left_out = "".join(f"; {count} left out, {why}" for why, count in sorted(skipped.items()))
        rank_zero_info(f"{self.path}: {len(records)} games{left_out}")
        order = numpy_stream(SPLIT_SEED, stream="split of games").permutation(len(records))
        counts = {name: int(share * len(records)) for name, share in self.shares.items()}
        held_out = sum(counts.values())
        if min(counts.values()) < 1 or held_out >= len(records):
            raise ConfigurationError(
                f"{self.path} has {len(records)} games, too few for shares of {self.shares} for "
                "validation and test: raise validation_share and test_share, or add games"
            )
        parts = {
            "validate": order[: counts["validate"]],
            "test": order[counts["validate"] : held_out],
            "train": order[held_out:],
        }
        return {name: [records[k] for k in rows] for name, rows in parts.items()}

    def batch(self, split: str, rows: np.ndarray, turned: bool = False) -> LabelledPositions:
        """The positions of a split with these indices.

        Args:
            split: "train", "validate" or "test".
            rows: [B] int64.
            turned: Whether to turn each position by a random symmetry.
        """
        source = self.splits[split]
        positions = GoPositions(*(column[rows] for column in source.positions))
        planes = torch.from_numpy(encode(positions, self.board_size))
        actions = source.actions[rows]
        if turned:
            which = self.numpy_stream("symmetries").integers(8, size=len(rows))
            planes = turn_planes(planes, which)
            actions = turn_actions(actions, self.board_size, which)
        return LabelledPositions(
            planes, torch.from_numpy(actions), torch.from_numpy(source.outcomes[rows])
        )

    def next_batch(self) -> LabelledPositions:
        """The next positions of a shuffled order, which is drawn again after the last."""
        total = len(self.splits["train"].actions)
        in_a_pass = batches_of_an_epoch(total, self.batch_size, self.world_size)
        number, index = divmod(self.updates, in_a_pass)
        if number != self._drawn_pass:
            # All ranks divide the same order.
            order = numpy_stream(self.seed, update=number, stream="positions").permutation(total)
            self._order, self._drawn_pass = order[self.rank :: self.world_size], number
        rows = np.array_split(self._order, in_a_pass)[index]
        return self.batch("train", rows, turned=self.symmetries)

    def val_dataloader(self) -> DataLoader[LabelledPositions]:
        """The positions of the validation games."""
        return self._held_out("validate")

    def test_dataloader(self) -> DataLoader[LabelledPositions]:
        """The positions of the test games."""
        return self._held_out("test")

    def predict_dataloader(self) -> DataLoader[LabelledPositions]:
        """The positions of the test games."""
        return self.test_dataloader()

    def _held_out(self, split: str) -> DataLoader[LabelledPositions]:
        """This rank's share of the positions of a split, in the order of the games."""
        total = len(self.splits[split].actions)
        mine = np.arange(total)[self.rank :: self.world_size]
        number = batches_of_an_epoch(total, self.batch_size, self.world_size)
        parts = np.array_split(mine, number)
        return WholeBatchLoader(Batches(lambda: (self.batch(split, r) for r in parts), number))
