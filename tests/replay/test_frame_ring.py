import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.experience import Rollout
from rl_lightning.interaction.collector import Collector
from rl_lightning.replay.frame_ring import FrameRing
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.errors import ConfigurationError

STACK = 3


class Stacks:
    """A vector environment with stacks of numbered frames."""

    def __init__(self, num_envs, ends):
        self.copies, self.ends, self.clock = range(num_envs), ends, 0
        self.stacks = torch.zeros(num_envs, STACK, 1, 1, dtype=torch.int64)
        self.stacks[:, -1] = 1
        self.ended = torch.zeros(num_envs, dtype=torch.bool)

    def reset(self):
        """Start an episode in every environment copy."""
        self.clock += 1
        self.stacks = torch.zeros_like(self.stacks)
        self.stacks[:, -1] = 1 + self.clock
        self.ended = torch.zeros_like(self.ended)
        return self.stacks

    def play(self, num_steps):
        observations, ends, mask = [self.stacks], [], []
        for _ in range(num_steps):
            self.clock += 1
            frame = torch.full((len(self.copies), 1, 1, 1), 1 + self.clock)
            kept = self.stacks[:, 1:] * ~self.ended[:, None, None, None]
            self.stacks = torch.cat([kept, frame], 1)
            mask.append(~self.ended)
            fates = [self.ends[(self.clock * 7 + c * 3) % len(self.ends)] for c in self.copies]
            self.ended = torch.tensor(fates) & mask[-1]
            ends.append(self.ended)
            observations.append(self.stacks)
        shape = (num_steps, len(self.copies))
        return Rollout(
            torch.stack(observations),
            torch.full(shape, self.clock),
            torch.full(shape, float(self.clock)),
            torch.full(shape, 0.5),
            torch.stack(ends),
            torch.stack(mask),
        )


def every_row(ring, stop):
    rows, copies = np.meshgrid(np.arange(ring.oldest, stop), np.arange(ring.num_envs))
    return rows.ravel(), copies.ravel()


def check_agreement(ring, plain):
    assert len(ring) == len(plain)
    assert ring.oldest == plain.oldest
    if not ring.inserted:
        return
    kept = every_row(ring, ring.inserted + 1)
    assert torch.equal(ring.observations(*kept), plain.observations(*kept))
    rows, copies = every_row(ring, ring.drawable.stop)
    are_transitions = ring.are_transitions(ring.slots(rows, copies))
    if are_transitions.any():
        drawn = rows[are_transitions], copies[are_transitions]
        for theirs, ours in zip(plain.gather(*drawn)[:5], ring.gather(*drawn)[:5], strict=True):
            assert torch.equal(theirs, ours)


@settings(max_examples=80, deadline=None)
@given(
    num_envs=st.integers(1, 3),
    n_step=st.integers(1, 3),
    rows=st.integers(2, 9),
    before=st.integers(0, 5),
    chunks=st.lists(st.integers(1, 3), min_size=1, max_size=15),
    ends=st.lists(st.booleans(), min_size=1, max_size=9),
)
def test_rebuilt_stacks_equal_the_inserted_ones(num_envs, n_step, rows, before, chunks, ends):
    plain = ReplayRing(rows * num_envs, num_envs, n_step)
    ring = FrameRing(rows * num_envs, num_envs, STACK, n_step)
    stacks = Stacks(num_envs, ends)
    if before:
        stacks.play(before)  # the episodes started before the first rollout
    for chunk in chunks:
        if chunk < plain.num_rows:
            rollout = stacks.play(chunk)
            plain.extend(rollout)
            ring.extend(rollout)
        check_agreement(ring, plain)


@settings(max_examples=30, deadline=None)
@given(
    num_envs=st.integers(1, 3),
    played=st.integers(1, 9),
    after=st.integers(1, 5),
    ends=st.lists(st.booleans(), min_size=1, max_size=9),
)
def test_new_episodes_and_rings_refilled_from_files_agree(num_envs, played, after, ends):
    plain, ring = ReplayRing(6 * num_envs, num_envs), FrameRing(6 * num_envs, num_envs, STACK)
    stacks = Stacks(num_envs, ends)
    for num_steps in (*[1] * played, 0, *[1] * after):
        if num_steps:
            rollout = stacks.play(num_steps)
            plain.extend(rollout)
            ring.extend(rollout)
        else:
            first = stacks.reset()
            plain.begin_episodes(first)
            ring.begin_episodes(first)
        check_agreement(ring, plain)
    kept = ring.rows(ring.oldest, ring.inserted)
    came = plain.rows(plain.oldest, plain.inserted)
    for theirs, ours in zip(came[:6], kept[:6], strict=True):
        assert torch.equal(theirs, ours)
    for rows in (6, 40):
        refilled = FrameRing(rows * num_envs, num_envs, STACK)
        refilled.begin_at(ring.oldest)
        refilled.extend(kept)
        check_agreement(refilled, plain)


@pytest.mark.parametrize("protocol", ["nature", "sticky"])
def test_atari_is_rebuilt_bit_for_bit(protocol):
    limit = {"max_num_frames_per_episode": 200, "protocol": protocol}
    collector = Collector(EnvironmentMaker("ALE/Breakout-v5", limit).make(2), gamma=0.99)
    collector.reset(3)
    ring, stacks, rng = FrameRing(60, 2, 4), [], np.random.default_rng(0)

    class Fires:
        device = torch.device("cpu")

        def act(self, observations, exploration=None):
            return torch.ones(len(observations), dtype=torch.int64)

    for _ in range(60):
        rollout = collector.collect(Fires(), 2)
        stacks += rollout.observations[:-1].unbind()
        ring.extend(rollout)
        came = torch.stack([*stacks, rollout.observations[-1]])
        rows, copies = every_row(ring, ring.inserted + 1)
        assert torch.equal(ring.observations(rows, copies), came[rows, copies])
        rows, copies = ring.draw(100, rng)
        batch = ring.gather(rows, copies)
        assert torch.equal(batch.observations, came[rows, copies])
        assert torch.equal(batch.next_observations, came[rows + 1, copies])
    assert ring.inserted == 120 > 2 * ring.num_rows


def atari(**overrides):
    settings = {"num_envs": 8, "capacity": 1_000_000, "env_steps_per_update": 8}
    return ReplayDataModule("ALE/Pong-v5", **{**settings, **overrides})


def test_stacked_images_are_kept_as_frames_and_others_are_not():
    ring = atari().ring
    assert isinstance(ring, FrameRing)
    assert ring.bytes_needed(4 * 84 * 84, 8) < 7.2e9
    assert type(ReplayDataModule("CartPole-v1").ring) is ReplayRing


def test_memory_is_that_of_bytes_needed():
    ring = FrameRing(400, 2, STACK)
    ring.extend(Stacks(2, [False]).play(1))
    arrays = (ring._rewards, ring._discounts, ring._ends, ring._mask, ring._ages)
    tensors = (ring._actions, ring._observations)
    taken = sum(array.nbytes for array in arrays) + sum(tensor.nbytes for tensor in tensors)
    zero_row = 2 * 8
    assert taken == ring.bytes_needed(STACK * 8, 8) + zero_row


def test_the_error_about_too_little_memory_names_the_needed_size(monkeypatch):
    from lightning import Trainer
    from lightning.pytorch.trainer.states import TrainerFn

    monkeypatch.setattr("rl_lightning.runtime.memory.memory_of", lambda device: 4_000_000_000)
    data = atari()
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.state.fn = TrainerFn.TESTING
    data.prepare_data()
    data.trainer.state.fn = TrainerFn.FITTING
    with pytest.raises(ConfigurationError) as error:
        data.prepare_data()
    assert "needs 7.1 GB and this machine has 4.0 GB" in str(error.value)
    assert "\n" not in str(error.value)
