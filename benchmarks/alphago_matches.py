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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import Player, drawn_openings, play_match
from rl_lightning.games.network_player import network_player
from rl_lightning.networks.board import BoardValue, read_policy
from rl_lightning.runtime.checkpoints import load_plain
from rl_lightning.search.evaluators import network_evaluator, rollout_evaluator, uniform_evaluator
from rl_lightning.search.recording import OPENING_MOVES
from rl_lightning.search.tree_search import TreeSearch

PARTS = ("policy", "value", "rollouts")


class Networks:
    """Policy and, if the checkpoint has it, value network, which compute in bfloat16 if asked."""

    def __init__(self, path: Path, priors: Path | None, bfloat16: bool) -> None:
        saved = load_plain(path)
        settings = saved["hyper_parameters"]
        self.game = BoardGame(settings["environment"]["env_id"])
        self.bfloat16 = bfloat16
        self.policy = self._in_precision(read_policy(priors or path, self.game.spec))
        self.value = None
        weights = {
            name.removeprefix("value."): weight
            for name, weight in saved["state_dict"].items()
            if name.startswith("value.")
        }
        if weights:
            value = BoardValue(self.game.spec, settings["num_layers"], settings["num_filters"])
            value.load_state_dict(weights)
            self.value = self._in_precision(value.requires_grad_(False))

    def _in_precision(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        def compute(planes: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                return network(planes)

        return compute


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
    rng = np.random.default_rng(options.seed)
    return TreeSearch(
        game,
        evaluate,
        options.simulations,
        rollout_evaluator(game, rng, options.rollouts_per_leaf),
        share,
        exploration=options.exploration,
        resign_below=options.resign_below,
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
    parser.add_argument("--rollouts_per_leaf", type=int, default=1)
    parser.add_argument("--resign_below", type=float, default=-1.0)
    parser.add_argument("--priors", type=Path, help="checkpoint of another policy for the priors")
    parser.add_argument("--bfloat16", action="store_true", help="networks compute in bfloat16")
    parser.add_argument("--without", nargs="*", default=(), choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = (options.priors, options.bfloat16)
    first = Networks(options.checkpoints[0], *precision)
    for path in options.checkpoints:
        networks, start = Networks(path, *precision), time.perf_counter()
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
