"""The interface between modules, which learn, and datamodules, which collect experience.

A datamodule calls the policy's `act`; the module receives typed batches. They exchange nothing
else. Modules declare the batch type that they need, datamodules the one that they provide, and
`compatibility.pairs` compares the two declarations. Callbacks declare their needs in the same way.

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
        Learner,
        RecordsEpisodes,
        RepeatsRollouts,
        ReusesRollouts,
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
    "Learner",
    "MatchResults",
    "PlaysBoardGames",
    "Policy",
    "RecordedEpisode",
    "RecordedGame",
    "RecordsEpisodes",
    "RecordsGames",
    "RepeatsRollouts",
    "ReusesRollouts",
    "Rollout",
    "ScoredPositions",
    "SelfPlayGames",
    "ServesGtp",
    "Transitions",
    "example_observations",
    "join_rollouts",
]

__getattr__ = on_first_use(__name__, __file__)
