"""Policy gradient by self-play: its loss, a run of every subcommand, and an exact game."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rl_lightning.cli import main
from rl_lightning.datamodules.alphago.self_play import SelfPlayDataModule
from rl_lightning.experience import CheckedMoves, MatchResults, SelfPlayGames
from rl_lightning.functional.returns import game_advantages
from rl_lightning.games.board_game import BoardGame
from rl_lightning.modules.alphago.self_play_policy import SelfPlayPolicy
from rl_lightning.runtime import ranks
from rl_lightning.runtime.errors import ConfigurationError
from trainers import quiet

CONFIGS = Path(__file__).parents[3] / "configs" / "alphago"


def make(**options):
    torch.manual_seed(0)
    module = SelfPlayPolicy(BoardGame("tic_tac_toe").spec, 1, 3, **options)
    module.trainer = quiet()
    module.trainer._logger_connector = SimpleNamespace(should_update_logs=False)
    return module


def games():
    """Two games of two moves and of one move."""
    game, states = BoardGame("tic_tac_toe"), []
    for moves in ([], [4, 0], [3]):
        state = game.start()
        for move in moves:
            game.play(state, move)
        states.append(state)
    observations = torch.from_numpy(game.observe(states))
    playable = observations[:, -1].flatten(1).clone()
    playable[0, 8] = False  # legal, and not among the actions that the policy chose from
    return SelfPlayGames(
        observations,
        playable,
        torch.tensor([4, 2, 7]),
        torch.tensor([2, 1]),
        torch.tensor([1.0, -1.0]),
    )


def log_probs_of(policy, batch):
    logits = policy(batch.observations).masked_fill(~batch.playable, -torch.inf)
    return logits.log_softmax(1)


def test_the_loss_is_reinforce_with_the_value_as_baseline():
    module, batch = make(value_coefficient=0.5), games()
    log_probs, values = log_probs_of(module.policy, batch), module.value(batch.observations)
    results = torch.tensor([1.0, 1.0, -1.0])
    chosen = log_probs[[0, 1, 2], [4, 2, 7]]
    policy = -(chosen * (results - values.detach())).mean()
    expected = policy + 0.5 * (results - values).square().mean()
    assert torch.allclose(module.training_step(batch), expected)
    # The advantage has no gradient: the value network learns from its error alone.
    module.training_step(batch).backward()
    found = [parameter.grad.clone() for parameter in module.value.parameters()]
    module.zero_grad()
    (0.5 * (results - module.value(batch.observations)).square().mean()).backward()
    for one, parameter in zip(found, module.value.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad)


def test_advantages_are_normalised_over_the_batch():
    module, batch = make(normalise_advantages=True, value_coefficient=0.0), games()
    results, values = torch.tensor([1.0, 1.0, -1.0]), module.value(batch.observations).detach()
    advantages = results - values
    scaled = (advantages - advantages.mean()) / advantages.std(correction=0)
    chosen = log_probs_of(module.policy, batch)[[0, 1, 2], [4, 2, 7]]
    assert torch.allclose(module.training_step(batch), -(chosen * scaled).mean(), atol=1e-5)
    assert not torch.allclose(-(chosen * scaled).mean(), -(chosen * advantages).mean(), atol=1e-2)


def test_a_rank_with_more_moves_weighs_more(monkeypatch):
    module, batch = make(), games()
    alone = module.training_step(batch)
    monkeypatch.setattr(ranks, "has_several_ranks", lambda: True)
    monkeypatch.setattr(ranks, "mean_over_ranks", lambda count: count * 0 + 6)
    assert torch.allclose(module.training_step(batch).float(), alone * 3 / 6)


def test_entropy_and_kl_have_their_weights():
    batch = games()
    plain = make().training_step(batch)
    module = make(entropy_coefficient=0.3)
    log_probs = log_probs_of(module.policy, batch)
    entropy = torch.distributions.Categorical(logits=log_probs).entropy().mean()
    assert torch.allclose(module.training_step(batch), plain - 0.3 * entropy)
    module = make(kl_coefficient=0.7)
    assert torch.allclose(module.training_step(batch), plain), "the KL to itself is 0"
    with torch.no_grad():
        for parameter in module.reference.parameters():
            parameter.add_(torch.randn_like(parameter))
    here, there = (
        torch.distributions.Categorical(logits=log_probs_of(each, batch))
        for each in (module.policy, module.reference)
    )
    kl = torch.distributions.kl_divergence(here, there)[1:].mean() * 2 / 3
    first = (here.probs[0] * (here.logits[0] - there.logits[0]))[:8].sum() / 3
    assert torch.allclose(module.training_step(batch), plain + 0.7 * (kl + first), atol=1e-6)


def test_the_reference_is_the_policy_at_the_start_of_the_run():
    module = make(kl_coefficient=1.0)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.add_(1)
    module.setup("test")
    assert not torch.equal(module.policy.points.weight, module.reference.points.weight)
    module.setup("fit")
    assert torch.equal(module.policy.points.weight, module.reference.points.weight)
    trained = {id(each) for group in module.parameter_groups() for each in group["params"]}
    assert not trained & {id(each) for each in module.reference.parameters()}


def test_advantages_of_games():
    values, lengths = torch.tensor([0.5, -0.2, 0.1, 0.3]), torch.tensor([3, 0, 1])
    outcomes = torch.tensor([1.0, 1.0, -1.0])
    found = game_advantages(values, lengths, outcomes, 1.0)
    assert torch.allclose(found, torch.tensor([0.5, 1.2, 0.9, -1.3]))
    errors = [-0.2 - 0.5, 0.1 + 0.2, 1 - 0.1, -1 - 0.3]
    expected = [errors[0] + 0.5 * (errors[1] + 0.5 * errors[2]), errors[1] + 0.5 * errors[2]]
    found = game_advantages(values, lengths, outcomes, 0.5)
    assert torch.allclose(found, torch.tensor([*expected, *errors[2:]]))


def test_results_of_matches_are_counted():
    module, logged = make(), {}
    module.log_dict = lambda metrics, **_: logged.update(metrics)
    outcomes = torch.tensor([1.0, 0, 0, -1, -1, -1], dtype=torch.float64)
    for part in (outcomes[:2], outcomes[2:]):
        module.test_step(MatchResults("perfect", part), 0)
    module.test_step(CheckedMoves(torch.tensor([True, False, True])), 1)
    module.on_test_epoch_end()
    assert logged == {
        "test/win_rate_against_perfect": pytest.approx(2 / 6),
        "test/wins_against_perfect": 1,
        "test/draws_against_perfect": 2,
        "test/losses_against_perfect": 3,
        "test/policy_mistakes": 2,
        "test/positions": 3,
    }
    logged.clear()
    module.on_test_epoch_end()
    assert not logged, "counts are reset"


def test_settings_that_cannot_be_used_are_one_line():
    with pytest.raises(ConfigurationError, match=r"gae_lambda is 1\.5"):
        make(gae_lambda=1.5)
    with pytest.raises(ConfigurationError, match="kl_coefficient is -1"):
        make(kl_coefficient=-1)


SMALL = [
    *("--data.games_per_update", "4", "--data.updates_per_epoch", "3", "--data.eval_games", "4"),
    *("--model.num_layers", "2", "--model.num_filters", "4", "--trainer.logger", "false"),
    *("--trainer.enable_progress_bar", "false", "--data.game", "go(board_size=5,komi=0.5)"),
]


def test_every_subcommand_runs_on_go_and_predict_writes_games(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--config", str(CONFIGS / "self_play.yaml"), *SMALL, "--data.num_simulations", "6"]
    assert main(["fit", *common, "--trainer.max_epochs", "2"]) == 0
    (last,) = tmp_path.rglob("last.ckpt")
    for subcommand in ("validate", "test", "predict"):
        assert main([subcommand, *common, "--ckpt_path", str(last)]) == 0
    (folder,) = tmp_path.rglob("games")
    written = {path.name for path in folder.iterdir()}
    assert written == {f"game-{n}.{kind}" for n in (0, 1) for kind in ("csv", "png", "sgf")}
    from sgfmill import sgf

    texts = [(folder / f"game-{n}.sgf").read_bytes() for n in (0, 1)]
    parsed = sgf.Sgf_game.from_bytes(texts[0])
    rows = (folder / "game-0.csv").read_text().splitlines()
    assert len(parsed.get_main_sequence()) == len(rows)  # the root, and the head of the table
    assert texts[0] != texts[1]


@pytest.mark.parametrize("command", [["--weights_path"], ["--ckpt_path"]])
def test_a_start_from_weights_has_a_new_pool_and_a_resume_the_old_one(
    command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    common = [
        "--config",
        str(CONFIGS / "self_play.yaml"),
        *SMALL,
        "--data.updates_per_snapshot",
        "1",
    ]
    assert main(["fit", *common, "--trainer.max_epochs", "1"]) == 0
    (last,) = tmp_path.rglob("last.ckpt")
    before = torch.load(last, weights_only=True)
    first = before["SelfPlayDataModule"]["pool"][0]
    other = ["--trainer.default_root_dir", "again", "--trainer.max_epochs", "2"]
    assert main(["fit", *common, *other, *command, str(last)]) == 0
    (last,) = (tmp_path / "again").rglob("last.ckpt")
    after = torch.load(last, weights_only=True)
    pool, weights = after["SelfPlayDataModule"]["pool"], before["state_dict"]
    resumed = command == ["--ckpt_path"]
    assert len(pool) == 6
    name = "points.weight"
    expected = first[name] if resumed else weights[f"policy.{name}"]
    assert torch.equal(pool[0][name], expected)
    assert torch.equal(after["state_dict"][f"reference.{name}"], expected)


def test_tic_tac_toe_is_learned(tmp_path, monkeypatch):
    """The small form of `configs/alphago/tic_tac_toe.yaml`."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    data = SelfPlayDataModule(
        "tic_tac_toe", games_per_update=64, random_moves=6, updates_per_epoch=250, eval_games=100,
        updates_per_snapshot=25, test_opponents=["perfect"], num_simulations=100, exploration=1.5,
    )  # fmt: skip
    module = SelfPlayPolicy(
        data.environment, 2, 32, entropy_coefficient=0.1,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=3e-3),
    )  # fmt: skip
    (before,) = quiet().test(module, data, verbose=False)
    quiet(max_epochs=1).fit(module, data)
    (after,) = quiet().test(module, data, verbose=False)
    assert before["test/losses_against_perfect"] > 20
    assert after["test/losses_against_perfect"] <= 8
    assert after["test/policy_mistakes"] < before["test/policy_mistakes"] / 2
    assert after["test/positions"] == 4520


def test_gtp_answers_on_the_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["--config", str(CONFIGS / "self_play.yaml"), *SMALL, "--untrained", "true"]
    monkeypatch.setattr("sys.stdin", io.StringIO("boardsize 5\ngenmove b\ngenmove w\nquit\nname\n"))
    assert main(["gtp", *common, "--data.num_simulations", "4"]) == 0
    answers = capsys.readouterr().out.split("\n\n")
    assert [each[:1] for each in answers] == ["=", "=", "=", "=", ""]
    moves = [each.removeprefix("= ") for each in answers[1:3]]
    assert moves[0] != moves[1]
    assert all(move[0] in "ABCDE" and move[1] in "12345" for move in moves)
    assert main(["gtp", *common, "--data.game", "tic_tac_toe"]) == 2
    assert "the game is tic_tac_toe" in capsys.readouterr().err
    other = ["--config", "dqn/cartpole", "--untrained", "true", "--trainer.logger", "false"]
    assert main(["gtp", *other]) == 2
    assert "ReplayDataModule does not" in capsys.readouterr().err
