"""Randomness as a function of (seed, rank, epoch, stream), never of a global state."""

import zlib

import numpy as np
import torch


def stream_seed(seed: int, *, rank: int = 0, epoch: int = 0, stream: str) -> int:
    """Hash a place in the run to a 30-bit integer seed.

    Hashing, rather than adding, keeps streams apart: `reset(seed=s)` gives copy i
    the seed s + i, so seeds that differ by one would share all but one copy.

    Args:
        seed: The run's seed, as given to `--seed_everything`.
        rank: Global rank of the process.
        epoch: Epoch in which the stream begins.
        stream: What the randomness is for, such as "exploration" or "replay".

    Returns:
        An integer in [0, 2³⁰), small enough for every vector environment's reset.
    """
    entropy = [seed, rank, epoch, zlib.crc32(stream.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 2)


def numpy_stream(seed: int, *, rank: int = 0, epoch: int = 0, stream: str) -> np.random.Generator:
    """A NumPy generator for one stream; see `stream_seed`."""
    return np.random.default_rng(stream_seed(seed, rank=rank, epoch=epoch, stream=stream))


def torch_stream(
    seed: int,
    *,
    rank: int = 0,
    epoch: int = 0,
    stream: str,
    device: torch.device | str = "cpu",
) -> torch.Generator:
    """A torch generator for one stream on `device`; see `stream_seed`."""
    generator = torch.Generator(device)
    return generator.manual_seed(stream_seed(seed, rank=rank, epoch=epoch, stream=stream))
