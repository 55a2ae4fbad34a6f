import pytest
import torch
from lightning import LightningModule, Trainer

from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.errors import ConfigurationError


class VersionedPolicy(LightningModule):
    """Notes how many updates it has had whenever it acts and whenever it learns."""

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
    policy = run(replay(), epochs=2)
    assert policy.learned == list(range(10))
    assert policy.acted == [0] * 3 + list(range(10))


@pytest.mark.parametrize(
    ("env_steps_per_update", "acted"),
    [(4, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), (1, [0, 2, 4])],
)
def test_replay_ratio(env_steps_per_update, acted):
    policy = run(replay(env_steps_per_update=env_steps_per_update))
    assert policy.acted[3:] == acted


def test_games_and_replay_go_on_over_epochs():
    data = replay(env_kwargs={"lengths": (7,)}, num_envs=1, env_steps_per_update=1)
    run(data, epochs=3)
    assert data.collector.finished[0] == (7.0, 7)
    assert data.collector.env_steps == 19  # of 21 rows, two were resets
    assert len(data.ring) == 21
    games = {"train/return": 7, "train/length": 7}
    assert data.statistics() == {"env_steps": 19, "replay/size": 21, **games}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"capacity": 3}, "capacity 3 is smaller than batch_size 4"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"n_step": 0}, "n_step is 0"),
        ({"warmup_env_steps": -5}, "warmup_env_steps is -5"),
        ({"env_steps_per_update": 3}, "neither a multiple nor a divisor"),
        ({"eval_episodes": 5, "num_eval_envs": 2}, "cannot be shared out evenly"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"env_id": "CartPol-v1"}, "Did you mean: `CartPole`"),
        ({"env_id": "Blackjack-v1"}, "observation space Tuple"),
        ({"env_kwargs": {"colour": 1}}, "unexpected keyword argument 'colour'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(overrides, said):
    with pytest.raises(ConfigurationError) as error:
        replay(**overrides)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
