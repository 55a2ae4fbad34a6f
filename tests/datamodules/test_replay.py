from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.runtime.errors import ConfigurationError


class VersionedPolicy(LightningModule):
    """Records its number of updates whenever it acts and whenever it learns."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.acted, self.learned = [], []

    def act(self, observations, exploration=None):
        self.acted.append(self.global_step)
        return torch.zeros(len(observations), dtype=torch.int64)

    def training_step(self, batch):
        self.learned.append(self.global_step)
        return self.weight * 0

    def on_train_end(self):
        data = self.trainer.datamodule
        self.collector, self.statistics = data.collector, data.statistics()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)


def run(data, epochs=1):
    policy = VersionedPolicy()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, datamodule=data)
    return policy


def replay(**overrides):
    settings = {
        "env_id": "test/Counting-v0",
        "num_envs": 2,
        "env_steps_per_update": 2,
        "batch_size": 4,
        "capacity": 100,
        "warmup_env_steps": 6,
        "updates_per_epoch": 5,
    }
    return ReplayDataModule(**{**settings, **overrides})


def test_batch_t_is_collected_by_the_policy_after_t_updates():
    policy = run(replay(env_kwargs={"lengths": (99,)}), epochs=2)
    assert policy.learned == list(range(10))
    assert policy.acted == [0] * 3 + list(range(10))


@pytest.mark.parametrize(
    ("env_steps_per_update", "acted"),
    [(4, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), (1, [0, 2, 4]), (3, [0, 0, 1, 2, 2, 3, 4, 4])],
)
def test_a_step_is_collected_as_soon_as_it_is_due(env_steps_per_update, acted):
    data = replay(env_steps_per_update=env_steps_per_update, env_kwargs={"lengths": (99,)})
    assert run(data).acted[3:] == acted


@pytest.mark.parametrize("lengths", [(1,), (3,), (2, 5, 1), (1000,)])
@pytest.mark.parametrize(
    ("asked", "ratio"),
    [
        ({"env_steps_per_update": 2}, 0.5),
        ({"env_steps_per_update": 3}, 1 / 3),
        ({"env_steps_per_update": 7}, 1 / 7),
        ({"env_steps_per_update": None}, 0.25),
        ({"env_steps_per_update": None, "replay_ratio": 0.1}, 0.1),
        ({"env_steps_per_update": None, "replay_ratio": 1.5}, 1.5),
        ({"env_steps_per_update": None, "replay_ratio": 20}, 20),
    ],
)
def test_the_replay_ratio_asked_for_is_kept_through_resets(asked, ratio, lengths):
    data = on_rank(num_envs=2, warmup_env_steps=8, env_kwargs={"lengths": lengths}, **asked)
    for update in range(500):
        data.next_batch()
        data.updates += 1
        learned_from = data.collector.env_steps - 8
        # All copies step together, and two rows in turn may hold resets of one copy each.
        assert (update + 1) / ratio - 1e-9 <= learned_from < (update + 1) / ratio + 3


@pytest.mark.parametrize("due", [(2, 4), (1, 2)])  # earlier versions wrote reduced fractions
def test_updates_due_are_resumed_from_checkpoints(due):
    first, second = (on_rank(num_envs=2, env_steps_per_update=4, env_kwargs={"lengths": (99,)})
                     for _ in range(2))  # fmt: skip
    first.next_batch()
    state = first.rank_state()
    first._due = 2
    assert first.rank_state()["updates_due"] == (2, 4)
    second.load_rank_state({**state, "updates_due": due})
    second._fill()
    steps = []
    for data in (first, second):
        before = data.collector.env_steps
        for _ in range(3):
            data.next_batch()
            steps.append(data.collector.env_steps - before)
    assert steps == [2, 6, 10] * 2


def test_with_one_copy_several_updates_follow_each_step():
    policy = run(replay(num_envs=1, env_steps_per_update=None, replay_ratio=2, updates_per_epoch=6,
                      env_kwargs={"lengths": (99,)}))  # fmt: skip
    assert policy.acted == [0] * 6 + [0, 2, 4]


def test_episodes_and_replay_go_on_over_epochs():
    data = replay(env_kwargs={"lengths": (7,)}, num_envs=1, env_steps_per_update=1)
    policy = run(data, epochs=3)
    assert policy.collector.finished[0] == (7.0, 7)
    assert policy.collector.env_steps == 21  # and two rows are resets
    assert len(data.ring) == 23
    episodes = {"train/return": 7, "train/length": 7}
    assert policy.statistics == {"env_steps": 21, "replay/size": 23, **episodes}


class Still:
    """A policy without a Trainer."""

    device = torch.device("cpu")

    def act(self, observations, exploration=None):
        return torch.zeros(len(observations), dtype=torch.int64)


def on_rank(rank=0, world_size=2, **overrides):
    """A replay whose ring is the same on every rank and does not change in updates 1 to 7.

    Its eight environment copies step at every eighth update, in a deterministic environment.
    """
    settings = {"num_envs": 8, "env_steps_per_update": 1, "warmup_env_steps": 320, "batch_size": 32}
    settings |= {"env_kwargs": {"lengths": (1000,)}, "capacity": 1000}
    data = replay(**{**settings, **overrides})
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, lightning_module=Still()
    )
    data.setup("fit")
    return data


def rows_drawn(data, epochs=1):
    """The rows in the minibatch of each update, given as steps of the episode."""
    batches = [batch for _ in range(epochs) for batch in data.train_dataloader()]
    return [batch.observations[:, 1].tolist() for batch in batches]


def test_each_update_and_each_rank_samples_different_rows():
    drawn = {rank: rows_drawn(on_rank(rank, updates_per_epoch=8)) for rank in range(2)}
    assert len({tuple(rows) for rows in drawn[0] + drawn[1]}) == 16
    assert len(set(drawn[0][1])) > 10, "the rows of a minibatch are not random"
    assert drawn[0] == rows_drawn(on_rank(0, updates_per_epoch=8))
    assert drawn[0] != rows_drawn(on_rank(0, updates_per_epoch=8, seed=1))


def test_the_length_of_an_epoch_does_not_change_the_samples():
    whole = rows_drawn(on_rank(updates_per_epoch=12))
    assert rows_drawn(on_rank(updates_per_epoch=3), epochs=4) == whole


def prioritised(world_size=1, **overrides):
    """A prioritised replay in which the priority of a row is its step of the episode plus 1."""
    settings = {"priority_exponent": 1.0, "importance_exponent": 0.4, "batch_size": 1000}
    data = on_rank(0, world_size, **{**settings, "importance_env_steps": 1000, **overrides})
    data._due = 7 * data._units_of_update  # so that nothing is collected before these updates
    data.updates = 1
    batch = data.next_batch()  # equal priorities, so that 1,000 draws contain each row
    assert set(batch.observations[:, 1].tolist()) == set(range(40))
    data.renew_priorities(batch.observations[:, 1] + 1)
    return data


@pytest.mark.parametrize(
    ("world_size", "env_steps", "beta"),
    [(1, 0, 0.4), (1, 250, 0.55), (2, 250, 0.7), (4, 250, 1.0), (1, 10**6, 1.0)],
)
@pytest.mark.parametrize("draw", ["next_batch", "sample"])
def test_beta_counts_the_environment_steps_of_all_ranks(world_size, env_steps, beta, draw):
    data = prioritised(world_size)
    data.collector.env_steps = env_steps
    rng = np.random.default_rng(0)
    batch = data.next_batch() if draw == "next_batch" else data.sample(rng)
    priorities = batch.observations[:, 1] + 1
    expected = (priorities / priorities.min()) ** -beta
    torch.testing.assert_close(batch.importance_weights, expected, rtol=1e-4, atol=0)
    assert batch.importance_weights.max() == 1
    assert batch.importance_weights.dtype == torch.float32


def test_importance_weights_are_divided_by_the_largest_of_each_minibatch():
    data = prioritised()
    data.batch_size = 4
    for update in range(2, 8):
        data.updates = update
        batch = data.next_batch()
        assert batch.observations[:, 1].min() > 0, "the smallest priority is sampled"
        assert batch.importance_weights.max() == 1
        data.renew_priorities(batch.observations[:, 1] + 1)


def test_beta_grows_while_experience_is_collected():
    data = prioritised(updates_per_epoch=56, importance_env_steps=400)
    data.updates, data._due = 0, 0
    betas = []
    for batch in data.train_dataloader():
        known = batch.observations[:, 1] < 40  # later rows have the largest priority so far
        priorities = batch.observations[known, 1].double() + 1
        weights = batch.importance_weights[known].double()
        least, greatest = priorities.argmin(), priorities.argmax()
        ratio = (priorities[greatest] / priorities[least]).log()
        betas.append(-((weights[greatest] / weights[least]).log() / ratio).item())
        data.renew_priorities(batch.observations[:, 1] + 1)
    # Eight environment copies step at every eighth update, after 320 warm-up steps.
    expected = [min(1.0, 0.4 + 0.6 * (320 + 8 * (1 + t // 8)) / 400) for t in range(56)]
    assert betas == pytest.approx(expected, abs=1e-4)


def test_uniform_sampling_has_no_importance_weights():
    assert on_rank().next_batch().importance_weights is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"capacity": 3}, "capacity 3 is smaller than batch_size 4"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"n_step": 0}, "n_step is 0"),
        ({"warmup_env_steps": -5}, "warmup_env_steps is -5"),
        ({"env_steps_per_update": 0}, "env_steps_per_update is 0"),
        ({"replay_ratio": 0.5}, "replay_ratio is 0.5 and env_steps_per_update is 2, and each is"),
        ({"env_steps_per_update": None, "replay_ratio": 0}, "replay_ratio is 0: choose"),
        ({"env_steps_per_update": None, "replay_ratio": float("nan")}, "is nan: it must be"),
        ({"env_steps_per_update": 101}, "capacity 100 is less than the 102 environment steps"),
        ({"eval_episodes": 5, "num_eval_envs": 2}, "not a multiple of num_eval_envs"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"env_id": "CartPol-v1"}, "Did you mean: `CartPole`"),
        ({"env_id": "Blackjack-v1"}, "observation space Tuple"),
        ({"env_kwargs": {"colour": 1}}, "unexpected keyword argument 'colour'"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(overrides, said):
    with pytest.raises(ConfigurationError) as error:
        replay(**overrides)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
