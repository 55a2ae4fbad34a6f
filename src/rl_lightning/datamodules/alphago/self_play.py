"""Games of the policy against earlier versions of it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rl_lightning.datamodules.alphago.board_games import BoardGamesDataModule
from rl_lightning.datamodules.source import WholeBatchLoader, require_positive
from rl_lightning.experience import SelfPlayGames
from rl_lightning.games.matches import play_match, random_openings
from rl_lightning.games.network_player import Moves, network_player, sort_by_game
from rl_lightning.runtime.errors import ConfigurationError

Weights = dict[str, Tensor]


class SelfPlayDataModule(BoardGamesDataModule):
    """Plays games of the current policy against a policy that is drawn from a pool.

    The pool has the weights of earlier versions of the policy, the first of which is the policy at
    the start of the run. All games of an update are against one opponent, in lock-step, so that
    each network evaluates half of the games in one batch. The policy moves first in every second
    game. The pool is in the checkpoint.

    Validation plays against the policy at the start of the run. Both draw their actions at
    temperature 1.

    Source: Silver et al. 2016, "Mastering the game of Go with deep neural networks and tree
    search", methods.

    Args:
        game: OpenSpiel's name of the game, with parameters.
        games_per_update: Games of a batch, on each rank; an even number.
        random_moves: Each training game begins with a number of random moves, drawn from 0 to
            this one, so that games of policies without entropy differ.
        updates_per_snapshot: Updates between two versions of the policy in the pool.
        pool_size: Versions in the pool. When it is full, the oldest but the first one is removed.
        game_options: See `BoardGamesDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the game cannot be used.
    """

    batch_type = SelfPlayGames
    gives_whole_episodes = True
    opponents = ("start", *BoardGamesDataModule.opponents)

    def __init__(
        self,
        game: str = "go(board_size=9,komi=7.5)",
        games_per_update: int = 64,
        random_moves: int = 0,
        updates_per_snapshot: int = 20,
        pool_size: int = 50,
        **game_options: Any,
    ) -> None:
        super().__init__(game, games_per_update, random_moves, **game_options)
        self.save_hyperparameters()
        require_positive(
            updates_per_snapshot=updates_per_snapshot,
            pool_size=pool_size,
        )
        if games_per_update % 2:
            raise ConfigurationError(
                f"games_per_update is {games_per_update}, and the policy moves first in half of "
                "the games: make it an even number"
            )
        self.updates_per_snapshot = updates_per_snapshot
        self.pool_size = pool_size
        self.pool: list[Weights] = []

    def next_batch(self) -> SelfPlayGames:
        """Play games of the current policy against a drawn opponent."""
        if self.updates % self.updates_per_snapshot == 0:
            self._add_snapshot()
        drawn = int(self.numpy_stream("opponent").integers(len(self.pool)))
        device, policy = self.device, self.in_precision(self.module.policy)
        opponent = self.in_precision(self.copy_of_policy(self.pool[drawn]))
        moves = Moves()
        generators = (self.torch_stream(name, device) for name in ("policy", "opponent's moves"))
        match = play_match(
            self.game,
            network_player(self.game, policy, next(generators), device, moves),
            network_player(self.game, opponent, next(generators), device),
            self.games_per_update,
            random_openings(
                self.game, self.games_per_update, self.random_moves, self.numpy_stream("openings")
            ),
        )
        order, lengths = sort_by_game(match, moves)
        outcomes = torch.from_numpy(match.outcomes)
        self.env_steps += len(order)
        self.last_games = (len(lengths), float(outcomes.sum()), len(order))
        there = order.to(device)
        return SelfPlayGames(
            torch.cat(moves.observations)[there],
            torch.cat(moves.playable)[there],
            torch.cat(moves.actions)[there],
            lengths.to(device),
            outcomes.float().to(device),
        )

    def _add_snapshot(self) -> None:
        weights = self.module.policy.state_dict()
        self.pool.append({name: value.detach().cpu().clone() for name, value in weights.items()})
        if len(self.pool) > self.pool_size:
            del self.pool[min(1, self.pool_size - 1)]

    def copy_of_policy(self, weights: Weights) -> nn.Module:
        """A network like the module's policy, with other weights."""
        network = copy.deepcopy(self.module.policy)
        network.load_state_dict(weights)
        return network.requires_grad_(False)

    def start_policy(self) -> nn.Module:
        """The policy at the start of the run, or the current one if none has been trained."""
        weights = self.pool[0] if self.pool else self.module.policy.state_dict()
        return self.in_precision(self.copy_of_policy(weights))

    def val_dataloader(self) -> DataLoader[Any]:
        """A match against the policy at the start of the run."""
        return WholeBatchLoader(self.matches("validate", ("start",)))

    def state_dict(self) -> dict[str, Any]:
        """The counts and the pool, for a checkpoint."""
        return {**super().state_dict(), "pool": self.pool}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts and the pool from a checkpoint."""
        super().load_state_dict(state_dict)
        self.pool = [*state_dict["pool"]]
