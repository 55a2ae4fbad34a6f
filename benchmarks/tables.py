"""The tables of docs/ as functions of the recorded files; `figures.py` puts them into the pages."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, median

DOCS = Path(__file__).resolve().parent.parent / "docs"
Row = dict[str, str]
Table = list[list[str]]
OURS, THEIRS = "rl_lightning", "stable_baselines3"


def read(name: str, **wanted: str) -> list[Row]:
    """The rows of docs/runs/NAME.csv whose columns have the wanted values."""
    with (DOCS / "runs" / f"{name}.csv").open(newline="") as file:
        return [
            row
            for row in csv.DictReader(file)
            if all(row[key] == value for key, value in wanted.items())
        ]


def column(rows: Iterable[Row], name: str) -> list[float]:
    """The values of a column, without empty ones."""
    return [float(row[name]) for row in rows if row[name]]


def number(value: str | float, digits: int = 0) -> str:
    """A number with separators of thousands and a true minus sign."""
    return f"{float(value):,.{digits}f}".replace("-", "−")


def spread(row: Row, digits: int = 0) -> str:
    """Return ± standard deviation."""
    return f"{number(row['return'], digits)} ± {number(row['return_std'], digits)}"


def dqn_cartpole() -> Table:
    table = [
        ["seed", "environment steps", "seconds of `fit`", "greedy return of 100 episodes", "least"]
    ]
    for row in read("dqn_cartpole"):
        seconds = number(row["fit_seconds"], 1)
        least = number(row["return_min"])
        table.append([row["seed"], number(row["env_steps"]), seconds, spread(row, 1), least])
    return table


def dqn_vs_sb3() -> Table:
    sides = [read("dqn_vs_sb3", package=package) for package in (OURS, THEIRS)]
    titles = [f"{name}: seconds, environment steps" for name in (OURS, "Stable-Baselines3")]
    table = [["seed", *titles]]
    for pair in zip(*sides, strict=True):
        cells = [f"{number(row['seconds'], 2)}, {number(row['env_steps'])}" for row in pair]
        table.append([pair[0]["seed"], *cells])
    medians = [f"**{median(column(rows, 'seconds')):.2f}**" for rows in sides]
    return [*table, ["median", *medians]]


def ladder_variance() -> Table:
    names = {
        "trajectory": "whole trajectory",
        "reward_to_go": "reward to go",
        "discounted": "discounted",
        "moving_average": "− moving average",
        "value": "− V(s)",
    }
    title = [
        "ψ − b",
        "variance: trace of the covariance",
        "divided by the squared length of the mean",
    ]
    rows = {row["rung"]: row for row in read("ladder_variance")}
    return [
        title,
        *(
            [
                name,
                f"{float(rows[rung]['variance']):.2e}".replace("e+0", "e"),
                number(rows[rung]["variance_over_squared_mean"], 1),
            ]
            for rung, name in names.items()
        ),
    ]


def a2c_cartpole_vs_sb3() -> Table:
    rate = "environment steps per second, median"
    table = [["", rate, "seconds to a greedy 475, median", "solved"]]
    for package, name in ((OURS, "this package"), (THEIRS, "Stable-Baselines3 2.9.2")):
        rows = read("a2c_cartpole_vs_sb3", package=package)
        solved = sum(row["solved"] == "True" for row in rows)
        speed = number(median(column(rows, "env_steps_per_second")))
        seconds = number(median(column(rows, "seconds")), 2)
        table.append([name, speed, seconds, f"{solved} of {len(rows)}"])
    return table


def halfcheetah_throughput() -> Table:
    names = {
        "rl_lightning, one process": "this package, one process",
        "rl_lightning, two processes": "this package, two processes of 8 copies "
        "(`--trainer.devices 2 --trainer.strategy ddp`)",
        "rl_lightning, EnvPool, one thread": "this package, EnvPool on one thread "
        "(`--data.engine envpool`)",
        "rl_lightning, EnvPool, two threads": "this package, EnvPool on two threads",
        "stable_baselines3, one thread": "Stable-Baselines3 2.9 with VecNormalize, one thread of "
        "torch",
        "stable_baselines3, two threads": "Stable-Baselines3 2.9 with VecNormalize, two threads",
        "environments alone": "Gymnasium's environments alone, no learner",
        "physics alone": "the physics within them alone",
    }
    table = [["", "environment steps per second"]]
    for who, name in names.items():
        rows = read("a2c_halfcheetah_vs_sb3", who=who)
        table.append([name, number(median(column(rows, "env_steps_per_second")))])
    return table


def a2c_locomotion() -> Table:
    published = {
        "HalfCheetah-v5": ("1,830 and 3,041", "3 to 5 min"),
        "Ant-v5": ("3,485 and −44", "10 to 19 min"),
        "Humanoid-v5": ("1,726 and 388 (2M)", "24 to 29 min"),
    }
    title = ["seed 1", "seed 2", "seed 3", "mean", "published at 1M (v3)", "wall-clock"]
    table = [["", *title]]
    for env_id, texts in published.items():
        rows = read("a2c_locomotion", env_id=env_id)
        mean = f"**{number(fmean(column(rows, 'return')))}**"
        table.append([env_id, *(spread(row) for row in rows), mean, *texts])
    return table


def sac() -> Table:
    published = {"HalfCheetah-v5": "12,139", "Hopper-v5": "3,542", "Walker2d-v5": "5,007"}
    stopped = {("Walker2d-v5", "1"), ("Humanoid-v5", "1")}
    title = ["", "seed", "environment steps", "greedy return", "episodes"]
    table = [[*title, "published at 1M (Tianshou, v3)"]]
    for env_id in dict.fromkeys(row["env_id"] for row in read("sac")):
        last = read("sac", env_id=env_id, checkpoint="last")
        digits = 1 if env_id == "Pendulum-v1" else 0
        for row in last:
            seed, steps = row["seed"], number(row["env_steps"])
            shown = spread(row, digits) if len(last) > 1 else f"**{spread(row, digits)}**"
            for best in read("sac", env_id=env_id, seed=seed, checkpoint="best"):
                shown += f" (best checkpoint {spread(best, digits)})"
            first = row is last[0]
            table.append(
                [
                    env_id if first else "",
                    seed,
                    f"{steps} (stopped there)" if (env_id, seed) in stopped else steps,
                    shown,
                    number(row["episodes"]),
                    published.get(env_id, "") if first else "",
                ]
            )
        if env_id in published:
            mean = f"**{number(fmean(column(last, 'return')))}**"
            table.append(["", "mean", "", mean, "", ""])
    return table


def sac_stability() -> Table:
    thresholds = {"HalfCheetah-v5": 5000, "Hopper-v5": 2500, "Walker2d-v5": 2500}
    first = "first reached after, seeds 1, 2, 3"
    table = [["", "threshold", first, "later validations below it, seeds 1, 2, 3"]]
    for env_id, threshold in thresholds.items():
        reached, below = [], []
        for seed in ("1", "2", "3"):
            rows = read("sac_curves", env_id=env_id, seed=seed)
            returns = column(rows, "val_return")
            index = next(i for i, value in enumerate(returns) if value >= threshold)
            later = returns[index + 1 :]
            reached.append(number(rows[index]["env_steps"]))
            below.append(f"{sum(value < threshold for value in later)} of {len(later)}")
        cells = [number(threshold), f"{' / '.join(reached)} steps", " / ".join(below)]
        table.append([env_id, *cells])
    return table


def envpool() -> Table:
    title = [
        "",
        "reward of a step: EnvPool, Gymnasium",
        "episode length: EnvPool, Gymnasium",
        "outside: EnvPool, Gymnasium again",
        "steps per second: Gymnasium, EnvPool on 1 and 2 threads",
    ]
    pairs = (
        ("reward_envpool", "reward_gymnasium"),
        ("episode_length_envpool", "episode_length_gymnasium"),
        ("outside_envpool", "outside_gymnasium_again"),
    )
    speeds = ("gymnasium_1", "envpool_1", "envpool_2")
    table = [title]
    for row in read("envpool_vs_gymnasium"):
        cells = [", ".join(row[key] for key in pair).replace("-", "−") for pair in pairs]
        speed = ", ".join(number(row[f"steps_per_second_{each}"]) for each in speeds)
        table.append([row["env_id"], *cells, speed])
    return table


def value_iteration() -> Table:
    title = ["environment", "γ", "states", "sweeps", "largest difference", "value at the start"]
    table = [[*title, "test return", "episodes"]]
    for row in read("value_iteration"):
        difference = float(row["largest_difference"])
        table.append(
            [
                row["run"],
                f"{float(row['gamma']):g}",
                row["states"],
                row["sweeps"],
                f"{difference:.1e}".replace("e-0", "e-") if difference else "0",
                f"{float(row['start_value']):.4g}".replace("-", "−"),
                spread(row, 2),
                row["episodes"],
            ]
        )
    return table


def q_learning() -> Table:
    names = {
        "GridWorld 4x4": "GridWorld 4×4",
        "FrozenLake 4x4": "FrozenLake 4×4, not slippery",
        "FrozenLake 8x8, optimistic": "FrozenLake 8×8, not slippery, `initial_value: 1.0`",
    }
    seeds = sorted({row["seed"] for row in read("q_learning")})
    table = [["", *(f"seed {seed}" for seed in seeds), "error"]]
    for run, name in names.items():
        rows = read("q_learning", run=run)
        shortest = min(int(row["updates"]) for row in rows)
        cells = []
        for row in rows:
            steps = row["env_steps_to_optimal"]
            cell = number(steps) if steps else "not"
            more = f" (in {number(row['updates'])} updates)"
            cells.append(cell + more if int(row["updates"]) > shortest else cell)
        error = f"{float(rows[0]['max_error']):.0e}".replace("e-0", "e-").replace("0e+00", "0")
        table.append([name, *cells, error])
    return table


def value_iteration_scaling() -> Table:
    with (DOCS / "value_iteration_scaling.csv").open(newline="") as file:
        rows = {(row["kind"], int(row["states"])): row for row in csv.DictReader(file)}
    table = [["states", "ours", "NumPy", "Python loop", "ours, memory", "NumPy, memory"]]
    for states in (16, 10_000, 99_856, 1_000_000, 4_000_000, 9_000_000):
        kinds = [rows.get((kind, states)) for kind in (OURS, "numpy", "python")]
        times = [_milliseconds(float(row["sweep_cpu_seconds"])) if row else "" for row in kinds]
        memory = [f"{number(row['sweep_peak_mb'])} MB" for row in kinds[:2] if row]
        table.append([number(states), *times, *memory])
    return table


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    digits = 2 if milliseconds < 1 else 1 if milliseconds < 20 else 0
    return f"{number(milliseconds, digits)} ms"


def soak() -> Table:
    table = [["", "DQN, CartPole", "A2C, Pong"]]
    runs = [read("soak_dqn_cartpole"), read("soak_a2c_pong")]
    for name, key, digits in (
        ("resident memory, MB", "rss_mb", 1),
        ("environment steps per second", "env_steps_per_second", 0),
        ("environment steps per second of CPU time", "env_steps_per_cpu_second", 0),
    ):
        cells = []
        for rows in runs:
            early, late = median(column(rows[1:11], key)), median(column(rows[-10:], key))
            change = number(100 * (late / early - 1), 2 if abs(late / early - 1) < 0.001 else 1)
            sign = "" if change.startswith("−") else "+"
            cells.append(f"{number(early, digits)} → {number(late, digits)} ({sign}{change}%)")
        table.append([name, *cells])
    return table


def processes() -> Table:
    title = ["environment steps per second, medians", "one", "two ranks", ""]
    table = [[*title, "separate runs", "returns of ≥ 475 by two ranks"]]
    for config, name in (("a2c/cartpole", "A2C on CartPole"), ("dqn/cartpole", "DQN on CartPole")):
        kinds = {
            runs: read("processes", config=config, runs=runs)
            for runs in ("alone", "ranks of one", "apart")
        }
        one, two, apart = (column(rows, "env_steps_per_second") for rows in kinds.values())
        gains = [both / single for both, single in zip(two, one, strict=True)]
        pairs = [a + b for a, b in zip(apart[::2], apart[1::2], strict=True)]
        separate = median(both / single for both, single in zip(pairs, one, strict=True))
        solved = [row for row in kinds["ranks of one"] if row["env_steps_to_475"]]
        steps = column(solved, "env_steps_to_475")
        table.append(
            [
                name,
                number(median(one)),
                number(median(two)),
                f"{min(gains):.2f} to {max(gains):.2f}, median **{median(gains):.2f}** times",
                f"{separate:.2f} times",
                f"{len(solved)} of {len(two)} seeds, after {number(min(steps))} to "
                f"{number(max(steps))} steps",
            ]
        )
    return table


def sac_speed() -> Table:
    names = {
        "stable_baselines3": "Stable-Baselines3",
        "rl_lightning, as Stable-Baselines3": "this package with its settings: one copy, an "
        "update for each step, minibatches of 256",
        "rl_lightning, as configured": "this package as configured",
    }
    table = [["", "environment steps per second", "times"]]
    speeds = [median(column(read("sac_vs_sb3", who=who), "env_steps_per_second")) for who in names]
    for name, speed in zip(names.values(), speeds, strict=True):
        table.append([name, number(speed, 1), f"{speed / speeds[0]:.1f}"])
    return table


def atari_speed() -> Table:
    names = {
        "dqn": "DQN, Nature network, batch 32, one update in 4 steps",
        "a2c": "A2C, Nature network, 16 copies × 5 steps",
    }
    table = [["environment steps per second", OURS, "Stable-Baselines3", "times"]]
    for algorithm, name in names.items():
        ours, theirs = (
            median(
                column(
                    read("atari_vs_sb3", algorithm=algorithm, package=package),
                    "env_steps_per_second",
                )
            )
            for package in (OURS, THEIRS)
        )
        table.append([name, number(ours), number(theirs), f"{ours / theirs:.2f}"])
    return table


def alphago_supervised() -> Table:
    rows = read("alphago_supervised")
    table = [["positions", "validation top-1", "top-5", "loss"]]
    for row in (rows[0], *rows[1::2]):
        accuracies = [f"{number(100 * float(row[key]), 1)}%" for key in ("val_top1", "val_top5")]
        table.append([number(row["positions"]), *accuracies, number(row["val_loss"], 3)])
    return table


TABLES: dict[str, Callable[[], Table]] = {
    function.__name__: function
    for function in (
        dqn_cartpole,
        dqn_vs_sb3,
        ladder_variance,
        a2c_cartpole_vs_sb3,
        halfcheetah_throughput,
        a2c_locomotion,
        sac,
        sac_stability,
        envpool,
        value_iteration,
        q_learning,
        value_iteration_scaling,
        soak,
        processes,
        sac_speed,
        atari_speed,
        alphago_supervised,
    )
}
