"""REINFORCE's variance reduction, setting by setting, as a picture and a table.

    python benchmarks/ladder.py --out docs

Draws the greedy returns of each of `configs/reinforce/cartpole_*.yaml`, which
`python -m rl_lightning seeds` has recorded in docs/runs. Then it takes one policy, half way to the
solution, fits V(s) to 400 of its episodes and plays 400 others. For each setting it measures the
variance of the gradient estimates of single episodes: the trace of their covariance, and that
divided by the squared length of their mean, because discounting also shortens the mean.

Writes ladder.png and runs/ladder_variance.csv.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recorded import RUNGS, column, seed_curves
from rl_lightning.tracking.tables import write_table

CONFIGS = Path(__file__).resolve().parent.parent / "configs/reinforce"
EPISODES, POINTS, MOST_STEPS = 400, 120, 400_000


def train(*flags: str) -> Path:
    """Train the setting with V(s) in the working folder, and return its last checkpoint."""
    from rl_lightning import cli

    config = str(CONFIGS / "cartpole_value.yaml")
    flags = ("--trainer.enable_progress_bar", "false", *flags)
    assert cli.main(["fit", "--config", config, *flags]) == 0
    (checkpoint,) = Path.cwd().rglob("last.ckpt")
    return checkpoint


def scatter(checkpoint: Path) -> list[dict[str, Any]]:
    """The variance of the gradient estimates of single episodes of one policy, for each setting."""
    from lightning import Trainer

    from rl_lightning.environments.making import EnvironmentMaker
    from rl_lightning.experience import Rollout
    from rl_lightning.interaction.collector import Collector
    from rl_lightning.modules import Reinforce

    trained = Reinforce.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    trained.trainer = Trainer(logger=False, log_every_n_steps=0)  # without it there is no loss
    trained.learn_statistics = lambda batch, returns: None  # every episode has the same ones
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
            columns = (column[:, n : n + 1] for column in batch[:6])
            episode = Rollout(*columns)
            descent = torch.autograd.grad(trained.training_step(episode), policy)
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


def draw(variances: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2))
    grid = np.linspace(0, MOST_STEPS, POINTS)
    rng = np.random.default_rng(0)
    for index, (rung, label) in enumerate(RUNGS.items()):
        # A seed that has stopped early keeps its last return.
        seeds = seed_curves(f"cartpole_{rung}").values()
        curve = np.stack(
            [np.interp(grid, column(rows, "step"), column(rows, "score")) for rows in seeds]
        )
        resampled = curve[rng.integers(len(curve), size=(2_000, len(curve)))].mean(axis=1)
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
        left.plot(grid / 1e3, curve.mean(axis=0), color=f"C{index}", label=label)
        left.fill_between(grid / 1e3, low, high, color=f"C{index}", alpha=0.15, linewidth=0)
        right.bar(index, variances[index]["variance"], color=f"C{index}")
    left.set(
        xlabel="environment steps, thousands",
        ylabel="greedy return, CartPole-v1",
        title=f"Mean over {len(curve)} seeds, 95% bootstrap interval",
        ylim=(0, 510),
    )
    left.legend(loc="lower right", frameon=False)
    right.set(yscale="log", title="Variance of one episode's gradient\nat one policy")
    right.set_xticks(range(len(RUNGS)), RUNGS.values(), rotation=30, ha="right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        variances = scatter(train("--seed_everything", "100", "--trainer.max_epochs", "3"))
        os.chdir(out)
    (out / "runs").mkdir(exist_ok=True)
    write_table(out / "runs/ladder_variance.csv", variances)
    draw(variances, out / "ladder.png")


if __name__ == "__main__":
    main()
