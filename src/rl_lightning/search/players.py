"""The players of evaluations, made from the networks of a module."""

from dataclasses import dataclass

import torch
from torch import nn

from rl_lightning.experience import RecordedGame
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import Player
from rl_lightning.games.minimax import perfect_player
from rl_lightning.games.network_player import network_player
from rl_lightning.runtime.seeding import numpy_stream, stream_seed, torch_stream
from rl_lightning.search.evaluators import (
    Evaluator,
    network_evaluator,
    random_rollout,
    uniform_evaluator,
)
from rl_lightning.search.recording import Recorder, record_game
from rl_lightning.search.tree_search import TreeSearch


@dataclass(frozen=True)
class Players:
    """Makes players whose random streams are functions of (seed, rank, name of the stream).

    Attributes:
        game: The game.
        policy: Planes [N, C, H, W] to logits [N, A].
        value: Planes to expected results [N] for the player to move.
        num_simulations: Simulations for each move; 0 is the policy alone.
        exploration: c of the search.
        rollout_share: λ of the search.
        gnugo_level: GNU Go's level.
        seed: Seed of every random stream.
        rank: Rank of this process.
    """

    game: BoardGame
    policy: nn.Module
    value: nn.Module
    num_simulations: int
    exploration: float
    rollout_share: float
    gnugo_level: int
    seed: int
    rank: int

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.policy.parameters()).device

    def drawing(self, stream: str, policy: nn.Module | None = None) -> Player:
        """A player that draws its moves from a policy, by default the module's."""
        generator = torch_stream(self.seed, rank=self.rank, stream=stream, device=self.device)
        return network_player(
            self.game, self.policy if policy is None else policy, generator, self.device
        )

    def strongest(self, stream: str) -> Player:
        """The player of `test` and `predict`: the search if there are simulations."""
        if not self.num_simulations:
            return self.drawing(stream)
        return self.search(self.evaluator(), stream, self.rollout_share)

    def evaluator(self) -> Evaluator:
        """Priors and values of the networks."""
        return network_evaluator(self.game, self.policy, self.value, self.device)

    def rollouts(self, stream: str) -> Player:
        """The search with random rollouts and equal priors."""
        return self.search(uniform_evaluator(self.game), stream, 1.0)

    def perfect(self, stream: str) -> Player:
        """The exact player of a small game."""
        return perfect_player(self.game, numpy_stream(self.seed, rank=self.rank, stream=stream))

    def gnugo(self, stream: str) -> GnuGo:
        """GNU Go."""
        seed = stream_seed(self.seed, rank=self.rank, stream=stream)
        return GnuGo(self.game, self.gnugo_level, seed)

    def search(self, evaluator: Evaluator, stream: str, rollout_share: float) -> TreeSearch:
        """A search with an evaluator."""
        rng = numpy_stream(self.seed, rank=self.rank, stream=f"{stream} rollouts")
        return TreeSearch(
            self.game,
            evaluator,
            self.num_simulations,
            random_rollout(self.game, rng),
            rollout_share,
            self.exploration,
        )

    def record(self, number: int, against_gnugo: bool) -> RecordedGame:
        """Record a game of the strongest player against itself, or against GNU Go.

        Its first moves are drawn from the policy, because all games of a search would be equal.
        GNU Go moves first in the games with an odd number.
        """
        stream = f"predict {number}"
        policy = self.drawing(stream)
        search = self.strongest(stream) if self.num_simulations else policy
        name = (
            f"search with {self.num_simulations} simulations" if self.num_simulations else "policy"
        )
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
