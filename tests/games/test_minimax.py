"""The exact player."""

import numpy as np

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import play_match, random_player
from rl_lightning.games.minimax import best_actions, minimax_values, perfect_player


def test_the_perfect_player_never_loses_and_beats_a_random_one():
    game, rng = BoardGame("tic_tac_toe"), np.random.default_rng(0)
    match = play_match(game, perfect_player(game, rng), random_player(game, rng), 60)
    assert match.outcomes.min() >= 0
    assert match.outcomes.mean() > 0.7
    draws = play_match(game, perfect_player(game, rng), perfect_player(game, rng), 10)
    assert not draws.outcomes.any()


def test_best_actions_of_both_players():
    game = BoardGame("tic_tac_toe")
    value_of, state = minimax_values(game), game.start()
    for action in (0, 3, 1, 4):
        game.play(state, action)
    assert best_actions(game, state, value_of) == [2]
    game.play(state, 8)
    assert best_actions(game, state, value_of) == [2, 5], "a win in one move, or by a double threat"
