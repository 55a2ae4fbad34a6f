"""Random streams as functions of (seed, rank, update, name), without a global state.

Philox is a counter-based generator. Its key is computed from the seed, the rank and the stream's
name, and its counter from the update. So no state has to be saved in checkpoints.

Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@lru_cache(maxsize=1024)
def _key(seed: int, rank: int, stream: str) -> npt.NDArray[np.uint64]:
    # `reset(seed=s)` gives environment copy i the seed s + i. With seeds s and s + 1 on two ranks,
    # copy 1 of the first rank and copy 0 of the second would play the same games. So hash the seed.
    entropy = [seed, rank, zlib.crc32(stream.encode())]
    key: npt.NDArray[np.uint64] = np.random.SeedSequence(entropy).generate_state(2, np.uint64)  # type: ignore[assignment]
    return key


def _philox(seed: int, rank: int, update: int, stream: str) -> np.random.Philox:
    return np.random.Philox(key=_key(seed, rank, stream), counter=[0, 0, update, 0])


@lru_cache(maxsize=1024)
def _kept_philox(seed: int, rank: int, stream: str) -> tuple[np.random.Philox, Any]:
    """A generator, and its state before the first number.

    Setting the state takes a tenth of the time of making a generator, and a stream is needed at
    every update.
    """
    philox = _philox(seed, rank, 0, stream)
    return philox, philox.state


def stream_seed(seed: int, *, rank: int = 0, update: int = 0, stream: str) -> int:
    """Compute a 30-bit integer seed for one stream at one update.

    Args:
        seed: The run's seed, from `--seed_everything`.
        rank: Global rank of the process.
        update: Update for which the numbers are drawn.
        stream: Name of the stream, such as "exploration" or "replay".

    Returns:
        An integer in [0, 2³⁰), small enough for every vector environment's reset.
    """
    philox, state = _kept_philox(seed, rank, stream)
    state["state"]["counter"][2] = update
    philox.state = state
    return int(philox.random_raw()) >> 34


def numpy_stream(seed: int, *, rank: int = 0, update: int = 0, stream: str) -> np.random.Generator:
    """A NumPy generator for one stream at one update; see `stream_seed`."""
    return np.random.Generator(_philox(seed, rank, update, stream))


def torch_stream(
    seed: int,
    *,
    rank: int = 0,
    update: int = 0,
    stream: str,
    device: torch.device | str = "cpu",
) -> torch.Generator:
    """A torch generator for one stream at one update on `device`; see `stream_seed`."""
    generator = torch.Generator(device)
    return generator.manual_seed(stream_seed(seed, rank=rank, update=update, stream=stream))
