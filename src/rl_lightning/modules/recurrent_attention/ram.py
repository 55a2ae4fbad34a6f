"""The Recurrent Attention Model, a classifier that learns where to look with REINFORCE.

Mnih, Heess, Graves, Kavukcuoglu (2014), Recurrent Models of Visual Attention,
equations 1 and 2. Shapes: B images, M Monte-Carlo rollouts of each, N = M·B,
T glimpses, K classes.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MeanMetric

from rl_lightning.experience import LabelledImages
from rl_lightning.functional.attention import (
    answer_rewards,
    answers_loss,
    baseline_loss,
    gaussian_log_prob,
    of_right_class,
    reinforce_loss,
)
from rl_lightning.modules.recurrent_attention.image_classifiers import ImageClassifier
from rl_lightning.networks.bodies import FullPrecisionLinear
from rl_lightning.networks.glimpse import (
    ClassBaseline,
    CoreState,
    GlimpseNetwork,
    GlimpsePath,
    GlimpseSensor,
    GlimpseTrace,
    InitialWeights,
    LocationPolicy,
    Locator,
    LSTMCore,
    RecurrentCore,
    share_of_pixels_seen,
)
from rl_lightning.runtime.errors import ConfigurationError

AVERAGED_ROLLOUTS = 10  # the paper's M for predictions that are averaged over rollouts


class RecurrentAttentionModel(ImageClassifier):
    """Classifies an image after T glimpses at small patches of it.

    The cross-entropy trains the classifier, the core and the glimpse network. REINFORCE trains the
    locator, with a linear baseline that all steps share. The gradient of one loss does not reach
    the networks of the other: the hidden state is detached in the input of locator and baseline,
    and locations are detached in the input of the glimpse network.
    """

    algorithm = "ram"

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        num_glimpses: int = 6,
        glimpse_size: int = 8,
        num_scales: int = 1,
        std: float = 0.1,
        std_end: float | None = None,
        num_samples: int = 1,
        reward: Literal["final", "each_glimpse"] = "final",
        relative_locations: bool = False,
        move_cost: float = 0.0,
        location_policy: LocationPolicy = "learned",
        first_location: Literal["centre", "uniform"] = "centre",
        initial_weights: InitialWeights = "torch",
        lstm: bool = False,
        hidden_size: int = 256,
        glimpse_hidden_size: int = 128,
        compiled: bool = False,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Make the networks.

        Args:
            image_shape: (C, H, W), from the datamodule.
            num_classes: K, from the datamodule.
            num_glimpses: T.
            glimpse_size: Width of the narrowest patch, pixels.
            num_scales: Number of patches of a glimpse, each twice as wide as the one before.
            std: σ of the location policy N(μ_t, σ² I); locations are in [−1, 1].
            std_end: σ in the last epoch, to which it changes linearly; None keeps it constant.
            num_samples: M, the rollouts of each image in training.
            reward: "final" is the paper's: all locations of a rollout have the return 1 if the last
                answer is right, else 0. With "each_glimpse" the model answers after every glimpse,
                and the return of a location is the log-probability of the right class in the answer
                after it. The earlier answers enter the loss too, and the baseline depends on the
                right class, which the locator does not see.
            relative_locations: Whether the locator's output is added to the location of the last
                glimpse, and the glimpse network gets the difference of the last two locations.
                The paper's locations are not relative.
            move_cost: Weight of a rollout's Σ |μ_{t+1} − l_t|² in the loss. The paper has none.
            location_policy: "learned" is the model. The others are for comparison: "random" draws
                every location uniformly, and "centre" always looks at the centre.
            first_location: "centre" draws l_1 from N(0, σ² I), as if μ_1 were 0; "uniform"
                draws it uniformly from [−1, 1]². The paper does not specify it.
            initial_weights: "torch" uses torch's default initialisation. "identity" initialises
                the recurrent weights of the ReLU core with the identity, and the glimpse network
                as He et al. (2015). It is needed for many glimpses at large images.
            lstm: Whether to use an LSTM core in place of the paper's ReLU core.
            hidden_size: Units of the core and of the glimpse network's output.
            glimpse_hidden_size: Units of each of the glimpse network's two hidden layers, that of
                the patches and that of the location.
            compiled: Whether to train with `torch.compile`. Training is then a third faster, but
                its start takes a minute longer. It needs a C++ compiler.
            optimizer: Makes the optimizer from the parameters.
            lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

        Raises:
            ConfigurationError: If an argument is out of range or the glimpse does not fit the
                image.
        """
        steps = tuple(f"error_after_{t}" for t in range(1, num_glimpses))
        protocols = ("error", "error_sampled", "error_averaged", *steps)
        super().__init__(image_shape, num_classes, optimizer, lr_scheduler, protocols)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        std_end = std if std_end is None else std_end
        if num_glimpses < 1 or num_samples < 1 or min(std, std_end) <= 0 or move_cost < 0:
            raise ConfigurationError(
                f"RAM needs num_glimpses and num_samples of at least 1, std and std_end above "
                f"0, and move_cost of at least 0, not {num_glimpses}, {num_samples}, {std}, "
                f"{std_end} and {move_cost}"
            )
        self.num_glimpses = num_glimpses
        self.std_range = (std, std_end)
        self.std: Tensor  # a buffer in the checkpoint, so that a test uses the σ of training
        self.register_buffer("std", torch.tensor(std))
        self.num_samples = num_samples
        self.reward = reward
        self.relative_locations = relative_locations
        self.move_cost = move_cost
        self.location_policy = location_policy
        self.first_location = first_location
        self.compiled = compiled
        self.sensor = GlimpseSensor(image_shape, glimpse_size, num_scales)
        self.glimpse_network = GlimpseNetwork(
            self.sensor.num_features, glimpse_hidden_size, hidden_size, initial_weights
        )
        self.core = (
            LSTMCore(hidden_size, hidden_size)
            if lstm
            else RecurrentCore(hidden_size, hidden_size, initial_weights)
        )
        self.locator = Locator(hidden_size)
        self.classifier = nn.Linear(hidden_size, num_classes)
        self.baseline = (
            ClassBaseline(hidden_size, num_classes)
            if reward == "each_glimpse"
            else FullPrecisionLinear(hidden_size, 1)
        )
        if location_policy != "learned" or num_glimpses == 1:
            # These networks get no gradients, and DistributedDataParallel would wait for them.
            self.locator.requires_grad_(False)
            self.baseline.requires_grad_(False)
        self.pixels_seen = MeanMetric()
        self.training_rollout: Callable[[Tensor, Tensor, bool], GlimpsePath] = self.roll_out
        self.evaluation_generator: torch.Generator | None = None

    def look(
        self,
        images: Tensor,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
        mean_policy: bool = False,
        every_step: bool = False,
    ) -> GlimpsePath:
        """Draw locations and roll the model out over images.

        Args:
            images: [B, C, H, W].
            num_samples: M. Rollout m of image b is in row m·B + b.
            generator: Draws the locations; None is torch's global generator.
            mean_policy: Whether to use the mean of each location's distribution in place of a
                sample. The mean of the first location is the centre.
            every_step: Whether to classify after every glimpse and not only after the last.

        Returns:
            The paths of the N = M·B rollouts.
        """
        offsets = self.draw_offsets(num_samples * images.shape[0], generator, mean_policy)
        return self.roll_out(images, offsets, every_step)

    def draw_offsets(
        self, rollouts: int, generator: torch.Generator | None, mean_policy: bool = False
    ) -> Tensor:
        """Draw the difference of each location from the mean of its distribution, [T, N, 2].

        All differences are drawn before the rollout, so that `roll_out` contains no random numbers
        and can be compiled.
        """
        shape = (self.num_glimpses, rollouts, 2)
        like: Any = {"device": self.device, "dtype": self.std.dtype}
        if self.location_policy == "random":
            return torch.rand(shape, generator=generator, **like) * 2 - 1
        if self.location_policy == "centre" or mean_policy:
            return torch.zeros(shape, **like)
        offsets = self.std * torch.randn(shape, generator=generator, **like)
        if self.first_location == "uniform":
            offsets[0] = torch.rand(shape[1:], generator=generator, **like) * 2 - 1
        return offsets

    def roll_out(self, images: Tensor, offsets: Tensor, every_step: bool = False) -> GlimpsePath:
        """Roll the model out over images, at locations of the locator plus `offsets`.

        Args:
            images: [B, C, H, W].
            offsets: [T, N, 2], from `draw_offsets`.
            every_step: Whether to classify after every glimpse and not only after the last.
        """
        padded = self.sensor.pad(images)
        rows = torch.arange(images.shape[0], device=images.device)
        rows = rows.repeat(offsets.shape[1] // images.shape[0])
        location = origin = offsets[0].clamp(-1, 1)
        state: CoreState | None = None
        locations, hiddens, means, samples = [location], [], [], []
        for t in range(self.num_glimpses):
            glimpse = self.sensor(padded, location, rows).flatten(1)
            seen_at = location - origin if self.relative_locations and t else location
            state = self.core(self.glimpse_network(glimpse, seen_at), state)
            hiddens.append(state[0])
            if t + 1 < self.num_glimpses:  # no glimpse follows the last one
                mean = self.locator(state[0].detach())
                if self.relative_locations:
                    mean, origin = mean + location, location
                learned = self.location_policy == "learned"
                sample = mean.detach() + offsets[t + 1] if learned else offsets[t + 1]
                location = sample.clamp(-1, 1)
                means.append(mean)
                samples.append(sample)
                locations.append(location)
        logits = self.classifier(torch.stack(hiddens if every_step else hiddens[-1:]))
        if not means:
            none = logits.new_zeros(0, len(rows))
            return GlimpsePath(torch.stack(locations), logits, none, none, none)
        baselines = self.baseline(torch.stack(hiddens[:-1]).detach()).squeeze(-1)
        stacked, all_means = torch.stack(locations), torch.stack(means)
        log_probs = gaussian_log_prob(torch.stack(samples), all_means, self.std)
        moves = (all_means - stacked[:-1]).square().sum(-1)
        return GlimpsePath(stacked, logits, log_probs, baselines, moves)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [B, K] of images [B, C, H, W] with the mean policy, M = 1."""
        return self.look(images, 1, self.evaluation_generator, mean_policy=True).logits[-1]

    def training_loss(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute cross-entropy + REINFORCE + baseline losses, on M rollouts of each image."""
        offsets = self.draw_offsets(
            self.num_samples * len(images), self.random_stream("ram locations")
        )
        every_answer = self.reward == "each_glimpse"
        path = self.training_rollout(images, offsets, every_answer)
        labels = labels.repeat(self.num_samples)
        right = path.logits[-1].detach().argmax(-1) == labels
        loss = answers_loss(path.logits, labels)
        figures: dict[str, Tensor] = {}
        if self.location_policy == "learned" and self.num_glimpses > 1:
            returns, baselines = right.float(), path.baselines
            if every_answer:
                returns = answer_rewards(path.logits[1:], labels)
                baselines = of_right_class(baselines, labels)
            reinforce = reinforce_loss(path.log_probs, returns, baselines)
            baseline = baseline_loss(baselines, returns)
            moves = path.moves.sum(0).mean()
            loss = loss + reinforce + baseline + self.move_cost * moves
            figures = {
                "reinforce_loss": reinforce.detach(),
                "baseline_loss": baseline.detach(),
                "squared_moves": moves.detach(),
            }
        return loss, right, figures

    def evaluate(self, images: Tensor) -> Mapping[str, Tensor]:
        """Compute class scores [B, K] for each of `protocols`.

        "error" uses the mean policy, "error_sampled" one rollout with sampled locations,
        "error_averaged" the mean over `AVERAGED_ROLLOUTS` such rollouts, and "error_after_t" the
        mean policy after glimpse t.
        """
        path = self.look(images, 1, self.evaluation_generator, mean_policy=True, every_step=True)
        _, height, width = self.image_shape
        seen = share_of_pixels_seen(path.locations, self.sensor.size, height, width)
        self.pixels_seen.update(seen)
        sampled = self.look(images, AVERAGED_ROLLOUTS, self.evaluation_generator).logits[-1]
        probabilities = sampled.softmax(-1).unflatten(0, (AVERAGED_ROLLOUTS, -1))
        return {
            "error": path.logits[-1],
            "error_sampled": probabilities[0],  # the first of the rollouts
            "error_averaged": probabilities.mean(0),
            **{f"error_after_{t}": logits for t, logits in enumerate(path.logits[:-1], start=1)},
        }

    def on_test_epoch_end(self) -> None:
        """Log the error rates, and the share of pixels that were seen in full resolution."""
        super().on_test_epoch_end()
        self.log("test/pixels_seen", self.pixels_seen.compute())
        self.pixels_seen.reset()

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> GlimpseTrace:
        """Trace a rollout of the mean policy, for pictures."""
        images, labels = batch
        path = self.look(images, 1, self.evaluation_generator, mean_policy=True, every_step=True)
        probabilities = path.logits.softmax(-1).float()  # NumPy has no bfloat16
        return GlimpseTrace(images.float(), labels, path.locations.float(), probabilities)

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
        if not self.compiled:
            return
        compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
        if self.device.type == "cpu" and not any(map(shutil.which, compilers)):
            raise ConfigurationError(
                "compiled is true and there is no C++ compiler: install g++, or set "
                "model.init_args.compiled to false"
            )
        self.training_rollout = torch.compile(self.roll_out, fullgraph=True, dynamic=False)

    def on_train_epoch_start(self) -> None:
        """Set this epoch's σ. The checkpoint holds it, because a resume may skip this hook."""
        first, last = self.std_range
        progress = self.current_epoch / max(1, (self.trainer.max_epochs or 1) - 1)
        self.std.fill_(first + (last - first) * min(1.0, progress))

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

    def clipped_apart(self, optimizer: torch.optim.Optimizer) -> list[list[nn.Parameter]]:
        """The locator and the other parameters, which are clipped separately.

        The locator's gradient is noisy. Its norm would otherwise also scale down the gradients of
        the other parameters.
        """
        locator = list(self.locator.parameters())
        inside = {id(parameter) for parameter in locator}
        return [locator, [each for each in self.parameters() if id(each) not in inside]]
