"""The eight symmetries, against games that are turned move by move."""

import numpy as np
import torch

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.symmetries import symmetries, turn_actions, turn_planes


def test_turned_positions_are_positions_of_turned_games():
    game, rng, size = BoardGame("go(board_size=5)"), np.random.default_rng(0), 5
    _, targets = symmetries(size)
    state, turned = game.start(), [game.start() for _ in range(8)]
    for _ in range(30):
        move = int(rng.choice(state.legal_actions()[:-1]))
        planes = torch.from_numpy(game.observe([state] * 8))
        found = turn_planes(planes, np.arange(8))
        actions = turn_actions(np.full(8, move), size, np.arange(8))
        assert np.array_equal(found.numpy(), game.observe(turned))
        assert actions.tolist() == targets[:, move].tolist()
        game.play(state, move)
        for each, action in zip(turned, actions, strict=True):
            game.play(each, int(action))


def test_there_are_eight_and_a_pass_stays_a_pass():
    sources, targets = symmetries(3)
    assert len({tuple(row) for row in sources}) == 8
    assert (targets[:, 9] == 9).all()
