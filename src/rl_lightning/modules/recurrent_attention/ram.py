"""The Recurrent Attention Model, a classifier that learns where to look with REINFORCE.

Mnih, Heess, Graves, Kavukcuoglu (2014), Recurrent Models of Visual Attention. Shapes: B images, M
Monte-Carlo rollouts of each, N = M·B, T glimpses, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MeanMetric

from rl_lightning.experience import LabelledImages
from rl_lightning.functional.ram_losses import (
    answer_rewards,
    answers_loss,
    baseline_loss,
    of_right_class,
    reinforce_loss,
)
from rl_lightning.modules.recurrent_attention.checkpoints import OptionsInCheckpoints
from rl_lightning.modules.recurrent_attention.image_classifiers import ImageClassifier
from rl_lightning.networks.glimpse import GlimpseSensor, GlimpseTrace, share_of_pixels_seen
from rl_lightning.networks.recurrent_attention import (
    GlimpsePath,
    RAMNetworkOptions,
    RecurrentAttentionNetwork,
)
from rl_lightning.runtime.compilation import compile_whole
from rl_lightning.runtime.errors import ConfigurationError

AVERAGED_ROLLOUTS = 10  # the paper's M for predictions that are averaged over rollouts


@dataclass(frozen=True)
class RAMLearningOptions:
    """What the locations are rewarded for, and how they are explored.

    Attributes:
        num_samples: M, the rollouts of each image in training.
        std: σ of the location policy N(μ_t, σ² I); locations are in [−1, 1].
        std_end: σ in the last epoch, to which it changes linearly; None keeps it constant.
        reward: "final" is the paper's: all locations of a rollout have the return 1 if the last
            answer is right, else 0. With "each_glimpse" the model answers after every glimpse,
            and the return of a location is the log-probability of the right class in the answer
            after it. The earlier answers enter the loss too, and the baseline depends on the
            right class, which the locator does not see.
        move_cost: Weight of a rollout's Σ |μ_{t+1} − l_t|² in the loss. The paper has none.
    """

    num_samples: int = 1
    std: float = 0.1
    std_end: float | None = None
    reward: Literal["final", "each_glimpse"] = "final"
    move_cost: float = 0.0


class RecurrentAttentionModel(OptionsInCheckpoints, ImageClassifier):
    """Classifies an image after T glimpses at small patches of it.

    The cross-entropy of the answer trains the classifier, the core and the glimpse network.
    REINFORCE trains the locator (equation 2): with the return R_t of location l_t, and the
    baseline b_t that does not depend on l_t, the gradient of the expected return is estimated by

        1/N Σ_n Σ_t ∇ log π(l_t^n) (R_t^n − b_t^n).

    The squared error of b_t trains the baseline. The losses are added up, and each network gets the
    gradient of its own loss only, because `RecurrentAttentionNetwork` detaches the hidden states
    and locations that would carry other gradients.

    Args:
        image_shape: (C, H, W), from the datamodule.
        num_classes: K, from the datamodule.
        network: What the network sees, its sizes, and how it chooses locations.
        learning: The rewards of locations, and σ.
        compiled: Whether to train with `torch.compile`. Training is then a third faster, but its
            start takes a minute longer. It needs a C++ compiler.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

    Raises:
        ConfigurationError: If an option is out of range or the glimpse does not fit the image.
    """

    algorithm = "ram"
    network: RecurrentAttentionNetwork
    option_groups: ClassVar = {"network": RAMNetworkOptions, "learning": RAMLearningOptions}

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        network: RAMNetworkOptions = RAMNetworkOptions(),  # noqa: B008, because it is immutable
        learning: RAMLearningOptions = RAMLearningOptions(),
        compiled: bool = False,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        network, learning = self.options_from(network=network, learning=learning)
        steps = tuple(f"error_after_{t}" for t in range(1, network.num_glimpses))
        protocols = ("error", "error_sampled", "error_averaged", *steps)
        super().__init__(image_shape, num_classes, optimizer, lr_scheduler, protocols)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "network", "learning"])
        # A checkpoint holds the options as plain dictionaries, so that it can be read safely.
        self.save_hyperparameters({"network": asdict(network), "learning": asdict(learning)})
        std_end = learning.std if learning.std_end is None else learning.std_end
        if learning.num_samples < 1 or min(learning.std, std_end) <= 0 or learning.move_cost < 0:
            raise ConfigurationError(
                f"RAM needs num_samples of at least 1, std and std_end above 0, and move_cost of "
                f"at least 0, not {learning.num_samples}, {learning.std}, {std_end} and "
                f"{learning.move_cost}"
            )
        self.learning = learning
        self.std_range = (learning.std, std_end)
        self.compiled = compiled
        self.network = RecurrentAttentionNetwork(
            image_shape,
            num_classes,
            network,
            std=learning.std,
            baseline_of_classes=learning.reward == "each_glimpse",
        )
        self.pixels_seen = MeanMetric()
        self.training_rollout: Callable[[Tensor, Tensor, bool], GlimpsePath] = self.network.roll_out
        self.evaluation_generator: torch.Generator | None = None

    def training_loss(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute cross-entropy + REINFORCE + baseline losses, on M rollouts of each image.

        The sum is the paper's hybrid loss (section 3.2).
        """
        num_samples, every_answer = self.learning.num_samples, self.learning.reward != "final"
        generator = self.random_stream("ram locations")
        # The differences l_t − μ_t are drawn before the rollout, so that it can be compiled.
        offsets = self.network.draw_offsets(num_samples * len(images), generator)
        path = self.training_rollout(images, offsets, every_answer)
        labels = labels.repeat(num_samples)  # row m·B + b is rollout m of image b
        right = path.logits[-1].detach().argmax(-1) == labels
        loss = answers_loss(path.logits, labels)
        if not self.network.learns_locations:
            return loss, right, {}

        if every_answer:
            returns = answer_rewards(path.logits[1:], labels)
            baselines = of_right_class(path.baselines, labels)
        else:
            returns, baselines = right.float(), path.baselines
        reinforce = reinforce_loss(path.log_probs, returns, baselines)
        baseline = baseline_loss(baselines, returns)
        moves = path.moves.sum(0).mean()
        metrics = {
            "reinforce_loss": reinforce.detach(),
            "baseline_loss": baseline.detach(),
            "squared_moves": moves.detach(),
        }
        return loss + reinforce + baseline + self.learning.move_cost * moves, right, metrics

    def on_train_epoch_start(self) -> None:
        """Set this epoch's σ. The checkpoint holds it, because a resume may skip this hook."""
        first, last = self.std_range
        progress = self.current_epoch / max(1, (self.trainer.max_epochs or 1) - 1)
        self.network.std.fill_(first + (last - first) * min(1.0, progress))

    def clipped_apart(self, optimizer: torch.optim.Optimizer) -> list[list[nn.Parameter]]:
        """The locator and the other parameters, which are clipped separately.

        The locator's gradient is noisy. Its norm would otherwise also scale down the gradients of
        the other parameters.
        """
        locator = list(self.network.locator.parameters())
        inside = {id(parameter) for parameter in locator}
        return [locator, [each for each in self.parameters() if id(each) not in inside]]

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [B, K] of images [B, C, H, W] with the mean policy, M = 1."""
        return self.network.look(images, 1, self.evaluation_generator, mean_policy=True).logits[-1]

    def evaluate(self, images: Tensor) -> Mapping[str, Tensor]:
        """Compute class scores [B, K] for each of `protocols`.

        "error" uses the mean policy, "error_sampled" one rollout with sampled locations,
        "error_averaged" the mean over `AVERAGED_ROLLOUTS` such rollouts, and "error_after_t" the
        mean policy after glimpse t.
        """
        path = self._look_at_the_means(images)
        _, height, width = self.image_shape
        seen = share_of_pixels_seen(path.locations, self.sensor.size, height, width)
        self.pixels_seen.update(seen)
        sampled = self.network.look(images, AVERAGED_ROLLOUTS, self.evaluation_generator).logits[-1]
        probabilities = sampled.softmax(-1).unflatten(0, (AVERAGED_ROLLOUTS, -1))
        return {
            "error": path.logits[-1],
            "error_sampled": probabilities[0],  # the first of the rollouts
            "error_averaged": probabilities.mean(0),
            **{f"error_after_{t}": logits for t, logits in enumerate(path.logits[:-1], start=1)},
        }

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> GlimpseTrace:
        """Trace a rollout of the mean policy, for pictures."""
        images, labels = batch
        path = self._look_at_the_means(images)
        probabilities = path.logits.softmax(-1).float()  # NumPy has no bfloat16
        return GlimpseTrace(images.float(), labels, path.locations.float(), probabilities)

    def _look_at_the_means(self, images: Tensor) -> GlimpsePath:
        """One rollout of the mean policy for each image, with an answer after every glimpse."""
        return self.network.look(
            images, 1, self.evaluation_generator, mean_policy=True, every_step=True
        )

    @property
    def sensor(self) -> GlimpseSensor:
        """The glimpse sensor, for pictures."""
        return self.network.sensor

    def on_validation_epoch_start(self) -> None:
        """Draw the same locations in every validation."""
        self.evaluation_generator = self.random_stream("ram locations validate", 0)

    def on_test_epoch_start(self) -> None:
        """Draw the same locations in every test."""
        super().on_test_epoch_start()
        self.evaluation_generator = self.random_stream("ram locations test", 0)

    def on_predict_epoch_start(self) -> None:
        """Draw the same locations in every prediction."""
        self.evaluation_generator = self.random_stream("ram locations predict", 0)

    def on_test_epoch_end(self) -> None:
        """Log the error rates, and the share of pixels that were seen in full resolution."""
        super().on_test_epoch_end()
        self.log("test/pixels_seen", self.pixels_seen.compute())
        self.pixels_seen.reset()

    def setup(self, stage: str) -> None:
        """Check that σ's schedule has an end, and compile the training rollout if asked to."""
        super().setup(stage)
        if stage != "fit":
            return
        if len({*self.std_range}) == 2 and (self.trainer.max_epochs or 0) < 1:
            raise ConfigurationError(
                "std_end is reached in the last epoch, so its number is needed: set "
                "trainer.max_epochs"
            )
        if self.compiled:
            self.training_rollout = compile_whole(self.network.roll_out, self.device)
