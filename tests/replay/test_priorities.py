import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Trainer, seed_everything

from rl_lightning.callbacks import RenewPriorities, TargetNetwork
from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.experience import Rollout
from rl_lightning.modules import DQN
from rl_lightning.replay.priorities import Priorities, SumTree
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.errors import ConfigurationError, RunError


def rows(start, resets=()):
    """Row `start` of two copies; in `resets` the first copy resets."""
    mask = torch.tensor([[start not in resets, True]])
    column = torch.full((1, 2), float(start))
    observations = torch.tensor([[[start], [start]], [[start + 1], [start + 1]]])
    return Rollout(observations, column.long(), column, column, ~mask, mask)


def filled(num_rows, inserted, resets=(), n_step=1, exponent=1.0):
    ring = ReplayRing(2 * num_rows, 2, n_step)
    for row in range(inserted):
        ring.extend(rows(row, resets))
    return Priorities(ring, exponent)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 9)), min_size=1, max_size=30),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=9),
)
def test_the_tree_agrees_with_cumulated_sums(changes, shares):
    tree, naive = SumTree(13), np.zeros(13)
    for index, value in changes:
        tree[np.array([index])] = value
        naive[index] = value
    assert tree.total == pytest.approx(naive.sum())
    if not tree.total:
        return
    found = tree.find(np.array(shares) * tree.total)
    assert (naive[found] > 0).all()
    below = naive.cumsum()[found] - naive[found]
    points = np.array(shares) * naive.sum()
    assert (below <= points + 1e-9).all()
    assert (points <= below + naive[found] + 1e-9).all()


@pytest.mark.parametrize("n_step", [1, 3])
def test_every_environment_step_can_be_drawn_and_no_row_of_a_reset(n_step):
    rng = np.random.default_rng(0)
    priorities = filled(8, 5, resets=(2, 11), n_step=n_step)
    for row in range(5, 30):
        priorities.ring.extend(rows(row, resets=(2, 11)))
        if row % 3:
            continue  # rows are inserted and overwritten between two draws
        drawn, copies, _ = priorities.draw(400, rng, 0.5)
        priorities.renew(np.ones(400, np.float32))
        kept = priorities.ring.drawable
        valid = {(r, c) for r in kept for c in (0, 1) if c or r not in (2, 11)}
        assert set(zip(drawn.tolist(), copies.tolist(), strict=True)) == valid
        assert torch.equal(priorities.ring.gather(drawn, copies).actions, torch.tensor(drawn))


def test_draws_and_weights_follow_the_errors():
    priorities, rng = filled(4, 2, exponent=0.5), np.random.default_rng(0)
    # To the power of ½ the priorities are 2, 4, 6 and 8, and their sum is 20.
    errors = {(0, 0): 4.0, (0, 1): 16.0, (1, 0): 36.0, (1, 1): 64.0}
    for _ in range(8):  # repeat until each row has been drawn
        drawn, copies, _ = priorities.draw(20, rng, 1.0)
        pairs = [*zip(drawn.tolist(), copies.tolist(), strict=True)]
        priorities.renew(-np.array([errors[pair] for pair in pairs], np.float32))
    drawn, copies, weights = priorities.draw(1_000, rng, 0.5)
    shares = np.bincount(drawn * 2 + copies) / 1_000
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.002)
    # (K P)^-β divided by the largest of the batch, which is that of the smallest error.
    expected = (4 * np.array([0.1, 0.2, 0.3, 0.4])[drawn * 2 + copies]) ** -0.5 / 0.4**-0.5
    assert weights == pytest.approx(expected, rel=1e-4)
    assert weights.max() == 1


def test_weights_are_divided_by_the_largest_of_their_own_batch():
    priorities, rng = filled(64, 60), np.random.default_rng(0)
    for batch_size in (240, *[4] * 20):
        *_, weights = priorities.draw(batch_size, rng, 0.7)
        assert weights.max() == 1
        assert (weights > 0).all()
        priorities.renew(np.linspace(2, 30, batch_size, dtype=np.float32))


def test_new_rows_have_the_largest_priority():
    priorities, rng = filled(8, 1), np.random.default_rng(0)
    priorities.draw(2, rng, 1.0)
    priorities.renew(np.array([3.0, 5.0], np.float32))
    priorities.ring.extend(rows(1))
    drawn, *_ = priorities.draw(18_000, rng, 1.0)
    assert (drawn == 1).mean() == pytest.approx(10 / 18, abs=0.001)


def test_priorities_go_through_a_checkpoint():
    priorities, rng = filled(4, 9), np.random.default_rng(0)
    priorities.draw(6, rng, 1.0)
    priorities.renew(np.arange(6, dtype=np.float32))
    other = filled(4, 9)
    other.load_state_dict(priorities.state_dict())
    draws = [p.draw(50, np.random.default_rng(1), 0.5) for p in (priorities, other)]
    for ours, theirs in zip(*draws, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("num_rows", [2, 4, 9, 40])
def test_priorities_fit_into_a_ring_of_another_capacity(num_rows):
    priorities = filled(9, 30, resets=(27,))
    drawn, copies, _ = priorities.draw(400, np.random.default_rng(0), 1.0)
    priorities.renew(drawn * 2 + copies.astype(np.float32))
    other = filled(num_rows, 30, resets=(27,))
    other.load_state_dict(priorities.state_dict())
    for row in range(30, 100):
        drawn, copies, _ = other.draw(200, np.random.default_rng(row), 1.0)
        kept = {(r, c) for r in other.ring.drawable for c in (0, 1) if c or r != 27}
        assert set(zip(drawn.tolist(), copies.tolist(), strict=True)) <= kept
        if row == 30:
            # A larger ring has older rows without a priority, which must not be drawn.
            expected = {2 * r + c: 2 * r + c for r, c in kept if r >= 21}
            shares = np.bincount(drawn * 2 + copies) / 200
            for slot, priority in expected.items():
                share = priority / sum(expected.values())
                assert shares[slot] == pytest.approx(share, abs=0.011)
        other.renew(np.ones(200, np.float32))
        other.ring.extend(rows(row))


def test_a_ring_of_resets_only_is_one_line():
    priorities = filled(8, 3)
    mask = torch.zeros(1, 2, dtype=torch.bool)
    for row in range(3, 30):
        priorities.ring.extend(rows(row)._replace(mask=mask))
    with pytest.raises(RunError, match="only rows of resets: raise capacity"):
        priorities.draw(4, np.random.default_rng(0), 0.5)


def train(callbacks):
    seed_everything(0)
    data = ReplayDataModule("test/Signal-v0", num_envs=4, env_steps_per_update=4, gamma=0.9,
                            warmup_env_steps=100, updates_per_epoch=250, batch_size=32,
                            priority_exponent=0.6, importance_env_steps=1000)  # fmt: skip
    agent = DQN(data.environment, hidden_sizes=(32,), epsilon_env_steps=500,
                optimizer=lambda parameters: torch.optim.Adam(parameters, 5e-3))  # fmt: skip
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False,
                      num_sanity_val_steps=0, callbacks=callbacks)  # fmt: skip
    trainer.fit(agent, datamodule=data)
    return trainer


def test_dqn_learns_with_priorities():
    trainer = train([TargetNetwork(20), RenewPriorities()])
    assert trainer.callback_metrics["val/return"] == 10


def test_priorities_without_renewal_are_refused_in_one_line():
    priorities, rng = filled(8, 3), np.random.default_rng(0)
    priorities.draw(4, rng, 0.5)
    with pytest.raises(ConfigurationError, match="no callback renews the priorities") as error:
        priorities.draw(4, rng, 0.5)
    assert "\n" not in str(error.value)


def test_an_exponent_out_of_range_is_refused():
    with pytest.raises(ConfigurationError, match="priority_exponent is 2"):
        ReplayDataModule("CartPole-v1", priority_exponent=2.0)
