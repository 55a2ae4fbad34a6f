"""Matches between two players."""

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import RESIGN, play_match


def test_players_take_turns_in_moving_first():
    game = BoardGame("tic_tac_toe")
    seen = {"first": 0, "second": 0}

    def player(name, action):
        def choose(states):
            seen[name] += 1
            return [
                action if not each.history() else game.legal_actions(each)[0] for each in states
            ]

        return choose

    match = play_match(game, player("first", 8), player("second", 4), 6)
    assert [state.history()[0] for state in match.states] == [8, 4, 8, 4, 8, 4]
    assert seen["first"] <= 9, "all positions of a player are one call"
    for index, (state, outcome) in enumerate(zip(match.states, match.outcomes, strict=True)):
        assert outcome == state.returns()[index % 2]


def test_a_player_that_resigns_loses_and_the_other_games_go_on():
    game = BoardGame("tic_tac_toe")

    def first_free(states):
        return [game.legal_actions(state)[0] for state in states]

    def gives_up(states):
        """Resigns where the centre is taken by the other."""
        return [RESIGN if 4 not in game.legal_actions(state) else 4 for state in states]

    match = play_match(game, gives_up, first_free, 4)
    assert match.outcomes.tolist() == [-1.0] * 4
    assert not any(state.is_terminal() for state in match.states)
    turned = play_match(game, first_free, gives_up, 4)
    assert turned.outcomes.tolist() == [1.0] * 4
