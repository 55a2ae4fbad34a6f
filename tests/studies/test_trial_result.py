"""The file that a run of a study writes."""

import json
from types import SimpleNamespace

import pytest
from lightning import seed_everything

from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.modules import A2C
from rl_lightning.runtime.errors import DivergedError, RunError
from rl_lightning.studies.trial_result import TrialResult
from rl_lightning.trainer import make_trainer


@pytest.fixture
def fit(working_folder):
    def fit(env_steps=None, max_epochs=3, rollout_length=4, ckpt_path=None):
        seed_everything(1, verbose=False)
        data = RolloutDataModule(
            "CartPole-v1", rollout_length, num_envs=2, updates_per_epoch=5, eval_episodes=2,
            num_eval_envs=2, seed=1,
        )  # fmt: skip
        module = A2C(data.environment)
        result = TrialResult(str(working_folder / "fit.json"), env_steps)
        flags = {"logger": False, "enable_progress_bar": False, "max_epochs": max_epochs}
        trainer = make_trainer(module, data, callbacks=[result], **flags)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
        return trainer, json.loads((working_folder / "fit.json").read_text())

    return fit


def test_the_result_has_a_point_for_each_validation_and_the_checkpoints(fit):
    trainer, result = fit()
    assert [len(point) for point in result["curve"]] == [3, 3, 3]
    assert result["curve"][-1][1] == float(trainer.callback_metrics["val/return"])
    assert result["seconds"] >= result["curve"][-1][2] > result["curve"][0][2] > 0
    assert {*result["checkpoints"]} == {"last", "best"}
    assert "pruned" not in result


@pytest.mark.parametrize("rollout_length", [4, 16])
def test_training_stops_at_the_nearest_update_and_validates_there(fit, rollout_length):
    _, result = fit(env_steps=200, max_epochs=-1, rollout_length=rollout_length)
    assert abs(result["curve"][-1][0] - 200) <= rollout_length  # half an update of two copies
    assert {*result["checkpoints"]} == {"last", "best"}


def test_a_resumed_run_keeps_the_curve_and_the_seconds(fit):
    _, whole = fit(max_epochs=4)
    _, half = fit(max_epochs=2)
    _, resumed = fit(max_epochs=4, ckpt_path=half["checkpoints"]["last"])
    assert [point[:2] for point in resumed["curve"]] == [point[:2] for point in whole["curve"]]
    assert resumed["curve"][:2] == half["curve"]
    assert resumed["seconds"] > half["curve"][-1][2]


def test_the_study_stops_a_run_by_a_file(fit, working_folder):
    (working_folder / "prune").touch()
    _, result = fit()
    assert result["pruned"]
    assert len(result["curve"]) == 1


@pytest.mark.parametrize(("error", "diverged"), [(DivergedError, True), (RunError, False)])
def test_the_error_is_written(error, diverged, tmp_path):
    result = TrialResult(str(tmp_path / "fit.json"))
    result._result = {"curve": []}
    result.on_exception(SimpleNamespace(is_global_zero=True), None, error("the loss\nis nan"))
    written = json.loads((tmp_path / "fit.json").read_text())
    assert written == {"curve": [], "error": "the loss is nan", "diverged": diverged}
