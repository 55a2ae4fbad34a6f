"""The environments of the conformance tests, and the expected result of each algorithm."""

import importlib.util
from typing import Any, NamedTuple

AGENTS = ("DQN", "A2C", "Reinforce")
TABLES = ("ValueIteration", "PolicyEvaluation")
NETWORKS = ("nature", "atari_2013")

# By algorithm, "" if it trains, else a part of the error that refuses the environment.
Says = dict[str, str]
CONTINUOUS: Says = {
    "DQN": "has continuous ones: use SAC, PPO or A2C there",
    "SAC": "",
    "A2C": "",
    "Reinforce": "",
    "PPO": "",
    "PQN": "has continuous ones: use SAC, PPO or A2C there",
    "QLearning": "has no table: tables need Discrete observations",
    "ValueIteration": "has no finite table",
}
DISCRETE = CONTINUOUS | {"DQN": "", "PQN": "", "SAC": "has discrete ones: use DQN or A2C there"}
UNBOUNDED = CONTINUOUS | {"SAC": "have no bounds"}
COUNTED = DISCRETE | {"QLearning": "", "ValueIteration": "does not expose its dynamics"}
COUNTED_BY_WRAPPER = COUNTED | {"ValueIteration": "leave data.wrappers out"}
TABLE = COUNTED | dict.fromkeys(TABLES, "")
RANDOM_TABLE = COUNTED | dict.fromkeys(TABLES, "different dynamics in each environment copy")


def all_say(words: str, algorithms: tuple[str, ...] = ("DQN", "A2C", "ValueIteration")) -> Says:
    """The same error for several algorithms."""
    return dict.fromkeys(algorithms, words)


class Environment(NamedTuple):
    """One environment and its expected results."""

    name: str
    env_id: str
    says: Says
    options: str = ""  # in addition to those of the algorithm
    status: int = 2  # exit status of the command if it is refused
    shows: str = ""  # expected on stderr if it trains
    sample: tuple[str, ...] = ()  # algorithms in the sample of the default test run


def short(
    env_id: str, says: Says, options: str = "", name: str = "", limit: int = 20, **rest: Any
) -> Environment:
    """An environment with short episodes."""
    limited = f"--data.env_kwargs.max_episode_steps {limit} {options}"
    return Environment(name or env_id.rpartition(":")[2], env_id, says, limited, **rest)


def odd(name: str, says: Says, options: str = "", **rest: Any) -> Environment:
    """An environment from `odd_environments`."""
    return Environment(name, f"test/{name}-v0", says, options, **rest)


def wrapped(*paths: str) -> str:
    """The command-line option that wraps an environment."""
    return f"--data.wrappers [{','.join(paths)}] "


FLATTENED = wrapped("gymnasium.wrappers.FlattenObservation")
GRID_IMAGES = wrapped("minigrid.wrappers.ImgObsWrapper")
RESCALED = wrapped("gymnasium.wrappers.NormalizeObservation")
POOLING = ("SAC", "A2C")
ASYNC = "--data.env_kwargs.vectorization_mode async"
FRAMES = "--data.env_kwargs.max_num_frames_per_episode 120"
NEEDS_FLATTENING = "flatten it with --data.wrappers '[gymnasium.wrappers.FlattenObservation]'"
NEEDS_WRAPPER = "add a gymnasium.ObservationWrapper to data.wrappers"
NEEDS_ACTION_WRAPPER = "add a gymnasium.ActionWrapper to data.wrappers"
NOT_FINITE = "infinite or NaN"

CLASSIC_CONTROL = [
    short("CartPole-v1", DISCRETE, sample=("DQN",)),
    short("CartPole-v1", DISCRETE, ASYNC, "CartPole-async"),
    short("MountainCar-v0", DISCRETE, sample=("PQN",)),
    short("MountainCarContinuous-v0", CONTINUOUS),
    short("Pendulum-v1", CONTINUOUS, sample=("DQN", "A2C", "SAC", "PPO", "PQN")),
    short("Acrobot-v1", DISCRETE),
]
TOY_TEXT = [
    short("FrozenLake-v1", TABLE, sample=("QLearning", "ValueIteration")),
    Environment(
        "RandomLake",
        "FrozenLake-v1",
        RANDOM_TABLE,
        '--data.env_kwargs {"map_name":null,"max_episode_steps":20}',
    ),
    short("FrozenLake8x8-v1", TABLE),
    short("Taxi-v4", TABLE),
    short("CliffWalking-v1", TABLE),
    short("CliffWalkingSlippery-v1", TABLE),
    Environment("Blackjack", "Blackjack-v1", all_say(NEEDS_FLATTENING)),
]
WRAPPED = [
    Environment("Blackjack", "Blackjack-v1", DISCRETE, FLATTENED, sample=("DQN",)),
    short("FrozenLake-v1", DISCRETE, FLATTENED),
    short("Taxi-v4", DISCRETE, FLATTENED),
    short("CliffWalking-v1", COUNTED_BY_WRAPPER, wrapped("conformance.odd_environments.Mirrored")),
    short("MountainCar-v0", COUNTED_BY_WRAPPER, wrapped("conformance.odd_environments.Binned")),
    short("Pendulum-v1", DISCRETE, wrapped("conformance.odd_environments.ThreeTorques")),
]
BOX2D = [
    short("LunarLander-v3", DISCRETE, sample=("A2C",)),
    short("LunarLander-v3", CONTINUOUS, "--data.env_kwargs.continuous true", "continuous"),
    short("LunarLanderContinuous-v3", CONTINUOUS),
    short("BipedalWalker-v3", CONTINUOUS),
    short("BipedalWalkerHardcore-v3", CONTINUOUS),
    short("CarRacing-v3", CONTINUOUS, limit=5),
    short("CarRacing-v3", DISCRETE, "--data.env_kwargs.continuous false", "discrete", 5),
]
MINIGRID = [
    short("minigrid:MiniGrid-Empty-5x5-v0", all_say(NEEDS_WRAPPER), name="Dict"),
    short("minigrid:MiniGrid-Empty-5x5-v0", DISCRETE, GRID_IMAGES, sample=("DQN",)),
    short(
        "minigrid:MiniGrid-DoorKey-5x5-v0", DISCRETE, wrapped("minigrid.wrappers.FlatObsWrapper")
    ),
    short(
        "minigrid:MiniGrid-Fetch-5x5-N2-v0",
        DISCRETE,
        wrapped("minigrid.wrappers.RGBImgPartialObsWrapper", "minigrid.wrappers.ImgObsWrapper"),
    ),
    short("minigrid:BabyAI-GoToRedBallGrey-v0", DISCRETE, GRID_IMAGES),
]
ATARI = [
    Environment("Pong", "ALE/Pong-v5", DISCRETE, FRAMES, sample=("DQN",)),
    Environment(
        "Breakout",
        "ale_py:ALE/Breakout-v5",
        DISCRETE,
        f"{FRAMES} --data.env_kwargs.protocol sticky",
    ),
    Environment("Asteroids", "ALE/Asteroids-v5", DISCRETE, FRAMES),
    short("ale_py:PongNoFrameskip-v4", DISCRETE, limit=4),
]
MUJOCO = [
    short("Hopper-v5", CONTINUOUS, sample=("A2C",)),
    short("Hopper-v4", CONTINUOUS),
    short("HalfCheetah-v5", CONTINUOUS),
    short("Reacher-v5", CONTINUOUS),
    short("Pusher-v5", CONTINUOUS),
    short("InvertedPendulum-v5", CONTINUOUS),
    short("InvertedDoublePendulum-v5", CONTINUOUS),
    short("Swimmer-v5", CONTINUOUS),
    short("Walker2d-v5", CONTINUOUS),
    short("Ant-v5", CONTINUOUS),
    short("Humanoid-v5", CONTINUOUS),
    short("HumanoidStandup-v5", CONTINUOUS),
    short("Reacher-v2", all_say("mujoco")),
]
NOT_INSTALLED = [
    Environment(env_id, env_id, all_say(package))
    for env_id, package in (
        ("phys2d/CartPole-v1", "jax"),
        ("tabular/Blackjack-v0", "jax"),
        ("GymV21Environment-v0", "shimmy"),
        ("minigrid:MiniGrid-WFC-MazeSimple-v0", "networkx"),
        ("nowhere:Nothing-v0", "nowhere"),
    )
    if importlib.util.find_spec(package) is None
]
ODD_OBSERVATIONS = [
    odd("Bytes", DISCRETE, sample=("A2C",)),
    odd("Bytes", all_say("use network mlp", AGENTS), "--model.network nature"),
    odd("Images", DISCRETE),
    *(
        odd(name, {"DQN": "", "A2C": ""}, f"--model.network {network}")
        for name in ("Images", "Gray")
        for network in NETWORKS
    ),
    *(odd(name, DISCRETE) for name in ("Uint16", "Uint64", "Int8", "Int64")),
    *(odd(name, DISCRETE) for name in ("Float16", "Float64", "Bool", "MultiBinary")),
    *(odd(name, DISCRETE) for name in ("MultiDiscrete", "Scalar", "Cube", "Tesseract", "Nothing")),
    *(odd(name, DISCRETE) for name in ("Unbounded", "HalfBounded", "Lists")),
    odd("Started", COUNTED, sample=("QLearning", "PPO")),
    *(odd(name, COUNTED) for name in ("StartedBytes", "Negative", "PythonIntegers")),
    *(odd(name, all_say(NEEDS_FLATTENING)) for name in ("Dict", "Tuple", "Text", "OneOf")),
    *(odd(name, DISCRETE, FLATTENED) for name in ("Dict", "Tuple", "Text", "OneOf")),
    *(odd(name, all_say(NEEDS_WRAPPER)) for name in ("Graph", "Sequence")),
    odd("TooMany", all_say("memory", ("DQN", "Reinforce", "QLearning"))),
    odd("Outside", all_say("which is not in its space", (*AGENTS, "QLearning")), status=1),
]
ODD_ACTIONS = [
    odd("StartedActions", DISCRETE, sample=("DQN",)),
    odd("OneAction", DISCRETE),
    *(odd(name, CONTINUOUS) for name in ("Lopsided", "Table", "ScalarAction", "OnePoint")),
    *(odd(name, CONTINUOUS) for name in ("Float16Actions", "Float64Actions")),
    *(odd(name, UNBOUNDED) for name in ("OneSided", "NoBounds")),
    *(
        odd(f"{space}Actions", all_say(NEEDS_ACTION_WRAPPER))
        for space in ("Integer", "MultiDiscrete", "MultiBinary", "Dict", "Text")
    ),
]
ODD_VALUES = [
    odd("NaN", all_say(NOT_FINITE, AGENTS), status=1, sample=("DQN",)),
    odd("NaNAtOnce", all_say(NOT_FINITE, AGENTS)),
    odd("Infinite", all_say(NOT_FINITE, AGENTS), status=1),
    odd("TooLarge", all_say(NOT_FINITE, AGENTS), status=1),
    odd("Huge", {"A2C": "", "Reinforce": ""}),
    odd("Huge", {"DQN": "the loss is"}, status=1),
    odd("HugeFloat16", DISCRETE),
    *(odd(f"Reward-{kind}", DISCRETE) for kind in ("int", "numpy", "bool")),
    *(
        odd(f"Reward-{kind}", all_say("returned the reward", AGENTS), status=1)
        for kind in ("inf", "nan", "huge", "none")
    ),
    *(
        odd(f"Reward-{kind}", all_say("self._rewards[i]", AGENTS), status=1)
        for kind in ("array", "pair", "text")
    ),
]
ODD_BEHAVIOUR = [
    odd("Breaks-init", all_say("broken in init"), sample=("DQN",)),
    odd("Breaks-reset", all_say("broken in reset", AGENTS)),
    odd("Breaks-step", all_say("broken in step", AGENTS), status=1, sample=("A2C",)),
    odd("Breaks-step", all_say("broken in step", AGENTS), ASYNC, status=1),
    odd("Breaks-shape", all_say("raised ValueError in step", AGENTS), status=1),
    odd("Keeps", {"DQN": "", "A2C": ""}, shows="New episodes of test/Keeps-v0 start here"),
    odd("Keeps", {"Reinforce": ""}),
    odd("Remembers", DISCRETE),
    odd("RemembersTooMuch", all_say("state_dict() of", AGENTS)),
    odd("NoLimit", {"DQN": "", "A2C": ""}, shows="were cut off after 27,000"),
    odd("NoLimit", {"Reinforce": "--data.env_kwargs.max_episode_steps"}, status=1),
    odd("NoLimit", DISCRETE, "--data.env_kwargs.max_episode_steps 4"),
    *(odd(name, DISCRETE) for name in ("Limited", "OneStep", "OneStepCutOff", "Copies")),
    odd("Native", DISCRETE, sample=("A2C",)),
    odd("NativeOfRows", all_say("returned rewards of shape (2, 1) for 2", AGENTS), status=1),
    *(odd(name, all_say("resets in mode")) for name in ("SameStep", "NoMode")),
]
POOL = "--data.engine envpool"
POOLED_BOX = {name: says for name, says in CONTINUOUS.items() if name not in TABLES}
POOLED_DISCRETE = {name: says for name, says in DISCRETE.items() if name not in TABLES}
POOLED = [
    short("CartPole-v1", POOLED_DISCRETE, POOL, sample=("A2C",)),
    *(short(env_id, POOLED_BOX, POOL) for env_id in ("Pendulum-v1", "MountainCarContinuous-v0")),
    *(short(env_id, POOLED_DISCRETE, POOL) for env_id in ("Acrobot-v1", "LunarLander-v3")),
    *(
        short(f"{name}-v5", POOLED_BOX, POOL)
        for name in ("HalfCheetah", "Ant", "Hopper", "Walker2d", "Humanoid", "Reacher")
    ),
    short("BipedalWalker-v3", POOLED_BOX, POOL),
    short("FrozenLake-v1", {"DQN": "", "A2C": "", "QLearning": ""}, POOL),
    short(
        "FrozenLake-v1", all_say("raised TypeError in reset", ("DQN", "A2C")),
        f"{POOL} {FLATTENED}", name="wrapped lake",
    ),
    short("Hopper-v5", {"SAC": "", "A2C": ""}, f"{POOL} {RESCALED}", name="wrapped hopper"),
    short("minigrid:MiniGrid-Empty-5x5-v0", POOLED_DISCRETE, f"{POOL} {GRID_IMAGES}"),
    Environment("Pong", "ALE/Pong-v5", {"DQN": "", "A2C": ""}, f"{POOL} {FRAMES}"),
    Environment("Taxi", "Taxi-v4", all_say("EnvPool has no environment Taxi-v4", POOLING), POOL),
    odd("Bytes", all_say("EnvPool has no environment", POOLING), POOL),
    Environment("camera", "Hopper-v5", {"SAC": ""}, f"{POOL} --data.env_kwargs.camera_name track"),
    Environment(
        "argument", "Pendulum-v1", all_say("unexpected keyword argument", POOLING),
        f"{POOL} --data.env_kwargs.g 9.81",
    ),
    Environment(
        "wrapper", "Hopper-v5", all_say("is for single environments", POOLING),
        f"{POOL} {wrapped('gymnasium.wrappers.TimeAwareObservation')}",
    ),
]  # fmt: skip
FAMILIES = {
    "classic control": CLASSIC_CONTROL,
    "toy text": TOY_TEXT,
    "wrapped": WRAPPED,
    "Box2D": BOX2D,
    "MiniGrid": MINIGRID,
    "Atari": ATARI,
    "MuJoCo": MUJOCO,
    "not installed": NOT_INSTALLED,
    "odd observations": ODD_OBSERVATIONS,
    "odd actions": ODD_ACTIONS,
    "odd values": ODD_VALUES,
    "odd behaviour": ODD_BEHAVIOUR,
    "EnvPool": POOLED if importlib.util.find_spec("envpool") else [],
}


class Case(NamedTuple):
    """One algorithm with one environment."""

    family: str
    environment: Environment
    algorithm: str

    @property
    def arguments(self) -> list[str]:
        """Arguments of the command, in addition to those of all cases of the algorithm."""
        # Discrete observations have no mean.
        has_mean = "no table" in self.environment.says.get("QLearning", "")
        normalised = self.algorithm in ("A2C", "PPO", "PQN") and has_mean
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
