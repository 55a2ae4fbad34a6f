"""Sends metrics to MLflow from a separate thread, so that training does not wait for it."""

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.runtime.errors import one_line

LARGEST_BATCH = 1_000  # MLflow's limit of values in one request


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int  # milliseconds
    step: int


class MetricSender:
    """Sends metric values in their order, from a separate thread.

    Values that cannot be sent are kept and sent later. At a checkpoint and at the end of the run,
    unsent values are written to a file, so that a resumed run can send them.

    Attributes:
        waiting: Values that are not sent yet.

    Args:
        deliver: Sends a list of values, or raises.
        file: File for unsent values.
        interval: Seconds between two deliveries. Each delivery sends all waiting values, because
            one delivery per value would take a tenth of the training time.
    """

    def __init__(
        self, deliver: Callable[[list[Point]], None], file: Path, interval: float = 2.0
    ) -> None:
        self._deliver = deliver
        self._file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.waiting = [Point(*json.loads(line)) for line in lines]
        self._failing = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def send(self, points: Iterable[Point]) -> None:
        """Add values to the waiting ones."""
        self.waiting.extend(points)

    def flush(self) -> None:
        """Send the waiting values or write them to the file, so that none is lost after a crash."""
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
        """Send or write the waiting values, and stop the thread."""
        self._closed.set()
        self._thread.join()
        self._failing = False  # try once more
        self.flush()
        if self.waiting:
            rank_zero_warn(
                f"{len(self.waiting)} metric values could not be sent and are saved in "
                f"{self._file}: validate --ckpt_path with a checkpoint of this run sends them"
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
            except Exception as error:  # the store and the network raise many types of errors
                if not self._failing:
                    rank_zero_warn(
                        f"MLflow does not accept metrics ({one_line(error, 200)}): training "
                        "continues, and the metrics are kept and sent later"
                    )
                self._failing = True
            else:
                self._failing = False
