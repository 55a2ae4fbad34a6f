"""Random streams and gradient clipping of the base class of all modules."""

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader, TensorDataset

from rl_lightning.callbacks.exact_resume import ExactResume
from rl_lightning.modules import RecurrentAttentionModel
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions


class KeepsNumbers(RecurrentAttentionModel):
    """Draws random numbers in `training_step` and records them."""

    def training_step(self, batch, batch_idx):
        numbers = torch.rand(4, generator=self.random_stream("ram locations"))
        self.kept.append(tuple(numbers.tolist()))
        return super().training_step(batch, batch_idx)


def train(seed=1, epochs=2, rank=0, monkeypatch=None, **flags):
    """The random numbers of each batch of a run."""
    torch.manual_seed(seed)
    model = KeepsNumbers(
        (1, 12, 12), 3, RAMNetworkOptions(num_glimpses=2, glimpse_size=4, hidden_size=8)
    )
    model.kept = []
    if rank:
        monkeypatch.setattr(KeepsNumbers, "global_rank", rank)
    images = DataLoader(TensorDataset(torch.rand(8, 1, 12, 12), torch.zeros(8).long()), 2)
    Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **flags,
    ).fit(model, images)
    return model.kept


def test_each_batch_of_all_epochs_has_different_random_numbers():
    kept = train()
    assert len({*kept}) == 8
    assert train() == kept
    assert not {*train(seed=2)} & {*kept}


def test_ranks_have_different_random_numbers(monkeypatch):
    first = train()
    assert not {*first} & {*train(rank=1, monkeypatch=monkeypatch)}


def test_batches_with_accumulated_gradients_have_different_random_numbers():
    assert len({*train(accumulate_grad_batches=4)}) == 8


@pytest.mark.parametrize(("algorithm", "expected"), [("norm", 0.5), ("value", 0.5)])
def test_gradients_are_clipped_as_the_flags_say(algorithm, expected):
    model = RecurrentAttentionModel(
        (1, 12, 12), 3, RAMNetworkOptions(num_glimpses=2, glimpse_size=4, hidden_size=8)
    )
    model._trainer = Trainer(logger=False, enable_checkpointing=False)
    optimizer = torch.optim.SGD(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    model.configure_gradient_clipping(optimizer, expected, algorithm)
    for group in model.clipped_apart(optimizer):
        gradients = torch.cat([parameter.grad.flatten() for parameter in group])
        size = gradients.norm() if algorithm == "norm" else gradients.abs().max()
        assert size.item() == pytest.approx(expected, rel=1e-3)


def test_a_count_keeps_its_dtype_when_the_module_is_cast():
    model = RecurrentAttentionModel(
        (1, 12, 12), 3, RAMNetworkOptions(num_glimpses=2, glimpse_size=4, hidden_size=8)
    )
    model.images_seen += 2**24 + 1
    cast = model.bfloat16()
    # A tensor in bfloat16 would round the number that it is compared with.
    assert cast.images_seen.item() == 2**24 + 1
    assert {parameter.dtype for parameter in cast.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("flags", [{"barebones": True}, {"logger": False}], ids=str)
def test_a_plain_trainer_gets_exact_resume_once(flags, working_folder):
    options = RAMNetworkOptions(num_glimpses=2, glimpse_size=4, hidden_size=8)
    model = RecurrentAttentionModel((1, 12, 12), 3, options)
    images = DataLoader(TensorDataset(torch.rand(4, 1, 12, 12), torch.zeros(4).long()), 2)
    trainer = Trainer(accelerator="cpu", max_epochs=1, **flags)
    for epochs in (1, 2):
        trainer.fit_loop.max_epochs = epochs
        trainer.fit(model, images)
    assert [type(each) for each in trainer.callbacks].count(ExactResume) == 1
