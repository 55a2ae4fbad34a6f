"""Figures of the Recurrent Attention Model: its glimpses, locations and class probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rl_lightning.networks.glimpse import GlimpseSensor, GlimpseTrace, glimpse_centres

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEATMAP_BINS = 28


class Drawing(NamedTuple):
    """The data that is drawn for B rollouts, on the CPU."""

    images: Tensor  # [B, H, W]
    labels: Tensor  # [B]
    centres: Tensor  # [T, B, 2] pixels (x, y)
    probabilities: Tensor  # [T, B, K]
    views: Tensor  # [T, B, H, W], NaN where nothing was seen
    widths: tuple[int, ...]  # of the patches, pixels


def prepare(sensor: GlimpseSensor, trace: GlimpseTrace) -> Drawing:
    """Compute the foveated views of a trace. Channels are averaged to grey."""
    views = foveated_views(sensor, trace.images, trace.locations)
    centres = glimpse_centres(trace.locations, sensor.height, sensor.width)
    widths = tuple(sensor.size << scale for scale in range(sensor.num_scales))
    return Drawing(
        images=trace.images.mean(1).detach().cpu(),
        labels=trace.labels.cpu(),
        centres=centres.detach().cpu(),
        probabilities=trace.probabilities.detach().cpu(),
        views=views.mean(2).detach().cpu(),
        widths=widths,
    )


def foveated_views(sensor: GlimpseSensor, images: Tensor, locations: Tensor) -> Tensor:
    """Compute the pixels seen up to each glimpse, each at the finest resolution so far.

    Args:
        sensor: The glimpse sensor of the model.
        images: [B, C, H, W].
        locations: [T, B, 2].

    Returns:
        [T, B, C, H, W], NaN for pixels that no glimpse has covered yet.
    """
    padded = sensor.pad(images)
    rows = torch.arange(len(images), device=images.device)
    patches = [sensor(padded, location, rows) for location in locations]
    x, y = glimpse_centres(locations, sensor.height, sensor.width).unbind(-1)
    views = []
    for t in range(len(locations)):
        view = torch.full_like(padded, torch.nan)
        for scale in reversed(range(sensor.num_scales)):  # finer patches overwrite coarser ones
            width = sensor.size << scale
            offsets = torch.arange(width, device=images.device) + sensor.padding - width // 2
            for step in range(t + 1):
                patch = patches[step][:, scale].repeat_interleave(1 << scale, dim=2)
                patch = patch.repeat_interleave(1 << scale, dim=3)
                pixel_rows = y[step][:, None, None] + offsets[:, None]
                pixel_columns = x[step][:, None, None] + offsets
                batch = rows[:, None, None]
                view[batch, :, pixel_rows, pixel_columns] = patch.movedim(1, -1)
        views.append(view[:, :, sensor.padding : -sensor.padding, sensor.padding : -sensor.padding])
    return torch.stack(views)


def draw_grid(drawing: Drawing, title: str) -> "Figure":
    """One row per image: its path, the view after each glimpse, the probabilities by step."""
    from matplotlib.figure import Figure

    steps, number = drawing.centres.shape[:2]
    figure = Figure(figsize=(1.5 * (steps + 2), 1.6 * number + 0.6))
    figure.suptitle(title)
    axes = figure.subplots(number, steps + 2, squeeze=False)
    figure.subplots_adjust(left=0.02, right=0.98, top=1 - 0.8 / (1.6 * number + 0.6), bottom=0.05)
    for i, row in enumerate(axes):
        _draw_path(row[0], drawing, i, steps - 1)
        for t in range(steps):
            _draw_view(row[1 + t], drawing, i, t)
        _draw_probabilities_by_step(row[-1], drawing, i)
    return figure


def save_animation(drawing: Drawing, path: Path, seconds_a_glimpse: float = 1.0) -> None:
    """Write a GIF with one frame per glimpse and one column per image."""
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, number = drawing.centres.shape[:2]
    figure = Figure(figsize=(1.7 * number, 5))
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, number, squeeze=False)
    figure.subplots_adjust(left=0.04, right=0.99, top=0.94, bottom=0.05)

    def draw(t: int) -> list["Axes"]:
        for i in range(number):
            for axis in axes[:, i]:
                axis.clear()
            _draw_path(axes[0, i], drawing, i, t)
            _draw_view(axes[1, i], drawing, i, t)
            _draw_bars(axes[2, i], drawing, i, t)
        return list(axes.flat)

    animation = FuncAnimation(figure, draw, frames=steps, init_func=lambda: list(axes.flat))
    animation.save(path, writer=PillowWriter(fps=round(1 / seconds_a_glimpse)), dpi=70)


def location_counts(locations: Tensor) -> Tensor:
    """Count, for each step, how many locations are in each cell of the location square.

    Args:
        locations: [T, B, 2] in [−1, 1].

    Returns:
        [T, HEATMAP_BINS, HEATMAP_BINS] float32, rows y and columns x.
    """
    cells = ((locations + 1) / 2 * HEATMAP_BINS).long().clamp(0, HEATMAP_BINS - 1)
    flat = cells[..., 1] * HEATMAP_BINS + cells[..., 0]
    counts = torch.stack([row.bincount(minlength=HEATMAP_BINS**2) for row in flat.cpu()])
    return counts.float().unflatten(1, (HEATMAP_BINS, HEATMAP_BINS))


def draw_heatmaps(counts: Tensor) -> "Figure":
    """One heatmap per step of the counts [T, bins, bins] from `location_counts`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * len(counts), 2.4), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False)[0]
    for t, axis in enumerate(axes):
        axis.imshow(counts[t].numpy(), cmap="magma", extent=(-1, 1, 1, -1))
        axis.set_title(f"glimpse {t + 1}", fontsize=8)
        axis.tick_params(labelsize=6)
    return figure


def _draw_path(axis: "Axes", drawing: Drawing, i: int, last: int) -> None:
    """Draw the image and, on it, the finest patch of each glimpse up to glimpse `last`."""
    axis.imshow(drawing.images[i].numpy(), cmap="gray", vmin=0, vmax=1)
    centres = drawing.centres[: last + 1, i]
    axis.plot(*(centres.T.numpy() - 0.5), "-o", color="tab:orange", markersize=2, linewidth=1)
    for t, centre in enumerate(centres.tolist()):
        _draw_box(axis, centre, drawing.widths[:1], "tab:red" if t == last else "tab:orange")
    prediction = int(drawing.probabilities[last, i].argmax())
    label = int(drawing.labels[i])
    colour = "tab:green" if prediction == label else "tab:red"
    axis.set_title(f"{label}, predicted {prediction}", fontsize=8, color=colour)
    _hide_ticks(axis, drawing)


def _draw_view(axis: "Axes", drawing: Drawing, i: int, t: int) -> None:
    axis.imshow(drawing.views[t, i].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_facecolor("tab:blue")  # the colour of pixels that no glimpse has covered yet
    _draw_box(axis, drawing.centres[t, i].tolist(), drawing.widths, "tab:red")
    probabilities = drawing.probabilities[t, i]
    axis.set_title(f"{int(probabilities.argmax())}: {float(probabilities.max()):.0%}", fontsize=8)
    _hide_ticks(axis, drawing)


def _draw_bars(axis: "Axes", drawing: Drawing, i: int, t: int) -> None:
    probabilities = drawing.probabilities[t, i]
    label = int(drawing.labels[i])
    colours = ["tab:green" if k == label else "tab:gray" for k in range(len(probabilities))]
    axis.bar(range(len(probabilities)), probabilities.tolist(), color=colours)
    axis.set_ylim(0, 1)
    axis.set_xticks(range(len(probabilities)))
    axis.tick_params(labelsize=6)


def _draw_probabilities_by_step(axis: "Axes", drawing: Drawing, i: int) -> None:
    axis.imshow(drawing.probabilities[:, i].numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(drawing.probabilities.shape[-1]))
    axis.set_yticks([])
    axis.set_ylabel("glimpse →", fontsize=6, rotation=270, labelpad=8)
    axis.tick_params(labelsize=6)
    axis.get_xticklabels()[int(drawing.labels[i])].set_color("tab:green")


def _draw_box(axis: "Axes", centre: Sequence[int], widths: tuple[int, ...], colour: str) -> None:
    from matplotlib.patches import Rectangle

    for width in widths:
        corner = (centre[0] - width // 2 - 0.5, centre[1] - width // 2 - 0.5)
        axis.add_patch(Rectangle(corner, width, width, fill=False, color=colour, linewidth=1))


def _hide_ticks(axis: "Axes", drawing: Drawing) -> None:
    height, width = drawing.images.shape[1:]
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
