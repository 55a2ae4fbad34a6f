"""The Atari configurations train, and their agents play in `predict`."""

from pathlib import Path

import pytest

from rl_lightning.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
TINY = (
    "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false "
    "--trainer.logger false "
    "--data.num_envs 2 --data.updates_per_epoch 2 --data.eval_episodes 1 --data.num_eval_envs 1 "
    "--data.env_kwargs.max_num_frames_per_episode 80 "
)
EXPERIMENTS = {
    "a2c/pong": "--data.rollout_length 4",
    "pqn/breakout": "--data.rollout_length 4 --data.minibatches 2",
    "ppo/breakout": "--data.rollout_length 4 --data.minibatches 2",
    "dqn/pong": "--data.env_steps_per_update 2 --data.batch_size 4 --data.capacity 200 "
    "--data.warmup_env_steps 60",
}


@pytest.mark.parametrize(("experiment", "tiny"), EXPERIMENTS.items())
def test_an_atari_configuration_trains(experiment, tiny, working_folder, capsys):
    config = ["--config", str(CONFIGS / f"{experiment}.yaml")]
    assert main(["fit", *config, *TINY.split(), *tiny.split()]) == 0
    assert "Reached: " in capsys.readouterr().out
    (film,) = Path.cwd().rglob("after-epoch-1-*.mp4")
    assert film.stat().st_size > 1_000
    if experiment != "dqn/pong":
        return
    (checkpoint,) = Path.cwd().rglob("last.ckpt")
    trained = ["--ckpt_path", str(checkpoint)]
    assert main(["predict", *config, *TINY.split(), *tiny.split(), *trained]) == 0
    (video,) = Path.cwd().rglob("greedy-*.mp4")
    assert video.stat().st_size > 1_000
