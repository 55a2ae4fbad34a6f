"""Epochs of a fixed length, and the count of updates that random streams depend on."""

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint

from rl_lightning.datamodules.source import SourceDataModule
from rl_lightning.experience import ExperienceSource, LabelledImages
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import numpy_stream, stream_seed, torch_stream
from trainers import quiet


class Numbers(SourceDataModule):
    """A datamodule whose batch t contains the number t."""

    batch_type = torch.Tensor
    updates_per_epoch = 4

    def next_batch(self):
        return torch.tensor([self.updates])

    def predict_dataloader(self):
        return self.train_dataloader()


class Seeing(LightningModule):
    """Records each batch with the current update counts of the datamodule and the module."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        data = self.trainer.datamodule
        self.seen.append((batch.item(), data.updates, self.global_step))
        return self.weight * 0

    def predict_step(self, batch):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)


def test_an_epoch_is_sized_and_batches_go_on_over_epochs():
    data = Numbers(seed=0)
    loader = data.train_dataloader()
    assert len(loader) == len(loader.dataset) == 4
    assert [batch.item() for batch in loader] == [0, 1, 2, 3]
    assert [batch.item() for batch in data.train_dataloader()] == [4, 5, 6, 7]


def test_a_batch_is_made_when_its_update_comes_and_counted_before_it():
    module = Seeing()
    quiet(max_epochs=2).fit(module, datamodule=Numbers(seed=0))
    assert module.seen == [(t, t + 1, t) for t in range(8)]


def test_a_checkpoint_inside_an_epoch_counts_the_batches_before_it(tmp_path):
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=6, save_top_k=-1)
    quiet(max_epochs=2, enable_checkpointing=True, callbacks=[saving]).fit(
        Seeing(), datamodule=Numbers(seed=0)
    )
    path = tmp_path / "step=6.ckpt"
    assert torch.load(path, weights_only=True)["Numbers"] == {"updates": 6}

    module, data = Seeing(), Numbers(seed=0)
    quiet(max_epochs=3).fit(module, datamodule=data, ckpt_path=path)
    assert module.seen == [(t, t + 1, t) for t in range(6, 12)]
    assert data.state_dict() == {"updates": 12}


def test_streams_are_of_seed_rank_update_and_name():
    data = Numbers(seed=5)
    data.trainer = SimpleNamespace(global_rank=3, world_size=4)
    data.load_state_dict({"updates": 7})
    place = {"rank": 3, "update": 7, "stream": "name"}
    assert data.stream_seed("name") == stream_seed(5, **place)
    assert data.numpy_stream("name").random() == numpy_stream(5, **place).random()
    ours, theirs = data.torch_stream("name"), torch_stream(5, **place)
    assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))


def test_without_a_trainer_there_is_one_process():
    data = Numbers(seed=0)
    assert (data.rank, data.world_size) == (0, 1)
    assert isinstance(data, ExperienceSource)


def test_whole_batches_can_be_predicted():
    predicted = quiet().predict(Seeing(), datamodule=Numbers(seed=0))
    assert [batch.item() for batch in predicted] == [0, 1, 2, 3]


def test_a_module_of_another_batch_type_is_one_line():
    class Wrong(Seeing):
        batch_type = dict

    with pytest.raises(ConfigurationError, match="from dict, and Numbers provides") as e:
        quiet(max_epochs=1).fit(Wrong(), datamodule=Numbers(seed=0))
    assert "\n" not in str(e.value)


def test_a_batch_on_the_device_is_not_copied_and_others_are_moved():
    data, here, there = Numbers(seed=0), torch.device("cpu"), torch.device("meta")
    batch = LabelledImages(torch.zeros(2, 1, 3, 3), torch.zeros(2))
    assert data.transfer_batch_to_device(batch, here, 0) is batch
    moved = data.transfer_batch_to_device(batch, there, 0)
    assert isinstance(moved, LabelledImages)
    assert {each.device for each in moved} == {there}
    assert data.transfer_batch_to_device(torch.zeros(1), there, 0).device == there
