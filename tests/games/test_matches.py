"""Matches between two players."""

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import play_match


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
