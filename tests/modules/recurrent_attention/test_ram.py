"""RAM: losses and gradients computed by hand."""

import math
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from rl_lightning.functional.ram_losses import (
    answer_rewards,
    baseline_loss,
    gaussian_log_prob,
    reinforce_loss,
)
from rl_lightning.modules.recurrent_attention.image_classifiers import error_and_standard_error
from rl_lightning.modules.recurrent_attention.ram import (
    RAMLearningOptions,
    RecurrentAttentionModel,
)
from rl_lightning.networks.glimpse import share_of_pixels_seen
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from rl_lightning.runtime.errors import ConfigurationError


def make(**settings: Any) -> RecurrentAttentionModel:
    """A small model, with options of either group."""
    torch.manual_seed(0)
    settings = {"num_glimpses": 3, "glimpse_size": 4, "hidden_size": 16, **settings}
    groups = [
        kind(**{f.name: settings.pop(f.name) for f in fields(kind) if f.name in settings})
        for kind in (RAMNetworkOptions, RAMLearningOptions)
    ]
    return RecurrentAttentionModel((1, 12, 12), 3, *groups, **settings)


def stream(*_: object) -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.fixture
def _without_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random stream for `training_loss`, where no Trainer counts the updates."""
    monkeypatch.setattr(RecurrentAttentionModel, "random_stream", stream)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(8, 1, 12, 12, generator=generator)
    return images, torch.randint(3, (8,), generator=generator)


def gradients(model: RecurrentAttentionModel, part: str) -> Tensor:
    parameters = getattr(model.network, part).parameters()
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
    )


def test_log_prob_by_hand() -> None:
    samples, means = torch.tensor([[0.3, -0.1]]), torch.tensor([[0.1, 0.2]])
    expected = -(0.2**2 + 0.3**2) / (2 * 0.5**2) - 2 * math.log(0.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(gaussian_log_prob(samples, means, 0.5), torch.tensor([expected]))


def test_reinforce_loss_by_hand() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    baselines = torch.tensor([[0.5, 0.25], [0.0, 0.5]], requires_grad=True)
    loss = reinforce_loss(log_probs, torch.tensor([1.0, 0.0]), baselines)
    assert loss.item() == pytest.approx((1 * 0.5 + 3 * 1 - 2 * 0.25 - 4 * 0.5) / 2)
    loss.backward()
    assert baselines.grad is None
    torch.testing.assert_close(log_probs.grad, torch.tensor([[-0.25, 0.125], [-0.5, 0.25]]))


def test_losses_refuse_shapes_that_would_broadcast() -> None:
    column, flat = torch.zeros(2, 4, 1), torch.zeros(4)
    with pytest.raises(AssertionError):
        reinforce_loss(column, flat, column)
    with pytest.raises(AssertionError):
        baseline_loss(column, flat)


def test_baseline_loss_by_hand() -> None:
    baselines = torch.tensor([[0.5, 0.0], [1.0, 0.5]])
    loss = baseline_loss(baselines, torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx((0.25 + 0 + 0 + 0.25) / 4)


def test_answer_rewards_by_hand() -> None:
    probabilities = torch.tensor([[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [0.99, 0.01]]])
    rewards = answer_rewards(probabilities.log(), torch.tensor([0, 1]))
    expected = [[math.log(0.5), math.log(0.1)], [math.log(0.2), -3.0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))
    assert not answer_rewards(probabilities.requires_grad_(), torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize("lstm", [False, True])
def test_the_cross_entropy_trains_all_but_locator_and_baseline(
    lstm: bool, batch: tuple[Tensor, Tensor]
) -> None:
    model = make(lstm=lstm)
    images, labels = batch
    path = model.network.look(images, generator=stream())
    F.cross_entropy(path.logits[-1], labels).backward()
    assert gradients(model, "locator").abs().sum() == 0
    assert gradients(model, "baseline").abs().sum() == 0
    for part in ("classifier", "core", "glimpse_network"):
        assert gradients(model, part).abs().sum() > 0


@pytest.mark.parametrize("lstm", [False, True])
def test_reinforce_trains_only_the_locator_and_its_baseline_loss_only_the_baseline(
    lstm: bool, batch: tuple[Tensor, Tensor]
) -> None:
    model = make(lstm=lstm)
    path = model.network.look(batch[0], generator=stream())
    rewards = torch.ones(8)
    reinforce_loss(path.log_probs, rewards, path.baselines).backward(retain_graph=True)
    assert gradients(model, "locator").abs().sum() > 0
    for part in ("classifier", "core", "glimpse_network", "baseline"):
        assert gradients(model, part).abs().sum() == 0
    model.zero_grad()
    baseline_loss(path.baselines, rewards).backward()
    assert gradients(model, "baseline").abs().sum() > 0
    for part in ("classifier", "core", "glimpse_network", "locator"):
        assert gradients(model, part).abs().sum() == 0


@pytest.mark.usefixtures("_without_a_trainer")
@pytest.mark.parametrize("num_samples", [1, 4])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("reward", ["final", "each_glimpse"])
def test_the_locators_gradient_is_the_hand_computed_reinforce_estimate(
    reward: str, relative: bool, num_samples: int, batch: tuple[Tensor, Tensor]
) -> None:
    """1/N Σ_n Σ_t (l − μ_t)/σ² · ∂μ_t/∂θ · (R_t − b_t) − c ∂|μ_t − l|²/∂θ, l before the clamp."""
    # σ is so large that many locations are clamped.
    settings = {"reward": reward, "relative_locations": relative, "move_cost": 0.7}
    model = make(num_samples=num_samples, std=0.9, **settings)
    images, labels = batch
    loss, right, _ = model.training_loss(images, labels)
    loss.backward()
    learned = gradients(model, "locator")

    model.zero_grad()
    generator = stream()
    rows = torch.arange(8).repeat(num_samples)
    classes = labels[rows]
    padded = model.sensor.pad(images)
    offsets = 0.9 * torch.randn(3, len(rows), 2, generator=generator)
    location, before = offsets[0].clamp(-1, 1), torch.zeros(len(rows), 2)
    state, steps = None, []
    for noise in (*offsets[1:], None):
        glimpse = model.sensor(padded, location, rows).flatten(1)
        with torch.no_grad():
            where = location - before if relative else location
            state = model.network.core(model.network.glimpse_network(glimpse, where), state)
            log_p = model.network.classifier(state[0]).log_softmax(-1)[
                torch.arange(len(rows)), classes
            ]
            baseline = model.network.baseline(state[0])
        if reward == "each_glimpse":
            baseline = baseline[torch.arange(len(rows)), classes, None]
        steps.append((state[0], location, noise, log_p.clamp(min=-3), baseline.squeeze(-1)))
        if noise is not None:
            mean = model.network.locator(state[0]).detach() + (location if relative else 0)
            before, location = location, (mean + noise).clamp(-1, 1)
    by_hand = torch.zeros_like(learned)
    for (hidden, location, noise, _, baseline), (*_, log_p, _) in pairwise(steps):
        output = model.network.locator(hidden)
        mean = output + location if relative else output
        returns = log_p if reward == "each_glimpse" else right.float()
        score = noise / 0.9**2 * (returns - baseline)[:, None]
        score -= 0.7 * 2 * (mean - location).detach()
        flat = torch.autograd.grad(output, list(model.network.locator.parameters()), score)
        by_hand += torch.cat([gradient.flatten() for gradient in flat]) / len(rows)
    assert any((location.abs() == 1).any() for _, location, *_ in steps)
    torch.testing.assert_close(learned, -by_hand, atol=1e-6, rtol=1e-4)


@pytest.mark.usefixtures("_without_a_trainer")
def test_answers_after_each_glimpse_train_the_classifier_and_the_baseline_of_the_right_class(
    batch: tuple[Tensor, Tensor],
) -> None:
    model = make(reward="each_glimpse")
    images, labels = batch
    model.training_loss(images, labels)[0].backward()
    of_classifier, of_baseline = gradients(model, "classifier"), gradients(model, "baseline")
    model.zero_grad()
    path = model.network.look(images, generator=stream(), every_step=True)
    first, second, last = (F.cross_entropy(logits, labels) for logits in path.logits)
    (last + 0.2 * (first + second) / 2).backward(retain_graph=True)
    torch.testing.assert_close(of_classifier, gradients(model, "classifier"))
    rewards = answer_rewards(path.logits[1:], labels)
    errors = path.baselines[:, torch.arange(8), labels] - rewards
    errors.square().mean().backward()
    torch.testing.assert_close(of_baseline, gradients(model, "baseline"))


@pytest.mark.usefixtures("_without_a_trainer")
@pytest.mark.parametrize("location_policy", ["learned", "random"])
@pytest.mark.parametrize("num_glimpses", [1, 2])
def test_answers_after_each_glimpse_are_for_any_number_and_policy(
    num_glimpses: int, location_policy: str, batch: tuple[Tensor, Tensor]
) -> None:
    settings = {"location_policy": location_policy, "reward": "each_glimpse", "move_cost": 0.1}
    model = make(num_glimpses=num_glimpses, **settings)
    loss, _, figures = model.training_loss(*batch)
    loss.backward()
    assert gradients(model, "classifier").abs().sum() > 0
    assert ("squared_moves" in figures) == (location_policy == "learned" and num_glimpses == 2)


@pytest.mark.usefixtures("_without_a_trainer")
@pytest.mark.parametrize("settings", [{}, {"reward": "each_glimpse", "relative_locations": True}])
def test_the_compiled_rollout_is_the_same_model(
    settings: dict[str, object], batch: tuple[Tensor, Tensor]
) -> None:
    losses, learned = [], []
    for compiled in (False, True):
        model = make(compiled=compiled, **settings)
        model.setup("fit")
        loss, _, _ = model.training_loss(*batch)
        loss.backward()
        losses.append(loss.item())
        parts = ("locator", "baseline", "classifier", "core", "glimpse_network")
        learned.append(torch.cat([gradients(model, part) for part in parts]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(learned[0], learned[1], atol=1e-6, rtol=1e-4)


def test_without_a_compiler_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigurationError, match="install g\\+\\+"):
        make(compiled=True).setup("fit")


@pytest.mark.usefixtures("_without_a_trainer")
def test_the_location_after_the_last_glimpse_does_not_exist(batch: tuple[Tensor, Tensor]) -> None:
    path = make().network.look(batch[0])
    assert path.locations.shape == (3, 8, 2)
    assert path.log_probs.shape == path.baselines.shape == (2, 8)
    model = make(num_glimpses=1)
    loss, _, _ = model.training_loss(*batch)
    loss.backward()
    assert gradients(model, "locator").abs().sum() == 0


def test_rollouts_of_one_image_differ_by_their_noise_only(
    batch: tuple[Tensor, Tensor],
) -> None:
    model = make(std=1e-9)
    path = model.network.look(batch[0], num_samples=5, generator=stream())
    logits = path.logits[-1].unflatten(0, (5, 8))
    torch.testing.assert_close(logits[0], logits[4])
    torch.testing.assert_close(logits[2], model(batch[0]))
    wide = make(std=0.5)
    locations = wide.network.look(batch[0], num_samples=5, generator=stream()).locations
    assert len(locations[1].unique(dim=0)) == 40


def test_locations_stay_inside_and_the_mean_policy_repeats(batch: tuple[Tensor, Tensor]) -> None:
    model = make(std=3.0)
    assert model.network.look(batch[0], generator=stream()).locations.abs().max() <= 1
    assert torch.equal(model(batch[0]), model(batch[0]))
    means = model.network.look(batch[0], mean_policy=True)
    assert torch.equal(means.locations[0], torch.zeros(8, 2))


@pytest.mark.usefixtures("_without_a_trainer")
def test_random_and_centre_policies_have_the_right_locations(batch: tuple[Tensor, Tensor]) -> None:
    centre = make(location_policy="centre")
    assert centre.network.look(batch[0], generator=stream()).locations.abs().max() == 0
    random = make(location_policy="random")
    many = random.network.look(batch[0], 200, stream(), mean_policy=True).locations
    assert many.mean((0, 1)).abs().max() < 0.05
    assert many.std((0, 1)).sub(1 / math.sqrt(3)).abs().max() < 0.02
    uniform = make(first_location="uniform")
    offsets = uniform.network.draw_offsets(1600, stream())
    assert offsets[0].std(0).sub(1 / math.sqrt(3)).abs().max() < 0.05
    assert offsets[1:].std((0, 1)).sub(0.1).abs().max() < 0.01  # σ
    for model in (centre, random):
        loss, _, figures = model.training_loss(*batch)
        loss.backward()
        assert figures == {}
        assert gradients(model, "locator").abs().sum() == 0


def test_the_glimpse_network_and_the_core_have_their_sizes() -> None:
    model = make(glimpse_hidden_size=5, hidden_size=7)
    network = model.network.glimpse_network
    assert network.what.weight.shape == (5, 16)
    assert network.where.weight.shape == (5, 2)
    assert network.merge.weight.shape == (7, 10)
    assert model.network.core.from_hidden.weight.shape == (7, 7)


def test_share_of_pixels_seen_counts_overlaps_once_and_no_pixels_outside() -> None:
    locations = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[-1.0, -1.0]], [[0.1, 0.0]]])
    share = share_of_pixels_seen(locations, size=4, height=20, width=20)
    assert share.item() == pytest.approx((16 + 4 + 4) / 400)


def test_error_and_its_binomial_standard_error_by_hand() -> None:
    error, standard_error = error_and_standard_error(torch.tensor([[50, 1], [4, 45]]))
    assert error.item() == pytest.approx(0.05)
    assert standard_error.item() == pytest.approx(math.sqrt(0.05 * 0.95 / 100))


def test_the_locator_is_clipped_apart_from_the_rest() -> None:
    model = make()
    model._trainer = Trainer(logger=False, enable_checkpointing=False)
    optimizer = torch.optim.SGD(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-6)
    for parameter in model.network.locator.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    before = gradients(model, "core").clone()
    model.configure_gradient_clipping(optimizer, 5.0, "norm")
    assert gradients(model, "locator").norm().item() == pytest.approx(5, rel=1e-3)
    assert torch.equal(gradients(model, "core"), before)


@pytest.mark.parametrize(
    "argument",
    [
        {"num_glimpses": 0},
        {"hidden_size": 0},
        {"glimpse_hidden_size": 0},
        {"num_samples": 0},
        {"std": 0.0},
        {"std_end": 0.0},
        {"move_cost": -0.1},
    ],
)
def test_invalid_settings_are_refused_in_one_line(argument: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"RAM needs|make it at least 1") as error:
        make(**argument)
    assert "\n" not in str(error.value)


def corners(number: int, seed: int) -> TensorDataset:
    """Images of class k have a bright square in corner k."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (number,), generator=generator)
    images = torch.zeros(number, 1, 12, 12)
    for k, (row, column) in enumerate([(0, 0), (0, 8), (8, 0)]):
        images[labels == k, :, row : row + 4, column : column + 4] = 1
    return TensorDataset(images, labels)


def test_it_learns_tests_and_reloads_without_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=5e-3)
    # Seeds 0 to 7 all learn with these weights, and only half of them with torch's initial weights.
    look = {"num_glimpses": 4, "num_samples": 4, "std": 0.6, "first_location": "uniform"}
    model = make(**look, initial_weights="identity", optimizer=adam)
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=20,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
    )
    validation = DataLoader(corners(200, 2), batch_size=100)
    trainer.fit(model, DataLoader(corners(2000, 1), batch_size=50), validation)
    assert trainer.callback_metrics["val/error"] < 0.2
    assert model.images_seen == 4 * 2000
    figures = trainer.test(model, validation, verbose=False)[0]
    assert figures["step"] == model.images_seen.item()
    assert figures["test/error"] == pytest.approx(trainer.callback_metrics["test/error"].item())
    for name in ("error_sampled", "error_averaged", "error_after_1", "error_after_3"):
        error, spread = figures[f"test/{name}"], figures[f"test/{name}_stderr"]
        assert spread == pytest.approx(math.sqrt(error * (1 - error) / 200), abs=1e-6)
    assert figures["test/error_after_1"] > figures["test/error"]
    assert {f"test/accuracy_{k}" for k in range(3)} <= figures.keys()
    assert 0 < figures["test/pixels_seen"] <= 4 * 16 / 144
    assert trainer.test(model, validation, verbose=False)[0] == figures

    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    again = RecurrentAttentionModel.load_from_checkpoint(path, weights_only=True)
    images = corners(10, 3).tensors[0]
    assert torch.equal(again(images), model(images))


def test_sigma_falls_over_the_epochs_and_is_in_the_checkpoint(tmp_path: Path) -> None:
    model, sigmas = make(std=0.3, std_end=0.1), []
    note = LambdaCallback(on_train_batch_end=lambda *_: sigmas.append(model.network.std.item()))
    data = DataLoader(corners(4, 1), batch_size=4)

    def trainer(max_epochs: int) -> Trainer:
        return Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            callbacks=[note],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    run = trainer(3)
    run.fit(model, data)
    assert sigmas == pytest.approx([0.3, 0.2, 0.1])
    run.save_checkpoint(tmp_path / "model.ckpt")
    again = RecurrentAttentionModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert again.network.std.item() == pytest.approx(0.1)
    with pytest.raises(ConfigurationError, match=r"set trainer\.max_epochs"):
        trainer(-1).fit(model, data)


def test_sampled_and_averaged_errors_are_of_one_rollout_and_of_ten() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(8, 1, 12, 12, generator=generator)
    model = make(std=0.9)
    model.evaluation_generator = stream()
    scores = model.evaluate(images)
    rollouts = model.network.look(images, 10, stream()).logits[-1].softmax(-1).unflatten(0, (10, 8))
    torch.testing.assert_close(scores["error_sampled"], rollouts[0])
    torch.testing.assert_close(scores["error_averaged"], rollouts.mean(0))
    torch.testing.assert_close(scores["error"], model(images))
    answers = model.network.look(images, mean_policy=True, every_step=True).logits
    for t in (1, 2):
        torch.testing.assert_close(scores[f"error_after_{t}"], answers[t - 1])
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(scores["error_sampled"], scores["error_averaged"])


def evaluated() -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )


def test_every_validation_draws_the_same_locations() -> None:
    # The locations of this policy are drawn in the evaluation too.
    model = make(location_policy="random")
    seen: list[Tensor] = []
    look = model.network.look
    model.network.look = lambda *args, **kwargs: seen.append(look(*args, **kwargs)) or seen[-1]  # type: ignore
    for _ in range(2):
        evaluated().validate(model, DataLoader(corners(6, 2), batch_size=3), verbose=False)
    first, second, third, fourth = (path.locations for path in seen)
    assert torch.equal(first, third)
    assert torch.equal(second, fourth)
    assert not torch.equal(first, second)


def test_the_pixels_seen_are_those_of_one_test_only() -> None:
    model = make(std=0.9)
    shares = []
    for policy in ("random", "centre", "random"):
        model.network.options = replace(model.network.options, location_policy=policy)
        data = DataLoader(corners(6, 2), batch_size=3)
        shares.append(evaluated().test(model, data, verbose=False)[0]["test/pixels_seen"])
    assert shares[1] == pytest.approx(16 / 144)
    assert shares[0] == shares[2] > shares[1]
