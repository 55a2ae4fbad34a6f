"""Matches of validation and test, over several ranks, and the count of mistakes."""

import numpy as np
import pytest
import torch

from rl_lightning.datamodules.alphago.self_play import SelfPlayDataModule
from rl_lightning.datamodules.alphago.self_play_positions import SelfPlayPositionsDataModule
from rl_lightning.experience import CheckedMoves, MatchResults
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import play_match
from rl_lightning.games.minimax import all_positions, best_actions, minimax_values, mistakes
from rl_lightning.games.network_player import network_player
from rl_lightning.modules import GameValue, SelfPlayPolicy, SupervisedPolicy
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.search import matches, players
from rl_lightning.search.players import Players
from rl_lightning.search.tree_search import TreeSearch
from trainers import quiet


class _Attached(SelfPlayDataModule):
    """Has a module without a Trainer, and counts as one of several ranks."""

    rank, world_size = 0, 1
    module = None


def make(rank=0, ranks=1, game="tic_tac_toe", **options):
    torch.manual_seed(3)
    data = _Attached(game, games_per_update=2, **options)
    data.rank, data.world_size = rank, ranks
    data.module = SelfPlayPolicy(data.environment, 2, 4)
    return data


def outcomes_of(batches):
    return {each.opponent: each.outcomes.tolist() for each in batches}


def test_ranks_share_the_games_of_a_match_and_yield_equally_many_batches():
    sizes, batches = [], set()
    for rank in range(3):
        data = make(rank, 3, eval_games=7, num_simulations=2)
        dataset = data.matches("test", ("policy", "perfect"))
        found = [*dataset]
        assert len(found) == len(dataset) == 3
        batches.add(tuple(type(each) for each in found))
        sizes.append(len(found[0].outcomes))
        assert len(found[2].mistakes) == (4520 if rank == 0 else 0)
    assert sizes == [3, 2, 2]
    assert batches == {(MatchResults, MatchResults, CheckedMoves)}


def test_outcomes_are_those_of_the_player_on_every_rank(monkeypatch):
    """The first player of a rank with an odd number is the opponent."""
    for rank in (0, 1):
        data = make(rank, 2, eval_games=12)

        def line(states):
            return [next(a for a in (0, 1, 2, 3, 4, 5, 6, 7, 8) if _is_free(s, a)) for s in states]

        def helps(states):
            return [next(a for a in (8, 5, 7, 4, 6, 3, 2) if _is_free(s, a)) for s in states]

        named = {"test start": line, "test start opponent": helps}
        monkeypatch.setattr(
            Players, "policy", lambda self, stream, network=None, named=named: named[stream]
        )
        (found,) = data.matches("test", ("start",))
        assert found.outcomes.tolist() == [1.0] * 6


def test_games_of_the_search_against_gnu_go_differ(monkeypatch):
    """Neither of the two draws its moves."""
    data = make(game="go(board_size=4,komi=0.5)", eval_games=8, num_simulations=4)
    monkeypatch.setattr(
        Players, "gnugo", lambda *_: lambda states: [s.legal_actions()[0] for s in states]
    )
    games = []

    def kept(*arguments):
        match = play_match(*arguments)
        games.extend(tuple(state.history()) for state in match.states)
        return match

    monkeypatch.setattr(matches, "play_match", kept)
    (found,) = data.matches("test", ("gnugo",))
    assert len(found.outcomes) == len({*games}) == 8


def _is_free(state, action):
    return action in state.legal_actions()


def test_matches_repeat_and_stages_and_ranks_differ():
    first = [*make(eval_games=40).matches("test", ("start",))]
    again = [*make(eval_games=40).matches("test", ("start",))]
    stage = [*make(eval_games=40).matches("validate", ("start",))]
    rank = [*make(1, 2, eval_games=80).matches("test", ("start",))]
    assert outcomes_of(first) == outcomes_of(again)
    assert outcomes_of(first) != outcomes_of(stage)
    assert outcomes_of(first) != outcomes_of(rank)


def test_each_opponent_is_the_one_that_its_name_says():
    data = make(num_simulations=3, eval_games=2)
    players = data.players
    searching, policy = players.pair("policy", "test policy")
    assert isinstance(searching, TreeSearch)
    assert not isinstance(policy, TreeSearch)
    searching, rollouts = players.pair("rollouts", "test")
    assert searching.num_simulations == rollouts.num_simulations == 3
    assert (searching.rollout_share, rollouts.rollout_share) == (0, 1)
    raw, start = players.pair("start", "test")
    assert not isinstance(raw, TreeSearch)
    assert not isinstance(start, TreeSearch)
    without = make(num_simulations=0)
    assert not isinstance(without.players.pair("policy", "test")[0], TreeSearch)


SETTINGS = {
    "num_simulations": 3, "exploration": 1.25, "rollout_share": 0.75, "leaves_per_batch": 2,
    "virtual_loss": 1, "resign_below": -0.5,
}  # fmt: skip


def test_the_search_has_the_settings_of_the_datamodule(monkeypatch):
    given = []
    evaluator = players.rollout_evaluator

    def spied(game, rng, rollouts_per_leaf):
        given.append(rollouts_per_leaf)
        return evaluator(game, rng, rollouts_per_leaf)

    monkeypatch.setattr(players, "rollout_evaluator", spied)
    data = make(**SETTINGS, rollouts_per_leaf=4)
    search, plain = data.players.strongest("test"), data.players.rollouts("test")
    for name, value in SETTINGS.items():
        assert getattr(search, name) == value
        assert getattr(plain, name) == (1 if name == "rollout_share" else value)
    assert {*given} == {4}


def test_gnu_go_plays_and_is_closed(monkeypatch):
    closed = []

    class StandIn:
        def __init__(self, game, level, seed):
            assert level == 4
            self.seed = seed

        def __call__(self, states):
            return [state.legal_actions()[-1] for state in states]

        def close(self):
            closed.append(self.seed)

    for module in (players, matches):
        monkeypatch.setattr(module, "GnuGo", StandIn)
    data = make(
        game="go(board_size=3,komi=0.5)", eval_games=2, test_opponents=["gnugo"], gnugo_level=4
    )
    assert len(closed) == 1, "it is tried before anything is written"
    (found,) = data.test_dataloader()
    assert (found.opponent, len(found.outcomes)) == ("gnugo", 2)
    assert len(closed) == 2


def test_mistakes_are_moves_that_lose_value():
    game = BoardGame("tic_tac_toe")
    value_of, states = minimax_values(game), all_positions(game)
    assert len(states) == 4520
    numbers = {game.observe([state]).tobytes(): state for state in states}

    def exact(planes):
        logits = torch.full((len(planes), 9), -1.0)
        for row, plane in enumerate(planes.numpy()):
            logits[row, best_actions(game, numbers[plane[None].tobytes()], value_of)[0]] = 1
        return logits

    assert not mistakes(game, network_player(game, exact, None)).any()
    wrong = mistakes(game, network_player(game, lambda planes: -exact(planes), None))
    only = [
        len(best_actions(game, state, value_of)) < len(game.legal_actions(state))
        for state in states
    ]
    assert np.count_nonzero(wrong) == pytest.approx(sum(only), rel=0.25)
    assert not wrong[~np.array(only)].any()


class Noted(torch.nn.Module):
    """Notes whether autocast is on at each call."""

    def __init__(self, network, seen):
        super().__init__()
        self.network, self.seen = network, seen

    def forward(self, planes):
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return self.network(planes)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_players_and_training_games_compute_in_the_precision_of_the_trainer(precision):
    data = make(num_simulations=2, eval_games=2, test_opponents=["policy", "start"])
    seen = {"policy": [], "value": []}
    data.module.policy = Noted(data.module.policy, seen["policy"])
    data.module.value = Noted(data.module.value, seen["value"])
    data.trainer = quiet(precision=precision)
    [*data.matches("test", ("policy", "start"))]
    data.next_batch()
    for calls in seen.values():
        assert {*calls} == {precision == "bf16-mixed"}
    opponent = data.players.pair("start", "test")[1]
    assert opponent([data.game.start()])


def test_games_of_the_value_network_are_played_in_the_precision_of_the_trainer():
    class Attached(SelfPlayPositionsDataModule):
        rank, world_size, module = 0, 1, None

    data, seen = Attached("tic_tac_toe", games_per_update=2, batch_size=2), []
    data.module = GameValue(data.environment, 1, 2)
    data.module.policy = Noted(data.module.policy, seen)
    data.trainer = quiet(precision="bf16-mixed")
    data.next_batch()
    assert {*seen} == {True}


def saved_policy(path, game, **size):
    """A checkpoint of a policy of another size, whose first logits are the largest."""
    module = SupervisedPolicy(BoardGame(game).spec, **size)
    torch.nn.init.constant_(module.policy.points.weight, 0)
    settings = {"environment": dict(module.environment), **size}
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": settings}, path)
    return module.policy


def test_priors_come_from_their_own_checkpoint(tmp_path):
    path = tmp_path / "priors.ckpt"
    saved_policy(path, "tic_tac_toe", num_layers=3, num_filters=5)
    data = make(num_simulations=4, priors_checkpoint=str(path))
    search = data.players.strongest("test")
    priors, values = search.evaluate([data.game.start()])
    assert priors[0] == pytest.approx(np.full(9, 1 / 9), abs=1e-6), "all logits are equal"
    own = make(num_simulations=4).players.strongest("test")
    assert np.abs(own.evaluate([data.game.start()])[0] - 1 / 9).max() > 1e-4
    expected = data.module.value(torch.from_numpy(data.game.observe([data.game.start()]))).item()
    assert values == pytest.approx([expected]), "the value is the module's"
    data.next_batch()
    weights = data.module.policy.state_dict()
    assert all(torch.equal(data.pool[0][name], weights[name]) for name in weights)


def test_priors_of_another_game_are_refused(tmp_path):
    path = tmp_path / "priors.ckpt"
    saved_policy(path, "connect_four", num_layers=1, num_filters=2)
    with pytest.raises(ConfigurationError, match="has no policy network for tic_tac_toe"):
        make(priors_checkpoint=str(path))
    with pytest.raises(ConfigurationError, match="there is no checkpoint"):
        make(priors_checkpoint=str(tmp_path / "no.ckpt"))
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ConfigurationError, match="holds no weights"):
        make(priors_checkpoint=str(tmp_path / "list.ckpt"))
