"""Pictures for the reports, as PNGs inlined in data URIs. Shared by `select` and the demo."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from entroselect.reference import unit_rows
from entroselect.results import Float64, Int64

COLOURS = {
    "whole pool": "#9aa3ad",
    "before": "#9aa3ad",
    "greedy": "#1f6fb2",
    "threshold": "#d9762b",
    "anchored": "#8a4fa3",
    "random": "#4c9a62",
}
WIDTH = 9.0  # inches
DOTS_PER_INCH = 120
LARGEST_SIDE = 64  # pixels of one image in a grid


class NotebookFigure(Figure):
    """A figure that every notebook shows. matplotlib's own is shown once pyplot was imported, which
    is told by then to draw there."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


class Images:
    """Turns rows into images of one brightness scale.

    Args:
        rows: (n, d) pool.
        shape: (h, w), (h, w, channels) or (channels, h, w), as given by `image_shape`.
    """

    def __init__(self, rows: NDArray[Any], shape: tuple[int, ...]) -> None:
        self.rows = rows
        self.shape = shape
        seen = sample(rows, 500)
        if rows.dtype == np.uint8 and seen.max() > 64:
            self.low, self.high = 0.0, 255.0
        else:
            self.low, self.high = float(seen.min()), float(seen.max())

    def __call__(self, indices: Int64) -> Float64:
        """(m, h, w, 3) on 0 to 1, large images thinned out."""
        images = np.asarray(self.rows[indices], dtype=np.float64).reshape(-1, *self.shape)
        if images.ndim == 3:
            images = images[..., None]
        elif _channels_first(self.shape):
            images = np.moveaxis(images, 1, -1)
        step = math.ceil(max(images.shape[1:3]) / LARGEST_SIDE)
        images = (images[:, ::step, ::step, :3] - self.low) / ((self.high - self.low) or 1.0)
        return np.clip(np.broadcast_to(images, (*images.shape[:3], 3)), 0.0, 1.0)


def image_shape(stored: tuple[int, ...], rows: NDArray[Any]) -> tuple[int, ...] | None:
    """The shape of one row as an image, or None when the rows do not look like images.

    `stored` is the array's shape in its file. Rows of a square number of whole values on 0 to
    255 are taken for square grey images.
    """
    shape = stored[1:]
    if len(shape) == 2 and min(shape) > 1:
        return shape
    if len(shape) == 3 and (shape[-1] in (1, 3, 4) or _channels_first(shape)):
        return shape
    side = math.isqrt(rows.shape[1])
    if len(shape) == 1 and side >= 4 and side * side == rows.shape[1]:
        seen = sample(rows, 500)
        if seen.min() >= 0 and 16 <= seen.max() <= 255 and (seen == np.floor(seen)).all():
            return side, side
    return None


def _channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and shape[-1] not in (1, 3, 4)


def sample(rows: NDArray[Any], size: int) -> Float64:
    """At most `size` rows as float64, drawn with a fixed seed."""
    if len(rows) > size:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), size, replace=False))]
    return np.asarray(rows, dtype=np.float64)


def tile(images: Float64, columns: int, gap: float = 0.12) -> Float64:
    """One (H, W, 3) picture of the images, row by row, on white."""
    count, height, width, _ = images.shape
    space = max(1, round(gap * width))
    lines = math.ceil(count / columns)
    sheet = np.ones((lines * (height + space) - space, columns * (width + space) - space, 3))
    for number, image in enumerate(images):
        top, left = number // columns * (height + space), number % columns * (width + space)
        sheet[top : top + height, left : left + width] = image
    return sheet


def image_grid(images: Float64, columns: int = 15) -> str:
    """Images in reading order."""
    sheet = tile(images, columns)
    figure = Figure(figsize=(WIDTH, WIDTH * sheet.shape[0] / sheet.shape[1]))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return data_uri(figure)


def image_pairs(upper: Float64, lower: Float64, distances: Float64) -> str:
    """Images above their partners, with the distance between the two over each pair."""
    columns = max(len(upper), 10)  # a few pairs stay small
    _, height, width, _ = upper.shape
    inches = 2 * WIDTH / columns * height / width + 0.25
    figure = Figure(figsize=(WIDTH, inches))
    figure.subplots_adjust(0.0, 0.0, 1.0, 1 - 0.25 / inches, wspace=0.08, hspace=0.04)
    grid = figure.subplots(2, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, (above, below, distance) in enumerate(zip(upper, lower, distances, strict=True)):
        grid[0, column].imshow(above, interpolation="nearest")
        grid[0, column].set_title(f"{distance:.4g}", fontsize=8, color="#57606a")
        grid[1, column].imshow(below, interpolation="nearest")
    return data_uri(figure)


def radius_curves(curves: Mapping[str, tuple[Any, Float64]]) -> str:
    """Covering radius against the number of picks, one line per name."""
    figure, axes = _axes(3.6)
    draw_radius(axes, curves)
    return data_uri(figure)


def draw_radius(axes: Axes, curves: Mapping[str, tuple[Any, Float64]]) -> None:
    """As `radius_curves`, in axes of the caller."""
    for name, (ranks, radii) in curves.items():
        marker = {"marker": "o", "markersize": 3.5} if len(radii) <= 40 else {}
        axes.plot(ranks, radii, color=COLOURS[name], label=name, linewidth=1.8, **marker)  # type: ignore[arg-type]
    every = np.concatenate([radii for _, radii in curves.values()])
    if max(max(ranks, default=0) for ranks, _ in curves.values()) > 20:
        axes.set_xscale("log")
    if len(every) and every.min() > 0 and every.max() > 10 * every.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("rows chosen")
    axes.set_ylabel("radius")
    if len(curves) > 1:
        axes.legend(frameon=False, loc="upper right")


def distance_histograms(distances: Mapping[str, Float64]) -> str:
    """Shares of rows by distance to their nearest other row, one outline per name."""
    figure, axes = _axes(3.4)
    every = np.concatenate(list(distances.values()))
    edges = np.linspace(every.min(), every.max() or 1.0, 61).tolist()
    for name, values in distances.items():
        colour = COLOURS[name]
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, edges, weights=weights, color=colour, alpha=0.18)
        axes.hist(
            values,
            edges,
            weights=weights,
            histtype="step",
            color=colour,
            linewidth=1.6,
            label=f"{name} ({len(values):,} rows)",
        )
    axes.set_xlabel("distance to the nearest other row")
    axes.set_ylabel("% of rows")
    axes.legend(frameon=False)
    return data_uri(figure)


def scatter(rows: NDArray[Any], picked: NDArray[Any], name: str, metric: str) -> str:
    """Picked rows over the pool, both projected on the pool's first two principal components."""
    figure, axes = _axes(5.6)
    draw_scatter(axes, rows, picked, name, metric)
    return data_uri(figure)


def draw_scatter(
    axes: Axes, rows: NDArray[Any], picked: NDArray[Any], name: str, metric: str
) -> None:
    """As `scatter`, in axes of the caller."""
    pool, picks = sample(rows, 3000), sample(picked, 3000)
    if metric == "cosine":
        pool, picks = (unit_rows(x) for x in (pool, picks))
    mean, directions = principal(pool)
    for values, colour, size, label in (
        (pool, COLOURS["whole pool"], 7, f"pool ({len(pool):,} of {len(rows):,} shown)"),
        (picks, COLOURS[name], 9, f"picked ({len(picks):,} of {len(picked):,} shown)"),
    ):
        x, y = directions @ (values - mean).T
        axes.scatter(x, y, s=size, color=colour, alpha=0.7, linewidths=0, label=label)
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second principal component")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, markerscale=2, loc="upper right")


def principal(rows: Float64) -> tuple[Float64, Float64]:
    """(mean (d,), first two singular directions (2, d) of the centred rows, 0 if there are less);
    an SVD of n x d."""
    mean = rows.mean(axis=0)
    found = np.linalg.svd(rows - mean, full_matrices=False)[2][:2]
    directions = np.zeros((2, rows.shape[1]))
    directions[: len(found)] = found
    return mean, directions


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, style(figure.add_subplot())


def style(axes: Axes) -> Axes:
    """The same axes in the style of all pictures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    return axes


def plain(label: str) -> str:
    """The label with every $ escaped; matplotlib would set mathematics between two of them."""
    return label.replace("$", r"\$")


def data_uri(figure: Figure) -> str:
    """The figure as an inline PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)  # Agg: no display needed
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
