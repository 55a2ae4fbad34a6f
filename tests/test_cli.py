import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

import rl_lightning
from rl_lightning.cli import main
from rl_lightning.modules import DQN

CONFIGS = Path(__file__).parent.parent / "configs"
CARTPOLE = str(CONFIGS / "dqn" / "cartpole.yaml")
TINY = [
    *("--config", CARTPOLE, "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"),
    *("--trainer.log_every_n_steps", "5", "--model.hidden_sizes", "[16]"),
    *("--data.num_envs", "4", "--data.env_steps_per_update", "4", "--data.batch_size", "16"),
    *("--data.updates_per_epoch", "20", "--data.warmup_env_steps", "100"),
    *("--data.eval_episodes", "4", "--data.num_eval_envs", "2"),
]
QUIET = ("--trainer.logger", "false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny run of the command, and its output."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "rl_lightning", "fit", *TINY]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def run_folder(folder: Path) -> Path:
    (run,) = (folder / "runs" / "dqn-CartPole-v1").iterdir()
    return run


def test_fit_ends_on_what_was_reached_where_it_is_and_what_comes_next(trained):
    folder, printed = trained
    reached, run, following = printed.strip().splitlines()[-3:]
    assert re.fullmatch(
        r"Reached: [\d,]+ steps, val/return [\d.]+ \(best\), [\d.]+ \(last\)", reached
    )
    place, best, last = run.removeprefix("Run: ").split()
    assert folder / place.removesuffix(":") == run_folder(folder)
    assert (run_folder(folder) / best).is_file()
    assert (run_folder(folder) / last).name == "last.ckpt"
    assert following.startswith("Next: python -m rl_lightning test --config")
    assert following.endswith(f"--ckpt_path {place.removesuffix(':')}/{best}")


def test_fit_writes_only_what_the_readme_names(trained):
    folder, _ = trained
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlruns", "runs"}
    run = run_folder(folder)
    assert {path.name for path in run.iterdir()} == {"checkpoints", "config.yaml"}
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert len(names) == 2
    assert "last.ckpt" in names


def test_the_run_in_mlflow_is_complete(trained, working_folder):
    folder, _ = trained
    os.chdir(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("dqn-CartPole-v1")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    expected = "train/return train/length train/loss train/q_mean train/epsilon replay/size "
    expected += "val/return val/return_std val/return_iqm val/length val/episodes "
    expected += "speed/env_steps_per_second speed/updates_per_second"
    assert set(expected.split()) <= set(run.data.metrics)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    sizes = client.get_metric_history(run.info.run_id, "replay/size")
    # The x-axis is the environment step, which is the number of replay rows without resets.
    assert len(losses) == len(sizes) == 8
    assert all(0.8 * row.value < row.step <= row.value + 36 for row in sizes)
    returns = client.get_metric_history(run.info.run_id, "val/return")
    assert [point.step for point in returns] == [losses[3].step, losses[7].step]
    assert run.data.params["model.epsilon_env_steps"] == "10000"
    assert run.data.params["data.num_envs"] == "4"
    assert run.data.tags["version.torch"] == version("torch")
    (artifact,) = client.list_artifacts(run.info.run_id)
    saved = Path(client.download_artifacts(run.info.run_id, artifact.path))
    config = yaml.safe_load(saved.read_text())
    assert config["data"]["init_args"]["num_envs"] == 4


def test_the_saved_configuration_runs_again(trained, working_folder, capsys):
    folder, _ = trained
    config = run_folder(folder) / "config.yaml"
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1"]) == 0
    assert "Reached: " in capsys.readouterr().out


def test_test_prints_a_table_of_whole_episodes(trained, working_folder, capsys):
    folder, _ = trained
    checkpoint = run_folder(folder) / "checkpoints" / "last.ckpt"
    assert main(["test", *TINY, "--ckpt_path", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    for metric in ("return", "return_std", "return_min", "return_max", "return_iqm", "length"):
        assert f"test/{metric}" in printed


def test_last_is_the_last_checkpoint_for_evaluation_too(
    trained, working_folder, monkeypatch, capsys
):
    folder, _ = trained
    (working_folder / "by_path").mkdir()
    monkeypatch.chdir(working_folder / "by_path")
    checkpoint = run_folder(folder) / "checkpoints" / "last.ckpt"
    assert main(["test", *TINY, "--ckpt_path", str(checkpoint), *QUIET]) == 0
    by_path = capsys.readouterr().out
    shutil.copytree(folder / "runs", working_folder / "runs")
    monkeypatch.chdir(working_folder)
    assert main(["test", *TINY, "--ckpt_path", "last"]) == 0
    rows = [line for line in by_path.splitlines() if "test/" in line]
    assert len(rows) == 7
    printed = capsys.readouterr().out
    assert all(row in printed for row in rows)


def test_last_without_a_tracker_is_refused(working_folder, capsys):
    assert main(["test", *TINY, "--ckpt_path", "last", *QUIET]) == 2
    assert "give the checkpoint's path" in capsys.readouterr().err


def test_predict_writes_a_video_and_a_table_of_steps(trained, working_folder):
    folder, _ = trained
    run = run_folder(folder)
    checkpoint = run / "checkpoints" / "last.ckpt"
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_episodes", "2"]
    assert main(["predict", *TINY, *arguments]) == 0
    episodes = {path.name: path for path in (run / "episodes").iterdir()}
    names = {f"greedy-episode-{i}.{kind}" for i in (0, 1) for kind in ("mp4", "csv")}
    assert set(episodes) == names
    rows = episodes["greedy-episode-0.csv"].read_text().splitlines()
    observation = [f"observation_{i}" for i in range(4)]
    columns = ["step", *observation, "action", "reward", "return_so_far", "value"]
    assert rows[0].split(",") == columns
    assert float(rows[-1].split(",")[columns.index("return_so_far")]) == len(rows) - 1
    x, velocity, angle, _ = ([float(row.split(",")[i]) for row in rows[1:]] for i in range(1, 5))
    assert max(map(abs, [x[0], velocity[0], angle[0]])) <= 0.05, "CartPole starts within ±0.05"
    assert x[1] == pytest.approx(x[0] + 0.02 * velocity[0], abs=1e-6), "CartPole's Euler step"
    assert b"ftyp" in episodes["greedy-episode-0.mp4"].read_bytes()[:16]


def test_a_resumed_run_continues_its_counts_and_refills_the_replay(
    trained, working_folder, monkeypatch
):
    folder, _ = trained
    checkpoint = run_folder(folder) / "checkpoints" / "last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    arguments = ["--ckpt_path", str(checkpoint), "--trainer.max_epochs", "3"]
    said = []
    monkeypatch.setattr("rl_lightning.datamodules.replay.rank_zero_info", said.append)
    assert main(["fit", *TINY, *arguments]) == 0
    assert "refilling 100 environment steps" in said[0]
    (resumed,) = Path("runs/dqn-CartPole-v1").glob("*/checkpoints/last.ckpt")
    after = torch.load(resumed, weights_only=True)
    assert after["global_step"] == saved["global_step"] + 20 == 60
    before, now = (
        state["ReplayDataModule"]["ranks"][0]["collector"]["env_steps"] for state in (saved, after)
    )
    assert 0.8 * 180 < now - before <= 180  # refilled 100, then four for each of 20 updates


def test_load_from_checkpoint_needs_no_environment(trained, monkeypatch):
    folder, _ = trained
    monkeypatch.setattr("gymnasium.make_vec", None)
    (best,) = (run_folder(folder) / "checkpoints").glob("best*.ckpt")
    agent = DQN.load_from_checkpoint(best, weights_only=True)
    assert agent.act(torch.zeros(3, 4)).shape == (3,)


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_help(subcommand, capsys):
    with pytest.raises(SystemExit) as stop:
        main([subcommand, "--help"])
    assert stop.value.code == 0
    assert "--ckpt_path" in capsys.readouterr().out


def test_help_of_a_class_is_its_docstring(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--data.help", "ReplayDataModule"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Environment steps between two updates, over all environment copies" in printed


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_round_trips(config, tmp_path, capsys):
    def printed(path):
        with pytest.raises(SystemExit) as stop:
            main(["fit", "--config", str(path), "--print_config"])
        assert not stop.value.code
        return capsys.readouterr().out

    first = printed(config)
    again = tmp_path / "again.yaml"
    again.write_text(first)
    assert printed(again) == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data.env_id CartPol-v1", "Did you mean: `CartPole`"),
        ("--data.env_id Pendulum-v1", "Pendulum-v1 has continuous ones"),
        ("--data.env_id Blackjack-v1", "observation space Tuple"),
        ("--data.capacity 10", "capacity 10 is smaller than batch_size 16"),
        ("--data.num_envs -3", "num_envs is -3"),
        ("--data.num_envs 2.5", "data: num_envs: Expected a value of type int"),
        ("--data.num_env 3", "Option 'num_env' is not accepted: did you mean num_envs"),
        ("--target_network.taau 1", "did you mean target_network.tau"),
        ("--model.optimizer.lr banana", "lr: Expected a value of type float"),
        ("--model.optimizer.lr -1", "optimizer of DQN cannot be made: Invalid learning rate: -1.0"),
        ("--model.epsilon_start 2", "epsilon_start is 2.0: choose it in [0, 1]"),
        ("--model.hidden_sizes [0]", "hidden_sizes are [0]"),
        ("--model.loss hubber", "loss: Expected a typing.Literal['squared', 'huber']"),
        ("--model.network nature", "use network mlp"),
        ("--model Foo", "there is no class Foo"),
        ("--trainer.max_epoch 3", "did you mean trainer.max_epochs"),
        ("--num_threads 0", "num_threads is 0"),
        ("--model.optimizer.lr -1", "Invalid learning rate: -1.0"),
        ("--data.env_kwargs.render_mode human", "render_mode human"),
        ("--ckpt_path nowhere.ckpt", "there is no checkpoint nowhere.ckpt"),
        ("--trainer.logger.tracking_uri http://127.0.0.1:9", "does not answer"),
    ],
)
def test_invalid_settings_are_one_line_and_leave_no_files(arguments, said, working_folder, capsys):
    assert main(["fit", *TINY, *arguments.split()]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "rl_lightning" in line]
    assert len(error) == 1
    assert said in error[0]
    assert not any(working_folder.iterdir())


@pytest.mark.parametrize(
    ("flag", "names"),
    [("--model.help", ["A2C", "DQN", "SAC"]), ("--data.help", ["ReplayDataModule"])],
)
def test_help_without_a_class_lists_the_classes(flag, names, capsys):
    assert main(["fit", flag]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert set(names) <= set(listed)
    assert not {"Agent", "Learner", "SourceDataModule", "LightningModule"} & set(listed)
    assert all(len(line.split()) > 3 for line in listed.values())


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"python -m rl_lightning {rl_lightning.__version__}\n"


def test_a_misspelt_key_in_the_yaml_is_one_line(working_folder, capsys):
    config = yaml.safe_load(Path(CARTPOLE).read_text())
    config["data"]["init_args"]["num_env"] = 3
    Path("misspelt.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "misspelt.yaml"]) == 2
    assert "num_env" in capsys.readouterr().err.splitlines()[-1]


def test_a_section_of_a_wrong_kind_is_one_line(working_folder, capsys):
    config = yaml.safe_load(Path(CARTPOLE).read_text())
    Path("broken.yaml").write_text(yaml.safe_dump(config | {"trainer": 0}))
    assert main(["fit", "--config", "broken.yaml"]) == 2
    assert "cannot be used" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "file is empty"),
        (b"\x00\xff\xfe", "config"),
        (b"[1, 2", "config"),
        (b"trainer: 0\n", "fit.model"),
        (b"trainer: {callbacks: 3}\n", "callbacks"),
        (b"model: {class_path: DQN}\n", "data"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(contents, said, working_folder, capsys):
    Path("broken.yaml").write_bytes(contents)
    assert main(["fit", "--config", "broken.yaml"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "rl_lightning" in line]
    assert said in error
    assert [path.name for path in working_folder.iterdir()] == ["broken.yaml"]


def test_a_checkpoint_of_another_shape_is_refused(trained, working_folder, capsys):
    folder, _ = trained
    checkpoint = run_folder(folder) / "checkpoints" / "last.ckpt"
    arguments = ["--ckpt_path", str(checkpoint), "--model.hidden_sizes", "[8]"]
    assert main(["test", *TINY, *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "hidden_sizes is [16] in the checkpoint and [8] in the configuration" in line


def test_a_file_that_is_no_checkpoint_is_refused(working_folder, capsys):
    Path("not.ckpt").write_bytes(b"not a checkpoint")
    assert main(["fit", *TINY, "--ckpt_path", "not.ckpt"]) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err.splitlines()[-1]


def test_a_new_run_starts_from_the_weights_of_another(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    last = run_folder(folder) / "checkpoints" / "last.ckpt"
    monkeypatch.chdir(tmp_path)
    still = ["--model.optimizer.lr", "0", "--trainer.max_epochs", "1", *QUIET]
    assert main(["fit", *TINY, *still, "--weights_path", str(last)]) == 0
    before, (path,) = torch.load(last, weights_only=True), tmp_path.rglob("last.ckpt")
    after = torch.load(path, weights_only=True)
    for name, value in before["state_dict"].items():
        # The target network follows the online network from the first update on.
        assert "target" in name or torch.equal(value, after["state_dict"][name]), name
    assert (before["epoch"], after["epoch"]) == (1, 0)
    assert after["global_step"] == 20
    state = after["optimizer_states"][0]["state"]
    assert {int(each["step"]) for each in state.values()} == {20}
    both = ["--weights_path", str(last), "--ckpt_path", str(last)]
    assert main(["fit", *TINY, *QUIET, *both]) == 2
    assert "starts a new run" in capsys.readouterr().err
    other = ["--model.hidden_sizes", "[8]", "--weights_path", str(last)]
    assert main(["fit", *TINY, *QUIET, *other]) == 2
    assert "hidden_sizes is [16] in the checkpoint and [8]" in capsys.readouterr().err
