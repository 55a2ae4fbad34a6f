"""Tables of speed, time and memory, as functions of the recorded files."""

import csv
from statistics import median

from recorded import DOCS, Table, column, number, read

OURS, THEIRS = "rl_lightning", "stable_baselines3"


def dqn_vs_sb3() -> Table:
    sides = [read("dqn_vs_sb3", package=package) for package in (OURS, THEIRS)]
    titles = [f"{name}: seconds, environment steps" for name in (OURS, "Stable-Baselines3")]
    table = [["seed", *titles]]
    for pair in zip(*sides, strict=True):
        cells = [f"{number(row['seconds'], 2)}, {number(row['env_steps'])}" for row in pair]
        table.append([pair[0]["seed"], *cells])
    medians = [f"**{median(column(rows, 'seconds')):.2f}**" for rows in sides]
    return [*table, ["median", *medians]]


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


def pong_time_vs_sb3() -> Table:
    table = [["", "seconds", "environment steps", "reached 18"]]
    for package, name in ((OURS, "this package"), (THEIRS, "Stable-Baselines3 2.9.2")):
        for row in read("pong_time_vs_sb3", package=package):
            reached = "yes" if row["reached"] == "True" else "no, ended there"
            table.append([name, number(row["seconds"]), number(row["env_steps"]), reached])
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


def startup() -> Table:
    """Seconds until the program has answered, compared with the import of torch and Lightning."""
    table = [["command", "before", "now", "now, seconds after the last line"]]
    for command in dict.fromkeys(row["command"] for row in read("startup")):
        cells = []
        for source in ("0", "1"):
            rows = read("startup", source=source, command=command)
            ratios = [float(row["seconds"]) / float(row["baseline_seconds"]) for row in rows]
            cells.append(number(median(ratios), 2))
        table.append([command, *cells, number(median(column(rows, "after_last_line")), 2)])
    return table


TABLES = (
    startup,
    dqn_vs_sb3,
    a2c_cartpole_vs_sb3,
    pong_time_vs_sb3,
    halfcheetah_throughput,
    envpool,
    value_iteration_scaling,
    soak,
    processes,
    sac_speed,
    atari_speed,
)
