"""The supervised policy: its loss, its accuracies and a run of every subcommand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rl_lightning.cli import main
from rl_lightning.datamodules.alphago.expert_games import ExpertGamesDataModule
from rl_lightning.experience import LabelledPositions
from rl_lightning.games.board_game import BoardGame
from rl_lightning.modules.alphago.supervised_policy import SupervisedPolicy
from sgf_samples import write_games
from trainers import quiet

CONFIG = Path(__file__).parents[3] / "configs" / "alphago" / "supervised.yaml"


@pytest.fixture
def games(tmp_path):
    return write_games(tmp_path / "games", 6)


def make_data(games):
    return ExpertGamesDataModule(
        str(games), batch_size=16, updates_per_epoch=30, validation_share=0.2, test_share=0.2
    )


class Fixed(SupervisedPolicy):
    """Gives logits that the test has chosen."""

    def forward(self, observations):
        return self.chosen[: len(observations)]


def test_accuracies_count_the_experts_moves(games):
    data = make_data(games)
    data.setup("test")
    module = Fixed(data.environment, 1, 2)
    actions = data.batch("test", torch.arange(12).numpy()).actions
    ranks = torch.tensor([0, 1, 4, 5, 0, 9, 2, 3, 7, 0, 4, 6])
    # The expert's move is at rank `ranks` of the logits.
    module.chosen = torch.full((12, 82), -torch.inf)
    for row, (action, rank) in enumerate(zip(actions.tolist(), ranks.tolist(), strict=True)):
        others = [move for move in range(82) if move != action][:20]
        order = [*others[:rank], action, *others[rank:]]
        module.chosen[row, order] = -torch.arange(21).float()
    (found,) = quiet().test(module, data, verbose=False)
    assert found["test/top1"] == pytest.approx(3 / 12)
    assert found["test/top5"] == pytest.approx(8 / 12)
    expected = -module.chosen.log_softmax(1)[torch.arange(12), actions].mean()
    assert found["test/loss"] == pytest.approx(float(expected))


def test_training_learns_the_sample(games):
    torch.manual_seed(0)
    data = make_data(games)
    data.symmetries = False
    data.setup("fit")
    module = SupervisedPolicy(
        data.environment, 2, 16, optimizer=lambda p: torch.optim.Adam(p, lr=1e-2)
    )
    whole = data.batch("train", torch.arange(48).numpy())
    before = float((module(whole.observations).argmax(1) == whole.actions).float().mean())
    quiet(max_epochs=4).fit(module, data)
    after = float((module(whole.observations).argmax(1) == whole.actions).float().mean())
    assert before < 0.2
    assert after > 0.8
    drawn = len(data.splits["train"].actions) * 4 * 30 / 3  # three batches are one pass
    assert module.positions_seen == drawn


def test_the_loss_is_the_cross_entropy_of_the_moves():
    game = BoardGame("go(board_size=5)")
    module = SupervisedPolicy(game.spec, 1, 2)
    module.trainer = quiet()
    module.trainer._logger_connector = SimpleNamespace(should_update_logs=False)
    planes = torch.from_numpy(game.observe([game.start()] * 3))
    batch = LabelledPositions(planes, torch.tensor([3, 3, 12]), torch.zeros(3))
    loss = module.training_step(batch, 0)
    log_probs = module(planes).log_softmax(1)
    assert torch.allclose(loss, -log_probs[[0, 1, 2], [3, 3, 12]].mean())
    assert module.positions_seen == 3


def test_the_count_of_positions_keeps_float64():
    module = SupervisedPolicy(BoardGame("go(board_size=5)").spec, 1, 2)
    module.positions_seen += 2**24 + 1
    # A tensor in bfloat16 would round the number that it is compared with.
    assert module.bfloat16().positions_seen.item() == 2**24 + 1
    assert next(module.policy.parameters()).dtype == torch.bfloat16


def test_every_subcommand_runs_from_the_yaml(games, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = (
        f"--config {CONFIG} --data.path {games} --data.batch_size 16 --data.updates_per_epoch 3 "
        "--data.validation_share 0.2 --data.test_share 0.2 --model.num_layers 2 "
        "--model.num_filters 4 --trainer.enable_progress_bar false --trainer.logger false"
    ).split()
    assert main(["fit", *common, "--trainer.max_epochs", "2"]) == 0
    (last,) = tmp_path.rglob("last.ckpt")
    for subcommand in ("validate", "test", "predict"):
        assert main([subcommand, *common, "--ckpt_path", str(last)]) == 0
    other = ["--data.game", "go(board_size=7,komi=7.5)", "--ckpt_path", str(last)]
    assert main(["test", *common, *other]) == 2


def test_missing_games_are_one_line_and_leave_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["fit", "--config", str(CONFIG), "--data.path", "nowhere"]) == 2
    assert "there is no nowhere" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_fit_and_test_of_one_datamodule_read_their_splits(games):
    data = make_data(games)
    module = SupervisedPolicy(data.environment, 1, 2)
    quiet(max_epochs=1).fit(module, data)
    (found,) = quiet().test(module, data, verbose=False)
    assert 0 <= found["test/top1"] <= found["test/top5"] <= 1
