"""Randomness as a function of (seed, rank, update, stream), never of a global state.

Philox is a counter-based generator: the stream's key comes from seed, rank and name, the
counter from the update, so that no state needs to be kept or restored.

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
    # Hashing, rather than adding, keeps streams apart: `reset(seed=s)` gives environment
    # copy i the seed s + i, so seeds that differ by one would share all but one copy.
    entropy = [seed, rank, zlib.crc32(stream.encode())]
    key: npt.NDArray[np.uint64] = np.random.SeedSequence(entropy).generate_state(2, np.uint64)  # type: ignore[assignment]
    return key


def _philox(seed: int, rank: int, update: int, stream: str) -> np.random.Philox:
    return np.random.Philox(key=_key(seed, rank, stream), counter=[0, 0, update, 0])


@lru_cache(maxsize=1024)
def _kept_philox(seed: int, rank: int, stream: str) -> tuple[np.random.Philox, Any]:
    """A generator and its state before the first number.

    To set the state takes a tenth of the time that a new generator takes, and there is one for
    every update.
    """
    philox = _philox(seed, rank, 0, stream)
    return philox, philox.state


def stream_seed(seed: int, *, rank: int = 0, update: int = 0, stream: str) -> int:
    """Hash a place in the run to a 30-bit integer seed.

    Args:
        seed: The run's seed, as given to `--seed_everything`.
        rank: Global rank of the process.
        update: Update for which the numbers are drawn.
        stream: What the randomness is for, such as "exploration" or "replay".

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
