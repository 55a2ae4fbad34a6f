"""Each wave of episodes, stage and rank of an evaluation has its own seeds."""

from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.datamodules.environment import EnvironmentDataModule
from rl_lightning.modules import A2C
from rl_lightning.runtime.errors import ConfigurationError


class SeededEnv(gym.Env[Any, Any]):
    """Records the seeds of its resets and observes a start drawn from them. It has two steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 1, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    seeds: ClassVar[list[int]] = []

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.seeds.append(seed)
        self.t, self.start = 0, self.np_random.random(1)
        return self.start, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.start, float(self.start[0]), self.t == 2, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(autouse=True, scope="module")
def seeded():
    gym.register("test/Seeded-v0", SeededEnv, disable_env_checker=True)
    yield
    del gym.registry["test/Seeded-v0"]


class Still(LightningModule):
    """Always takes the action 0."""

    def act(self, observations, exploration=None):
        return torch.zeros(len(observations), dtype=torch.int64)


def make(rank=0, world_size=1, **overrides):
    settings = {"eval_episodes": 12, "num_eval_envs": 4, "predict_episodes": 3, "rollout_length": 2}
    data = RolloutDataModule("test/Seeded-v0", **{**settings, **overrides})
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, lightning_module=Still()
    )
    return data


def starts(loader):
    """The returns of all episodes, each of which is twice its start; one tuple per wave."""
    return [tuple(wave.returns.tolist()) for wave in loader]


@pytest.mark.parametrize("stage", ["val_dataloader", "test_dataloader"])
def test_all_environment_copies_and_waves_have_different_starts(stage):
    waves = starts(getattr(make(), stage)())
    assert [len(wave) for wave in waves] == [4, 4, 4]
    assert len({start for wave in waves for start in wave}) == 12


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_has_as_many_batches_as_its_loaders_say(rank):
    data = make(rank, world_size=2)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert len([*loader]) == len(loader) == 2
    recordings = data.predict_dataloader()
    assert len([*recordings]) == len(recordings) == 2 - rank


def test_test_and_predict_have_other_starts_than_validation():
    data = make()
    waves = {stage: starts(getattr(data, f"{stage}_dataloader")()) for stage in ("val", "test")}
    assert not set().union(*waves["val"]) & set().union(*waves["test"])

    recorded = [episode.rollout for episode in data.predict_dataloader()]
    predicted = [rollout.rewards.sum().item() for rollout in recorded]
    assert len(set(predicted)) == 3
    measured = np.array([*waves["val"], *waves["test"]]).ravel()
    assert not any(np.isclose(measured, start, rtol=1e-6).any() for start in predicted)
    assert data.record_episode().rollout.rewards.sum().item() == predicted[0]


def test_seeds_of_resets_are_all_different():
    data = make()
    SeededEnv.seeds.clear()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for _ in loader:
            pass
    assert len(SeededEnv.seeds) == len(set(SeededEnv.seeds)) == 24


def test_every_validation_has_the_same_starts_and_another_seed_has_others():
    data = make()
    first = starts(data.val_dataloader())
    assert starts(data.val_dataloader()) == first
    data.updates = 100
    assert starts(data.val_dataloader()) == first, "a later validation has other starts"
    assert starts(make().val_dataloader()) == first
    assert not set().union(*first) & set().union(*starts(make(seed=1).val_dataloader()))


@pytest.mark.parametrize("stage", ["val_dataloader", "test_dataloader"])
def test_waves_are_divided_over_ranks(stage):
    whole = starts(getattr(make(), stage)())
    ranks = [starts(getattr(make(rank, 2), stage)()) for rank in range(2)]
    assert [len(waves) for waves in ranks] == [2, 2], "the ranks have different numbers of batches"
    assert ranks == [[whole[0], whole[2]], [whole[1], ()]]


def test_predicted_episodes_are_divided_over_ranks():
    returns = [
        [episode.rollout.rewards.sum().item() for episode in data.predict_dataloader()]
        for data in (make(), make(0, 2), make(1, 2))
    ]
    assert returns[0] == [returns[1][0], returns[2][0], returns[1][1]]


def test_training_has_other_starts_than_evaluation():
    data = make(num_envs=4)
    SeededEnv.seeds.clear()
    data.setup("fit")
    data.next_batch()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for _ in loader:
            pass
    data.teardown("fit")
    assert len(SeededEnv.seeds) == len(set(SeededEnv.seeds)) == 4 + 24


def test_the_trainer_measures_the_episodes_of_these_starts():
    data = make()
    expected = {stage: starts(getattr(data, f"{stage}_dataloader")()) for stage in ("val", "test")}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    agent = A2C(data.environment)
    for stage, run in (("val", trainer.validate), ("test", trainer.test)):
        (metrics,) = run(agent, datamodule=make(), verbose=False)
        returns = np.array(expected[stage])
        assert metrics[f"{stage}/return"] == pytest.approx(returns.mean(), rel=1e-6)
        assert metrics[f"{stage}/return_min"] == pytest.approx(returns.min(), rel=1e-6)
        assert metrics[f"{stage}/return_max"] == pytest.approx(returns.max(), rel=1e-6)
        assert metrics[f"{stage}/episodes"] == 12


def test_evaluation_environments_are_closed():
    data, closed = make(), []
    data.val_dataloader()
    data.predict_dataloader()
    for envs in data._evaluation_envs.values():
        envs.close = lambda envs=envs: closed.append(envs)
    data.teardown("validate")
    assert len(closed) == 2
    assert not data._evaluation_envs


class Actless(LightningModule):
    """A module without `act`."""


@pytest.mark.parametrize("source", [RolloutDataModule, EnvironmentDataModule])
def test_a_module_that_cannot_act_is_one_line(source):
    options = {"rollout_length": 2} if source is RolloutDataModule else {}
    data = source("test/Seeded-v0", **options)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, lightning_module=Actless())
    with pytest.raises(ConfigurationError, match="Actless has no act") as error:
        data.setup("fit")
    assert "\n" not in str(error.value)
