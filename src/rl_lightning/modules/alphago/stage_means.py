"""Means over the batches of a validation or a test."""

from torch import Tensor, nn
from torchmetrics import MeanMetric

STAGES = ("val", "test")


class StageMeans(nn.Module):
    """Means of several values over all samples of a stage on all ranks.

    `test` resets its metrics in inference mode, so validation has metrics of its own.

    Args:
        names: Of the values.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {stage: nn.ModuleDict({name: MeanMetric() for name in names}) for stage in STAGES}
        )

    def update(self, stage: str, **values: Tensor) -> None:
        """Add the values [B] of a batch."""
        for name, value in values.items():
            self.stages[stage][name].update(value)  # type: ignore[index]

    def compute(self, stage: str) -> dict[str, Tensor]:
        """The means by the names of their metrics, and a new start."""
        # torchmetrics sums the counts of all ranks before it divides.
        metrics = dict(self.stages[stage].items())  # type: ignore[operator]
        means = {f"{stage}/{name}": metric.compute() for name, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        return means
