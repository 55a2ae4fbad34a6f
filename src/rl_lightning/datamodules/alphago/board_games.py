"""Base class of datamodules that play board games with the networks of the module."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, cast

import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from rl_lightning.datamodules.source import (
    Batches,
    SourceDataModule,
    WholeBatchLoader,
    require_positive,
)
from rl_lightning.experience import PlaysBoardGames, RecordedGame
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gtp import GtpEngine
from rl_lightning.networks.board import read_policy
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import sum_over_ranks
from rl_lightning.search.evaluators import uniform_evaluator
from rl_lightning.search.matches import number_of_batches, play_matches
from rl_lightning.search.players import Players
from rl_lightning.search.tree_search import SearchOptions

Opponent = Literal["start", "policy", "rollouts", "perfect", "gnugo"]
# A game with more moves than this has too many positions for minimax.
LONGEST_EXACT_GAME = 9


class InPrecision(nn.Module):
    """A network that computes in the precision of a Trainer."""

    def __init__(self, network: nn.Module, trainer: Trainer) -> None:
        super().__init__()
        self.network = network
        self._context = trainer.precision_plugin.forward_context

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """The output of the network."""
        with self._context():
            output: torch.Tensor = self.network(planes)
        return output


class BoardGamesDataModule(SourceDataModule):
    """Plays games of one board game, in lock-step, with the networks of the module.

    A policy plays by drawing its actions at temperature 1. The player of `test` and `predict` is
    the policy alone or, with `num_simulations`, the tree search with policy and value.

    Args:
        game: OpenSpiel's name of the game, with parameters.
        games_per_update: Games that an update plays, on each rank.
        random_moves: Each training game begins with a number of random moves, drawn from 0 to this.
        updates_per_epoch: Updates between two validations.
        eval_games: Games of a validation, and of each match of a test, over all ranks.
        test_opponents: Opponents of the matches of a test. "start" is the policy at the start of
            the run, which the policy plays against without search. The player with search plays
            against the others: "policy" is its own policy without search, "rollouts" a search with
            random rollouts and no networks at equal simulations, and "perfect" the exact player
            of a small game, with which the moves of the policy are compared too. "gnugo" is the
            program GNU Go.
        num_simulations: Simulations of each move of the player; 0 is the policy alone.
        exploration: c of the search; 5 in the paper.
        rollout_share: λ of the search, the weight of random rollouts against the value network.
        rollouts_per_leaf: Rollouts of each leaf, whose results are averaged.
        leaves_per_batch: Leaves of one tree that the search evaluates together.
        virtual_loss: Losses that the path to a leaf counts until the leaf is evaluated.
        resign_below: The search resigns when the mean value of its move is smaller; -1 never does.
        priors_checkpoint: A checkpoint whose policy network takes the place of the module's in
            `test`, `predict` and `gtp`. The paper searches with the priors of the supervised policy
            and with the value of games of the self-play policy.
        predict_games: Games that `predict` plays, over all ranks.
        predict_opponent: Opponent in `predict`: "self" or "gnugo", which moves first in every
            second game.
        gnugo_level: GNU Go's level, from 1 to 10.
        seed: Of every random stream.

    Raises:
        ConfigurationError: If an argument is out of range or the game cannot be used.
    """

    needs_of_module: ClassVar[type] = PlaysBoardGames
    opponents: ClassVar[tuple[str, ...]] = ("policy", "rollouts", "perfect", "gnugo")

    def __init__(
        self,
        game: str,
        games_per_update: int,
        random_moves: int,
        updates_per_epoch: int = 50,
        eval_games: int = 200,
        test_opponents: Sequence[Opponent] = (),
        num_simulations: int = 0,
        exploration: float = 5.0,
        rollout_share: float = 0.0,
        rollouts_per_leaf: int = 1,
        leaves_per_batch: int = 8,
        virtual_loss: int = 3,
        resign_below: float = -1.0,
        priors_checkpoint: str | None = None,
        predict_games: int = 2,
        predict_opponent: Literal["self", "gnugo"] = "self",
        gnugo_level: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        require_positive(
            games_per_update=games_per_update,
            updates_per_epoch=updates_per_epoch,
            eval_games=eval_games,
            predict_games=predict_games,
        )
        if random_moves < 0:
            raise ConfigurationError(f"random_moves is {random_moves}: it must be at least 0")
        self.game = BoardGame(game)
        self.environment = self.game.spec
        self.task = game
        self.games_per_update = games_per_update
        self.random_moves = random_moves
        self.updates_per_epoch = updates_per_epoch
        self.eval_games = eval_games
        self.test_opponents = test_opponents
        self.search: SearchOptions = {
            "num_simulations": num_simulations,
            "rollout_share": rollout_share,
            "exploration": exploration,
            "leaves_per_batch": leaves_per_batch,
            "virtual_loss": virtual_loss,
            "resign_below": resign_below,
        }
        self.rollouts_per_leaf = rollouts_per_leaf
        self._priors: nn.Module | None = None
        if priors_checkpoint is not None:
            self._priors = read_policy(Path(priors_checkpoint), self.environment)
        self.predict_games = predict_games
        self.predict_opponent = predict_opponent
        self.gnugo_level = gnugo_level
        self.env_steps = 0  # moves of the policy in training games, on this rank
        self.last_games: tuple[int, float, int] = (0, 0.0, 0)  # number, outcomes, moves
        self._check_opponents(test_opponents)
        # GNU Go and the search check their arguments.
        players = self._players(nn.Identity(), nn.Identity())
        if "gnugo" in (*test_opponents, predict_opponent):
            players.gnugo("check").close()
        if num_simulations:
            players.tree_search(uniform_evaluator(self.game), "check", self.search)

    def _check_opponents(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.opponents:
                raise ConfigurationError(
                    f"test_opponents of {type(self).__name__} has {name}: choose among "
                    f"{', '.join(self.opponents)}"
                )
            if name == "rollouts" and not self.search["num_simulations"]:
                raise ConfigurationError(
                    "test_opponents has rollouts and num_simulations is 0: set num_simulations"
                )
        if "perfect" in names and self.game.rules.max_game_length() > LONGEST_EXACT_GAME:
            raise ConfigurationError(
                f"test_opponents has perfect, and {self.task} has too many positions for minimax: "
                "take it out, or play tic_tac_toe"
            )

    @property
    def module(self) -> PlaysBoardGames:
        """The Trainer's module."""
        assert self.trainer is not None, "the datamodule has no Trainer"
        return cast(PlaysBoardGames, self.trainer.lightning_module)

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.module.policy.parameters()).device

    @property
    def players(self) -> Players:
        """Makes players from the networks of the module and of `priors_checkpoint`."""
        policy = self.module.policy if self._priors is None else self._priors.to(self.device)
        return self._players(policy, self.module.value)

    def _players(self, policy: nn.Module, value: nn.Module) -> Players:
        return Players(
            self.game,
            self.in_precision(policy),
            self.in_precision(value),
            self.start_policy,
            self.search,
            self.rollouts_per_leaf,
            self.gnugo_level,
            self.seed,
            self.rank,
        )

    def in_precision(self, network: nn.Module) -> nn.Module:
        """A network that computes in the Trainer's precision, as it does in the steps."""
        return network if self.trainer is None else InPrecision(network, self.trainer)

    def start_policy(self) -> nn.Module:
        """The policy at the start of the run."""
        return self.module.policy

    def matches(self, stage: str, opponents: Sequence[str]) -> Batches[Any]:
        """This rank's games of a stage against opponents."""
        games = len(range(self.rank, self.eval_games, self.world_size))
        return Batches(
            lambda: play_matches(self.players, stage, opponents, games),
            number_of_batches(opponents),
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """The matches against `test_opponents`."""
        return WholeBatchLoader(self.matches("test", self.test_opponents))

    def predict_dataloader(self) -> DataLoader[RecordedGame]:
        """Games of the player against itself or GNU Go."""
        numbers = range(self.rank, self.predict_games, self.world_size)
        return WholeBatchLoader(Batches(lambda: map(self.record_game, numbers), len(numbers)))

    def record_game(self, number: int) -> RecordedGame:
        """Record a game of the player against itself, or against GNU Go."""
        return self.players.record(number, self.predict_opponent == "gnugo")

    def gtp_session(self, commands: TextIO, answers: TextIO) -> Callable[[], None]:
        """A function that answers commands of the Go Text Protocol until their end.

        Raises:
            ConfigurationError: If the game is not Go.
        """
        GtpEngine(self.game, list, "")  # checks the game

        def serve() -> None:
            player = self.players.strongest("gtp")
            GtpEngine(self.game, player, version("rl_lightning")).serve(commands, answers)

        return serve

    def statistics(self) -> dict[str, float]:
        """Moves of the policy over all ranks, and results and lengths of the last games."""
        sums = torch.tensor([self.env_steps, *self.last_games], dtype=torch.float64)
        env_steps, games, outcomes, moves = sum_over_ranks(sums).tolist()
        statistics = {"env_steps": env_steps}
        if games:
            statistics |= {"train/return": outcomes / games, "train/length": moves / games}
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        env_steps = int(sum_over_ranks(torch.tensor(self.env_steps)))
        return {**super().state_dict(), "env_steps": env_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts from a checkpoint."""
        super().load_state_dict(state_dict)
        self.env_steps = state_dict["env_steps"] if self.rank == 0 else 0
