"""Matches of a validation or a test, and games of `predict`, as datasets."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset

from rl_lightning.experience import CheckedMoves, MatchResults, RecordedGame
from rl_lightning.games.board_game import State
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import Player, drawn_openings, play_match
from rl_lightning.games.minimax import mistakes
from rl_lightning.games.network_player import network_player
from rl_lightning.search.players import Players
from rl_lightning.search.recording import OPENING_MOVES


class MatchDataset(IterableDataset[MatchResults | CheckedMoves]):
    """Plays this rank's share of the games of one match against each opponent.

    With the opponent "perfect" the most probable moves of the policy are compared with minimax as
    well, in all positions of the game.

    Args:
        players: Makes the players.
        stage: "validate" or "test"; they have different random streams.
        opponents: "start", "policy", "rollouts", "perfect" or "gnugo".
        num_games: Games of this rank.
        start_policy: Gives the policy at the start of the run, for the opponent "start".
    """

    def __init__(
        self,
        players: Players,
        stage: str,
        opponents: Sequence[str],
        num_games: int,
        start_policy: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.players = players
        self.stage = stage
        self.opponents = opponents
        self.num_games = num_games
        self.start_policy = start_policy

    def __len__(self) -> int:
        """Number of batches, equal on every rank."""
        return len(self.opponents) + ("perfect" in self.opponents)

    def __iter__(self) -> Iterator[MatchResults | CheckedMoves]:
        """Play the matches, with the same random streams at every call."""
        game = self.players.game
        for name in self.opponents:
            pair = self.pair(name)
            # Ranks may have odd numbers of games, so half of them let the opponent move first.
            sign = -1 if self.players.rank % 2 else 1
            starts = self._openings() if name == "gnugo" else None
            try:
                match = play_match(game, pair[::sign][0], pair[::sign][1], self.num_games, starts)
            finally:
                for player in pair:
                    if isinstance(player, GnuGo):
                        player.close()
            yield MatchResults(name, torch.from_numpy(sign * match.outcomes))
            if name == "perfect":
                yield CheckedMoves(torch.from_numpy(self._mistakes()))

    def pair(self, name: str) -> tuple[Player, Player]:
        """The player and the opponent with this name."""
        players, stream = self.players, f"{self.stage} {name}"
        if name == "start":
            assert self.start_policy is not None, "this datamodule has no policy of the start"
            start = players.drawing(f"{stream} opponent", self.start_policy())
            return players.drawing(stream), start
        makers: dict[str, Callable[[str], Player]] = {
            "policy": players.drawing,
            "rollouts": players.rollouts,
            "perfect": players.perfect,
            "gnugo": players.gnugo,
        }
        return players.strongest(stream), makers[name](f"{stream} opponent")

    def _openings(self) -> list[State] | None:
        """Openings that the policy draws, if the search plays.

        Neither the search nor GNU Go draws its moves, so all games would be equal without them.
        """
        if not self.players.num_simulations:
            return None
        policy = self.players.drawing(f"{self.stage} openings")
        return drawn_openings(self.players.game, policy, self.num_games, OPENING_MOVES)

    def _mistakes(self) -> np.ndarray:
        """Mistakes of the policy; rank 0 looks at all positions."""
        if self.players.rank:
            return np.zeros(0, np.bool_)
        game, device = self.players.game, self.players.device
        return mistakes(game, network_player(game, self.players.policy, None, device))


class GameRecordings(IterableDataset[RecordedGame]):
    """Records this rank's share of the games of `predict`.

    Args:
        record: Records the game with a number.
        numbers: Numbers of this rank's games.
    """

    def __init__(self, record: Callable[[int], RecordedGame], numbers: Sequence[int]) -> None:
        self.record = record
        self.numbers = numbers

    def __len__(self) -> int:
        """Number of games of this rank."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[RecordedGame]:
        """Play the games, with the same random streams at every call."""
        yield from map(self.record, self.numbers)
