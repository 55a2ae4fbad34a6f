"""REINFORCE's variance reduction, setting by setting, as a picture and two tables.

    python benchmarks/ladder.py --seeds 5 --out docs

Trains each of `configs/reinforce/cartpole_*.yaml` with every seed through the command line, and
keeps the greedy return of each validation. Then it takes one policy, half way to the solution, fits
V(s) to 400 of its episodes and plays 400 others. For each setting it measures the variance of the
gradient estimates of single episodes: the trace of their covariance, and that divided by the
squared length of their mean, because discounting also shortens the mean.

Writes ladder.png, runs/ladder_returns.csv and runs/ladder_variance.csv.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recorded import RUNGS
from rl_lightning.tracking.tables import write_table

CONFIGS = Path(__file__).resolve().parent.parent / "configs/reinforce"
EPISODES, POINTS = 400, 60


def train(rung: str, seed: int, *flags: str) -> list[tuple[int, float]]:
    """Environment steps and greedy return at each validation, run in the working folder."""
    from mlflow import MlflowClient

    from rl_lightning import cli

    status = cli.main(
        [
            *("fit", "--config", str(CONFIGS / f"cartpole_{rung}.yaml")),
            *("--seed_everything", str(seed), "--trainer.enable_progress_bar", "false", *flags),
            *("--trainer.callbacks", "null"),  # all rungs train equally long
        ]
    )
    assert status == 0, f"{rung}, seed {seed}"
    client = MlflowClient("sqlite:///mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'reinforce-%'")
    run = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])[0]
    return [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "val/return")]


def scatter(checkpoint: Path) -> list[dict[str, Any]]:
    """The variance of the gradient estimates of single episodes of one policy, for each setting."""
    from rl_lightning.datamodules.collector import Collector
    from rl_lightning.environments.making import EnvironmentMaker
    from rl_lightning.experience import Rollout
    from rl_lightning.modules import Reinforce

    trained = Reinforce.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    collector = Collector(EnvironmentMaker("CartPole-v1").make(EPISODES), gamma=0.99)
    collector.generator.manual_seed(0)
    earlier = collector.collect_episodes(trained, 1, seed=1)
    fit_critic(trained, earlier)
    batch = collector.collect_episodes(trained, 1, seed=2)
    policy = [*trained.body.parameters(), *trained.head.parameters()]
    rows = []
    for rung in RUNGS:
        set_rung(rung, trained, earlier)
        gradients = []
        for n in range(EPISODES):
            episode = Rollout._make([*(column[:, n : n + 1] for column in batch[:6]), {}])
            descent = torch.autograd.grad(trained.losses(episode).policy, policy)
            gradients.append(torch.cat([part.flatten() for part in descent]))
        estimates = torch.stack(gradients).double()
        variance = estimates.var(dim=0).sum().item()
        signal = estimates.mean(dim=0).square().sum().item()
        rows.append({
            "rung": rung,
            "variance": float(f"{variance:.4g}"),
            "variance_over_squared_mean": float(f"{variance / signal:.4g}"),
            "mean_return": round(float((batch.rewards * batch.mask).sum() / EPISODES), 1),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def fit_critic(agent: Any, earlier: Any, updates: int = 1_000) -> None:
    """Fit V(s) to the returns of the policy; ten updates of training are too few for that."""
    optimizer = torch.optim.Adam([*agent.critic_body.parameters(), *agent.value_head.parameters()])
    observations = earlier.observations[:-1][earlier.mask]
    returns = agent.returns(earlier)[earlier.mask]
    rows = torch.Generator().manual_seed(0)
    for _ in range(updates):
        drawn = torch.randint(len(returns), (1_024,), generator=rows)
        loss = (agent.critic(observations[drawn]) - returns[drawn]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def set_rung(rung: str, agent: Any, earlier: Any) -> None:
    """Give an agent with a critic the returns and the baseline of a setting."""
    from rl_lightning.networks.normalisation import MovingAverage

    agent.kind_of_returns = rung if rung in ("trajectory", "reward_to_go") else "discounted"
    agent.baseline = "value" if rung == "value" else "none"
    agent.average = None
    if rung == "moving_average":
        agent.average = MovingAverage(decay=0.0)
        agent.average.update(agent.returns(earlier)[earlier.mask])


def draw(returns: list[dict[str, Any]], variances: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2))
    shortest = min(
        max(row["env_steps"] for row in returns if (row["rung"], row["seed"]) == key)
        for key in {(row["rung"], row["seed"]) for row in returns}
    )
    grid = np.linspace(0, shortest, POINTS)
    rng = np.random.default_rng(0)
    for index, (rung, label) in enumerate(RUNGS.items()):
        curves = []
        for seed in sorted({row["seed"] for row in returns}):
            own = [row for row in returns if (row["rung"], row["seed"]) == (rung, seed)]
            steps, values = zip(*((r["env_steps"], r["return"]) for r in own), strict=True)
            curves.append(np.interp(grid, steps, values))
        curve = np.stack(curves)
        resampled = curve[rng.integers(len(curve), size=(2_000, len(curve)))].mean(axis=1)
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
        left.plot(grid / 1e3, curve.mean(axis=0), color=f"C{index}", label=label)
        left.fill_between(grid / 1e3, low, high, color=f"C{index}", alpha=0.15, linewidth=0)
        right.bar(index, variances[index]["variance"], color=f"C{index}")
    seeds = len({row["seed"] for row in returns})
    left.set(
        xlabel="environment steps, thousands",
        ylabel="greedy return, CartPole-v1",
        title=f"Mean over {seeds} seeds, 95% bootstrap interval",
        ylim=(0, 510),
    )
    left.legend(loc="lower right", frameon=False)
    right.set(yscale="log", title="Variance of one episode's gradient\nat one policy")
    right.set_xticks(range(len(RUNGS)), RUNGS.values(), rotation=30, ha="right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    returns = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for rung in RUNGS:
            for seed in range(1, arguments.seeds + 1):
                curve = train(rung, seed)
                print(rung, seed, [round(value) for _, value in curve], flush=True)
                returns += [
                    {"rung": rung, "seed": seed, "env_steps": step, "return": round(value, 2)}
                    for step, value in curve
                ]
        train("value", 100, "--trainer.max_epochs", "2")
        newest = max(Path(folder).rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        variances = scatter(newest)
        os.chdir(out)
    write(out / "runs/ladder_returns.csv", returns)
    write(out / "runs/ladder_variance.csv", variances)
    draw(returns, variances, out / "ladder.png")


if __name__ == "__main__":
    main()
