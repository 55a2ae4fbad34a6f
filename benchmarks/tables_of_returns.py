"""Tables of returns, errors and variances, as functions of the recorded files."""

from statistics import fmean, median

from recorded import RUNGS, Row, Table, column, number, read, spread
from rl_lightning.studies.statistics import score_statistics


def ppo() -> Table:
    """PPO on HalfCheetah-v5."""
    table = [["", "seed", "environment steps", "last greedy return", "seconds"]]
    for row in read("ppo_halfcheetah"):
        greedy = spread(row) if row["return_std"] else number(row["return"])
        steps, seconds = number(row["env_steps"]), number(row["seconds"])
        table.append([row["who"], row["seed"], steps, greedy, seconds])
    return table


def lunarlander() -> Table:
    """Last and best checkpoint of each seed."""
    table = [["configuration", "seed", "environment steps", "last", "best", "seconds of `fit`"]]
    for row in read("lunarlander"):
        cells = [
            number(row["steps"]),
            f"**{number(row['last_return'])} ± {number(row['last_return_std'])}**",
        ]
        cells += [number(row["best_return"]), number(row["fit_seconds"])]
        table.append([f"`{row['configuration']}`", row["seed_everything"], *cells])
    return table


SEEDS_OF_CARTPOLE = {
    "dqn": "dqn/cartpole",
    "a2c": "a2c/cartpole",
    "ppo": "ppo/cartpole",
    "pqn": "pqn/cartpole",
    "trajectory": "reinforce/cartpole_trajectory",
    "reward_to_go": "reinforce/cartpole_reward_to_go",
    "discounted": "reinforce/cartpole_discounted",
    "moving_average": "reinforce/cartpole_moving_average",
    "value": "reinforce/cartpole_value",
}


def last_checkpoints(rows: list[Row], digits: int) -> list[str]:
    """IQM with its interval, and how many seeds reach 475, of the last checkpoints."""
    last = column(rows, "last_return")
    _, iqm, low, high = score_statistics(last)
    interval = f"{number(low, digits)} to {number(high, digits)}"
    return [
        f"{number(iqm, digits)}, {interval}",
        f"{sum(score >= 475 for score in last)} of {len(last)}",
    ]


def cartpole_seeds() -> Table:
    """Last and best checkpoint of each configuration over its seeds."""
    heads = ["configuration", "seeds", "last: IQM, 95% interval", "last: lowest", "last ≥ 475"]
    table = [[*heads, "best: lowest", "environment steps, median", "seconds of `fit`, median"]]
    for file, name in SEEDS_OF_CARTPOLE.items():
        rows = read(f"cartpole_{file}")
        interval, solved = last_checkpoints(rows, digits=1)
        table.append(
            [
                f"`{name}`",
                str(len(rows)),
                interval,
                number(min(column(rows, "last_return")), 1),
                solved,
                number(min(column(rows, "best_return")), 1),
                number(median(column(rows, "steps"))),
                number(median(column(rows, "fit_seconds")), 1),
            ]
        )
    return table


def dqn_pong_seeds() -> Table:
    """Last checkpoint of each seed."""
    heads = ["seed", "environment steps", "minutes of `fit`", "last validation"]
    table = [[*heads, "test of the last checkpoint", "worst episode"]]
    for row in read("pong_dqn"):
        table.append(
            [
                row["seed_everything"],
                number(row["steps"]),
                number(float(row["fit_seconds"]) / 60),
                number(row["last_validation"], 1),
                f"**{number(row['last_return'], 1)} ± {number(row['last_return_std'], 1)}**",
                number(row["last_return_min"]),
            ]
        )
    return table


def ladder_training() -> Table:
    heads = ["ψ − b", "last: IQM, 95% interval", "last ≥ 475"]
    table = [[*heads, "environment steps until all episodes are perfect, median"]]
    for rung, name in RUNGS.items():
        rows = read(f"cartpole_{rung}")
        # A run without a perfect validation needs more steps than any other.
        steps = median(
            float(row["steps"]) if float(row["last_validation"]) > 499.9 else float("inf")
            for row in rows
        )
        found = number(steps) if steps < float("inf") else "not"
        table.append([name, *last_checkpoints(rows, digits=0), found])
    return table


def ladder_variance() -> Table:
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
            for rung, name in RUNGS.items()
        ),
    ]


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


def alphago_supervised() -> Table:
    rows = read("alphago_supervised")
    table = [["positions", "validation top-1", "top-5", "loss"]]
    for row in (rows[0], *rows[1::2]):
        accuracies = [f"{number(100 * float(row[key]), 1)}%" for key in ("val_top1", "val_top5")]
        table.append([number(row["positions"]), *accuracies, number(row["val_loss"], 3)])
    return table


def alphago_self_play() -> Table:
    table = [["moves of the policy", "games won against the supervised policy"]]
    for row in read("alphago_self_play"):
        rate = number(100 * float(row["val_win_rate_against_start"]), 1)
        table.append([number(row["moves"]), f"{rate}%"])
    return table


def alphago_value() -> Table:
    table = [["moves", "validation MSE", "sign"]]
    rows = read("alphago_value")
    for row in [rows[0], *rows[2::3]]:
        sign = number(100 * float(row["val_sign"]), 1)
        table.append([number(row["moves"]), number(row["val_mse"], 3), f"{sign}%"])
    return table


def alphago_value_grid() -> Table:
    table = [
        ["games", "positions of each", "weight of the owners", "updates", "held-out MSE", "sign"]
    ]
    for row in read("alphago_value_grid"):
        sign = number(100 * float(row["sign"]), 1)
        cells = [number(row["games"]), row["positions_per_game"], number(row["ownership_weight"])]
        table.append([*cells, number(row["updates"]), number(row["mse"], 3), f"{sign}%"])
    return table


def alphago_search_speed() -> Table:
    table = [["network", "games", "rollouts a leaf", "float32", "bfloat16"]]
    rows = read("alphago_search_speed", precision="32-true")
    for row in rows:
        key = {name: row[name] for name in ("layers", "filters", "games", "rollouts_per_leaf")}
        (other,) = read("alphago_search_speed", precision="bf16-mixed", **key)
        rates = [number(each["simulations_per_cpu_second"]) for each in (row, other)]
        size = f"{row['layers']} × {row['filters']}"
        table.append([size, row["games"], row["rollouts_per_leaf"], *rates])
    return table


def ram_larger_images() -> Table:
    heads = ["task", "glimpses", "seed", "epochs", "mean policy, M = 1", "sampled, M = 1"]
    table = [[*heads, "averaged, M = 10", "paper"]]
    for row in read("ram_larger_images"):
        error, *others = (
            f"{number(row[name], 2)} ± {number(row[f'{name}_stderr'], 2)}"
            for name in ("error", "error_sampled", "error_averaged")
        )
        which = [row[name] for name in ("task", "num_glimpses", "seed", "epochs")]
        table.append([*which, f"**{error}**", *others, row["paper"]])
    return table


def ram_after_each_glimpse() -> Table:
    rows = read("ram_larger_images")
    most = max(int(row["num_glimpses"]) for row in rows)
    table = [["task, seed", *map(str, range(1, most + 1))]]
    for row in rows:
        names = [*(f"error_after_{t}" for t in range(1, int(row["num_glimpses"]))), "error"]
        errors = [number(row[name], 2) for name in names]
        table.append([f"{row['task']}, {row['seed']}", *errors, *[""] * (most - len(errors))])
    return table


def a2c_breakout() -> Table:
    table = [["environment steps", "minutes", "training return", "greedy return"]]
    for row in read("a2c_breakout_curve")[::3]:
        greedy = f"{number(row['val_return'])} ± {number(row['val_return_std'])}"
        minutes = number(float(row["seconds"]) / 60)
        table.append([number(row["env_steps"]), minutes, number(row["train_return"]), greedy])
    return table


TABLES = (
    cartpole_seeds,
    dqn_pong_seeds,
    ppo,
    lunarlander,
    ladder_training,
    ladder_variance,
    a2c_locomotion,
    sac,
    sac_stability,
    value_iteration,
    q_learning,
    alphago_supervised,
    alphago_self_play,
    alphago_value,
    alphago_value_grid,
    alphago_search_speed,
    a2c_breakout,
    ram_larger_images,
    ram_after_each_glimpse,
)
