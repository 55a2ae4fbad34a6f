"""Games with what the players thought of each position."""

from collections.abc import Sequence

import numpy as np
import torch

from rl_lightning.experience import RecordedGame
from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.matches import RESIGN, Player
from rl_lightning.search.evaluators import NetworkEvaluator
from rl_lightning.search.tree_search import SearchResult, TreeSearch

# Moves at the start of a recorded game that are drawn from the policy.
OPENING_MOVES = 4


class Recorder:
    """Chooses the moves of one side of a recorded game, and evaluates its positions.

    Args:
        evaluate: Priors and values of networks.
        player: Chooses the moves; of a `TreeSearch` the visits and values are recorded.
        opening: Chooses the first `OPENING_MOVES` moves in place of the player.
    """

    def __init__(
        self, evaluate: NetworkEvaluator, player: Player, opening: Player | None = None
    ) -> None:
        self.evaluate = evaluate
        self.player = player
        self.opening = opening

    def choose(self, state: State) -> tuple[int, SearchResult]:
        """Choose a move.

        Returns:
            The action or `RESIGN`, and the visits, values and priors of all actions [1, A]. Where
            nothing was searched, all values are the value of the position.
        """
        found = action = None
        if isinstance(self.player, TreeSearch):
            found = self.player.search([state])
            action = self.player.choose(found)[0]
        if found is None or not found.visits.any():
            priors, values = self.evaluate([state])
            every = np.repeat(np.asarray(values, np.float64)[:, None], priors.shape[1], 1)
            found = SearchResult(np.zeros(priors.shape, np.int64), every, priors)
        if self.opening is not None and state.move_number() < OPENING_MOVES:
            action = self.opening([state])[0]
        return self.player([state])[0] if action is None else action, found


def record_game(
    game: BoardGame, players: Sequence[Recorder | Player], names: tuple[str, str]
) -> RecordedGame:
    """Play one game.

    Args:
        game: The game.
        players: Two players, the first to move first. Only those that are a `Recorder` have
            evaluations.
        names: Their names.
    """
    state, actions = game.start(), list[int]()
    found: list[SearchResult] = []
    values: list[float] = []
    nothing = _nothing(game)
    outcome: float | None = None
    while outcome is None:
        number = state.current_player()
        sign = 1.0 if number == 0 else -1.0
        player = players[number]
        if isinstance(player, Recorder):
            action, result = player.choose(state)
            value = sign * _mean_value(result)
        else:
            action, result, value = player([state])[0], nothing, float("nan")
        if action == RESIGN:
            outcome = -sign
            continue
        values.append(value)
        found.append(result)
        actions.append(action)
        game.play(state, action)
        if state.is_terminal():
            outcome = game.outcome(state, 0)
    return RecordedGame(
        game.name,
        names,
        torch.tensor(actions),
        torch.from_numpy(np.concatenate([each.priors for each in found])),
        torch.from_numpy(np.concatenate([each.visits for each in found])),
        torch.tensor(values, dtype=torch.float64),
        outcome,
    )


def _mean_value(result: SearchResult) -> float:
    """The mean value of all simulations; without a search all values are equal."""
    visits, values = result.visits[0], result.values[0]
    return float(np.average(values, weights=visits if visits.any() else None))


def _nothing(game: BoardGame) -> SearchResult:
    shape = (1, game.num_actions)
    return SearchResult(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.float32))
