"""Players that draw their actions from a policy network."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.go_planes import STONES
from rl_lightning.games.matches import Match, Player

# Planes [N, C, H, W] to logits [N, A].
PolicyNetwork = Callable[[Tensor], Tensor]


def playable_actions(game: BoardGame, planes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The actions among which players choose.

    In Go these are the legal moves that do not fill an own eye. A pass is playable where there is
    no other. So games end when both sides have nothing left to play, and counting the points on
    the board gives the right result. A policy that was trained without passes needs this.
    In other games all legal actions are playable.

    Args:
        game: The game.
        planes: Observations [N, C, H, W].

    Returns:
        [N, A] bool, with at least one action in each row.
    """
    legal = planes[:, -1]
    if not game.is_go:
        flat = legal.reshape(len(planes), -1)
        if not game.has_pass:
            return flat
        return np.concatenate([flat, planes[:, -2, :1, 0]], 1)
    moves = (legal & ~own_eyes(planes[:, STONES], planes[:, STONES + 1])).reshape(len(planes), -1)
    return np.concatenate([moves, ~moves.any(1, keepdims=True)], 1)


def own_eyes(own: npt.NDArray[np.bool_], opponent: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The empty points [N, H, W] that are eyes of the own stones.

    All neighbours of an eye are own stones. At most one of its diagonal points has a stone of the
    opponent, and none on the border of the board.

    Args:
        own: Own stones [N, H, W].
        opponent: Stones of the opponent [N, H, W].
    """
    edges = ((0, 0), (1, 1), (1, 1))
    near = np.pad(own, edges, constant_values=True)
    closed = near[:, :-2, 1:-1] & near[:, 2:, 1:-1] & near[:, 1:-1, :-2] & near[:, 1:-1, 2:]
    far = np.pad(opponent, edges).astype(np.int8)
    hostile = far[:, :-2, :-2] + far[:, :-2, 2:] + far[:, 2:, :-2] + far[:, 2:, 2:]
    border = np.ones(own.shape[1:], np.int8)
    border[1:-1, 1:-1] = 0
    eyes: npt.NDArray[np.bool_] = closed & ~own & ~opponent & (hostile + border <= 1)
    return eyes


class Moves:
    """What a player saw and chose, in the order of its calls.

    Attributes:
        states: The game's state at each move, which changes while the game goes on.
        observations: The planes of each call, [n, C, H, W] bool.
        playable: The playable actions of each call, [n, A] bool.
        actions: The actions of each call, [n] int64.
    """

    def __init__(self) -> None:
        self.states: list[State] = []
        self.observations: list[Tensor] = []
        self.playable: list[Tensor] = []
        self.actions: list[Tensor] = []


def network_player(
    game: BoardGame,
    policy: PolicyNetwork,
    generator: torch.Generator | None,
    device: torch.device | str = "cpu",
    record: Moves | None = None,
) -> Player:
    """A player that draws playable actions with the probabilities of a policy network.

    Args:
        game: The game.
        policy: The network.
        generator: Draws the actions; with None the most probable one is played.
        device: The device of the network and of the generator.
        record: Receives the moves.
    """

    @torch.no_grad()
    def choose(states: Sequence[State]) -> list[int]:
        planes = game.observe(states)
        observations = torch.from_numpy(planes).to(device)
        playable = torch.from_numpy(playable_actions(game, planes)).to(device)
        logits = policy(observations).float().masked_fill(~playable, -torch.inf)
        if generator is None:
            actions = logits.argmax(1)
        else:
            actions = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
        if record is not None:
            record.states += states
            record.observations.append(observations)
            record.playable.append(playable)
            record.actions.append(actions)
        found: list[int] = actions.tolist()
        return found

    return choose


def sort_by_game(match: Match, moves: Moves) -> tuple[Tensor, Tensor]:
    """Put recorded moves in the order of their games.

    Args:
        match: The games.
        moves: The moves of one player of them.

    Returns:
        The order of the B moves as indices [B], and the number of moves in each game [N].
    """
    games = {id(state): number for number, state in enumerate(match.states)}
    owners = np.array([games[id(state)] for state in moves.states])
    order = torch.from_numpy(owners.argsort(kind="stable"))
    return order, torch.from_numpy(np.bincount(owners, minlength=len(match.states)))
