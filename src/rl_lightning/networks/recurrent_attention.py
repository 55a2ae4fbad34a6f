"""The network of the Recurrent Attention Model (Mnih et al. 2014, sections 3 and 4.1).

Shapes: B images, M Monte-Carlo rollouts of each, N = M·B, T glimpses, K classes. Locations are
(x, y) in [−1, 1]², as in `rl_lightning.networks.glimpse`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rl_lightning.functional.ram_losses import gaussian_log_prob
from rl_lightning.networks.bodies import FullPrecisionLinear
from rl_lightning.networks.glimpse import GlimpseNetwork, GlimpseSensor, InitialWeights
from rl_lightning.runtime.constructors import require_range

CoreState = tuple[Tensor, ...]


@dataclass(frozen=True)
class RAMNetworkOptions:
    """What the network sees, how large its parts are, and how it chooses locations.

    Attributes:
        num_glimpses: T, the number of glimpses.
        glimpse_size: Width of the narrowest patch, pixels.
        num_scales: Number of patches of a glimpse, each twice as wide as the one before.
        hidden_size: Units of the core and of the glimpse network's output.
        glimpse_hidden_size: Units of each of the glimpse network's two hidden layers, that of the
            patches and that of the location.
        lstm: Whether to use an LSTM core in place of the paper's ReLU core.
        initial_weights: "torch" uses torch's default initialisation. "identity" initialises the
            recurrent weights of the ReLU core with the identity, and the glimpse network as He et
            al. (2015). It is needed for many glimpses at large images.
        location_policy: "learned" is the model. The others are for comparison: "random" draws
            every location uniformly, and "centre" always looks at the centre.
        first_location: "centre" draws l_1 from N(0, σ² I), as if μ_1 were 0; "uniform" draws it
            uniformly from [−1, 1]². The paper does not specify it.
        relative_locations: Whether the locator's output is added to the location of the last
            glimpse, and the glimpse network gets the difference of the last two locations. The
            paper's locations are not relative.
    """

    num_glimpses: int = 6
    glimpse_size: int = 8
    num_scales: int = 1
    hidden_size: int = 256
    glimpse_hidden_size: int = 128
    lstm: bool = False
    initial_weights: InitialWeights = "torch"
    location_policy: Literal["learned", "random", "centre"] = "learned"
    first_location: Literal["centre", "uniform"] = "centre"
    relative_locations: bool = False


class GlimpsePath(NamedTuple):
    """N rollouts of T glimpses."""

    locations: Tensor  # [T, N, 2] in [−1, 1]
    logits: Tensor  # [T, N, K] after each glimpse, or [1, N, K] after the last one only
    log_probs: Tensor  # [T − 1, N] of the unclamped locations l_2 … l_T
    # The return predicted before each of l_2 … l_T was drawn: [T − 1, N], or [T − 1, N, K] with a
    # prediction for each class.
    baselines: Tensor
    moves: Tensor  # [T − 1, N]: |μ_{t+1} − l_t|²


class RecurrentAttentionNetwork(nn.Module):
    """Looks at T small patches of an image, one after another, and then classifies the image.

        ρ_t = sensor(image, l_t)          g_t = glimpse_network(ρ_t, l_t)
        h_t = core(g_t, h_{t−1})          logits = classifier(h_T)
        μ_{t+1} = locator(h_t)            l_{t+1} ~ N(μ_{t+1}, σ² I)

    `baseline` predicts from h_t the return of l_{t+1}. The gradient of the classification does not
    reach locator and baseline, and their gradients do not reach the other parts: the hidden state
    is detached in the input of locator and baseline, and locations are detached in the input of
    the glimpse network.

    Args:
        image_shape: (C, H, W).
        num_classes: K.
        options: Sizes and choice of locations.
        std: σ. It is a buffer, so that a test uses the σ of training.
        baseline_of_classes: Whether the baseline has a prediction for each class, if this class is
            the right one.

    Raises:
        ConfigurationError: If a size is below 1 or the glimpse does not fit the image.
    """

    std: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        options: RAMNetworkOptions,
        std: float,
        baseline_of_classes: bool = False,
    ) -> None:
        super().__init__()
        hidden_size = options.hidden_size
        require_range(
            1,
            num_glimpses=options.num_glimpses,
            hidden_size=hidden_size,
            glimpse_hidden_size=options.glimpse_hidden_size,
        )
        self.options = options
        self.register_buffer("std", torch.tensor(std))
        self.sensor = GlimpseSensor(image_shape, options.glimpse_size, options.num_scales)
        self.glimpse_network = GlimpseNetwork(
            self.sensor.num_features,
            options.glimpse_hidden_size,
            hidden_size,
            options.initial_weights,
        )
        self.core = (
            LSTMCore(hidden_size, hidden_size)
            if options.lstm
            else RecurrentCore(hidden_size, hidden_size, options.initial_weights)
        )
        self.locator = Locator(hidden_size)
        self.classifier = nn.Linear(hidden_size, num_classes)
        self.baseline = (
            ClassBaseline(hidden_size, num_classes)
            if baseline_of_classes
            else FullPrecisionLinear(hidden_size, 1)
        )
        self.learns_locations = options.location_policy == "learned" and options.num_glimpses > 1
        if not self.learns_locations:
            # These networks get no gradients, and DistributedDataParallel would wait for them.
            self.locator.requires_grad_(False)
            self.baseline.requires_grad_(False)

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
        and can be compiled. With the policies "random" and "centre" they are the locations.
        """
        shape = (self.options.num_glimpses, rollouts, 2)
        device, dtype = self.std.device, self.std.dtype

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=device, dtype=dtype) * 2 - 1

        if self.options.location_policy == "random":
            return uniform(*shape)
        if self.options.location_policy == "centre" or mean_policy:
            return torch.zeros(shape, device=device, dtype=dtype)
        normal = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        offsets = self.std * normal
        if self.options.first_location == "uniform":
            offsets[0] = uniform(*shape[1:])
        return offsets

    def roll_out(self, images: Tensor, offsets: Tensor, every_step: bool = False) -> GlimpsePath:
        """Roll the model out over images, at locations of the locator plus `offsets`.

        Args:
            images: [B, C, H, W].
            offsets: [T, N, 2], from `draw_offsets`.
            every_step: Whether to classify after every glimpse and not only after the last.
        """
        padded = self.sensor.pad(images)
        # `len` instead of `shape` would fix the number of images of an exported model.
        rows = torch.arange(images.shape[0], device=images.device)
        rows = rows.repeat(offsets.shape[1] // images.shape[0])
        location = origin = offsets[0].clamp(-1, 1)
        state: CoreState | None = None
        locations, hiddens, means, samples = [location], [], [], []
        for t in range(self.options.num_glimpses):
            glimpse = self.sensor(padded, location, rows).flatten(1)
            seen_at = location - origin if self.options.relative_locations and t else location
            state = self.core(self.glimpse_network(glimpse, seen_at), state)
            hiddens.append(state[0])
            if t + 1 < self.options.num_glimpses:  # no glimpse follows the last one
                mean = self.locator(state[0].detach())
                if self.options.relative_locations:
                    mean, origin = mean + location, location
                learned = self.options.location_policy == "learned"
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


class RecurrentCore(nn.Module):
    """h_t = ReLU(W_h h_{t−1} + W_g g_t + b), the paper's core for classification.

    With the initial weights "identity", W_h is initially the identity (Le, Jaitly, Hinton 2015).
    With torch's default initialisation the influence of an early glimpse, and its gradient,
    vanish within three steps.
    """

    def __init__(
        self, input_size: int, hidden_size: int, initial_weights: InitialWeights = "torch"
    ) -> None:
        super().__init__()
        self.from_glimpse = nn.Linear(input_size, hidden_size)
        self.from_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        if initial_weights == "identity":
            nn.init.eye_(self.from_hidden.weight)

    def forward(self, glimpse: Tensor, state: CoreState | None) -> CoreState:
        """Compute h_t [N, hidden_size]. The state None means h_0 = 0."""
        hidden: Tensor = self.from_glimpse(glimpse)
        if state is not None:
            hidden = torch.addmm(hidden, state[0], self.from_hidden.weight.t())
        return (hidden.relu_(),)


class LSTMCore(nn.Module):
    """(h_t, c_t) = LSTM(g_t, h_{t−1}, c_{t−1}), the paper's core for control tasks."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, glimpse: Tensor, state: CoreState | None) -> CoreState:
        """Compute h_t and c_t [N, hidden_size]. The state None means zeros."""
        hidden, cell = self.cell(glimpse, state)
        return hidden, cell


class Locator(nn.Module):
    """μ_{t+1} = tanh(W_2 ReLU(W_1 h_t)), the mean of the next location."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size, 128)
        self.mean = FullPrecisionLinear(128, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map h_t [N, hidden_size] → μ_{t+1} [N, 2] in (−1, 1)."""
        return torch.tanh(self.mean(self.hidden(hidden).relu_()))


class ClassBaseline(nn.Module):
    """b_t for each class: the return that is expected from h_t if this class is the right one.

    A baseline may depend on h_t and on the label, because the next location is drawn after h_t is
    known, and does not change the label.
    """

    def __init__(self, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size, 128)
        self.returns = FullPrecisionLinear(128, num_classes)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map h_t [..., hidden_size] → b_t [..., K]."""
        returns: Tensor = self.returns(self.hidden(hidden).relu_())
        return returns
