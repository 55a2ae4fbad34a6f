"""MNIST from small files of random digits, and the real one if RL_LIGHTNING_MNIST is set."""

import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from rl_lightning.datamodules.mnist import MNISTDataModule, as_images
from rl_lightning.images.clutter import add_clutter, paste, place, shift
from rl_lightning.runtime.errors import ConfigurationError

TRAIN, TEST, VALIDATION = 50, 20, 10


def write_mnist(folder: Path, digit_size: int = 28) -> Path:
    """Write files in MNIST's format, with noise in the inner 20 x 20 pixels as digits."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name, count in (("train", TRAIN), ("t10k", TEST)):
        images = torch.zeros(count, digit_size, digit_size, dtype=torch.uint8)
        inner = torch.randint(1, 256, (count, 20, 20), generator=generator, dtype=torch.uint8)
        images[:, 4:24, 4:24] = inner
        labels = torch.arange(count, dtype=torch.uint8) % 10
        header = struct.pack(">iiii", 2051, count, digit_size, digit_size)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = struct.pack(">ii", 2049, count)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.numpy().tobytes())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_mnist(tmp_path)


def make(folder: Path, **kwargs: int) -> MNISTDataModule:
    arguments = {"batch_size": 16, "validation_images": VALIDATION, **kwargs}
    data = MNISTDataModule(str(folder), **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def epoch(data: LightningDataModule) -> tuple[Tensor, Tensor]:
    images, labels = zip(*data.train_dataloader(), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_batches_cover_the_split_once_in_the_documented_form(folder: Path) -> None:
    data = make(folder)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 3
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.shape == (TRAIN - VALIDATION, *data.image_shape)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.min() == 0
    assert images.max() == 1
    own = data.splits["train"][0].float()[:, None] / 255
    order = [int((own == image).flatten(1).all(1).nonzero()) for image in images]
    assert sorted(order) == list(range(TRAIN - VALIDATION))
    assert order != sorted(order)
    assert torch.equal(data.splits["train"][1][order], labels)


def test_the_last_training_images_are_for_validation_and_keep_their_order(folder: Path) -> None:
    _, labels = zip(*make(folder).val_dataloader(), strict=True)
    assert torch.cat(labels).tolist() == [k % 10 for k in range(TRAIN - VALIDATION, TRAIN)]
    images, _ = zip(*make(folder).test_dataloader(), strict=True)
    assert torch.cat(images).shape == (TEST, 1, 28, 28)


@pytest.mark.parametrize("kind", [{"max_shift": 2}, {"image_size": 40, "clutter": 3}])
def test_images_are_a_function_of_seed_and_update(folder: Path, kind: dict[str, int]) -> None:
    first = epoch(make(folder, seed=1, **kind))
    again = epoch(make(folder, seed=1, **kind))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], epoch(make(folder, seed=2, **kind))[0])

    going_on = make(folder, seed=1, **kind)
    epoch(going_on)
    second = epoch(going_on)
    assert sorted(second[1].tolist()) == sorted(first[1].tolist())
    assert not torch.equal(first[1], second[1]), "the same order in every epoch"
    resumed = make(folder, seed=1, **kind)
    resumed.load_state_dict({"updates": 3})
    assert all(torch.equal(a, b) for a, b in zip(second, epoch(resumed), strict=True))


def test_each_update_draws_new_positions(folder: Path) -> None:
    # Each batch is the same single image, so that only its position can differ.
    data = make(folder, validation_images=TRAIN - 1, image_size=60)
    places = {epoch(data)[0].amax((1, 3)).argmax(1).item() for _ in range(12)}
    assert len(places) > 3


def test_evaluation_images_are_the_same_for_every_seed_and_batch_size(folder: Path) -> None:
    kind = {"image_size": 60, "clutter": 4}
    first = make(folder, seed=1, batch_size=16, **kind)
    second = make(folder, seed=2, batch_size=7, **kind)
    for split in ("validate", "test"):
        assert torch.equal(first.splits[split][0], second.splits[split][0])
        assert first.splits[split][0].shape[1:] == (60, 60)
    shifted = make(folder, max_shift=2)
    assert torch.equal(shifted.splits["test"][0], make(folder).splits["test"][0])


def on_rank(folder: Path, rank: int, world_size: int, **kwargs: int) -> MNISTDataModule:
    data = make(folder, **kwargs)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore
    return data


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_divided_over_ranks_with_equal_numbers_of_batches(
    folder: Path, world_size: int, split: str
) -> None:
    seen, lengths = [], set()
    for rank in range(world_size):
        data = on_rank(folder, rank, world_size, batch_size=8)
        loader = data.train_dataloader() if split == "train" else data.test_dataloader()
        images, labels = zip(*loader, strict=True)
        assert len(labels) == len(loader)
        assert max(map(len, labels)) <= 8
        lengths.add(len(labels))
        seen += [digit.numpy().tobytes() for digit in torch.cat(images)]
    assert len(lengths) == 1
    whole = [digit.numpy().tobytes() for digit in as_images(make(folder).splits[split][0])]
    assert sorted(seen) == sorted(whole)


def test_ranks_draw_different_positions(folder: Path) -> None:
    first, second = (
        next(iter(on_rank(folder, rank, 2, image_size=60).train_dataloader())).images
        for rank in range(2)
    )
    tops = [images.amax((1, 3)).argmax(1).tolist() for images in (first, second)]
    assert tops[0] != tops[1]


def test_paste_by_hand() -> None:
    canvases = torch.zeros(2, 4, 4, dtype=torch.uint8)
    canvases[0, 1, 2] = 9
    patches = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], dtype=torch.uint8)
    paste(canvases, patches, tops=torch.tensor([0, 2]), lefts=torch.tensor([1, 0]))
    first = [[0, 1, 2, 0], [0, 3, 9, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    second = [[0, 0, 0, 0], [0, 0, 0, 0], [5, 6, 0, 0], [7, 8, 0, 0]]
    assert canvases.tolist() == [first, second]


def test_digits_are_completely_inside_the_image_at_all_positions() -> None:
    digits = torch.full((4000, 28, 28), 7, dtype=torch.uint8)
    images = place(digits, 60, torch.Generator().manual_seed(0))
    assert (images.flatten(1).sum(1) == 7 * 28 * 28).all()
    tops = images.amax(2).argmax(1)
    lefts = images.amax(1).argmax(1)
    for corner in (tops, lefts):
        assert corner.min() == 0
        assert corner.max() == 32
        assert abs(corner.float().mean() - 16) < 0.6
    assert abs(torch.corrcoef(torch.stack([tops, lefts]).float())[0, 1]) < 0.06


def test_clutter_adds_pieces_of_digits_and_never_darkens() -> None:
    generator = torch.Generator().manual_seed(0)
    digits = torch.full((3, 28, 28), 100, dtype=torch.uint8)
    images = torch.zeros(500, 60, 60, dtype=torch.uint8)
    images[:, 10:20, 10:20] = 200
    before = images.clone()
    add_clutter(images, digits, 4, generator)
    assert (images >= before).all()
    bright = (images == 100).flatten(1).sum(1)
    assert bright.max() <= 4 * 64
    assert bright.float().mean() > 3 * 64
    assert (images[:, 0].any() & images[:, -1].any()).item()


def test_training_digits_are_shifted_and_others_are_not(folder: Path) -> None:
    shifted, plain = make(folder, max_shift=3), make(folder)
    (images, labels), (as_stored, same_labels) = epoch(shifted), epoch(plain)
    assert torch.equal(labels, same_labels)
    assert not torch.equal(images, as_stored)
    assert torch.equal(shifted.splits["test"][0], plain.splits["test"][0])


def test_shift_moves_by_at_most_so_many_pixels() -> None:
    digits = torch.zeros(500, 28, 28, dtype=torch.uint8)
    digits[:, 14, 14] = 1
    moved = shift(digits, 2, torch.Generator().manual_seed(0))
    assert moved.shape == digits.shape
    places = moved.flatten(1).argmax(1)
    assert set((places // 28).tolist()) == set((places % 28).tolist()) == {12, 13, 14, 15, 16}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"image_size": 20}, "image_size is 20: make it at least 28"),
        ({"batch_size": 0}, "batch_size is 0: make it at least 1"),
        ({"clutter": -1}, "clutter is -1: make it at least 0"),
    ],
)
def test_invalid_settings_are_refused(argument: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MNISTDataModule(**argument)  # type: ignore[arg-type]


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as error:
        make(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_truncated_file_is_one_clear_line(folder: Path, keep: int) -> None:
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, "truncated or are not MNIST")


def test_a_file_that_is_not_mnist_is_one_clear_line(folder: Path) -> None:
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_text("not MNIST at all, my friend")
    refused(folder, "truncated or are not MNIST")


def test_images_of_another_size_are_one_clear_line(tmp_path: Path) -> None:
    refused(write_mnist(tmp_path, digit_size=32), "32, 32")


def test_no_data_and_no_network_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://localhost:9/"])
    refused(tmp_path / "nothing", "could not be downloaded")


def test_a_data_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    refused(path, "could not be downloaded")


def test_too_few_images_to_split_is_one_clear_line(folder: Path) -> None:
    data = MNISTDataModule(str(folder))
    with pytest.raises(ConfigurationError, match="less than the 50 images"):
        data.setup("fit")


@pytest.mark.skipif("RL_LIGHTNING_MNIST" not in os.environ, reason="needs the real MNIST")
def test_the_real_mnist_is_complete() -> None:
    data = MNISTDataModule(os.environ["RL_LIGHTNING_MNIST"])
    data.setup("test")
    sizes = {name: len(labels) for name, (_, labels) in data.splits.items()}
    assert sizes == {"train": 54_000, "validate": 6_000, "test": 10_000}
    digits = data.splits["train"][0].float() / 255
    assert digits.mean().item() == pytest.approx(0.1307, abs=1e-3)
