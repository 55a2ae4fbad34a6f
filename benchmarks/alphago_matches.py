"""Matches of the networks of checkpoints against GNU Go, or against the policy of the first one.

    python benchmarks/alphago_matches.py <checkpoint> … --games 200 --level 1
    python benchmarks/alphago_matches.py <checkpoint> --simulations 200 --level 1
    python benchmarks/alphago_matches.py <checkpoint> --simulations 200 --against policy

Policies draw their moves at temperature 1. With a search, the first four moves of each game are
drawn from the policy of the first checkpoint, because neither the search nor GNU Go draws its
moves, and all games would be equal. Prints one line of results for each checkpoint, with the 95%
interval of Wilson for the part of games won (a draw counts as half).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import Player, drawn_openings, play_match
from rl_lightning.games.network_player import network_player
from rl_lightning.networks.board import BoardPolicy, BoardValue
from rl_lightning.runtime.checkpoints import load_plain
from rl_lightning.search.evaluators import network_evaluator, rollout_evaluator, uniform_evaluator
from rl_lightning.search.recording import OPENING_MOVES
from rl_lightning.search.tree_search import TreeSearch

PARTS = ("policy", "value", "rollouts")


class Networks:
    """Policy and, if the checkpoint has it, value network."""

    def __init__(self, path: Path) -> None:
        saved = load_plain(path)
        settings = saved["hyper_parameters"]
        size = (settings["num_layers"], settings["num_filters"])
        self.game = BoardGame(settings["environment"]["env_id"])
        self.policy = _filled(BoardPolicy(self.game.spec, *size), "policy.", saved["state_dict"])
        self.value = None
        if any(name.startswith("value.") for name in saved["state_dict"]):
            self.value = _filled(BoardValue(self.game.spec, *size), "value.", saved["state_dict"])


def _filled(network: nn.Module, prefix: str, weights: dict[str, torch.Tensor]) -> nn.Module:
    chosen = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    network.load_state_dict(chosen)
    return network.requires_grad_(False)


def make_player(networks: Networks, options: argparse.Namespace) -> Player:
    """The policy, or the search with the parts that are not left out."""
    game = networks.game
    if not options.simulations:
        return network_player(game, networks.policy, torch.Generator().manual_seed(options.seed))
    evaluate = network_evaluator(game, networks.policy, networks.value)
    if "policy" in options.without:
        uniform, learned = uniform_evaluator(game), evaluate

        def evaluate(states):  # the actions stay those of the policy: no own eye is filled
            priors, values = learned(states)
            return (priors > 0) * uniform(states)[0], values

    share = options.rollout_share
    if "value" in options.without:
        share = 1.0
    if "rollouts" in options.without:
        share = 0.0
    rollout = rollout_evaluator(game, np.random.default_rng(options.seed))
    return TreeSearch(
        game, evaluate, options.simulations, rollout, share, exploration=options.exploration
    )


def openings(networks: Networks, options: argparse.Namespace) -> list[State]:
    """First moves that the policy draws, because neither the search nor GNU Go draws its moves."""
    generator = torch.Generator().manual_seed(options.seed + 2)
    policy = network_player(networks.game, networks.policy, generator)
    return drawn_openings(networks.game, policy, options.games, OPENING_MOVES)


def interval(part: float, number: int) -> tuple[float, float]:
    """Wilson's 95% interval."""
    z = 1.96
    centre, scale = part + z * z / (2 * number), 1 + z * z / number
    half = z * math.sqrt(part * (1 - part) / number + z * z / (4 * number * number))
    return (centre - half) / scale, (centre + half) / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--against", choices=("gnugo", "policy"), default="gnugo")
    parser.add_argument("--level", type=int, default=1, help="of GNU Go")
    parser.add_argument("--simulations", type=int, default=0)
    parser.add_argument("--exploration", type=float, default=5.0)
    parser.add_argument("--rollout_share", type=float, default=0.0)
    parser.add_argument("--without", nargs="*", default=(), choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    first = Networks(options.checkpoints[0])
    for path in options.checkpoints:
        networks, start = Networks(path), time.perf_counter()
        if options.against == "gnugo":
            opponent: Player = GnuGo(networks.game, options.level, options.seed + 1)
        else:
            generator = torch.Generator().manual_seed(options.seed + 1)
            opponent = network_player(first.game, first.policy, generator)
        player = make_player(networks, options)
        starts = openings(first, options) if options.simulations else None
        match = play_match(networks.game, player, opponent, options.games, starts)
        different = len({tuple(state.history()) for state in match.states})
        outcomes = match.outcomes
        if isinstance(opponent, GnuGo):
            opponent.close()
        part = float((outcomes.mean() + 1) / 2)
        low, high = interval(part, options.games)
        counts = [int((outcomes == sign).sum()) for sign in (1, 0, -1)]
        print(
            f"{path}: won, drawn, lost {counts}, part {part:.1%} [{low:.1%}, {high:.1%}], "
            f"{different} different games, {time.perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
