"""The supervised policy network of AlphaGo, which predicts the moves of experts."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from rl_lightning.experience import EnvironmentSpec, LabelledPositions, example_observations
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.alphago.stage_means import StageMeans
from rl_lightning.modules.learner import Learner
from rl_lightning.networks.board import BoardPolicy


class SupervisedPolicy(Learner):
    """Maximises the log-probability of the expert's move (Silver et al. 2016, equation 1).

    `val/top1` and `val/top5` are the parts of positions in which the expert's move is the most
    probable, or one of the five most probable moves. The x-axis is the number of positions.
    """

    algorithm = "supervised_policy"
    batch_type = LabelledPositions
    takes_rounded_batches = True
    monitor = ("val/top1", "max")
    tested_checkpoint = "last"
    architecture: ClassVar[tuple[str, ...]] = ("environment", "num_layers", "num_filters")
    counts: ClassVar[tuple[str, ...]] = ("positions_seen",)

    def __init__(
        self,
        environment: EnvironmentSpec,
        num_layers: int = 4,
        num_filters: int = 64,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Make the network and the metrics.

        Args:
            environment: Spec of the game, from the datamodule.
            num_layers: Convolutions of the policy network.
            num_filters: Filters of each.
            optimizer: Makes the optimizer from the parameters.
            lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
        """
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.environment = environment
        self.example_input_array = example_observations(environment)
        self.policy = BoardPolicy(environment, num_layers, num_filters)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.positions_seen: Tensor
        # An integer, because the precision of the run does not cast integers.
        self.register_buffer("positions_seen", torch.zeros((), dtype=torch.int64))
        self.means = StageMeans("top1", "top5", "loss")

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to logits [B, A], -inf for illegal moves."""
        logits: Tensor = self.policy(observations)
        return logits

    def training_step(self, batch: LabelledPositions, batch_idx: int) -> Tensor:
        """Compute the cross-entropy of one batch, and log it with the top-1 accuracy."""
        logits = self(batch.observations)
        loss = F.cross_entropy(logits, batch.actions)
        self.positions_seen += len(batch.actions) * self.trainer.world_size
        if should_log(self.trainer):
            top1 = (logits.argmax(1) == batch.actions).float().mean()
            metrics = {"train/loss": loss.detach(), "train/top1": top1}
            self.log_dict({**metrics, "step": self.positions_seen.double()}, sync_dist=True)
        return loss

    def validation_step(self, batch: LabelledPositions, batch_idx: int) -> None:
        """Count the expert's moves among the most probable ones."""
        self._count(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log `val/top1`, `val/top5` and `val/loss`."""
        self._log_means("val")

    def test_step(self, batch: LabelledPositions, batch_idx: int) -> None:
        """Count the expert's moves among the most probable ones."""
        self._count(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log `test/top1`, `test/top5` and `test/loss`."""
        self._log_means("test")

    def predict_step(self, batch: LabelledPositions, batch_idx: int) -> Tensor:
        """The probabilities of the moves [B, A]."""
        probabilities: Tensor = self(batch.observations).softmax(-1)
        return probabilities

    def configure_optimizers(self) -> Any:
        """The optimizer and, if there is one, its learning-rate schedule."""
        optimizer = self.optimizer(self.policy.parameters())
        return self.with_schedule(optimizer, self.lr_scheduler)

    def _count(self, batch: LabelledPositions, stage: str) -> None:
        logits = self(batch.observations).float()
        ranked = logits.topk(min(5, logits.shape[1])).indices == batch.actions[:, None]
        loss = F.cross_entropy(logits, batch.actions, reduction="none")
        top1, top5 = ranked[:, 0].float(), ranked.any(1).float()
        self.means.update(stage, top1=top1, top5=top5, loss=loss)

    def _log_means(self, stage: str) -> None:
        step = {"step": self.positions_seen.double()}
        self.log_dict({**self.means.compute(stage), **step}, sync_dist=True)
