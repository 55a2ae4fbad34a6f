"""Networks of board games: legality comes from the planes, and the board may have any size."""

import pytest
import torch

from rl_lightning.games.board_game import BoardGame
from rl_lightning.networks.board import BoardPolicy, BoardValue
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

GAMES = ["go(board_size=5)", "connect_four", "othello"]


@pytest.mark.parametrize("name", GAMES)
def test_only_legal_actions_have_probability(name):
    game = BoardGame(name)
    policy = BoardPolicy(game.spec, 2, 4)
    state = game.start()
    for _ in range(6):
        logits = policy(torch.from_numpy(game.observe([state])))[0]
        legal = game.legal_actions(state)
        assert torch.isfinite(logits).nonzero().flatten().tolist() == legal
        assert logits.shape == (game.num_actions,)
        game.play(state, legal[0])


def test_weights_of_one_board_fit_another():
    small, large = BoardGame("go(board_size=5)"), BoardGame("go(board_size=9)")
    for network in (BoardPolicy, BoardValue):
        first, second = network(small.spec, 3, 4), network(large.spec, 3, 4)
        second.load_state_dict(first.state_dict())
        planes = torch.from_numpy(large.observe([large.start()] * 3))
        assert len(second(planes)) == 3


def test_a_point_of_the_board_is_the_action_of_its_number():
    game = BoardGame("go(board_size=5)")
    policy = BoardPolicy(game.spec, 1, 1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.body[1].weight[0, 0, 2, 2] = 1  # the plane of own stones, at the point itself
        policy.points.weight.fill_(1)
    state = game.start()
    for action in (7, 3):
        game.play(state, action)
    planes = torch.from_numpy(game.observe([state]))
    planes[:, -1] = True  # so that an occupied point has a logit
    assert policy(planes)[0].nonzero().flatten().tolist() == [7]


def test_values_are_between_minus_one_and_one():
    game = BoardGame("tic_tac_toe")
    values = BoardValue(game.spec, 2, 4)(torch.from_numpy(game.observe([game.start()] * 5)))
    assert values.shape == (5,)
    assert values.abs().max() < 1


def test_a_spec_that_is_no_board_is_one_line():
    with pytest.raises(ConfigurationError, match="is not a board game"):
        BoardPolicy(spec(), 2, 4)
    with pytest.raises(ConfigurationError, match="num_layers is 0"):
        BoardValue(BoardGame("tic_tac_toe").spec, 0, 4)
