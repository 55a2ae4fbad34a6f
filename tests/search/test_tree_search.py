"""Tree search against a naive one with objects, and on positions with known results."""

import math

import numpy as np
import pytest
import torch

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import RESIGN, play_match, random_player
from rl_lightning.games.minimax import minimax_values, perfect_player
from rl_lightning.games.network_player import playable_actions
from rl_lightning.networks.board import BoardPolicy, BoardValue
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.search.evaluators import network_evaluator, rollout_evaluator, uniform_evaluator
from rl_lightning.search.tree_search import SearchResult, TreeSearch

GAMES = ["tic_tac_toe", "connect_four", "go(board_size=3,komi=0.5)"]


def hashed_evaluator(game):
    """Priors and values that are arbitrary, and a function of the position."""

    def evaluate(states):
        rows = [
            np.random.default_rng([*state.history(), 7]).random(game.num_actions + 1)
            for state in states
        ]
        table = np.array(rows)
        return table[:, :-1].astype(np.float32), 2 * table[:, -1] - 1

    return evaluate


def hashed_rollout(states):
    """For the players to move."""
    signs = [1 if state.current_player() == 0 else -1 for state in states]
    return signs * np.array([np.sign(np.sin(sum(state.history()) + 1.0)) for state in states])


class Node:
    """A node of the naive search, with dictionaries by action."""

    def __init__(self, game, state, evaluate):
        priors, _ = evaluate([state])
        legal = game.legal_actions(state)
        if game.wins_by_pass(state):
            legal = [game.num_points]
        self.player = state.current_player()
        total = priors[0][legal].sum()
        self.prior = {action: priors[0][action] / total for action in legal}
        self.visits = dict.fromkeys(legal, 0)
        self.total = dict.fromkeys(legal, 0.0)
        self.children = {}


def naive_search(game, state, evaluate, simulations, c, rollout_share):
    """The algorithm of the paper for one game, without batches."""
    root = Node(game, state, evaluate)

    def simulate(node, here):
        """Returns the value for player 0."""
        scale = c * math.sqrt(max(sum(node.visits.values()), 1))

        def score(action):
            n = node.visits[action]
            return (node.total[action] / n if n else 0.0) + scale * node.prior[action] / (1 + n)

        action = max(node.prior, key=score)
        after = here.clone()
        game.play(after, action)
        if after.is_terminal():
            value = game.outcome(after, 0)
        elif action in node.children:
            value = simulate(node.children[action], after)
        else:
            node.children[action] = Node(game, after, evaluate)
            sign = 1 if after.current_player() == 0 else -1
            value, result = evaluate([after])[1][0], hashed_rollout([after])[0]
            value = sign * ((1 - rollout_share) * value + rollout_share * result)
        node.visits[action] += 1
        node.total[action] += value if node.player == 0 else -value
        return value

    for _ in range(simulations):
        simulate(root, state)
    return root


def midgames(game, number=4):
    states, rng = [], np.random.default_rng(1)
    for plies in range(number):
        state = game.start()
        for _ in range(plies):
            points = [each for each in game.legal_actions(state) if each < game.num_points]
            game.play(state, int(rng.choice(points)))
        states.append(state)
    return states


@pytest.mark.parametrize("rollout_share", [0.0, 0.3])
@pytest.mark.parametrize("name", GAMES)
def test_visits_and_values_equal_those_of_a_naive_search(name, rollout_share):
    game = BoardGame(name)
    states, evaluate = midgames(game), hashed_evaluator(game)
    search = TreeSearch(
        game, evaluate, 150, hashed_rollout, rollout_share, exploration=1.5, leaves_per_batch=1
    )
    found = search.search(states)
    for row, state in enumerate(states):
        root = naive_search(game, state, evaluate, 150, 1.5, rollout_share)
        for action, visits in root.visits.items():
            assert found.visits[row, action] == visits
            mean = root.total[action] / max(visits, 1)
            assert found.values[row, action] == pytest.approx(mean, abs=1e-6)
            assert found.priors[row, action] == pytest.approx(root.prior[action])
        assert found.visits[row].sum() == 150


@pytest.mark.parametrize(("leaves", "limit"), [(4, 0.15), (16, 0.35)])
@pytest.mark.parametrize("name", GAMES)
def test_batched_leaves_find_nearly_what_single_leaves_find(name, leaves, limit):
    game = BoardGame(name)
    states, evaluate = midgames(game), hashed_evaluator(game)
    single = TreeSearch(game, evaluate, 800, exploration=1.5, leaves_per_batch=1).search(states)
    batched = TreeSearch(game, evaluate, 800, exploration=1.5, leaves_per_batch=leaves)
    found = batched.search(states)
    assert (found.visits.sum(1) == 800).all(), "no virtual loss stays"
    assert np.abs(found.values).max() <= 1
    shares = np.abs(found.visits - single.visits).sum(1) / 800 / 2
    assert shares.mean() < limit
    best = np.take_along_axis(single.values, found.visits.argmax(1)[:, None], 1)[:, 0]
    chosen = np.take_along_axis(single.values, single.visits.argmax(1)[:, None], 1)[:, 0]
    assert (chosen - best).mean() < 0.1
    for _, _, tree in batched._searched[-1].values():
        edges = slice(0, tree.edges)
        assert (tree.children[edges] >= 0).sum() == tree.nodes - 1, "each node has one parent"
        assert (tree.visits[edges] >= 0).all()
        assert (np.abs(tree.totals[edges]) <= tree.visits[edges] + 1e-9).all()


def test_one_playable_action_is_not_searched():
    game = BoardGame("tic_tac_toe")
    forced, free = game.start(), game.start()
    for action in (0, 1, 2, 4, 3, 5, 7, 6):  # one point is left
        game.play(forced, action)
    sizes = []

    def evaluate(states):
        sizes.append(len(states))
        return uniform_evaluator(game)(states)

    search = TreeSearch(game, evaluate, 10)
    found = search.search([forced, free])
    assert found.visits.sum(1).tolist() == [0, 10]
    assert search.choose(found)[0] == 8
    assert search([forced]) == [8]
    assert max(sizes) <= 8, "no leaf of the forced position"


@pytest.mark.parametrize(("komi", "wins"), [(3.5, True), (9.5, False)])
def test_it_passes_where_the_opponent_has_passed_and_the_count_wins(komi, wins):
    """All nine points belong to Black, who wins by 9 minus the komi."""
    game = BoardGame(f"go(board_size=3,komi={komi})")
    state = game.start()
    for action in (3, 9, 4, 9, 5):
        game.play(state, action)
    assert not game.wins_by_pass(state), "Black has not passed"
    game.play(state, 9)
    assert game.wins_by_pass(state) == wins
    search = TreeSearch(game, uniform_evaluator(game), 20)
    assert search.search([state]).visits.any() != wins
    if wins:
        assert search([state]) == [9]
        game.play(state, 9)
        assert game.outcome(state, 0) == 1


def test_a_winning_pass_is_an_edge_of_the_tree():
    """White has passed in the tree; Black's node there has the pass alone, with the value 1."""
    game = BoardGame("go(board_size=3,komi=0.5)")
    state = game.start()
    for action in (3, 9, 4, 9, 5):
        game.play(state, action)
    search = TreeSearch(game, uniform_evaluator(game), 200, exploration=1.0)
    search.search([state])
    tree = search._searched[-1][id(state)].tree
    below = tree.subtree(9)
    edges = below.edges_of(0)
    assert below.actions[edges].tolist() == [9]
    assert below.totals[edges].sum() == below.visits[edges].sum() > 0


@pytest.mark.parametrize("limit", [-1.0, -0.5, 0.0])
def test_it_resigns_when_its_move_has_a_smaller_value(limit):
    game = BoardGame("connect_four")

    def evaluate(states):
        """The first player is losing."""
        signs = [-0.6 if state.current_player() == 0 else 0.6 for state in states]
        return np.ones((len(states), game.num_actions), np.float32), np.array(signs)

    search = TreeSearch(game, evaluate, 30, resign_below=limit)
    first, second = game.start(), game.start()
    game.play(second, 3)
    moves = search([first, second])
    assert (moves[0] == RESIGN) == (limit > -0.6)
    assert moves[1] in game.legal_actions(second)


def test_virtual_loss_spreads_the_leaves_of_a_batch():
    game = BoardGame("connect_four")
    sizes = {0: [], 3: []}
    for virtual_loss, seen in sizes.items():

        def evaluate(states, seen=seen):
            seen.append(len({str(state) for state in states}))
            return hashed_evaluator(game)(states)

        search = TreeSearch(game, evaluate, 64, leaves_per_batch=8, virtual_loss=virtual_loss)
        search.search([game.start()])
    assert np.mean(sizes[0]) < 2 < 4 < np.mean(sizes[3])


def test_games_searched_together_equal_games_searched_alone():
    game = BoardGame("connect_four")
    states, evaluate = midgames(game), hashed_evaluator(game)
    together = TreeSearch(game, evaluate, 100).search(states)
    for row, state in enumerate(states):
        alone = TreeSearch(game, evaluate, 100).search([state])
        assert np.array_equal(alone.visits[0], together.visits[row])
        assert np.array_equal(alone.values[0], together.values[row])


@pytest.mark.parametrize("name", GAMES)
def test_a_reused_tree_is_what_was_found_below_the_moves(name):
    game = BoardGame(name)
    evaluate, state = hashed_evaluator(game), game.start()
    search = TreeSearch(game, evaluate, 300, exploration=1.5, leaves_per_batch=1)
    for _ in range(2):
        (action,) = search([state])
        game.play(state, action)
    _, before, tree = search._searched[-1][id(state)]
    assert len(before) == 1
    below = tree.subtree(last_action(game, state))
    kept = below.visits[below.edges_of(0)]
    found = search.search([state])
    assert kept.sum() > 0
    assert found.visits.sum() == kept.sum() + 300
    # A naive search of the same position, with as many simulations, finds the same.
    root = naive_search(game, state, evaluate, int(found.visits.sum()), 1.5, 0.0)
    assert {a: int(found.visits[0, a]) for a in root.visits} == root.visits


def last_action(game, state):
    there = game.start()
    for move in state.history()[:-1]:
        there.apply_action(move)
    return game.action_of(there, state.history()[-1])


def test_the_tree_of_another_game_is_not_reused():
    game = BoardGame("tic_tac_toe")
    search = TreeSearch(game, uniform_evaluator(game), 50)
    state = game.start()
    search([state])
    game.play(state, 0)
    games = search._searched[-1]
    games[id(state)] = games[id(state)]._replace(moves=[5])
    assert search.search([state]).visits.sum() == 50


def test_trees_of_games_that_are_not_searched_any_more_are_discarded():
    """A front end clears its board without a word to the search."""
    game = BoardGame("tic_tac_toe")
    search = TreeSearch(game, uniform_evaluator(game), 20)
    for _ in range(10):
        search([game.start()])
    assert sum(len(games) for games in search._searched) <= 2


def test_trees_of_games_in_lock_step_are_kept():
    """In each of two games the search plays at every second call."""
    game = BoardGame("tic_tac_toe")
    search = TreeSearch(game, uniform_evaluator(game), 200, exploration=1.0)
    first, second = game.start(), game.start()
    search([first])
    search([second])
    for action in (0, 4):
        game.play(first, action)
    assert search.search([first]).visits.sum() > 200, "the tree of two calls ago"


def test_of_equally_visited_actions_the_better_one_is_played():
    visits = np.array([[5, 7, 7, 7], [0, 3, 3, 4]])
    values = np.array([[1.0, -0.2, 0.3, 0.2], [1.0, 0.9, 1.0, -1.0]])
    found = SearchResult(visits, values, np.ones((2, 4), np.float32))
    game = BoardGame("tic_tac_toe")
    search = TreeSearch(game, uniform_evaluator(game))
    assert search.choose(found) == [2, 3]


# Moves, and the actions that are best after them.
FORCED = [
    ("tic_tac_toe", (0, 3, 1, 4), {2}),  # a win in one move
    ("tic_tac_toe", (0, 3, 1), {2}),  # the only defence
    ("tic_tac_toe", (4, 1, 0, 8), {3, 6}),  # a double threat: a win in three moves
    ("connect_four", (3, 0, 10, 1, 17, 2), {24}),
    ("connect_four", (3, 10, 2, 9), {1, 4}),  # an open three: a win in three moves
]


@pytest.mark.parametrize(("name", "moves", "best"), FORCED)
def test_with_equal_priors_and_rollouts_it_finds_forced_wins(name, moves, best):
    game = BoardGame(name)
    state = game.start()
    for action in moves:
        game.play(state, action)
    rollout = rollout_evaluator(game, np.random.default_rng(0))
    search = TreeSearch(game, uniform_evaluator(game), 600, rollout, 1.0, exploration=2.0)
    (action,) = search([state])
    assert action in best


@pytest.mark.parametrize("passes", [0, 1])
def test_rollouts_of_go_do_not_fill_own_eyes(passes):
    game = BoardGame("go(board_size=4,komi=0.5)")
    state = game.start()
    for point in range(1, 15):  # Black lives with the eyes 0 and 15, and White passes
        game.play(state, point)
        if point < 14 or passes:
            game.play(state, 16)
    rollout = rollout_evaluator(game, np.random.default_rng(0))
    result = 1.0 if passes else -1.0  # for the player to move: Black wins
    assert rollout([state] * 20).tolist() == [result] * 20
    assert not state.is_terminal()


def test_rollouts_of_other_games_are_for_the_player_to_move_too():
    """The second player is to move, and draws or loses."""
    game = BoardGame("tic_tac_toe")
    state = game.start()
    for action in (4, 1, 0, 2, 6, 3, 5):
        game.play(state, action)
    assert -0.9 < rollout_evaluator(game, np.random.default_rng(0), 100)([state])[0] < -0.1


def test_with_exact_values_it_loses_no_game_against_the_perfect_player():
    game, rng = BoardGame("tic_tac_toe"), np.random.default_rng(0)
    value_of = minimax_values(game)

    def evaluate(states):
        signs = [1 if state.current_player() == 0 else -1 for state in states]
        values = [sign * value_of(state) for sign, state in zip(signs, states, strict=True)]
        return np.ones((len(states), 9), np.float32), np.array(values)

    search = TreeSearch(game, evaluate, 64, leaves_per_batch=4)
    assert play_match(game, search, perfect_player(game, rng), 40).outcomes.min() == 0
    assert play_match(game, perfect_player(game, rng), search, 40).outcomes.max() == 0
    assert play_match(game, search, random_player(game, rng), 20).outcomes.mean() > 0.7


@pytest.mark.parametrize("name", GAMES)
def test_networks_evaluate_all_leaves_in_one_batch(name):
    game = BoardGame(name)
    policy, value = BoardPolicy(game.spec, 2, 4), BoardValue(game.spec, 2, 4)
    evaluate, sizes = network_evaluator(game, policy, value), []

    def counted(states):
        sizes.append(len(states))
        return evaluate(states)

    states = midgames(game)
    found = TreeSearch(game, counted, 16, leaves_per_batch=4).search(states)
    assert len(sizes) == 1 + 4
    assert max(sizes) <= 16
    for row, state in enumerate(states):
        planes = game.observe([state])
        playable = torch.from_numpy(playable_actions(game, planes))
        logits = policy(torch.from_numpy(planes)).masked_fill(~playable, -torch.inf)
        expected = logits.softmax(1)[0].detach().numpy()
        assert found.priors[row] == pytest.approx(expected, abs=1e-5)


def test_a_network_value_is_for_the_player_to_move():
    game = BoardGame("connect_four")
    policy, value = BoardPolicy(game.spec, 1, 2), BoardValue(game.spec, 1, 2)
    states = midgames(game)
    _, values = network_evaluator(game, policy, value)(states)
    expected = value(torch.from_numpy(game.observe(states))).detach().numpy()
    assert values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_simulations": 0}, "at least 1"),
        ({"leaves_per_batch": 0}, "at least 1"),
        ({"rollout_share": 0.5}, "give roll_out"),
        ({"rollout_share": -1}, r"choose it in \[0, 1\]"),
        ({"resign_below": 2}, r"choose it in \[-1, 1\]"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments, says):
    game = BoardGame("tic_tac_toe")
    with pytest.raises(ConfigurationError, match=says):
        TreeSearch(game, uniform_evaluator(game), **arguments)


def test_actions_without_a_prior_are_not_searched():
    game = BoardGame("tic_tac_toe")

    def evaluate(states):
        priors, values = uniform_evaluator(game)(states)
        priors[:, ::2] = 0
        priors[priors.sum(1) == 0] = 1
        return priors, values - 0.5

    found = TreeSearch(game, evaluate, 60).search([game.start()])
    assert found.visits[0, ::2].sum() == 0
    assert found.visits[0, 1::2].min() > 0
