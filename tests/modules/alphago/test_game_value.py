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
from rl_lightning.runtime.checkpoints import check_checkpoint, load_weights
from rl_lightning.runtime.errors import ConfigurationError
from trainers import quiet

CONFIG = Path(__file__).parents[3] / "configs" / "alphago" / "value.yaml"


class Fixed(torch.nn.Module):
    """Gives values that the test has chosen."""

    def forward(self, observations):
        return torch.tensor([0.5, -0.5, 0.2, 0.1])[: len(observations)]


def batch_of(outcomes):
    planes = torch.zeros(len(outcomes), *BoardGame("tic_tac_toe").spec["observation_shape"])
    owners = torch.zeros(len(planes), *planes.shape[2:], dtype=torch.int8)
    return ScoredPositions(planes.bool(), torch.tensor(outcomes), owners)


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


GO = "go(board_size=4,komi=0.5)"


def test_owners_add_their_cross_entropy_to_the_loss():
    module = GameValue(BoardGame(GO).spec, 1, 2, ownership_weight=0.5)
    module.trainer = quiet()
    module.trainer._logger_connector = SimpleNamespace(should_update_logs=False)
    planes = torch.rand(3, *BoardGame(GO).spec["observation_shape"]) < 0.5
    owners = torch.tensor([1, -1, 0], dtype=torch.int8)[:, None, None].expand(3, 4, 4)
    batch = ScoredPositions(planes, torch.tensor([1.0, -1.0, 0.0]), owners)
    probabilities = module.owners(module.value.features_and_values(planes)[0]).sigmoid().squeeze(1)
    expected = (module.value(planes) - batch.outcomes).square().mean()
    entropies = [
        -probabilities[0].log().mean(),
        -(1 - probabilities[1]).log().mean(),
        -(probabilities[2].log() + (1 - probabilities[2]).log()).mean() / 2,
    ]
    loss = module.training_step(batch)
    assert loss.item() == pytest.approx((expected + 0.5 * sum(entropies) / 3).item(), rel=1e-5)
    loss.backward()
    trained = [each for group in module.parameter_groups() for each in group["params"]]
    assert {id(each) for each in trained} >= {id(each) for each in module.owners.parameters()}
    assert all(each.grad is not None for each in trained)


def test_owners_are_those_of_go():
    with pytest.raises(ConfigurationError, match="points of tic_tac_toe have no owner"):
        GameValue(BoardGame("tic_tac_toe").spec, 1, 2, ownership_weight=1.0)


def test_a_checkpoint_without_owners_is_loaded(tmp_path):
    """Of an earlier version, or of a training without them."""
    old = GameValue(BoardGame(GO).spec, 1, 2)
    path = tmp_path / "old.ckpt"
    hparams = {name: each for name, each in old.hparams.items() if name != "ownership_weight"}
    saved = {"state_dict": old.state_dict(), "hyper_parameters": dict(hparams)}
    torch.save({**saved, "pytorch-lightning_version": "2.6.0"}, path)
    module = GameValue(BoardGame(GO).spec, 1, 2, ownership_weight=0.5)
    check_checkpoint(path, module)
    load_weights(path, module)
    again = GameValue.load_from_checkpoint(path, ownership_weight=0.5)
    for each in (module, again, GameValue.load_from_checkpoint(path)):
        for one, other in zip(old.value.parameters(), each.value.parameters(), strict=True):
            assert torch.equal(one, other)


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
