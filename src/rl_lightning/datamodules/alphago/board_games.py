"""Base class of datamodules that play board games with the networks of the module."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, Literal, TextIO, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from rl_lightning.datamodules.source import SourceDataModule, WholeBatchLoader, require_positive
from rl_lightning.experience import PlaysBoardGames, RecordedGame
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gtp import GtpEngine
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import sum_over_ranks
from rl_lightning.search.evaluators import uniform_evaluator
from rl_lightning.search.matches import GameRecordings, MatchDataset
from rl_lightning.search.players import Players

Opponent = Literal["start", "policy", "rollouts", "perfect", "gnugo"]
# A game with more moves than this has too many positions for minimax.
LONGEST_EXACT_GAME = 9


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
        predict_games: Games that `predict` plays, over all ranks.
        predict_opponent: Opponent in `predict`: "self" or "gnugo", which moves first in every
            second game.
        gnugo_level: GNU Go's level, from 1 to 10.
        seed: Seed of every random stream.

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
        self.num_simulations = num_simulations
        self.exploration = exploration
        self.rollout_share = rollout_share
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
            players.search(uniform_evaluator(self.game), "check", rollout_share)

    def _check_opponents(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.opponents:
                raise ConfigurationError(
                    f"test_opponents of {type(self).__name__} has {name}: choose among "
                    f"{', '.join(self.opponents)}"
                )
            if name == "rollouts" and not self.num_simulations:
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
        """Makes players from the module's networks."""
        return self._players(self.module.policy, self.module.value)

    def _players(self, policy: nn.Module, value: nn.Module) -> Players:
        return Players(
            self.game,
            policy,
            value,
            self.num_simulations,
            self.exploration,
            self.rollout_share,
            self.gnugo_level,
            self.seed,
            self.rank,
        )

    def matches(self, stage: str, opponents: Sequence[str]) -> MatchDataset:
        """This rank's games of a stage against opponents."""
        games = len(range(self.rank, self.eval_games, self.world_size))
        return MatchDataset(self.players, stage, opponents, games)

    def test_dataloader(self) -> DataLoader[Any]:
        """The matches against `test_opponents`."""
        return WholeBatchLoader(self.matches("test", self.test_opponents))

    def predict_dataloader(self) -> DataLoader[RecordedGame]:
        """Games of the player against itself or GNU Go."""
        numbers = range(self.rank, self.predict_games, self.world_size)
        return WholeBatchLoader(GameRecordings(self.record_game, numbers))

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
