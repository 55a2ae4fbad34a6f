"""Sends metrics to MLflow without waiting for it, and loses none."""

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.runtime.errors import one_line

LARGEST_BATCH = 1_000  # what MLflow takes at once


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int  # milliseconds
    step: int


class MetricSender:
    """Sends metric values in their order, from a thread of its own.

    Values that cannot be sent are kept and sent later. At a checkpoint and at the end, values
    that are still unsent are written to a file, so that a resumed run can send them.

    Attributes:
        waiting: Values that are not sent yet.

    Args:
        deliver: Sends some values or raises.
        file: Where unsent values are written.
        interval: Seconds between two deliveries. Many values are sent at once, because to send
            each by itself would take a tenth of the training time.
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
        """Add values to those that wait."""
        self.waiting.extend(points)

    def flush(self) -> None:
        """Send what waits, or write it to the file, so that the process may end now."""
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
        """Send or write what waits, and stop the thread."""
        self._closed.set()
        self._thread.join()
        self._failing = False  # try once more
        self.flush()
        if self.waiting:
            rank_zero_warn(
                f"{len(self.waiting)} metric values could not be sent and are kept in "
                f"{self._file}: they are sent when the run goes on (--ckpt_path last)"
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
                        f"MLflow does not accept metrics ({one_line(str(error))[:200]}): training "
                        "goes on, and they are kept and sent later"
                    )
                self._failing = True
            else:
                self._failing = False


def _read(file: Path) -> list[Point]:
    if not file.exists():
        return []
    return [Point(*json.loads(line)) for line in file.read_text().splitlines()]
