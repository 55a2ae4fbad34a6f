"""The players of evaluations, made from the networks of a module."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from rl_lightning.experience import RecordedGame
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import Player
from rl_lightning.games.minimax import perfect_player
from rl_lightning.games.network_player import network_player
from rl_lightning.runtime.seeding import numpy_stream, stream_seed, torch_stream
from rl_lightning.search.evaluators import (
    NetworkEvaluator,
    network_evaluator,
    rollout_evaluator,
    uniform_evaluator,
)
from rl_lightning.search.recording import Recorder, record_game
from rl_lightning.search.tree_search import SearchOptions, TreeSearch


@dataclass(frozen=True)
class Players:
    """Makes players whose random streams are functions of (seed, rank, name of the stream).

    Attributes:
        game: The game.
        policy_network: Planes [N, C, H, W] to logits [N, A].
        value_network: Planes to expected results [N] for the player to move.
        start_policy: Gives the policy network at the start of the run.
        search: Settings of the search; without simulations the policy plays alone.
        rollouts_per_leaf: Rollouts of the search from each leaf.
        gnugo_level: GNU Go's level.
        seed: Seed of every random stream.
        rank: Rank of this process.
    """

    game: BoardGame
    policy_network: nn.Module
    value_network: nn.Module
    start_policy: Callable[[], nn.Module]
    search: SearchOptions
    rollouts_per_leaf: int
    gnugo_level: int
    seed: int
    rank: int

    def pair(self, opponent: str, stream: str) -> tuple[Player, Player]:
        """The player and its opponent: see `test_opponents` of `BoardGamesDataModule`."""
        theirs = f"{stream} opponent"
        if opponent == "start":
            return self.policy(stream), self.policy(theirs, self.start_policy())
        makers: dict[str, Callable[[str], Player]] = {
            "policy": self.policy,
            "rollouts": self.rollouts,
            "perfect": self.perfect,
            "gnugo": self.gnugo,
        }
        return self.strongest(stream), makers[opponent](theirs)

    def policy(self, stream: str, network: nn.Module | None = None) -> Player:
        """A player that draws its moves from a policy network, by default that of the module."""
        network = self.policy_network if network is None else network
        device = next(self.policy_network.parameters()).device
        generator = torch_stream(self.seed, rank=self.rank, stream=stream, device=device)
        return network_player(self.game, network, generator, device)

    def strongest(self, stream: str) -> Player:
        """The search if there are simulations, else the policy."""
        if not self.search["num_simulations"]:
            return self.policy(stream)
        return self.tree_search(self.evaluator(), stream, self.search)

    def evaluator(self) -> NetworkEvaluator:
        """Priors and values of the networks."""
        device = next(self.policy_network.parameters()).device
        return network_evaluator(self.game, self.policy_network, self.value_network, device)

    def rollouts(self, stream: str) -> Player:
        """The search with random rollouts and equal priors."""
        options: SearchOptions = {**self.search, "rollout_share": 1.0}
        return self.tree_search(uniform_evaluator(self.game), stream, options)

    def perfect(self, stream: str) -> Player:
        """The exact player of a small game."""
        return perfect_player(self.game, numpy_stream(self.seed, rank=self.rank, stream=stream))

    def gnugo(self, stream: str) -> GnuGo:
        """GNU Go."""
        seed = stream_seed(self.seed, rank=self.rank, stream=stream)
        return GnuGo(self.game, self.gnugo_level, seed)

    def tree_search(
        self, evaluate: NetworkEvaluator, stream: str, options: SearchOptions
    ) -> TreeSearch:
        """A search with an evaluator."""
        rng = numpy_stream(self.seed, rank=self.rank, stream=f"{stream} rollouts")
        roll_out = rollout_evaluator(self.game, rng, self.rollouts_per_leaf)
        return TreeSearch(self.game, evaluate, roll_out=roll_out, **options)

    def record(self, number: int, against_gnugo: bool) -> RecordedGame:
        """Record a game of the strongest player against itself, or against GNU Go.

        Its first moves are drawn from the policy, because all games of a search would be equal.
        GNU Go moves first in the games with an odd number.
        """
        stream = f"predict {number}"
        policy, simulations = self.policy(stream), self.search["num_simulations"]
        search = self.strongest(stream) if simulations else policy
        name = f"search with {simulations} simulations" if simulations else "policy"
        recorder = Recorder(self.evaluator(), search, policy)
        if not against_gnugo:
            return record_game(self.game, (recorder, recorder), (name, name))
        opponent = self.gnugo(stream)
        names = (name, f"GNU Go, level {self.gnugo_level}")
        try:
            if number % 2 == 0:
                return record_game(self.game, (recorder, opponent), names)
            return record_game(self.game, (opponent, recorder), (names[1], names[0]))
        finally:
            opponent.close()
