"""Batches of board games, and what their modules and datamodules declare."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TextIO, runtime_checkable

from torch import Tensor, nn


class LabelledPositions(NamedTuple):
    """Positions of finished games, each with the move that was played and the game's result."""

    observations: Tensor  # [B, C, H, W] bool: planes, from the view of the player to move
    actions: Tensor  # [B] int64
    outcomes: Tensor  # [B] float32, for the player to move: 1 for a win, -1 a loss, 0 a draw


class SelfPlayGames(NamedTuple):
    """The moves of the policy in whole games against opponents, game after game."""

    observations: Tensor  # [B, C, H, W] bool: planes, from the view of the policy
    playable: Tensor  # [B, A] bool: the actions among which the policy chose
    actions: Tensor  # [B] int64
    lengths: Tensor  # [N] int64: moves of the policy in each game; their sum is B
    outcomes: Tensor  # [N] float32, for the policy: 1 for a win, -1 a loss, 0 a draw


class ScoredPositions(NamedTuple):
    """Positions with the end of their games, from the view of the player to move."""

    observations: Tensor  # [B, C, H, W] bool: planes
    outcomes: Tensor  # [B] float32: 1 for a win, -1 for a loss, 0 for a draw
    owners: Tensor  # [B, H, W] int8: 1 for own points at the end of a game of Go, -1, else 0


class MatchResults(NamedTuple):
    """Results of this rank's games of a match. Every rank has the same matches."""

    opponent: str  # name of the opponent in the names of metrics
    outcomes: Tensor  # [N] float64: 1 where the player won, -1 where it lost, 0 for a draw


class CheckedMoves(NamedTuple):
    """Checks of the most probable actions against exact play. Rank 0 has those of all ranks."""

    mistakes: Tensor  # [N] bool: the action is worse than the best one by minimax


class RecordedGame(NamedTuple):
    """One whole board game. Without an evaluation, a move has only zeros, and its value is NaN."""

    game: str  # OpenSpiel's name
    players: tuple[str, str]  # names, the first to move first
    actions: Tensor  # [T] int64
    priors: Tensor  # [T, A] float32: probabilities of the policy before each move
    visits: Tensor  # [T, A] int64: simulations through each action; zeros without a search
    values: Tensor  # [T] float64, for the first player, from the search or else the network
    outcome: float  # for the first player


@runtime_checkable
class PlaysBoardGames(Protocol):
    """A module with networks for board games, which datamodules of games play with.

    A datamodule calls the networks, and keeps the `state_dict` of the policy in its pool of
    opponents.
    """

    policy: nn.Module  # planes [N, C, H, W] to logits [N, A]
    value: nn.Module  # planes to expected results [N] for the player to move


@runtime_checkable
class RecordsGames(Protocol):
    """A datamodule that can record board games."""

    def record_game(self, number: int) -> RecordedGame:
        """Record the game with this number."""


@runtime_checkable
class ServesGtp(Protocol):
    """A datamodule that plays by the Go Text Protocol, for the command `gtp`."""

    def gtp_session(self, commands: TextIO, answers: TextIO) -> Callable[[], None]:
        """Check the game, and return the function that answers the commands until their end."""
