"""Matches of a validation or a test."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset

from rl_lightning import __version__
from rl_lightning.experience import CheckedMoves, MatchResults, RecordedGame
from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.gtp import GtpEngine
from rl_lightning.games.matches import (
    Player,
    best_actions,
    drawn_openings,
    minimax_values,
    perfect_player,
    play_match,
)
from rl_lightning.games.network_player import PolicyNetwork, network_player
from rl_lightning.runtime.seeding import numpy_stream
from rl_lightning.search.recording import OPENING_MOVES

if TYPE_CHECKING:
    from rl_lightning.datamodules.alphago.board_games import BoardGamesDataModule


class MatchDataset(IterableDataset[MatchResults | CheckedMoves]):
    """Plays this rank's share of the games of one match against each opponent.

    With the opponent "perfect" the moves of the policy alone are compared with minimax as well, in
    all positions of the game.

    Args:
        data: The datamodule, which makes the players.
        stage: "validate" or "test"; they have different random streams.
        opponents: Names of the opponents.
    """

    def __init__(self, data: "BoardGamesDataModule", stage: str, opponents: Sequence[str]) -> None:
        self.data = data
        self.stage = stage
        self.opponents = opponents

    def __len__(self) -> int:
        """Number of batches, equal on every rank."""
        return len(self.opponents) + ("perfect" in self.opponents)

    def __iter__(self) -> Iterator[MatchResults | CheckedMoves]:
        """Play the matches, with the same random streams at every call."""
        rank, ranks = self.data.rank, self.data.world_size
        games = len(range(rank, self.data.eval_games, ranks))
        for name in self.opponents:
            first, second = self._players(name)
            # Ranks may have odd numbers of games, so half of them let the opponent move first.
            swapped = rank % 2 == 1
            if swapped:
                first, second = second, first
            starts = self._openings(games) if name == "gnugo" else None
            try:
                outcomes = play_match(self.data.game, first, second, games, starts).outcomes
            finally:
                for player in (first, second):
                    if isinstance(player, GnuGo):
                        player.close()
            yield MatchResults(name, torch.from_numpy(-outcomes if swapped else outcomes))
            if name == "perfect":
                yield CheckedMoves(torch.from_numpy(self._mistakes()))

    def _players(self, name: str) -> tuple[Player, Player]:
        data, stream = self.data, f"{self.stage} {name}"
        if name == "start":
            start = data.policy_player(f"{stream} opponent", data.start_policy())
            return data.policy_player(stream), start
        player = data.player(stream)
        if name == "policy":
            return player, data.policy_player(f"{stream} opponent")
        if name == "rollouts":
            return player, data.rollout_player(f"{stream} opponent")
        if name == "gnugo":
            return player, data.gnugo(f"{stream} opponent")
        rng = numpy_stream(data.seed, rank=data.rank, stream=f"{stream} opponent")
        return player, perfect_player(data.game, rng)

    def _openings(self, games: int) -> list[State] | None:
        """Openings that the policy draws, if the search plays.

        Neither the search nor GNU Go draws its moves, so all games would be equal without them.
        """
        if not self.data.num_simulations:
            return None
        policy = self.data.policy_player(f"{self.stage} openings")
        return drawn_openings(self.data.game, policy, games, OPENING_MOVES)

    def _mistakes(self) -> npt.NDArray[np.bool_]:
        if self.data.rank:
            return np.zeros(0, np.bool_)
        return policy_mistakes(self.data.game, self.data.module.policy, self.data.device)


class GameRecordings(IterableDataset[RecordedGame]):
    """Records this rank's share of the games of `predict`."""

    def __init__(self, data: "BoardGamesDataModule") -> None:
        self.data = data

    def __len__(self) -> int:
        """Number of games of this rank."""
        return len(range(self.data.rank, self.data.predict_games, self.data.world_size))

    def __iter__(self) -> Iterator[RecordedGame]:
        """Play the games, with the same random streams at every call."""
        for number in range(self.data.rank, self.data.predict_games, self.data.world_size):
            yield self.data.record_game(number)


class GtpSession(IterableDataset[RecordedGame]):
    """Answers commands of the Go Text Protocol until their end, and yields no games."""

    def __init__(self, data: "BoardGamesDataModule", commands: TextIO, answers: TextIO) -> None:
        self.data = data
        self.commands = commands
        self.answers = answers

    def __len__(self) -> int:
        """At most one batch, so that Lightning asks for it."""
        return 1

    def __iter__(self) -> Iterator[RecordedGame]:
        """Serve the session."""
        engine = GtpEngine(self.data.game, self.data.player("gtp"), __version__)
        engine.serve(self.commands, self.answers)
        yield from ()


def policy_mistakes(
    game: BoardGame, policy: PolicyNetwork, device: torch.device | str = "cpu"
) -> npt.NDArray[np.bool_]:
    """Compare the most probable action of a policy with minimax, in every position of a game.

    Returns:
        [N] bool for the N positions that are not final: whether the action is worse than the best.
    """
    value_of, states = minimax_values(game), all_positions(game)
    actions = network_player(game, policy, None, device)(states)
    return np.array(
        [
            action not in best_actions(game, state, value_of)
            for state, action in zip(states, actions, strict=True)
        ]
    )


def all_positions(game: BoardGame) -> list[State]:
    """All positions of a small game that are not final, told apart by their text."""
    found: dict[str, State] = {}
    waiting = [game.start()]
    while waiting:
        state = waiting.pop()
        if state.is_terminal() or str(state) in found:
            continue
        found[str(state)] = state
        for action in game.legal_actions(state):
            after = state.clone()
            game.play(after, action)
            waiting.append(after)
    return [*found.values()]
