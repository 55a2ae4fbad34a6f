from itertools import product

import pytest
import torch

from rl_lightning.runtime.seeding import _kept_philox, numpy_stream, stream_seed, torch_stream


def test_seeds_depend_on_seed_rank_update_and_name_only():
    places = [
        stream_seed(seed, rank=rank, update=update, stream=stream)
        for seed, rank, update, stream in product(range(4), range(4), range(4), ("a", "b"))
    ]
    assert len(set(places)) == len(places)
    assert places[0] == stream_seed(0, rank=0, update=0, stream="a")
    assert all(0 <= place < 2**30 for place in places)


def test_ranks_have_no_environment_copies_with_equal_seeds():
    seeds = [stream_seed(1, rank=rank, stream="environments") for rank in range(64)]
    copies = {seed + copy for seed in seeds for copy in range(256)}
    assert len(copies) == 64 * 256


def test_generators_repeat():
    assert numpy_stream(3, stream="x").random() == numpy_stream(3, stream="x").random()
    assert torch_stream(3, stream="x").initial_seed() == torch_stream(3, stream="x").initial_seed()


def numbers(**place):
    """The first numbers of the NumPy and the torch generator of a stream."""
    rng = numpy_stream(1, **{"stream": "x", **place})
    generator = torch_stream(1, **{"stream": "x", **place})
    return (*rng.random(4).tolist(), *torch.rand(4, generator=generator).tolist())


@pytest.mark.parametrize("other", [{"rank": 1}, {"update": 1}, {"stream": "y"}])
def test_generators_differ_by_rank_update_and_name(other):
    assert not {*numbers()} & {*numbers(**other)}
    assert numbers(**other) == numbers(**other)


def test_an_update_changes_the_counter_and_nothing_else():
    states = [numpy_stream(1, stream="x", update=u).bit_generator.state for u in (0, 7, 2**40)]
    keys = [state["state"]["key"].tolist() for state in states]
    assert keys[0] == keys[1] == keys[2]
    assert [s["state"]["counter"].tolist() for s in states] == [
        [0, 0, update, 0] for update in (0, 7, 2**40)
    ]
    others = [numpy_stream(1, stream="x", rank=1), numpy_stream(2, stream="x")]
    assert all(o.bit_generator.state["state"]["key"].tolist() != keys[0] for o in others)


def test_a_seed_does_not_depend_on_earlier_calls():
    places = [*product((0, 3), (0, 1), (0, 1, 1_000_000), ("a", "b"))]

    def seeds(order):
        return {p: stream_seed(p[0], rank=p[1], update=p[2], stream=p[3]) for p in order}

    there, back = seeds(places), seeds(reversed(places))
    assert there == back
    _kept_philox.cache_clear()
    assert seeds(places) == there


def test_a_seed_is_the_first_number_of_its_stream():
    seed = stream_seed(5, rank=2, update=9, stream="x")
    generator = numpy_stream(5, rank=2, update=9, stream="x").bit_generator
    assert seed == int(generator.random_raw()) >> 34
