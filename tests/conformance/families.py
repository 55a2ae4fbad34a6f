"""Which environments there are, and what each algorithm makes of each."""

import importlib.util
from typing import NamedTuple

AGENTS = ("DQN", "A2C", "Reinforce")
TABLES = ("ValueIteration", "PolicyEvaluation")

# By algorithm: "" where it trains, else words of the error that refuses it.
Says = dict[str, str]
CONTINUOUS: Says = {
    "DQN": "has continuous ones: use A2C or Reinforce there",
    "A2C": "",
    "Reinforce": "",
    "QLearning": "has no table: tables need Discrete observations",
    "ValueIteration": "has no finite table",
}
DISCRETE = CONTINUOUS | {"DQN": ""}
COUNTED = DISCRETE | {"QLearning": "", "ValueIteration": "does not expose its dynamics"}
TABLE = COUNTED | dict.fromkeys(TABLES, "")


def refused(words: str, algorithms: tuple[str, ...] = ("DQN", "A2C", "ValueIteration")) -> Says:
    """Algorithms that say the same."""
    return dict.fromkeys(algorithms, words)


class Environment(NamedTuple):
    """One environment, as it is made."""

    name: str
    env_id: str
    says: Says
    options: str = ""  # beside those of the algorithm
    status: int = 2  # of the command where it is refused
    shows: str = ""  # on stderr, where it trains
    sample: tuple[str, ...] = ()  # algorithms that every test run tries


def short(env_id: str, says: Says, options: str = "", limit: int = 20, **rest) -> Environment:
    """An environment with short episodes."""
    limited = f"--data.env_kwargs.max_episode_steps {limit} {options}"
    return Environment(env_id.rpartition("/")[2], env_id, says, limited, **rest)


def odd(name: str, says: Says, options: str = "", **rest) -> Environment:
    """One of `odd_environments`."""
    return Environment(name, f"test/{name}-v0", says, options, **rest)


def wrapped(*paths: str) -> str:
    """The option that wraps an environment."""
    return f"--data.wrappers [{','.join(paths)}] "


FLATTENED = wrapped("gymnasium.wrappers.FlattenObservation")
NEEDS_FLATTENING = "flatten it with --data.wrappers '[gymnasium.wrappers.FlattenObservation]'"
NEEDS_WRAPPER = "give data.wrappers a gymnasium.ObservationWrapper"
NEEDS_ACTION_WRAPPER = "give data.wrappers a gymnasium.ActionWrapper"
BROKEN = AGENTS
GRID_IMAGES = wrapped("minigrid.wrappers.ImgObsWrapper")
FRAMES = "--data.env_kwargs.max_num_frames_per_episode 120 "

FAMILIES: dict[str, list[Environment]] = {
    "classic control": [
        short("CartPole-v1", DISCRETE, sample=("DQN",)),
        short("CartPole-v1", DISCRETE, "--data.env_kwargs.vectorization_mode async")._replace(
            name="CartPole-async"
        ),
        short("MountainCar-v0", DISCRETE),
        short("MountainCarContinuous-v0", CONTINUOUS),
        short("Pendulum-v1", CONTINUOUS, sample=("DQN", "A2C")),
        short("Acrobot-v1", DISCRETE),
    ],
    "toy text": [
        short("FrozenLake-v1", TABLE, sample=("QLearning", "ValueIteration")),
        short("FrozenLake8x8-v1", TABLE),
        short("Taxi-v4", TABLE),
        short("CliffWalking-v1", TABLE),
        short("CliffWalkingSlippery-v1", TABLE),
        Environment("Blackjack", "Blackjack-v1", refused(NEEDS_FLATTENING)),
        short("FrozenLake-v1", TABLE, "--data.env_kwargs.map_name null")._replace(
            name="RandomLake"
        ),
    ],
    "toy text, wrapped": [
        Environment("Blackjack", "Blackjack-v1", DISCRETE, FLATTENED, sample=("DQN",)),
        short("FrozenLake-v1", DISCRETE, FLATTENED),
        short("Taxi-v4", DISCRETE, FLATTENED),
        short("CliffWalking-v1", COUNTED, wrapped("gymnasium.wrappers.TimeLimit")),
    ],
    "Box2D": [
        short("LunarLander-v3", DISCRETE, sample=("A2C",)),
        short("LunarLander-v3", CONTINUOUS, "--data.env_kwargs.continuous true")._replace(
            name="LunarLander-continuous"
        ),
        short("LunarLanderContinuous-v3", CONTINUOUS),
        short("BipedalWalker-v3", CONTINUOUS),
        short("BipedalWalkerHardcore-v3", CONTINUOUS),
        short("CarRacing-v3", CONTINUOUS, limit=5),
        short("CarRacing-v3", DISCRETE, "--data.env_kwargs.continuous false", 5)._replace(
            name="CarRacing-discrete"
        ),
    ],
    "MiniGrid": [
        short("minigrid:MiniGrid-Empty-5x5-v0", refused(NEEDS_WRAPPER)),
        short("minigrid:MiniGrid-Empty-5x5-v0", DISCRETE, GRID_IMAGES, sample=("DQN",)),
        short(
            "minigrid:MiniGrid-DoorKey-5x5-v0",
            DISCRETE,
            wrapped("minigrid.wrappers.FlatObsWrapper"),
        ),
        short(
            "minigrid:MiniGrid-Fetch-5x5-N2-v0",
            DISCRETE,
            wrapped("minigrid.wrappers.RGBImgPartialObsWrapper", "minigrid.wrappers.ImgObsWrapper"),
        ),
        short("minigrid:BabyAI-GoToRedBallGrey-v0", DISCRETE, GRID_IMAGES),
    ],
    "Atari": [
        Environment("Pong", "ALE/Pong-v5", DISCRETE, FRAMES, sample=("DQN",)),
        Environment(
            "Breakout",
            "ale_py:ALE/Breakout-v5",
            DISCRETE,
            f"{FRAMES} --data.env_kwargs.protocol sticky",
        ),
        Environment("Asteroids", "ALE/Asteroids-v5", DISCRETE, FRAMES),
        short("ale_py:PongNoFrameskip-v4", DISCRETE, limit=4),
    ],
    "MuJoCo": [
        *(
            short(f"{name}-v5", CONTINUOUS, sample=("A2C",) if name == "Hopper" else ())
            for name in [
                "Hopper",
                "HalfCheetah",
                "Reacher",
                "Pusher",
                "InvertedPendulum",
                "InvertedDoublePendulum",
                "Swimmer",
                "Walker2d",
                "Ant",
                "Humanoid",
                "HumanoidStandup",
            ]
        ),
        short("Hopper-v4", CONTINUOUS),
        short("Reacher-v2", refused("mujoco")),
    ],
    "not installed": [
        Environment(name, env_id, refused(words), options)
        for name, env_id, words, package, options in (
            ("functional CartPole", "phys2d/CartPole-v1", "jax", "jax", ""),
            ("functional Blackjack", "tabular/Blackjack-v0", "jax", "jax", ""),
            ("another package", "GymV21Environment-v0", "shimmy", "shimmy", ""),
            ("nothing such", "nowhere:Nothing-v0", "nowhere", "nowhere", ""),
        )
        if importlib.util.find_spec(package) is None
    ],
    "odd observations": [
        odd("Bytes", DISCRETE, sample=("A2C",)),
        odd("Images", DISCRETE),
        *(
            odd(
                name,
                {"DQN": "", "A2C": ""},
                f"--model.network {network}",
            )
            for name in ("Images", "Gray")
            for network in ("nature", "atari_2013")
        ),
        odd("Bytes", refused("use network mlp", AGENTS), "--model.network nature"),
        *(
            odd(name, DISCRETE)
            for name in [
                "Uint16",
                "Uint64",
                "Int8",
                "Int64",
                "Float16",
                "Float64",
                "Bool",
                "MultiBinary",
                "MultiDiscrete",
                "Scalar",
                "Cube",
                "Tesseract",
                "Nothing",
                "Unbounded",
                "HalfBounded",
            ]
        ),
        odd("Started", COUNTED, sample=("QLearning",)),
        odd("StartedBytes", COUNTED),
        odd("Negative", COUNTED),
        *(odd(name, refused(NEEDS_FLATTENING)) for name in ("Dict", "Tuple", "Text", "OneOf")),
        *(odd(name, DISCRETE, FLATTENED) for name in ("Dict", "Tuple", "Text", "OneOf")),
        *(odd(name, refused(NEEDS_WRAPPER)) for name in ("Graph", "Sequence")),
        odd("TooMany", refused("memory", ("DQN", "Reinforce", "QLearning"))),
    ],
    "odd actions": [
        odd("StartedActions", DISCRETE, sample=("DQN",)),
        odd("OneAction", DISCRETE),
        *(
            odd(name, CONTINUOUS)
            for name in [
                "Lopsided",
                "Table",
                "ScalarAction",
                "Float64Actions",
                "Float16Actions",
                "OneSided",
                "NoBounds",
                "OnePoint",
            ]
        ),
        *(
            odd(name, refused(NEEDS_ACTION_WRAPPER))
            for name in [
                "IntegerActions",
                "MultiDiscreteActions",
                "MultiBinaryActions",
                "DictActions",
                "TextActions",
            ]
        ),
    ],
    "odd values": [
        odd("NaN", refused("infinite or NaN", AGENTS), status=1, sample=("DQN",)),
        odd("NaNAtOnce", refused("infinite or NaN", AGENTS)),
        odd("Infinite", refused("infinite or NaN", AGENTS), status=1),
        odd("TooLarge", refused("infinite or NaN", AGENTS), status=1),
        odd("Huge", {"A2C": "", "Reinforce": ""}),
        odd("HugeFloat16", DISCRETE),
        *(
            odd(f"Reward-{kind}", refused("gave the reward", AGENTS), status=1)
            for kind in ("inf", "nan", "huge")
        ),
        *(odd(f"Reward-{kind}", DISCRETE) for kind in ("int", "numpy", "bool")),
        *(
            odd(f"Reward-{kind}", refused("reward", AGENTS), status=1)
            for kind in ("array", "pair", "text", "none")
        ),
        odd("Lists", DISCRETE),
        odd("PythonIntegers", COUNTED),
    ],
    "odd behaviour": [
        odd("Breaks-init", refused("broken in init", AGENTS), sample=("DQN",)),
        odd("Breaks-reset", refused("broken in reset", AGENTS)),
        odd("Breaks-step", refused("broken in step", AGENTS), status=1, sample=("A2C",)),
        odd(
            "Breaks-step",
            refused("broken in step", AGENTS),
            "--data.env_kwargs.vectorization_mode async",
            status=1,
        ),
        odd("Breaks-shape", refused("shape", AGENTS), status=1),
        odd("Keeps", {"Reinforce": ""}),
        odd("Keeps", {"DQN": "", "A2C": ""}, shows="New episodes of test/Keeps-v0 start here"),
        odd("Remembers", DISCRETE),
        odd("RemembersTooMuch", refused("state_dict()", AGENTS)),
        odd("Drawn", {"DQN": ""}),
        odd("NotDrawn", {"DQN": ""}),
        odd("NoLimit", {"DQN": "", "A2C": ""}, shows="were cut off after 27,000"),
        odd("NoLimit", {"Reinforce": "--data.env_kwargs.max_episode_steps"}, status=1),
        odd("Limited", DISCRETE),
        odd("OneStep", DISCRETE),
        odd("OneStepCutOff", DISCRETE),
        odd("Copies", DISCRETE),
        odd("Native", DISCRETE, sample=("A2C",)),
        odd("SameStep", refused("resets in mode")),
        odd("NoMode", refused("resets in mode")),
    ],
}


class Case(NamedTuple):
    """One algorithm in one environment."""

    family: str
    environment: Environment
    algorithm: str

    @property
    def arguments(self) -> list[str]:
        """The command's, beside those that all cases of the algorithm share."""
        says = self.environment.says
        # Counted observations have no mean.
        normalised = self.algorithm == "A2C" and says not in (COUNTED, TABLE)
        return [
            *("--data.env_id", self.environment.env_id),
            *self.environment.options.split(),
            *(("--model.normalise_observations", "true") if normalised else ()),
        ]

    def __str__(self) -> str:
        return f"{self.family}/{self.environment.name}/{self.algorithm}"


CASES = [
    Case(family, environment, algorithm)
    for family, environments in FAMILIES.items()
    for environment in environments
    for algorithm in environment.says
]
