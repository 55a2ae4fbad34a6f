from itertools import product

from rl_lightning.seeding import numpy_stream, stream_seed, torch_stream


def test_every_part_of_the_place_matters_and_nothing_else():
    places = [
        stream_seed(seed, rank=rank, epoch=epoch, stream=stream)
        for seed, rank, epoch, stream in product(range(4), range(4), range(4), ("a", "b"))
    ]
    assert len(set(places)) == len(places)
    assert places[0] == stream_seed(0, rank=0, epoch=0, stream="a")
    assert all(0 <= place < 2**30 for place in places)


def test_neighbouring_ranks_share_no_copy_of_a_vector_environment():
    seeds = [stream_seed(1, rank=rank, stream="environments") for rank in range(64)]
    copies = {seed + copy for seed in seeds for copy in range(256)}
    assert len(copies) == 64 * 256


def test_generators_repeat():
    assert numpy_stream(3, stream="x").random() == numpy_stream(3, stream="x").random()
    assert torch_stream(3, stream="x").initial_seed() == torch_stream(3, stream="x").initial_seed()
