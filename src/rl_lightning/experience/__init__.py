"""The interface between modules, which learn, and datamodules, which collect experience.

What they exchange:

- A datamodule of environments calls the module's `act` on the module's `device` (`Policy`).
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
    from rl_lightning.experience.batches import (
        Dynamics,
        Episodes,
        LabelledImages,
        RecordedEpisode,
        Rollout,
        Transitions,
        join_rollouts,
    )
    from rl_lightning.experience.declarations import (
        ExperienceSource,
        GivesTDErrors,
        HasActionValues,
        HasConfusion,
        HasDynamics,
        HasPriorities,
        HasStatistics,
        HasTargetNetworks,
        RecordsEpisodes,
        TargetNetworks,
        unmet,
    )
    from rl_lightning.experience.environments import (
        Decision,
        EnvironmentSpec,
        Exploration,
        Policy,
        example_observations,
    )
    from rl_lightning.experience.games import (
        CheckedMoves,
        LabelledPositions,
        MatchResults,
        PlaysBoardGames,
        RecordedGame,
        RecordsGames,
        ScoredPositions,
        SelfPlayGames,
        ServesGtp,
    )

__all__ = [
    "CheckedMoves",
    "Decision",
    "Dynamics",
    "EnvironmentSpec",
    "Episodes",
    "ExperienceSource",
    "Exploration",
    "GivesTDErrors",
    "HasActionValues",
    "HasConfusion",
    "HasDynamics",
    "HasPriorities",
    "HasStatistics",
    "HasTargetNetworks",
    "LabelledImages",
    "LabelledPositions",
    "MatchResults",
    "PlaysBoardGames",
    "Policy",
    "RecordedEpisode",
    "RecordedGame",
    "RecordsEpisodes",
    "RecordsGames",
    "Rollout",
    "ScoredPositions",
    "SelfPlayGames",
    "ServesGtp",
    "TargetNetworks",
    "Transitions",
    "example_observations",
    "join_rollouts",
    "unmet",
]

__getattr__ = on_first_use(__name__, __file__)
