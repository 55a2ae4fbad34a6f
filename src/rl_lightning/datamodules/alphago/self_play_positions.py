"""Positions of games of the policy against itself, for the value network."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from rl_lightning.datamodules.alphago.board_games import BoardGamesDataModule
from rl_lightning.datamodules.source import (
    Batches,
    WholeBatchLoader,
    batches_of_an_epoch,
    require_positive,
)
from rl_lightning.experience import ScoredPositions
from rl_lightning.games.board_game import State
from rl_lightning.games.matches import play_match, random_openings
from rl_lightning.games.network_player import network_player
from rl_lightning.games.symmetries import turn_planes
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import from_all_ranks
from rl_lightning.runtime.seeding import numpy_stream, torch_stream


class SelfPlayPositionsDataModule(BoardGamesDataModule):
    """Plays games of the module's policy against itself, and keeps some positions of each.

    The positions are drawn from all positions of the game. Each update plays new games and adds
    their positions to a ring. Its batch is drawn from the ring with equal probability. The ring is
    in the checkpoint. Positions of Go are turned by a random symmetry of the board.

    Validation and test use one position of each of their own games.

    Args:
        game: OpenSpiel's name of the game, with parameters.
        games_per_update: New games of an update, on each rank.
        random_moves: Each game begins with a number of random moves, drawn from 0 to this one. The
            positions are drawn from those after them.
        positions_per_game: Positions of each training game; of a shorter game all. The paper takes
            one, because positions of a game have the same result, and it has 30 million games.
            With few games more positions lower the error.
        batch_size: Positions of a batch, on each rank.
        capacity: Positions that the ring keeps, on each rank.
        eval_positions: Positions of validation and of test, over all ranks.
        game_options: See `BoardGamesDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the game cannot be used.
    """

    batch_type = ScoredPositions

    def __init__(
        self,
        game: str = "go(board_size=9,komi=7.5)",
        games_per_update: int = 32,
        random_moves: int = 0,
        positions_per_game: int = 1,
        batch_size: int = 256,
        capacity: int = 100_000,
        eval_positions: int = 1_000,
        **game_options: Any,
    ) -> None:
        super().__init__(game, games_per_update, random_moves, **game_options)
        self.save_hyperparameters()
        require_positive(
            positions_per_game=positions_per_game,
            batch_size=batch_size,
            capacity=capacity,
            eval_positions=eval_positions,
        )
        self.positions_per_game = positions_per_game
        self.batch_size = batch_size
        self.eval_positions = eval_positions
        self.ring = PositionRing(self.environment["observation_shape"], capacity)
        self._held_out: dict[str, ScoredPositions] = {}

    def next_batch(self) -> ScoredPositions:
        """Play new games, and draw a batch from the positions of all games."""
        new, lengths, outcomes = self._play(
            self.games_per_update, self.positions_per_game, "games", self.updates
        )
        self.env_steps += sum(lengths)
        self.last_games = (len(lengths), sum(outcomes), sum(lengths))
        self.ring.add(new)
        rng = self.numpy_stream("positions")
        batch = self.ring.take(rng.integers(self.ring.size, size=self.batch_size))
        if self.game.is_go:
            which = rng.integers(8, size=self.batch_size)
            owners = turn_planes(batch.owners[:, None], which).squeeze(1)
            batch = ScoredPositions(turn_planes(batch.observations, which), batch.outcomes, owners)
        return ScoredPositions(*(column.to(self.device) for column in batch))

    def _play(
        self, number: int, positions_per_game: int, stream: str, update: int = 0
    ) -> tuple[ScoredPositions, list[int], list[float]]:
        """Play games with the random streams of an update.

        Returns:
            Positions of each game, the number of its moves, and its result for the first player.
        """
        rng = numpy_stream(self.seed, rank=self.rank, update=update, stream=stream)
        generator = torch_stream(
            self.seed, rank=self.rank, update=update, stream=stream, device=self.device
        )
        policy = self.in_precision(self.module.policy)
        player = network_player(self.game, policy, generator, self.device)
        starts = random_openings(self.game, number, self.random_moves, rng)
        opening = [len(state.history()) for state in starts]
        states = play_match(self.game, player, player, number, starts).states
        lengths = [len(state.history()) - o for state, o in zip(states, opening, strict=True)]
        drawn = [
            first + rng.permutation(length)[:positions_per_game]
            for first, length in zip(opening, lengths, strict=True)
        ]
        positions = self._scored(states, drawn)
        return positions, lengths, [self.game.outcome(state, 0) for state in states]

    def _scored(self, states: list[State], drawn: list[npt.NDArray[np.int64]]) -> ScoredPositions:
        """Positions of finished games, before the moves with the drawn numbers."""
        chosen, players, outcomes, owners = [], [], [], []
        for state, numbers in zip(states, drawn, strict=True):
            position, wanted = self.game.start(), {*numbers.tolist()}
            of_first = self.game.owners(state)
            for number, move in enumerate(state.history()):
                if number in wanted:
                    player = position.current_player()
                    chosen.append(position.clone())
                    outcomes.append(self.game.outcome(state, player))
                    owners.append(of_first)
                    players.append(player)
                position.apply_action(move)
        signs = np.where(np.array(players) == 0, 1, -1).astype(np.int8)
        return ScoredPositions(
            torch.from_numpy(self.game.observe(chosen)),
            torch.tensor(outcomes, dtype=torch.float32),
            torch.from_numpy(np.stack(owners) * signs[:, None, None]),
        )

    def held_out(self, stage: str) -> ScoredPositions:
        """The positions of this rank for "validate" or "test", whose games are played once."""
        if stage not in self._held_out:
            number = len(range(self.rank, self.eval_positions, self.world_size))
            self._held_out[stage] = self._play(number, 1, f"games of {stage}")[0]
        return self._held_out[stage]

    def val_dataloader(self) -> DataLoader[Any]:
        """The positions of the validation games."""
        return self._evaluation("validate", ())

    def test_dataloader(self) -> DataLoader[Any]:
        """The positions of the test games, and the matches against `test_opponents`."""
        return self._evaluation("test", (*self.test_opponents,))

    def _evaluation(self, stage: str, opponents: tuple[str, ...]) -> DataLoader[Any]:
        """This rank's positions of one stage in batches, and matches after them."""
        number = batches_of_an_epoch(self.eval_positions, self.batch_size, self.world_size)
        matches = self.matches(stage, opponents)

        def batches() -> Iterator[Any]:
            whole = self.held_out(stage)
            for part in zip(*(column.tensor_split(number) for column in whole), strict=True):
                yield ScoredPositions(*part)
            yield from matches

        return WholeBatchLoader(Batches(batches, number + len(matches)))

    def teardown(self, stage: str) -> None:
        """Discard the held-out positions, because another policy would play other games."""
        super().teardown(stage)
        self._held_out = {}

    def state_dict(self) -> dict[str, Any]:
        """The counts and the ring of every rank, for a checkpoint."""
        return {**super().state_dict(), "rings": from_all_ranks(self.ring.state_dict())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts and this rank's ring from a checkpoint.

        Raises:
            ConfigurationError: If the checkpoint has another number of processes or capacity.
        """
        super().load_state_dict(state_dict)
        if self.trainer is not None and not self.trainer.training:
            return
        rings = state_dict["rings"]
        if len(rings) != self.world_size:
            raise ConfigurationError(
                f"the checkpoint was made by {len(rings)} processes and there are "
                f"{self.world_size}: each process has its own positions, so use as many as before"
            )
        self.ring.load_state_dict(rings[self.rank])


class PositionRing:
    """The newest positions. Their planes are stored as bits.

    Args:
        shape: Of an observation, (C, H, W).
        capacity: Number of positions.
    """

    def __init__(self, shape: tuple[int, ...], capacity: int) -> None:
        self.shape = tuple(shape)
        self.capacity = capacity
        self.added = 0
        bits = int(np.prod(self.shape))
        self._columns: dict[str, npt.NDArray[Any]] = {
            "bits": np.zeros((capacity, -(-bits // 8)), np.uint8),
            "outcomes": np.zeros(capacity, np.float32),
            "owners": np.zeros((capacity, *self.shape[1:]), np.int8),
        }

    @property
    def size(self) -> int:
        """Number of positions in the ring."""
        return min(self.added, self.capacity)

    def add(self, positions: ScoredPositions) -> None:
        """Add positions in place of the oldest ones."""
        number = len(positions.outcomes)
        rows = np.arange(self.added, self.added + number) % self.capacity
        planes = positions.observations.numpy().reshape(number, -1)
        self._columns["bits"][rows] = np.packbits(planes, axis=1)
        self._columns["outcomes"][rows] = positions.outcomes.numpy()
        self._columns["owners"][rows] = positions.owners.numpy()
        self.added += number

    def take(self, rows: npt.NDArray[np.int64]) -> ScoredPositions:
        """The positions in these rows."""
        bits, outcomes, owners = (column[rows] for column in self._columns.values())
        planes = np.unpackbits(bits, axis=1, count=int(np.prod(self.shape)))
        observations = planes.reshape(len(rows), *self.shape).astype(np.bool_)
        return ScoredPositions(*map(torch.from_numpy, (observations, outcomes, owners)))

    def state_dict(self) -> dict[str, Any]:
        """The positions, for a checkpoint."""
        columns = {
            name: torch.from_numpy(column[: self.size].copy())
            for name, column in self._columns.items()
        }
        return {"capacity": self.capacity, "added": self.added, **columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the positions from a checkpoint. Those of earlier versions have no owners.

        Raises:
            ConfigurationError: If the ring of the checkpoint has another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ConfigurationError(
                f"the checkpoint was made with capacity {state['capacity']}, not {self.capacity}: "
                "use the same capacity"
            )
        self.added = state["added"]
        for name in self._columns.keys() & state.keys():
            self._columns[name][: self.size] = state[name].numpy()
