"""The value network: its loss, its errors, and a training on an exact game."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rl_lightning.cli import main
from rl_lightning.datamodules.alphago.self_play_positions import SelfPlayPositionsDataModule
from rl_lightning.experience import ScoredPositions
from rl_lightning.games.board_game import BoardGame
from rl_lightning.modules.alphago.game_value import GameValue
from trainers import quiet

CONFIG = Path(__file__).parents[3] / "configs" / "alphago" / "value.yaml"


class Fixed(torch.nn.Module):
    """Gives values that the test has chosen."""

    def forward(self, observations):
        return torch.tensor([0.5, -0.5, 0.2, 0.1])[: len(observations)]


def batch_of(outcomes):
    planes = torch.zeros(len(outcomes), *BoardGame("tic_tac_toe").spec["observation_shape"])
    return ScoredPositions(planes.bool(), torch.tensor(outcomes))


def test_errors_are_those_of_the_results():
    module, logged = GameValue(BoardGame("tic_tac_toe").spec, 1, 2), {}
    module.value = Fixed()
    module.log_dict = lambda metrics, **_: logged.update(metrics)
    module.validation_step(batch_of([1.0, 1.0, -1.0, 0.0]), 0)
    module.validation_step(batch_of([1.0]), 1)
    module.on_validation_epoch_end()
    squares = [0.25, 2.25, 1.44, 0.01, 0.25]
    assert logged["val/mse"] == pytest.approx(sum(squares) / 5)
    assert logged["val/sign"] == pytest.approx(2 / 4), "a draw has no sign"
    module.validation_step(batch_of([1.0]), 0)
    module.on_validation_epoch_end()
    assert logged["val/mse"] == pytest.approx(0.25)


def test_the_loss_trains_the_value_network_alone():
    module = GameValue(BoardGame("tic_tac_toe").spec, 1, 2)
    module.trainer = quiet()
    module.trainer._logger_connector = SimpleNamespace(should_update_logs=False)
    batch = batch_of([1.0, -1.0])
    loss = module.training_step(batch)
    assert torch.allclose(loss, (module.value(batch.observations) - batch.outcomes).square().mean())
    loss.backward()
    assert all(each.grad is None for each in module.policy.parameters())
    trained = [each for group in module.parameter_groups() for each in group["params"]]
    assert {id(each) for each in trained} == {id(each) for each in module.value.parameters()}


def test_values_of_random_games_of_tic_tac_toe_are_learned():
    torch.manual_seed(0)
    data = SelfPlayPositionsDataModule(
        "tic_tac_toe", games_per_update=16, batch_size=64, updates_per_epoch=150,
        eval_positions=500,
    )  # fmt: skip
    module = GameValue(data.environment, 2, 16, lambda groups: torch.optim.Adam(groups, lr=3e-3))
    policy = [parameter.clone() for parameter in module.policy.parameters()]
    (before,) = quiet().test(module, data, verbose=False)
    quiet(max_epochs=1).fit(module, data)
    (after,) = quiet().test(module, data, verbose=False)
    assert after["test/mse"] < before["test/mse"] - 0.15
    assert after["test/sign"] > 0.65
    for one, other in zip(policy, module.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_subcommand_runs_from_the_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = [
        *("--config", str(CONFIG), "--data.game", "go(board_size=5,komi=0.5)"),
        *("--data.games_per_update", "4", "--data.updates_per_epoch", "3", "--trainer.logger"),
        *("false", "--data.batch_size", "8", "--data.eval_positions", "6", "--data.eval_games"),
        *("2", "--data.num_simulations", "6", "--data.predict_games", "1", "--model.num_layers"),
        *("2", "--model.num_filters", "4", "--trainer.enable_progress_bar", "false"),
    ]
    assert main(["fit", *common, "--trainer.max_epochs", "2"]) == 0
    (last,) = tmp_path.rglob("last.ckpt")
    for subcommand in ("validate", "test", "predict"):
        assert main([subcommand, *common, "--ckpt_path", str(last)]) == 0
    assert [*tmp_path.rglob("games/game-0.sgf")]
