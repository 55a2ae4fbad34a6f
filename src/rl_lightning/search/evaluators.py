"""Evaluations of leaves: priors and values from networks, and results of random rollouts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.network_player import own_eyes, playable_actions

Array = npt.NDArray[Any]

# Priors [N, A] and values [N] for the players to move, of positions that are not final.
Evaluator = Callable[[Sequence[State]], tuple[Array, Array]]
# Results [N] for player 0 of playing positions to their end.
Rollout = Callable[[Sequence[State]], Array]


def uniform_evaluator(game: BoardGame) -> Evaluator:
    """Equal priors and values of 0, for a search that learns from rollouts alone."""

    def evaluate(states: Sequence[State]) -> tuple[Array, Array]:
        return np.ones((len(states), game.num_actions), np.float32), np.zeros(len(states))

    return evaluate


def network_evaluator(
    game: BoardGame,
    policy: Callable[[Tensor], Tensor],
    value: Callable[[Tensor], Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> Evaluator:
    """Priors and values of networks, which evaluate all positions in one batch.

    Actions that players do not choose have the prior 0; see `playable_actions`.

    Args:
        game: The game.
        policy: Planes [N, C, H, W] to logits [N, A].
        value: Planes to values [N]; None gives values of 0.
        device: The device of the networks.
    """

    @torch.no_grad()
    def evaluate(states: Sequence[State]) -> tuple[Array, Array]:
        observed = game.observe(states)
        planes = torch.from_numpy(observed).to(device)
        playable = torch.from_numpy(playable_actions(game, observed)).to(device)
        probabilities = policy(planes).float().masked_fill(~playable, -torch.inf).softmax(1)
        # A playable action keeps a prior above 0, because the search drops all others.
        priors = (probabilities.clamp_min(1e-8) * playable).cpu().numpy()
        if value is None:
            return priors, np.zeros(len(states))
        return priors, value(planes).double().cpu().numpy()

    return evaluate


def random_rollout(game: BoardGame, generator: np.random.Generator) -> Rollout:
    """Play each position to its end with random moves.

    In Go no player fills an own eye, because this kills living groups, and a player passes only if
    no other move is left. In other games with a pass, a player passes only if no other move is
    legal.
    """
    if game.is_go:
        return _go_rollout(game, generator)

    def roll_out(states: Sequence[State]) -> Array:
        results = np.empty(len(states))
        for index, state in enumerate(states):
            here = state.clone()
            draws = generator.random(game.rules.max_game_length() + 1)
            for draw in draws:
                if here.is_terminal():
                    break
                legal = here.legal_actions()
                if game.has_pass and len(legal) > 1 and legal[-1] == game.num_points:
                    legal = legal[:-1]
                here.apply_action(legal[int(draw * len(legal))])
            results[index] = game.outcome(here, 0)
        return results

    return roll_out


def _go_rollout(game: BoardGame, generator: np.random.Generator) -> Rollout:
    """Rollouts of Go in lock-step, because eyes are found in all positions at once."""

    def roll_out(states: Sequence[State]) -> Array:
        ends = [state.clone() for state in states]
        playing = [state for state in ends if not state.is_terminal()]
        while playing:
            stones, _, legal, _ = game.pack(playing)
            board = stones.reshape(-1, *game.board_shape)
            eyes = own_eyes(board == 1, board == -1).reshape(legal.shape)
            draws = generator.random(legal.shape) * (legal & ~eyes)
            # A row without a draw above 0 has no playable point, so the player passes.
            actions = np.where(draws.any(1), draws.argmax(1), game.num_points)
            for state, action in zip(playing, actions, strict=True):
                state.apply_action(int(action))
            playing = [state for state in playing if not state.is_terminal()]
        return np.array([game.outcome(state, 0) for state in ends])

    return roll_out
