"""Seconds per epoch of the Recurrent Attention Model on MNIST, compared with a bare PyTorch loop.

    python benchmarks/ram_epoch.py --repeats 5

The bare loop has the same networks, losses, clipping and Adam, without Trainer, modules, metrics or
shuffling. Both run on one core over 54,000 random images at batch 128, in turn. The least of the
repeats counts, because other work on the machine, and compiling in the first repeat, can only add
time. Prints wall time and CPU time.
"""

import argparse
import time
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from rl_lightning.datamodules.mnist import MNISTDataModule
from rl_lightning.modules import RecurrentAttentionModel

IMAGES, BATCH, GLIMPSES, SIZE, STD = 54_000, 128, 6, 8, 0.1


class BareLoop:
    """The model in plain PyTorch."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.what, self.where = nn.Linear(SIZE * SIZE, 128), nn.Linear(2, 128)
        self.merge, self.g2h = nn.Linear(256, 256), nn.Linear(256, 256)
        self.h2h = nn.Linear(256, 256, bias=False)
        self.locator = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2), nn.Tanh())
        self.classifier, self.baseline = nn.Linear(256, 10), nn.Linear(256, 1)
        rest = [self.what, self.where, self.merge, self.g2h, self.h2h, self.classifier]
        self.rest = [p for layer in [*rest, self.baseline] for p in layer.parameters()]
        parameters = [*self.rest, *self.locator.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def epoch(self) -> None:
        for start in range(0, IMAGES, BATCH):
            images = self.images[start : start + BATCH].float() / 255
            self.update(images, self.labels[start : start + BATCH])

    def update(self, images: Tensor, labels: Tensor) -> None:
        number = len(images)
        windows = F.pad(images, [SIZE // 2] * 4).unfold(1, SIZE, 1).unfold(2, SIZE, 1)
        rows = torch.arange(number)
        location = (STD * torch.randn(number, 2)).clamp(-1, 1)
        log_probs, baselines, hidden = [], [], None
        for t in range(GLIMPSES):
            x, y = ((location + 1) / 2 * 28).round().long().unbind(-1)
            glimpse = windows[rows, y, x].flatten(1)
            seen = torch.cat([self.what(glimpse), self.where(location)], 1)
            before = self.g2h(F.relu(self.merge(F.relu(seen))))
            hidden = F.relu(before if hidden is None else before + self.h2h(hidden))
            if t + 1 < GLIMPSES:
                mean = self.locator(hidden.detach())
                sample = (mean + STD * torch.randn(number, 2)).detach()
                log_probs.append(-((sample - mean) ** 2).sum(1) / (2 * STD**2))
                baselines.append(self.baseline(hidden.detach()).squeeze(1))
                location = sample.clamp(-1, 1)
        logits = self.classifier(hidden)
        reward = (logits.argmax(1) == labels).float()
        log_prob, baseline = torch.stack(log_probs), torch.stack(baselines)
        reinforce = -(log_prob * (reward - baseline).detach()).sum(0).mean()
        mse = F.mse_loss(baseline, reward.expand_as(baseline))
        self.optimizer.zero_grad()
        (F.cross_entropy(logits, labels) + reinforce + mse).backward()
        nn.utils.clip_grad_norm_(self.locator.parameters(), 5.0)
        nn.utils.clip_grad_norm_(self.rest, 5.0)
        self.optimizer.step()


class Front:
    """The same through Trainer, module and datamodule, as `fit` runs it."""

    def __init__(self, images: Tensor, labels: Tensor, compiled: bool) -> None:
        self.data = MNISTDataModule(batch_size=BATCH)
        self.data.splits = {"train": (images, labels)}  # in place of the files
        self.data.prepare_data = lambda: None  # type: ignore[method-assign]
        adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
        self.model = RecurrentAttentionModel((1, 28, 28), 10, compiled=compiled, optimizer=adam)

    def epoch(self) -> None:
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            log_every_n_steps=100,
            gradient_clip_val=5.0,
        )
        trainer.fit(self.model, self.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randint(256, (IMAGES, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (IMAGES,))
    contenders = {
        "bare loop": BareLoop(images, labels),
        "rl_lightning fit": Front(images, labels, compiled=False),
        "rl_lightning fit, compiled": Front(images, labels, compiled=True),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            contender.epoch()
            seconds = (time.perf_counter() - wall, time.process_time() - cpu)
            times[name].append(seconds)
            print(f"{name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s of CPU", flush=True)
    print("\n| 54,000 images, batch 128, one core | wall s | CPU s |\n| --- | --- | --- |")
    for name, runs in times.items():
        wall, cpu = (min(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
