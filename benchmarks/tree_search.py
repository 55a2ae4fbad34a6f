"""Speed of the search and of self-play, compared with OpenSpiel's `MCTSBot` with the same network.

    python benchmarks/tree_search.py --game "go(board_size=9,komi=7.5)"
    python benchmarks/tree_search.py --rollout_share 0.5 --rollouts_per_leaf 6 --bfloat16

All run in one process, and seconds are those of the processor, so that their ratios do not depend
on what else the machine does. The
searches have the same positions. Self-play plays games between two copies of the policy, one by
one and in lock-step.
"""

import argparse
import time

import numpy as np
import torch
from open_spiel.python.algorithms import mcts

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import play_match
from rl_lightning.games.network_player import network_player
from rl_lightning.networks.board import BoardPolicy, BoardValue
from rl_lightning.search.evaluators import network_evaluator, rollout_evaluator
from rl_lightning.search.tree_search import TreeSearch


class BotEvaluator(mcts.Evaluator):
    """The same networks for OpenSpiel's bot, which asks for priors and values one at a time."""

    def __init__(self, game, evaluate):
        self.game, self.evaluate_batch = game, evaluate
        self.position, self.found = "", None

    def _evaluate(self, state):
        if state.history_str() != self.position:
            self.position, self.found = state.history_str(), self.evaluate_batch([state])
        return self.found

    def evaluate(self, state):
        value = float(self._evaluate(state)[1][0])
        return np.array([value, -value]) * (1 if state.current_player() == 0 else -1)

    def prior(self, state):
        priors = self._evaluate(state)[0][0]
        return [(move, priors[self.game.action_of(state, move)]) for move in state.legal_actions()]


def midgames(game, number):
    """Positions after some random moves."""
    states, rng = [], np.random.default_rng(0)
    for _ in range(number):
        state = game.start()
        for _ in range(10):
            state.apply_action(int(rng.choice(state.legal_actions()[:-1])))
        states.append(state)
    return states


def bfloat16(network):
    """The network under autocast."""

    def compute(planes):
        with torch.autocast("cpu", torch.bfloat16):
            return network(planes)

    return compute


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", default="go(board_size=9,komi=7.5)")
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--num_layers", type=int, default=4)
    parser.add_argument("--num_filters", type=int, default=64)
    parser.add_argument("--rollout_share", type=float, default=0.0)
    parser.add_argument("--rollouts_per_leaf", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="networks compute in bfloat16")
    parser.add_argument("--only_search", action="store_true", help="leave out bot and self-play")
    given = parser.parse_args()
    torch.set_num_threads(1)
    game = BoardGame(given.game)
    policy = BoardPolicy(game.spec, given.num_layers, given.num_filters)
    value = BoardValue(game.spec, given.num_layers, given.num_filters)
    if given.bfloat16:
        policy, value = (bfloat16(network) for network in (policy, value))
    evaluate = network_evaluator(game, policy, value)
    rollout, share = (
        rollout_evaluator(game, np.random.default_rng(0), given.rollouts_per_leaf),
        given.rollout_share,
    )
    TreeSearch(game, evaluate, 8, rollout, share).search(midgames(game, 1))  # compiles

    states = midgames(game, 64)
    rollout(states)
    start = time.process_time()
    rollout(states)
    print(f"rollouts: {64 / (time.process_time() - start):,.0f} a second")
    for games, leaves in ((1, 1), (1, 8), (16, 8)):
        states = midgames(game, games)
        search = TreeSearch(
            game, evaluate, given.simulations, rollout, share, 2.5, leaves_per_batch=leaves
        )
        start = time.process_time()
        search.search(states)
        rate = games * given.simulations / (time.process_time() - start)
        print(f"TreeSearch, {games} games, {leaves} leaves a batch: {rate:,.0f} simulations/s")
    if given.only_search:
        return
    bot = mcts.MCTSBot(
        game.rules, 5.0, given.simulations, BotEvaluator(game, evaluate),
        child_selection_fn=mcts.SearchNode.puct_value,
    )  # fmt: skip
    start = time.process_time()
    bot.mcts_search(midgames(game, 1)[0])
    rate = given.simulations / (time.process_time() - start)
    print(f"OpenSpiel's MCTSBot: {rate:,.0f} simulations/s")

    for games in (1, 64):
        players = [network_player(game, policy, torch.Generator()) for _ in range(2)]
        start = time.process_time()
        states = play_match(game, *players, games).states
        seconds = time.process_time() - start
        positions = sum(len(state.history()) for state in states)
        print(
            f"self-play, {games} games in lock-step: {games / seconds:.2f} games/s, "
            f"{positions / seconds:,.0f} positions/s"
        )


if __name__ == "__main__":
    main()
