"""Time of the parts of an update, and what the Trainer and tracking add to a bare PyTorch loop.

    python benchmarks/trainer_cost.py

Both sides run the network, batch, optimizer, collector and replay of `configs/dqn/cartpole.yaml`,
in turn, several times. Prints medians, and their ratio to the bare loop. One thread of torch.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger

from rl_lightning.callbacks import ExperienceMonitor, MLflowTracker, TargetNetwork
from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.modules import DQN

WARM_UP = 100


def build(updates: int) -> tuple[ReplayDataModule, DQN]:
    data = ReplayDataModule(
        "CartPole-v1",
        num_envs=128,
        env_steps_per_update=128,
        batch_size=512,
        n_step=10,
        warmup_env_steps=2_000,
        updates_per_epoch=updates,
    )
    adam = partial(torch.optim.Adam, lr=2e-3, fused=True)
    return data, DQN(data.environment, loss="huber", optimizer=adam)


class BareData(ReplayDataModule):
    """The datamodule with its policy given directly, because the bare loop has no Trainer."""

    bare_policy: Any

    @property
    def policy(self) -> Any:
        return self.bare_policy


def bare(updates: int, seconds: dict[str, list[float]]) -> None:
    data, agent = build(updates)
    data.__class__ = BareData
    data.bare_policy = agent
    data.setup("fit")
    parts: dict[str, float] = defaultdict(float)

    def watch(owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = inner(*args, **kwargs)
            parts[part] += time.perf_counter() - start
            return result

        setattr(owner, name, timed)

    watch(data.collector.envs, "step", "environment")
    watch(agent, "act", "action choice")
    watch(data.ring, "sample", "sampling")
    optimizer, target = agent.configure_optimizers(), TargetNetwork(1, tau=0.01)
    trainer = Trainer(logger=False, enable_checkpointing=False)
    agent.log_loss = lambda loss, q_values: None
    agent._trainer = trainer
    target.on_train_start(trainer, agent)
    for update, batch in enumerate(data.train_dataloader()):
        if update == WARM_UP:
            parts.clear()
            start = time.perf_counter()
        learning = time.perf_counter()
        loss = agent.training_step(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        target._seen_updates = -1  # this Trainer counts no updates, so its count seems unchanged
        target.on_train_batch_end(trainer, agent, None, batch, update)
        parts["learning"] += time.perf_counter() - learning
    counted = updates - WARM_UP
    seconds["bare loop"].append((time.perf_counter() - start) / counted)
    for part, total in parts.items():
        seconds[part].append(total / counted)


class Clock(Callback):
    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        counted = trainer.num_training_batches - WARM_UP
        self.seconds = (time.perf_counter() - self.start) / counted


def trained(updates: int, *callbacks: Callback, logger: Logger | None = None) -> float:
    data, agent = build(updates)
    clock = Clock()
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=logger or False,
        log_every_n_steps=200,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock, TargetNetwork(1, tau=0.01), *callbacks],
    ).fit(agent, datamodule=data)
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.repeats):
        bare(arguments.updates, seconds)
        seconds["Trainer"].append(trained(arguments.updates))
        with tempfile.TemporaryDirectory() as folder:
            tracker = MLflowTracker("cost", tracking_uri=f"sqlite:///{folder}/mlflow.db")
            tracked = trained(arguments.updates, ExperienceMonitor(), logger=tracker)
        seconds["Trainer, tracked"].append(tracked)
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    whole = medians["bare loop"]
    for name, value in medians.items():
        print(f"{name:18}{value:8.3f} ms per update  {value / whole:6.1%} of the bare loop")
    pairs = zip(seconds["Trainer, tracked"], seconds["Trainer"], strict=True)
    cost = statistics.median(tracked / untracked - 1 for tracked, untracked in pairs)
    print(f"tracking adds {cost:.1%} to an update under the Trainer (median of pairs)")


if __name__ == "__main__":
    main()
