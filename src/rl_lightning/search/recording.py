"""Games with what the players thought of each position."""

from collections.abc import Sequence

import numpy as np
import torch

from rl_lightning.experience import RecordedGame
from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.matches import Player
from rl_lightning.search.evaluators import Evaluator
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

    def __init__(self, evaluate: Evaluator, player: Player, opening: Player | None = None) -> None:
        self.evaluate = evaluate
        self.player = player
        self.opening = opening

    def choose(self, state: State) -> tuple[int, SearchResult]:
        """Choose an action.

        Returns:
            The action, and the visits, values and priors of all actions [1, A]. Without a search
            the visits are 0, and all values are the value of the position.
        """
        is_opening = self.opening is not None and state.move_number() < OPENING_MOVES
        if isinstance(self.player, TreeSearch):
            found = self.player.search([state])
            action = self.player.best_actions(found)[0]
        else:
            priors, values = self.evaluate([state])
            every = np.repeat(np.asarray(values, np.float64)[:, None], priors.shape[1], 1)
            found = SearchResult(np.zeros(priors.shape, np.int64), every, priors)
            action = -1 if is_opening else self.player([state])[0]
        if is_opening and self.opening is not None:
            action = self.opening([state])[0]
        return action, found


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
    while not state.is_terminal():
        number = state.current_player()
        player = players[number]
        if isinstance(player, Recorder):
            action, result = player.choose(state)
            total = result.visits[0].sum()
            mean = (
                (result.visits[0] * result.values[0]).sum() / total
                if total
                else (result.values[0, action])
            )
            values.append(float(mean) * (1 if number == 0 else -1))
        else:
            action, result = player([state])[0], nothing
            values.append(float("nan"))
        found.append(result)
        actions.append(action)
        game.play(state, action)
    return RecordedGame(
        game.name,
        names,
        torch.tensor(actions),
        torch.from_numpy(np.concatenate([each.priors for each in found])),
        torch.from_numpy(np.concatenate([each.visits for each in found])),
        torch.tensor(values, dtype=torch.float64),
        game.outcome(state, 0),
    )


def _nothing(game: BoardGame) -> SearchResult:
    shape = (1, game.num_actions)
    return SearchResult(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.float32))
