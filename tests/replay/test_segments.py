import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_lightning.experience import Rollout
from rl_lightning.replay.frame_ring import FrameRing
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.replay.segments import ReplaySegments
from rl_lightning.runtime.checkpoints import save_atomically
from rl_lightning.runtime.errors import ConfigurationError


def rows(start, stop, num_envs=2):
    """Rows whose observations are their own numbers."""
    number = torch.arange(start, stop + 1.0)[:, None].expand(-1, num_envs)
    here = number[:-1]
    extras = {"log_prob": -here}
    return Rollout(
        number[..., None], here.long(), here, 0.5 * here, here % 5 == 4, here % 5 != 0, extras
    )


def ring():
    return ReplayRing(capacity=20, num_envs=2)


def checkpoint(folder, name, listed):
    torch.save({"ReplayDataModule": {"ranks": [{"replay": listed}]}}, folder / name)


def same(one, other):
    assert one.inserted == other.inserted
    here, there = (ring.rows(ring.oldest, ring.inserted) for ring in (one, other))
    assert here.extras.keys() == there.extras.keys()
    pairs = [*zip(here[:6], there[:6], strict=True)]
    pairs += [(values, there.extras[name]) for name, values in here.extras.items()]
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_ring_is_restored_from_every_checkpoint(tmp_path):
    segments, playing = ReplaySegments(tmp_path / "replay", rank=0), ring()
    kept = {}
    for inserted in (4, 7, 7, 15, 23):
        if inserted > playing.inserted:
            playing.extend(rows(playing.inserted, inserted))
        listed = segments.save(playing)
        checkpoint(tmp_path, f"{inserted}.ckpt", listed)
        copy = ring()
        copy.extend(rows(0, 4))
        for start, stop in ((4, 7), (7, 15), (15, 23)):
            if stop <= inserted:
                copy.extend(rows(start, stop))
        kept[inserted] = listed, copy
    assert len(list((tmp_path / "replay").iterdir())) == 4
    for listed, copy in kept.values():
        resumed = ring()
        ReplaySegments(tmp_path / "replay", rank=0).load(resumed, listed, tmp_path / "replay")
        assert same(resumed, copy)
        resumed.extend(rows(resumed.inserted, resumed.inserted + 3))
        copy.extend(rows(copy.inserted, copy.inserted + 3))
        assert same(resumed, copy)


def test_files_of_a_version_with_one_more_field_are_read(tmp_path):
    playing, resumed, segments = ring(), ring(), ReplaySegments(tmp_path, rank=0)
    playing.extend(rows(0, 7))
    listed = segments.save(playing)
    path = tmp_path / listed[0][0]
    save_atomically((*torch.load(path), True), path)
    segments.load(resumed, listed, tmp_path)
    assert same(resumed, playing)


def test_files_that_no_checkpoint_needs_are_removed(tmp_path):
    segments, playing = ReplaySegments(tmp_path / "replay", rank=0), ring()
    for inserted in (4, 9, 14, 19):
        playing.extend(rows(playing.inserted, inserted))
        checkpoint(tmp_path, "last.ckpt", listed := segments.save(playing))
        if inserted == 4:
            checkpoint(tmp_path, "best.ckpt", listed)
    names = {path.name for path in (tmp_path / "replay").iterdir()}
    assert {name.split("-")[1] for name in names} == {"0", "9", "14"} | {"4"}
    (tmp_path / "best.ckpt").unlink()
    playing.extend(rows(19, 24))
    segments.save(playing)
    starts = {path.name.split("-")[1] for path in (tmp_path / "replay").iterdir()}
    assert "0" not in starts
    assert {"14", "19"} <= starts


def test_a_missing_file_is_one_line(tmp_path):
    segments, playing = ReplaySegments(tmp_path / "replay", rank=0), ring()
    playing.extend(rows(0, 5))
    listed = segments.save(playing)
    (gone,) = (tmp_path / "replay").iterdir()
    gone.unlink()
    with pytest.raises(ConfigurationError, match=r"missing file .*rank0-0-5-.*: put it back, or"):
        ReplaySegments(tmp_path / "replay", rank=0).load(ring(), listed, tmp_path / "replay")


def test_episodes_that_end_at_a_resume_are_truncated_in_the_ring():
    playing = ReplayRing(capacity=20, num_envs=2, n_step=3)
    playing.extend(rows(1, 4)._replace(ends=torch.zeros(3, 2).bool(), mask=torch.ones(3, 2).bool()))
    playing.begin_episodes(torch.full((2, 1), 100.0))
    playing.extend(rows(100, 104)._replace(mask=torch.ones(4, 2).bool()))
    batch = playing.gather(np.array([1]), np.array([0]))
    # Only one more step follows the second row. The next observation is from before the cut.
    assert batch.observations.item() == 2
    assert batch.next_observations.item() == 4
    drawn, _ = playing.draw(200, np.random.default_rng(0))
    assert 3 not in drawn


def assert_draws_only_what_was_inserted(ring, inserted):
    assert ring.inserted == inserted
    if not ring.has_transitions:
        return
    drawn, copies = ring.draw(100, np.random.default_rng(0))
    assert drawn.min() >= 0
    assert drawn.max() < inserted
    batch = ring.gather(drawn, copies)
    numbers = torch.from_numpy(drawn)
    assert torch.equal(batch.actions, numbers)
    assert torch.equal(batch.observations, numbers[:, None].float())
    assert torch.equal(batch.extras["log_prob"], -numbers.float())
    kept = ring.rows(ring.oldest, ring.inserted)
    assert torch.equal(kept.rewards[:, 0], torch.arange(ring.oldest, inserted).float())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    capacities=st.lists(st.integers(2, 60), min_size=2, max_size=4),
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    n_step=st.integers(1, 3),
)
def test_rings_of_other_capacities_draw_no_row_that_was_not_written(
    tmp_path_factory, capacities, chunks, n_step
):
    folder, inserted, listed = tmp_path_factory.mktemp("replay"), 0, []
    for capacity in capacities:
        here = ReplayRing(2 * capacity, 2, n_step)
        segments = ReplaySegments(folder, rank=0)
        segments.load(here, listed, folder)
        assert_draws_only_what_was_inserted(here, inserted)
        for chunk in chunks:
            if chunk < here.num_rows:
                here.extend(rows(inserted, inserted + chunk))
                inserted += chunk
                assert_draws_only_what_was_inserted(here, inserted)
                assert len(here) <= 2 * capacity
            if chunk % 2:
                listed = segments.save(here)
        listed = segments.save(here)


def test_a_larger_ring_keeps_all_and_a_smaller_the_newest(tmp_path):
    playing, segments = ring(), ReplaySegments(tmp_path, rank=0)
    playing.extend(rows(0, 8))
    playing.extend(rows(8, 14))
    listed = segments.save(playing)
    for capacity, oldest in ((200, playing.oldest), (20, playing.oldest), (8, 10)):
        other = ReplayRing(capacity, 2)
        ReplaySegments(tmp_path, rank=0).load(other, listed, tmp_path)
        assert (other.oldest, other.inserted) == (oldest, 14)
        drawn, _ = other.draw(300, np.random.default_rng(0))
        assert {*drawn.tolist()} == {row for row in range(oldest, 14) if row % 5}


def frames(steps):
    """A FrameRing of 2 copies with 6.4 MB of frames, and so 25.6 MB of stacks."""
    playing = FrameRing(capacity=2 * steps, num_envs=2, stack=4)
    for row in range(0, steps, 50):
        stacks = torch.arange(row, row + 51)[:, None, None, None, None] - torch.arange(3, -1, -1)[
            :, None, None
        ].clamp(max=row)
        here = torch.zeros(50, 2)
        playing.extend(
            Rollout(
                stacks.clamp(min=0).expand(-1, 2, -1, 80, 80).to(torch.uint8), here.long(), here,
                here, here.bool(), ~here.bool(),
            )
        )  # fmt: skip
    return playing


def test_a_ring_of_frames_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("rl_lightning.replay.segments.PIECE_BYTES", 2**20)
    largest = []
    monkeypatch.setattr(
        "rl_lightning.replay.segments.save_atomically",
        lambda rows, path: (largest.append(rows[0].nbytes), save_atomically(rows, path)),
    )
    segments, playing = ReplaySegments(tmp_path / "replay", rank=0), frames(500)
    listed = segments.save(playing)
    assert len(listed) > 20
    assert max(largest) < 1.2 * 2**20
    resumed = FrameRing(capacity=1000, num_envs=2, stack=4)
    ReplaySegments(tmp_path / "replay", rank=0).load(resumed, listed, tmp_path / "replay")
    assert same(resumed, playing)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", None])
def test_no_file_is_removed_beside_a_truncated_checkpoint(tmp_path, damage):
    segments, playing = ReplaySegments(tmp_path / "replay", rank=0), ring()
    playing.extend(rows(0, 5))
    checkpoint(tmp_path, "best.ckpt", segments.save(playing))
    whole = (tmp_path / "best.ckpt").read_bytes()
    cut = whole[: len(whole) // 2] if damage is None else damage
    (tmp_path / "best.ckpt").write_bytes(cut)
    for start in range(5, 45, 5):
        playing.extend(rows(start, start + 5))
        listed = segments.save(playing)
    assert len({*listed}) < 9, "the test needs files that are in no list"
    assert len(list((tmp_path / "replay").iterdir())) == 9
    (tmp_path / "best.ckpt").unlink()
    playing.extend(rows(45, 50))
    listed = segments.save(playing)
    assert {path.name for path in (tmp_path / "replay").iterdir()} == {name for name, *_ in listed}
