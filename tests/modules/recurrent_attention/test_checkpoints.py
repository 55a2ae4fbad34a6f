"""A checkpoint from before RAM's options were in groups and its networks in one.

`before_groups.ckpt` is from `fit` of two epochs with that version, on the images of `write_mnist`:
glimpses of 3 × 3 pixels, 4 hidden units, rewards after each glimpse and relative locations.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from rl_lightning.cli import main
from rl_lightning.modules import RecurrentAttentionModel
from rl_lightning.modules.recurrent_attention.ram import RAMLearningOptions
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from small_runs import CONFIGS, write_mnist

OLD = Path(__file__).parent / "before_groups.ckpt"
NETWORK = RAMNetworkOptions(
    num_glimpses=3, glimpse_size=3, hidden_size=4, glimpse_hidden_size=4, relative_locations=True
)
LEARNING = RAMLearningOptions(std=0.3, std_end=0.1, reward="each_glimpse", move_cost=0.2)
PARTS = ("glimpse_network", "core", "locator", "classifier", "baseline", "std")
COMMON = (
    f"--config {CONFIGS / 'ram/mnist.yaml'} --seed_everything 5 --model.compiled false "
    "--data.data_dir mnist --data.validation_images 20 --data.batch_size 20 "
    "--trainer.enable_progress_bar false --trainer.accelerator cpu --trainer.logger false "
    "--trainer.default_root_dir run --model.optimizer.lr 0"
)


@pytest.fixture
def old() -> Any:
    return torch.load(OLD, weights_only=True)


@pytest.fixture
def _with_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)


def command(subcommand: str, arguments: str) -> int:
    options = [f"--model.network.{name} {value}" for name, value in vars(NETWORK).items()]
    options += [f"--model.learning.{name} {value}" for name, value in vars(LEARNING).items()]
    return main([subcommand, *" ".join([COMMON, *options, arguments]).split()])


def renamed(weights: dict[str, Any]) -> dict[str, Any]:
    return {
        f"network.{name}" if name.partition(".")[0] in PARTS else name: value
        for name, value in weights.items()
    }


def test_load_from_checkpoint_makes_the_module_that_it_was(old: Any) -> None:
    assert "core.from_glimpse.weight" in old["state_dict"]
    model = RecurrentAttentionModel.load_from_checkpoint(OLD, weights_only=True)
    assert (model.network.options, model.learning) == (NETWORK, LEARNING)
    weights, expected = model.state_dict(), renamed(old["state_dict"])
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name
    assert model.network.std == pytest.approx(0.1)


@pytest.mark.usefixtures("_with_mnist")
def test_fit_resumes_it_with_its_optimizer(old: Any) -> None:
    assert command("fit", f"--trainer.max_epochs 3 --ckpt_path {OLD}") == 0
    (written,) = Path().rglob("checkpoints/last.ckpt")
    new = torch.load(written, weights_only=True)
    assert (old["global_step"], new["global_step"]) == (8, 12)
    first, second = (each["optimizer_states"][0] for each in (old, new))
    names = [name for name in renamed(old["state_dict"]) if "std" not in name]
    names.remove("images_seen")
    model = RecurrentAttentionModel.load_from_checkpoint(OLD, weights_only=True)
    assert names == [name for name, _ in model.named_parameters()]
    assert first["state"].keys() == second["state"].keys() == set(range(len(names)))
    for index, moments in first["state"].items():
        assert moments["exp_avg"].shape == second["state"][index]["exp_avg"].shape
        assert second["state"][index]["step"] == moments["step"] + 4


@pytest.mark.usefixtures("_with_mnist")
def test_a_test_of_it_has_the_answers_of_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("test", f"--ckpt_path {OLD}") == 0
    assert "test/error_averaged" in capsys.readouterr().out


@pytest.mark.usefixtures("_with_mnist")
def test_a_new_run_starts_from_its_weights(old: Any) -> None:
    assert command("fit", f"--trainer.max_epochs 1 --weights_path {OLD}") == 0
    (written,) = Path().rglob("checkpoints/last.ckpt")
    new = torch.load(written, weights_only=True)
    assert new["global_step"] == 4
    for name, value in renamed(old["state_dict"]).items():
        if name not in ("images_seen", "network.std"):
            assert torch.equal(new["state_dict"][name], value), name  # the learning rate is 0


@pytest.mark.usefixtures("_with_mnist")
def test_another_size_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("test", f"--model.network.hidden_size 5 --ckpt_path {OLD}") == 2
    assert "the shape of network." in capsys.readouterr().err.splitlines()[-1]
