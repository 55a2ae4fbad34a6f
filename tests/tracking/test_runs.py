"""What the command line leaves in MLflow: one run for training and its evaluations."""

from pathlib import Path

import pytest
from lightning import Trainer
from mlflow import MlflowClient

import small_runs
from rl_lightning.cli import main
from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.modules import A2C
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker

CONFIG = str(Path(__file__).parent.parent.parent / "configs/a2c/cartpole.yaml")
SMALL = [
    *("--config", CONFIG, "--trainer.enable_progress_bar", "false", "--data.eval_episodes", "3"),
    *("--data.num_eval_envs", "3", "--data.num_envs", "2", "--data.rollout_length", "4"),
]
FIT = ["fit", *SMALL, "--trainer.max_epochs", "1", "--data.updates_per_epoch", "2"]


@pytest.fixture
def runs(working_folder, store):
    """The MLflow client, and the runs that have a folder here, newest first."""

    def find():
        client = MlflowClient(store)
        folders = {folder.name for folder in working_folder.glob("runs/*/*")}
        found = [client.get_run(name) for name in folders]
        return client, sorted(found, key=lambda run: -run.info.start_time)

    return find


def test_two_runs_differ_in_what_the_user_changed(runs):
    assert main([*FIT, "--model.optimizer.lr", "1e-3"]) == 0
    assert main([*FIT, "--model.optimizer.lr", "2e-3", "--seed_everything", "7"]) == 0
    client, found = runs()
    experiment = client.get_experiment(found[0].info.experiment_id)
    assert experiment.name == "a2c-CartPole-v1"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    second, first = (run.data.params for run in found)
    assert {key for key in first if first[key] != second.get(key)} == {
        "model.optimizer.lr",
        "seed_everything",
    }
    assert {*first} == {*second}
    assert first["trainer.gradient_clip_val"] == "0.5"
    assert found[0].info.run_name.startswith("a2c-CartPole-v1-seed7-")
    assert found[0].data.tags["command"].startswith("python -m rl_lightning fit --config")
    assert found[0].data.tags["seed"] == "7"


def test_another_environment_is_another_experiment(runs):
    without = ["--trainer.limit_val_batches", "0", "--trainer.callbacks", "null"]
    assert main([*FIT, "--data.env_id", "Acrobot-v1", *without]) == 0
    client, (run,) = runs()
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "a2c-Acrobot-v1"


def test_evaluations_are_in_the_run_of_their_checkpoint(runs):
    assert main(FIT) == 0
    client, (run,) = runs()
    for subcommand, checkpoint in (("test", "best"), ("validate", "last"), ("predict", "last")):
        assert main([subcommand, *SMALL, "--ckpt_path", checkpoint]) == 0
    assert main(["test", *SMALL, "--ckpt_path", "best"]) == 0
    _, (again,) = runs()
    assert again.info.run_id == run.info.run_id
    assert (again.info.status, again.info.end_time) == ("FINISHED", run.info.end_time)
    trained = client.get_metric_history(run.info.run_id, "val/return")
    tested = client.get_metric_history(run.info.run_id, "test/return")
    assert len(tested) == 2, "the second test was not logged"
    assert [point.step for point in tested] == [trained[0].step] * 2
    assert trained[0].step == 16
    episodes = {
        Path(each.path).suffix for each in client.list_artifacts(run.info.run_id, "episodes")
    }
    assert episodes == {".mp4", ".csv"}


def test_a_copied_checkpoint_starts_a_run_of_its_own(runs, working_folder):
    assert main(FIT) == 0
    (checkpoint,) = working_folder.glob("runs/*/*/checkpoints/last.ckpt")
    checkpoint.rename(working_folder / "mine.ckpt")
    assert main(["test", *SMALL, "--ckpt_path", "mine.ckpt"]) == 0
    client, (trained,) = runs()
    assert "test/return" not in trained.data.metrics
    assert main(["predict", *SMALL, "--ckpt_path", "mine.ckpt"]) == 0
    assert len([*working_folder.glob("runs/a2c-CartPole-v1/*/episodes/*.mp4")]) == 1
    tested = client.search_runs([trained.info.experiment_id], max_results=2)[1]
    assert "test/return" in tested.data.metrics
    assert tested.info.run_id != trained.info.run_id


def test_a_run_that_is_not_in_the_store_can_be_evaluated(runs, working_folder, monkeypatch):
    assert main(FIT) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_folder}/another.db")
    assert main(["test", *SMALL, "--ckpt_path", "last"]) == 0
    found = MlflowClient(f"sqlite:///{working_folder}/another.db").search_runs(["1"])
    assert [("test/return" in run.data.metrics) for run in found] == [True]


def test_the_tracker_has_the_options_of_lightnings_logger(runs, working_folder):
    data = RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4, updates_per_epoch=2)
    tracker = MLflowTracker(
        "mine", run_name="first", tags={"who": "me"}, prefix="a", log_model=True,
        artifact_location=str(working_folder / "elsewhere"), synchronous=True,
    )  # fmt: skip
    trainer = Trainer(
        logger=tracker, max_epochs=1, accelerator="cpu", limit_val_batches=0,
        log_every_n_steps=1, enable_progress_bar=False, default_root_dir="runs",
    )  # fmt: skip
    trainer.fit(A2C(data.environment), datamodule=data)
    client, (run,) = runs()
    experiment = client.get_experiment(run.info.experiment_id)
    assert (experiment.name, run.info.run_name, run.data.tags["who"]) == ("mine", "first", "me")
    assert "a-train/loss" in run.data.metrics
    assert any(key.startswith("hidden_sizes") for key in run.data.params)
    assert any(path.suffix == ".ckpt" for path in (working_folder / "elsewhere").rglob("*"))


def test_system_metrics_are_logged(runs, monkeypatch):
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    made = []
    original = SystemMetricsMonitor.__init__

    def fast(self, run_id, **options):
        original(self, run_id, sampling_interval=0.05, **options)
        made.append(self)

    monkeypatch.setattr(SystemMetricsMonitor, "__init__", fast)
    flag = "--trainer.logger.init_args.log_system_metrics"
    logger = "--trainer.logger=rl_lightning.tracking.mlflow_tracker.MLflowTracker"
    assert main([*FIT, logger, flag, "true", "--trainer.max_epochs", "20"]) == 0
    (monitor,) = made
    assert monitor._process is None, "the thread was not stopped"
    _, (run,) = runs()
    assert "system/cpu_utilization_percentage" in run.data.metrics


def test_system_metrics_without_psutil_are_refused(monkeypatch):
    monkeypatch.setattr("rl_lightning.tracking.mlflow_tracker.find_spec", lambda name: None)
    MLflowTracker()
    with pytest.raises(ConfigurationError, match="pip install psutil"):
        MLflowTracker(log_system_metrics=True)


def test_all_files_of_a_run_with_a_csv_logger_are_in_one_folder(working_folder):
    flags = "--trainer.logger CSVLogger --trainer.logger.save_dir runs"
    assert small_runs.fit("a2c/cartpole", *flags.split(), "--trainer.max_epochs", "1") == 0
    (folder,) = Path("runs/lightning_logs").iterdir()
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {path.name for path in folder.iterdir()}
