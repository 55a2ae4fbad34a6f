"""One position of each game of the policy against itself, for the value network."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.datamodules.alphago.board_games import BoardGamesDataModule
from rl_lightning.datamodules.source import (
    WholeBatchLoader,
    batches_of_an_epoch,
    require_positive,
)
from rl_lightning.experience import CheckedMoves, MatchResults, ScoredPositions
from rl_lightning.games.matches import play_match, random_openings
from rl_lightning.games.network_player import network_player
from rl_lightning.games.symmetries import turn_planes
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import from_all_ranks
from rl_lightning.runtime.seeding import numpy_stream, torch_stream


class SelfPlayPositionsDataModule(BoardGamesDataModule):
    """Plays games of the module's policy against itself, and keeps one position of each.

    Successive positions of a game are similar and have the same result, so a value network that
    learns from whole games remembers them (Silver et al. 2016, methods). The position is drawn from
    all positions of the game. Each update plays new games and adds their positions to a ring. Its
    batch is drawn from the ring with equal probability. The ring is in the checkpoint. Positions of
    Go are turned by a random symmetry of the board.

    Validation and test use one position of each of their own games.

    Args:
        game: OpenSpiel's name of the game, with parameters.
        games_per_update: New games of an update, on each rank.
        random_moves: Each game begins with a number of random moves, drawn from 0 to this one. The
            position is drawn from those after them.
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
        batch_size: int = 256,
        capacity: int = 100_000,
        eval_positions: int = 1_000,
        **game_options: Any,
    ) -> None:
        super().__init__(game, games_per_update, random_moves, **game_options)
        self.save_hyperparameters()
        require_positive(
            batch_size=batch_size,
            capacity=capacity,
            eval_positions=eval_positions,
        )
        self.batch_size = batch_size
        self.eval_positions = eval_positions
        self.ring = PositionRing(self.environment["observation_shape"], capacity)
        self._held_out: dict[str, ScoredPositions] = {}

    def next_batch(self) -> ScoredPositions:
        """Play new games, and draw a batch from the positions of all games."""
        new, lengths, outcomes = self._play(self.games_per_update, "games", self.updates)
        self.env_steps += sum(lengths)
        self.last_games = (len(lengths), sum(outcomes), sum(lengths))
        self.ring.add(new)
        rng = self.numpy_stream("positions")
        batch = self.ring.take(rng.integers(self.ring.size, size=self.batch_size))
        observations = batch.observations
        if self.game.is_go:
            observations = turn_planes(observations, rng.integers(8, size=self.batch_size))
        return ScoredPositions(observations.to(self.device), batch.outcomes.to(self.device))

    def _play(
        self, number: int, stream: str, update: int = 0
    ) -> tuple[ScoredPositions, list[int], list[float]]:
        """Play games with the random streams of an update.

        Returns:
            One position of each game, the number of its moves, and its result for the first player.
        """
        rng = numpy_stream(self.seed, rank=self.rank, update=update, stream=stream)
        generator = torch_stream(
            self.seed, rank=self.rank, update=update, stream=stream, device=self.device
        )
        player = network_player(self.game, self.module.policy, generator, self.device)
        starts = random_openings(self.game, number, self.random_moves, rng)
        opening = [len(state.history()) for state in starts]
        states = play_match(self.game, player, player, number, starts).states
        chosen, results = [], []
        for state, first in zip(states, opening, strict=True):
            moves = state.history()
            position = self.game.start()
            for move in moves[: rng.integers(first, len(moves))]:
                position.apply_action(move)
            chosen.append(position)
            results.append(self.game.outcome(state, position.current_player()))
        positions = ScoredPositions(
            torch.from_numpy(self.game.observe(chosen)), torch.tensor(results, dtype=torch.float32)
        )
        lengths = [len(state.history()) - o for state, o in zip(states, opening, strict=True)]
        return positions, lengths, [self.game.outcome(state, 0) for state in states]

    def held_out(self, stage: str) -> ScoredPositions:
        """The positions of this rank for "validate" or "test", whose games are played once."""
        if stage not in self._held_out:
            number = len(range(self.rank, self.eval_positions, self.world_size))
            self._held_out[stage] = self._play(number, f"games of {stage}")[0]
        return self._held_out[stage]

    def val_dataloader(self) -> DataLoader[Any]:
        """The positions of the validation games."""
        return WholeBatchLoader(HeldOutGames(self, "validate"))

    def test_dataloader(self) -> DataLoader[Any]:
        """The positions of the test games, and the matches against `test_opponents`."""
        return WholeBatchLoader(HeldOutGames(self, "test", (*self.test_opponents,)))

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


class HeldOutGames(IterableDataset[ScoredPositions | MatchResults | CheckedMoves]):
    """This rank's positions of one stage in batches, and matches after them.

    Args:
        data: The datamodule.
        stage: "validate" or "test".
        opponents: Opponents in the matches.
    """

    def __init__(
        self, data: SelfPlayPositionsDataModule, stage: str, opponents: tuple[str, ...] = ()
    ) -> None:
        self.data = data
        self.stage = stage
        self.matches = data.matches(stage, opponents)
        self.batches = batches_of_an_epoch(data.eval_positions, data.batch_size, data.world_size)

    def __len__(self) -> int:
        """Number of batches, equal on every rank."""
        return self.batches + len(self.matches)

    def __iter__(self) -> Iterator[ScoredPositions | MatchResults | CheckedMoves]:
        """Yield the positions, and then the results of the matches."""
        whole = self.data.held_out(self.stage)
        for part in zip(*(each.tensor_split(self.batches) for each in whole), strict=True):
            yield ScoredPositions(*part)
        yield from self.matches


class PositionRing:
    """The newest positions. Their planes are stored as bits.

    Args:
        shape: Shape of an observation, (C, H, W).
        capacity: Number of positions.
    """

    def __init__(self, shape: tuple[int, ...], capacity: int) -> None:
        self.shape = tuple(shape)
        self.capacity = capacity
        self.added = 0
        bits = int(np.prod(self.shape))
        self._bits = np.zeros((capacity, -(-bits // 8)), np.uint8)
        self._outcomes = np.zeros(capacity, np.float32)

    @property
    def size(self) -> int:
        """Number of positions in the ring."""
        return min(self.added, self.capacity)

    def add(self, positions: ScoredPositions) -> None:
        """Add positions in place of the oldest ones."""
        number = len(positions.outcomes)
        rows = np.arange(self.added, self.added + number) % self.capacity
        self._bits[rows] = np.packbits(positions.observations.numpy().reshape(number, -1), axis=1)
        self._outcomes[rows] = positions.outcomes.numpy()
        self.added += number

    def take(self, rows: npt.NDArray[np.int64]) -> ScoredPositions:
        """The positions in these rows."""
        bits = np.unpackbits(self._bits[rows], axis=1, count=int(np.prod(self.shape)))
        planes = bits.reshape(len(rows), *self.shape).astype(np.bool_)
        return ScoredPositions(torch.from_numpy(planes), torch.from_numpy(self._outcomes[rows]))

    def state_dict(self) -> dict[str, Any]:
        """The positions, for a checkpoint."""
        return {
            "capacity": self.capacity,
            "added": self.added,
            "bits": torch.from_numpy(self._bits[: self.size].copy()),
            "outcomes": torch.from_numpy(self._outcomes[: self.size].copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the positions from a checkpoint.

        Raises:
            ConfigurationError: If the ring of the checkpoint has another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ConfigurationError(
                f"the checkpoint was made with capacity {state['capacity']}, not {self.capacity}: "
                "use the same capacity"
            )
        self.added = state["added"]
        self._bits[: self.size] = state["bits"].numpy()
        self._outcomes[: self.size] = state["outcomes"].numpy()
