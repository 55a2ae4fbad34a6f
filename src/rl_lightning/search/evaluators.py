"""Evaluations of leaves: P and v from networks, and z from random rollouts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.go import compiled
from rl_lightning.games.network_player import playable_actions
from rl_lightning.runtime.constructors import require_range

Array = npt.NDArray[Any]

# P [N, A] and v [N] of positions that are not final, from the view of the players to move.
NetworkEvaluator = Callable[[Sequence[State]], tuple[Array, Array]]
# z [N]: results for the players to move of playing these positions to the end.
RolloutEvaluator = Callable[[Sequence[State]], Array]


def uniform_evaluator(game: BoardGame) -> NetworkEvaluator:
    """Equal priors and values of 0, for a search that learns from rollouts alone."""

    def evaluate(states: Sequence[State]) -> tuple[Array, Array]:
        return np.ones((len(states), game.num_actions), np.float32), np.zeros(len(states))

    return evaluate


def network_evaluator(
    game: BoardGame,
    policy_network: Callable[[Tensor], Tensor],
    value_network: Callable[[Tensor], Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> NetworkEvaluator:
    """Priors and values of networks, which evaluate all positions in one batch.

    Actions that players do not choose have the prior 0; see `playable_actions`.

    Args:
        game: The game.
        policy_network: Planes [N, C, H, W] to logits [N, A].
        value_network: Planes to values [N]; None gives values of 0.
        device: The device of the networks.
    """

    @torch.no_grad()
    def evaluate(states: Sequence[State]) -> tuple[Array, Array]:
        observed = game.observe(states)
        planes = torch.from_numpy(observed).to(device)
        playable = torch.from_numpy(playable_actions(game, observed)).to(device)
        probabilities = policy_network(planes).float().masked_fill(~playable, -torch.inf).softmax(1)
        # A playable action keeps a prior above 0, because the search drops all others.
        priors = (probabilities.clamp_min(1e-8) * playable).cpu().numpy()
        if value_network is None:
            return priors, np.zeros(len(states))
        return priors, value_network(planes).double().cpu().numpy()

    return evaluate


def rollout_evaluator(
    game: BoardGame, generator: np.random.Generator, rollouts_per_leaf: int = 1
) -> RolloutEvaluator:
    """The mean result of games that random moves play from a position to the end.

    In Go no player fills an own eye, because this kills living groups, and a player passes only if
    no other move is left. A repeated position does not end a rollout of Go, as it ends a game. In
    other games with a pass, a player passes only if no other move is legal.

    Args:
        game: The game.
        generator: Draws the moves.
        rollouts_per_leaf: Rollouts of each position.
    """
    require_range(1, rollouts_per_leaf=rollouts_per_leaf)
    if game.is_go:
        return _go_rollouts(game, generator, rollouts_per_leaf)

    def result_of(state: State, player: int) -> float:
        draws = generator.random(game.rules.max_game_length() + 1)
        for draw in draws:
            if state.is_terminal():
                break
            legal = state.legal_actions()
            if game.has_pass and len(legal) > 1 and legal[-1] == game.num_points:
                legal = legal[:-1]
            state.apply_action(legal[int(draw * len(legal))])
        return game.outcome(state, player)

    def roll_out(states: Sequence[State]) -> Array:
        return np.array(
            [
                [result_of(each.clone(), each.current_player()) for _ in range(rollouts_per_leaf)]
                for each in states
            ]
        ).mean(1)

    return roll_out


def _go_rollouts(
    game: BoardGame, generator: np.random.Generator, rollouts_per_leaf: int
) -> RolloutEvaluator:
    """Compiled rollouts of Go. Komi and length of a game are those of its state."""

    def roll_out(states: Sequence[State]) -> Array:
        stones, _, legal, black = game.pack(states)
        histories = [state.history() for state in states]
        rules = [state.get_game().get_parameters() for state in states]
        longest = np.array([each["max_game_length"] for each in rules])
        results = np.empty((len(states), rollouts_per_leaf))
        compiled("go_rollouts").roll_out(
            stones,
            legal,
            np.array([moves[-1:] == [game.num_points] for moves in histories], np.int64),
            longest - [len(moves) for moves in histories],
            np.where(black, 1.0, -1.0) * [each["komi"] for each in rules],
            game.board_shape[0],
            generator.integers(2**64, size=results.shape, dtype=np.uint64),
            results,
        )
        mean: Array = results.mean(1)
        return mean

    return roll_out
