import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lightning.experience import Rollout
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.errors import RunError

GAMMA = 0.5
CONTINUES, TERMINATES, TRUNCATES = "continues", "terminates", "truncates"


class NaiveReplay:
    """A reference replay that keeps every row in lists."""

    def __init__(self, num_envs, fates):
        self.fates, self.episode, self.ended = fates, [0] * num_envs, [False] * num_envs
        self.t = [0] * num_envs
        self.rows = []
        self.observation = [(copy, 0, 0) for copy in range(num_envs)]
        self.clock = 0

    def play(self, num_steps):
        """A rollout in which the episodes of each environment copy end as `fates` defines."""
        first = len(self.rows)
        for _ in range(num_steps):
            row = []
            for copy, observation in enumerate(self.observation):
                if self.ended[copy]:
                    row.append((observation, 0.0, GAMMA, False, False))
                    self.episode[copy] += 1
                    self.t[copy], self.ended[copy] = 0, False
                else:
                    fate = self.fates[(self.clock * 7 + copy * 3) % len(self.fates)]
                    self.t[copy] += 1
                    self.ended[copy] = fate != CONTINUES
                    discount = 0.0 if fate == TERMINATES else GAMMA
                    row.append((observation, float(self.clock), discount, self.ended[copy], True))
            self.rows.append(row)
            self.observation = [
                (copy, self.episode[copy], self.t[copy]) for copy in range(len(self.t))
            ]
            self.clock += 1
        new = self.rows[first:]

        def column(i, dtype):
            return torch.tensor([[cell[i] for cell in row] for row in new]).to(dtype)

        observations = [[cell[0] for cell in row] for row in new] + [self.observation]
        return Rollout(
            observations=torch.tensor(observations, dtype=torch.uint8),
            actions=column(1, torch.int64) % 3,
            rewards=column(1, torch.float32),
            discounts=column(2, torch.float32),
            ends=column(3, torch.bool),
            mask=column(4, torch.bool),
        )

    def transition(self, row, copy, n_step):
        total, discount = 0.0, 1.0
        for k in range(n_step):
            _, reward, step_discount, end, _ = self.rows[row + k][copy]
            total += discount * reward
            discount *= step_discount
            if end:
                break
        after = row + k + 1
        following = self.rows[after][copy][0] if after < len(self.rows) else self.observation[copy]
        return total, discount, following


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.integers(1, 3),
    n_step=st.integers(1, 4),
    rows=st.integers(2, 9),
    chunks=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    fates=st.lists(
        st.sampled_from([CONTINUES, CONTINUES, TERMINATES, TRUNCATES]), min_size=1, max_size=11
    ),
)
def test_ring_agrees_with_a_naive_list(num_envs, n_step, rows, chunks, fates):
    ring, naive = ReplayRing(rows * num_envs, num_envs, n_step), NaiveReplay(num_envs, fates)
    for chunk in chunks:
        if chunk < ring.num_rows:
            ring.extend(naive.play(chunk))
    kept = range(max(0, len(naive.rows) - ring.num_rows + 1), len(naive.rows) - n_step + 1)
    valid = {(r, c) for r in kept for c in range(num_envs) if naive.rows[r][c][4]}
    assert len(ring) == len(kept) * num_envs <= rows * num_envs
    if not valid:
        return
    drawn_rows, copies = ring.draw(200, np.random.default_rng(0))
    assert set(zip(drawn_rows.tolist(), copies.tolist(), strict=True)) <= valid
    batch = ring.gather(drawn_rows, copies)
    assert batch.observations.dtype == torch.uint8
    for i, (row, copy) in enumerate(zip(drawn_rows.tolist(), copies.tolist(), strict=True)):
        total, discount, following = naive.transition(row, copy, n_step)
        assert tuple(batch.observations[i].tolist()) == naive.rows[row][copy][0]
        assert batch.actions[i] == int(naive.rows[row][copy][1]) % 3
        assert batch.rewards[i] == total
        assert batch.discounts[i] == discount
        if discount:
            assert tuple(batch.next_observations[i].tolist()) == following


def test_draws_are_uniform_over_environment_steps():
    naive = NaiveReplay(2, [CONTINUES, CONTINUES, TERMINATES])
    ring = ReplayRing(40, 2)
    ring.extend(naive.play(15))
    rows, copies = ring.draw(60_000, np.random.default_rng(0))
    counts = np.unique(rows * 2 + copies, return_counts=True)[1]
    valid = sum(cell[4] for row in naive.rows for cell in row)
    assert len(counts) == valid < 30
    assert counts == pytest.approx(60_000 / valid, rel=0.12)


def test_insertion_writes_in_place():
    naive, ring = NaiveReplay(2, [CONTINUES]), ReplayRing(20, 2)
    ring.extend(naive.play(3))
    memory = ring._observations.data_ptr()
    for _ in range(30):
        ring.extend(naive.play(3))
    assert ring._observations.data_ptr() == memory


def marked(masks, first=0):
    """Rows with the mask `masks` [T, N]."""
    mask = torch.tensor(masks)
    numbers = torch.arange(first, first + len(masks) + 1.0)[:, None].expand(-1, mask.shape[1])
    here = numbers[:-1]
    return Rollout(numbers, here.long(), here, here, ~mask, mask)


def test_a_ring_of_resets_only_is_one_line():
    ring = ReplayRing(6, 2)
    ring.extend(marked([[False, False]] * 3))
    with pytest.raises(
        RunError, match="the replay of 6 rows holds only rows of resets: raise"
    ) as error:
        ring.draw(4, np.random.default_rng(0))
    assert "\n" not in str(error.value)
    assert not ring.has_transitions


@pytest.mark.parametrize("num_envs", [2, 500])
def test_a_single_environment_step_among_resets_is_found(num_envs):
    ring = ReplayRing(3 * num_envs, num_envs)
    masks = [[False] * num_envs for _ in range(9)]
    masks[7][num_envs - 2] = True
    for row, mask in enumerate(masks):
        ring.extend(marked([mask], row))
    for seed in range(20):
        rows, copies = ring.draw(3, np.random.default_rng(seed))
        assert rows.tolist() == [7] * 3
        assert copies.tolist() == [num_envs - 2] * 3
    assert ring.has_transitions


def with_extras(start, stop, num_envs=2):
    """Rows with extras computed from their numbers: a scalar, a vector and an integer."""
    rollout = marked([[True] * num_envs] * (stop - start), start)
    numbers = rollout.rewards
    extras = {
        "log_prob": -numbers,
        "logits": torch.stack([numbers, 2 * numbers, 3 * numbers], dim=-1),
        "choice": numbers.to(torch.int16),
    }
    return rollout._replace(extras=extras)


def assert_extras(extras, numbers):
    assert extras.keys() == {"log_prob", "logits", "choice"}
    torch.testing.assert_close(extras["log_prob"], -numbers)
    torch.testing.assert_close(extras["logits"], numbers[..., None] * torch.tensor([1.0, 2.0, 3.0]))
    assert extras["choice"].dtype == torch.int16
    assert extras["choice"].tolist() == numbers.tolist()


@pytest.mark.parametrize("n_step", [1, 3])
def test_extras_of_act_stay_with_their_row(n_step):
    ring = ReplayRing(20, 2, n_step)
    for start in range(0, 45, 3):
        ring.extend(with_extras(start, start + 3))
        if len(ring):
            rows, copies = ring.draw(50, np.random.default_rng(start))
            batch = ring.gather(rows, copies)
            assert_extras(batch.extras, torch.from_numpy(rows).float())
    kept = ring.rows(ring.oldest, ring.inserted)
    assert_extras(kept.extras, kept.rewards)
    ring.begin_episodes(torch.full((2,), 45.0))
    ring.extend(with_extras(46, 50))
    rows, copies = ring.draw(200, np.random.default_rng(0))
    assert 45 not in rows
    assert_extras(ring.gather(rows, copies).extras, torch.from_numpy(rows).float())
