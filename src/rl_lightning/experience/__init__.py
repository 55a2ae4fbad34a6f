"""The interface between modules, which learn, and datamodules, which collect experience.

What they exchange:

- A datamodule of environments calls the module's `act` on the module's `device` (`Policy`).
- A datamodule that gives each rollout in minibatches calls `prepare` once for each rollout
  (`PreparesRollouts`).
- A datamodule of board games evaluates the module's networks `policy` and `value`
  (`PlaysBoardGames`), and copies `policy` with its `state_dict()` for opponents.
- A datamodule of images and one of recorded games use nothing of the module.
- A module receives typed batches, and reads the datamodule's `seed` (`ExperienceSource`).
- A module is made from the datamodule's `environment`, or its `image_shape` and `num_classes`.

Both sides declare the type of their batches, and a datamodule declares by `needs_of_module` what it
uses of the module. Callbacks declare their needs of both in the same way. `compatibility.check`
compares all of this once in a run.

Shapes are time-major: T environment steps, N environment copies, B sampled transitions.
"""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.experience.batches import Dynamics as Dynamics
    from rl_lightning.experience.batches import Episodes as Episodes
    from rl_lightning.experience.batches import LabelledImages as LabelledImages
    from rl_lightning.experience.batches import Minibatch as Minibatch
    from rl_lightning.experience.batches import RecordedEpisode as RecordedEpisode
    from rl_lightning.experience.batches import Rollout as Rollout
    from rl_lightning.experience.batches import Transitions as Transitions
    from rl_lightning.experience.batches import join_rollouts as join_rollouts
    from rl_lightning.experience.declarations import ExperienceSource as ExperienceSource
    from rl_lightning.experience.declarations import GivesTDErrors as GivesTDErrors
    from rl_lightning.experience.declarations import HasActionValues as HasActionValues
    from rl_lightning.experience.declarations import HasConfusion as HasConfusion
    from rl_lightning.experience.declarations import HasDynamics as HasDynamics
    from rl_lightning.experience.declarations import HasPriorities as HasPriorities
    from rl_lightning.experience.declarations import HasStatistics as HasStatistics
    from rl_lightning.experience.declarations import HasTargetNetworks as HasTargetNetworks
    from rl_lightning.experience.declarations import PreparesRollouts as PreparesRollouts
    from rl_lightning.experience.declarations import RecordsEpisodes as RecordsEpisodes
    from rl_lightning.experience.declarations import TargetNetworks as TargetNetworks
    from rl_lightning.experience.declarations import unmet as unmet
    from rl_lightning.experience.environments import Decision as Decision
    from rl_lightning.experience.environments import EnvironmentSpec as EnvironmentSpec
    from rl_lightning.experience.environments import Exploration as Exploration
    from rl_lightning.experience.environments import Policy as Policy
    from rl_lightning.experience.environments import example_observations as example_observations
    from rl_lightning.experience.games import CheckedMoves as CheckedMoves
    from rl_lightning.experience.games import LabelledPositions as LabelledPositions
    from rl_lightning.experience.games import MatchResults as MatchResults
    from rl_lightning.experience.games import PlaysBoardGames as PlaysBoardGames
    from rl_lightning.experience.games import RecordedGame as RecordedGame
    from rl_lightning.experience.games import RecordsGames as RecordsGames
    from rl_lightning.experience.games import ScoredPositions as ScoredPositions
    from rl_lightning.experience.games import SelfPlayGames as SelfPlayGames
    from rl_lightning.experience.games import ServesGtp as ServesGtp

__getattr__, __all__ = on_first_use(__name__, __file__)
