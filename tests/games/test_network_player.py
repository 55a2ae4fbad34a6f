"""Playable actions, players with networks and the order of recorded moves."""

import numpy as np
import torch

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import play_match, random_openings, random_player
from rl_lightning.games.network_player import (
    Moves,
    network_player,
    own_eyes,
    playable_actions,
    sort_by_game,
)


def board(text):
    rows = text.split()
    own = np.array([[each == "O" for each in row] for row in rows])
    return own[None], np.array([[each == "X" for each in row] for row in rows])[None]


def test_eyes_on_the_border_and_in_the_middle():
    own, opponent = board("""
        .O.OO
        OO.O.
        XOOOO
        XO.OX
        XXOX.
    """)
    eyes = own_eyes(own, opponent)[0]
    assert eyes[0, 0], "a corner with an empty or own diagonal point"
    assert eyes[1, 4], "the border, without a hostile diagonal point"
    assert not eyes[0, 2], "a neighbour is empty"
    assert not eyes[3, 2], "two hostile diagonal points"
    assert not eyes[4, 4]
    own, opponent = board("XOO O.O OOO")
    assert own_eyes(own, opponent)[0, 1, 1], "one hostile diagonal point in the middle"
    own, opponent = board(".OO OXO OOO")
    assert not own_eyes(own, opponent)[0].any(), "a hostile diagonal point of a corner"


def test_games_of_go_end_with_nothing_left_to_play():
    game, rng = BoardGame("go(board_size=5,komi=0.5)"), np.random.default_rng(0)

    def choose(states):
        playable = playable_actions(game, game.observe(states))
        return [int(rng.choice(np.flatnonzero(row))) for row in playable]

    match = play_match(game, choose, choose, 20)
    endings = [game.ending(state) for state in match.states]
    assert endings.count("rules") >= 15
    assert not playable_actions(game, game.observe([game.start()]))[0, -1], "no pass at the start"
    for state, ending in zip(match.states, endings, strict=True):
        if ending != "rules":
            continue
        moves, before = state.history(), game.start()
        for move in moves[:-2]:
            game.play(before, move)
        for _ in range(2):  # neither side had a move left
            assert np.flatnonzero(playable_actions(game, game.observe([before]))[0]).tolist() == [
                25
            ]
            game.play(before, 25)


def test_playable_actions_of_other_games_are_the_legal_ones():
    for name in ("tic_tac_toe", "connect_four", "othello"):
        game = BoardGame(name)
        for state in random_openings(game, 10, 8, np.random.default_rng(1)):
            found = np.flatnonzero(playable_actions(game, game.observe([state]))[0]).tolist()
            assert found == game.legal_actions(state)


def prefers(action):
    """A policy network whose logits grow with the closeness to an action."""

    def policy(planes):
        logits = -torch.arange(9.0).sub(action).abs().repeat(len(planes), 1)
        return logits.masked_fill(planes[:, -1].flatten(1) == 0, -torch.inf)

    return policy


def test_without_a_generator_the_most_probable_action_is_played():
    game = BoardGame("tic_tac_toe")
    assert network_player(game, prefers(4), None)([game.start()] * 2) == [4, 4]


def test_actions_are_drawn_with_the_probabilities_of_the_policy():
    game, generator = BoardGame("tic_tac_toe"), torch.Generator().manual_seed(0)
    drawn = network_player(game, prefers(4), generator)([game.start()] * 20_000)
    found = np.bincount(drawn, minlength=9) / 20_000
    expected = (-torch.arange(9.0).sub(4).abs()).softmax(0).numpy()
    assert np.abs(found - expected).max() < 0.02


def test_recorded_moves_are_sorted_by_game_and_in_order():
    game, moves = BoardGame("tic_tac_toe"), Moves()
    generator = torch.Generator().manual_seed(0)
    player = network_player(game, prefers(4), generator, record=moves)
    match = play_match(game, player, random_player(game, np.random.default_rng(0)), 6)
    order, lengths = sort_by_game(match, moves)
    actions = torch.cat(moves.actions)[order].split(lengths.tolist())
    for number, (state, mine) in enumerate(zip(match.states, actions, strict=True)):
        assert mine.tolist() == state.history()[number % 2 :: 2]
    planes = torch.cat(moves.observations)[order]
    assert torch.equal(planes[0], torch.from_numpy(game.observe([game.start()]))[0])


def test_random_openings_do_not_end_the_game_and_have_all_lengths():
    game = BoardGame("tic_tac_toe")
    states = random_openings(game, 300, 8, np.random.default_rng(0))
    assert {len(state.history()) for state in states} == {*range(9)}
    assert not any(state.is_terminal() for state in states)
    assert len({str(state) for state in states}) > 100
