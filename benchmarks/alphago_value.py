"""Held-out error of the value network, with one or eight positions of each game and owners or not.

    python benchmarks/alphago_value.py <checkpoint of a policy> --games 2000 --csv out.csv

The policy of the checkpoint plays games against itself, once for all rows. Each row trains a new
value network on positions of the same games, for as many seconds of processor time, in bfloat16
with a cosine schedule. The error is that on eight positions of each of other games.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer

from rl_lightning.datamodules.alphago.self_play_positions import SelfPlayPositionsDataModule
from rl_lightning.experience import ScoredPositions
from rl_lightning.games.symmetries import turn_planes
from rl_lightning.modules import GameValue
from rl_lightning.runtime.checkpoints import load_plain, load_weights

POSITIONS = 8
CHUNK = 500  # games that are played together
COLUMNS = ("games", "positions_per_game", "ownership_weight", "layers", "filters", "seconds",
           "updates", "passes", "mse", "sign", "seed")  # fmt: skip


class Games(SelfPlayPositionsDataModule):
    """Plays without a Trainer."""

    module = None


def played(path: Path, number: int, stream: str, seed: int, cache: Path | None) -> ScoredPositions:
    """Eight positions of each game of the policy against itself."""
    size = load_plain(path)["hyper_parameters"]
    data = Games(seed=seed)
    data.module = GameValue(data.environment, size["num_layers"], size["num_filters"])
    load_weights(path, data.module)
    parts = []
    for update in range(-(-number // CHUNK)):
        file = cache and cache / f"{stream}-{update}-{seed}.pt"
        if file and file.exists():
            parts.append(load_plain(file))
            continue
        with torch.autocast("cpu", torch.bfloat16):
            parts.append([*data._play(CHUNK, POSITIONS, stream, update)[0]])
        print(f"{CHUNK * (update + 1)} games of {stream}", flush=True)
        if file:
            torch.save(parts[-1], file)
    return ScoredPositions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train(games: ScoredPositions, per_game: int, given: argparse.Namespace, weight: float):
    """A value network that has learned from the games for some seconds."""
    torch.manual_seed(given.seed)
    rng = np.random.default_rng(given.seed)
    number = len(games.outcomes) // POSITIONS
    rows = np.arange(number * POSITIONS).reshape(number, POSITIONS)
    if per_game < POSITIONS:
        rows = rng.permuted(rows, axis=1)[:, :per_game]
    rows = rows.ravel()
    module = GameValue(Games().environment, given.layers, given.filters, ownership_weight=weight)
    if given.save:
        load_weights(given.checkpoint, module)  # the policy
    optimizer = torch.optim.Adam(module.parameter_groups()[0]["params"], lr=1e-3, fused=True)
    start, updates, done = time.process_time(), 0, 0.0
    while done < 1:
        done = min((time.process_time() - start) / given.seconds, 1)
        optimizer.param_groups[0]["lr"] = 1e-5 + 5e-4 * (1 + np.cos(np.pi * done))
        drawn = torch.from_numpy(rows[rng.integers(len(rows), size=256)])
        which = rng.integers(8, size=256)
        batch = ScoredPositions(
            turn_planes(games.observations[drawn], which),
            games.outcomes[drawn],
            turn_planes(games.owners[drawn][:, None], which).squeeze(1),
        )
        with torch.autocast("cpu", torch.bfloat16):
            terms = module.losses(batch)
        loss = terms["value_loss"] + weight * terms.get("ownership_loss", 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates += 1
    return module, updates, updates * 256 / len(rows)


@torch.no_grad()
def errors(module: GameValue, held_out: ScoredPositions) -> tuple[float, float]:
    """Mean squared error, and part of right signs."""
    values = torch.cat([module.value(part).float() for part in held_out.observations.split(500)])
    right = (values > 0) == (held_out.outcomes > 0)
    return float((values - held_out.outcomes).square().mean()), float(right.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--games", type=int, default=2000)
    parser.add_argument("--held_out", type=int, default=2000)
    parser.add_argument("--positions_per_game", type=int, nargs="+", default=(1, 8))
    parser.add_argument("--ownership_weight", type=float, nargs="+", default=(0.0, 1.0))
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder that keeps the games")
    parser.add_argument("--save", type=Path, help="receives policy and value of the last row")
    parser.add_argument("--csv", type=Path, help="receives the rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    paths = (given.checkpoint, given.seed, given.cache)
    held_out = played(paths[0], given.held_out, "held-out", *paths[1:])
    games = played(paths[0], given.games, "games", *paths[1:])
    rows = []
    for per_game in given.positions_per_game:
        for weight in given.ownership_weight:
            module, updates, passes = train(games, per_game, given, weight)
            mse, sign = errors(module, held_out)
            rows.append(
                (given.games, per_game, weight, given.layers, given.filters, given.seconds,
                 updates, round(passes, 1), round(mse, 4), round(sign, 4), given.seed)
            )  # fmt: skip
            print(*(f"{name} {value}" for name, value in zip(COLUMNS, rows[-1], strict=True)),
                  flush=True)  # fmt: skip
    if given.save:
        trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(module)
        trainer.save_checkpoint(given.save)
    if given.csv:
        with given.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
