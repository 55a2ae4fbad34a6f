import pytest

from rl_lightning.tracking.metric_sender import MetricSender, Point

POINTS = [Point("train/loss", float(i), 1_000 + i, i) for i in range(2_500)]


class Store:
    """A store that accepts points unless it is lost."""

    def __init__(self):
        self.points, self.lost = [], False

    def __call__(self, points):
        if self.lost:
            raise ConnectionError("connection refused")
        assert len(points) <= 1_000
        self.points += points


@pytest.fixture
def store():
    return Store()


def sender(store, folder):
    return MetricSender(store, folder / "run" / "unsent.jsonl", interval=3_600)


def test_points_arrive_in_order(store, tmp_path):
    sending = sender(store, tmp_path)
    sending.send(POINTS)
    sending.flush()
    assert store.points == POINTS
    assert not (tmp_path / "run").exists()
    sending.close()


def test_points_survive_a_lost_store_and_arrive_once(store, tmp_path):
    sending = sender(store, tmp_path)
    store.lost = True
    sending.send(POINTS[:10])
    with pytest.warns(UserWarning, match="connection refused.*training continues"):
        sending.flush()
    assert store.points == []
    assert len((tmp_path / "run" / "unsent.jsonl").read_text().splitlines()) == 10
    store.lost = False
    sending.send(POINTS[10:20])
    sending.close()
    assert store.points == POINTS[:20]
    assert not (tmp_path / "run" / "unsent.jsonl").exists()


def test_a_resumed_run_sends_what_the_one_before_could_not(store, tmp_path):
    sending = sender(store, tmp_path)
    store.lost = True
    sending.send(POINTS[:10])
    with pytest.warns(UserWarning, match="10 metric values could not be sent"):
        sending.close()
    store.lost = False
    again = sender(store, tmp_path)
    assert again.waiting == POINTS[:10]
    again.send(POINTS[10:12])
    again.close()
    assert store.points == POINTS[:12]
