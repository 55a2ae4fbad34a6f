"""Metrics on their way to MLflow, none of which is lost."""

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.errors import one_line

LARGEST_BATCH = 1_000  # what MLflow takes at once


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int  # milliseconds
    step: int


class MetricSender:
    """Delivers points in their order, from a thread of its own.

    What cannot be delivered is kept and tried again. At a checkpoint and at the end,
    whatever still waits is written to a file, so that a resumed run can send it.

    Attributes:
        waiting: Points that have not arrived.

    Args:
        deliver: Sends some points or raises.
        file: Where points wait when they cannot be delivered.
        interval: Seconds between two deliveries: one write of many points, since each by
            itself would cost a tenth of training's speed.
    """

    def __init__(
        self, deliver: Callable[[list[Point]], None], file: Path, interval: float = 2.0
    ) -> None:
        self._deliver = deliver
        self._file = file
        self.waiting = _read(file)
        self._failing = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def send(self, points: Iterable[Point]) -> None:
        """Take points in."""
        self.waiting.extend(points)

    def flush(self) -> None:
        """See to it that no point is lost if the process ends now."""
        if not self._failing:
            self._try()
        with self._lock:
            if self.waiting:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                part = self._file.with_name(f"{self._file.name}.part")
                part.write_text("".join(json.dumps(point) + "\n" for point in [*self.waiting]))
                part.replace(self._file)
            else:
                self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Deliver or write down what waits, and stop."""
        self._closed.set()
        self._thread.join()
        self._failing = False  # a last time
        self.flush()
        if self.waiting:
            rank_zero_warn(
                f"{len(self.waiting)} metrics could not be sent and wait in {self._file}: going "
                "on with the run sends them"
            )

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            self._try()

    def _try(self) -> None:
        with self._lock:
            try:
                while self.waiting:
                    batch = self.waiting[:LARGEST_BATCH]
                    self._deliver(batch)
                    del self.waiting[: len(batch)]
            except Exception as error:  # whatever the store and its network can raise
                if not self._failing:
                    rank_zero_warn(
                        f"MLflow takes no metrics ({one_line(str(error))[:200]}): training goes "
                        "on, and they are kept and sent when it does"
                    )
                self._failing = True
            else:
                self._failing = False


def _read(file: Path) -> list[Point]:
    if not file.exists():
        return []
    return [Point(*json.loads(line)) for line in file.read_text().splitlines()]
