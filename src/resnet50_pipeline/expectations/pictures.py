"""Draws the figures in Data Docs: images per class, image sizes and file sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from resnet50_pipeline.expectations.distributions import BYTES_EDGES, SIDE_EDGES, ClassCount, Distributions
from resnet50_pipeline.figures import (
    DARK,
    LIGHT,
    SMALL_SIZE,
    Theme,
    blend,
    count_ticks,
    data_uri,
    encode_png,
    new_figure,
    shorten,
    style_axes,
)
from resnet50_pipeline.imagenet.lists.files import SPLITS, Split
from resnet50_pipeline.text import format_bytes

MAX_NAMED_CLASSES = 50
"""Up to this number of classes, each class is drawn as a named bar. More classes are drawn as a single outline."""
_CLASSES_INCHES = 5.6, 3.2
_SIZES_INCHES = 4.0, 3.2
_INCHES_PER_CLASS = 0.21
_MAX_NAME_LENGTH = 18
_CLASSES_IN_CAPTION = 3
# Number of empty bins on each side of the data. Without them, a single occupied bin would fill the entire axis.
_MARGIN_BINS = 4
_BINS_PER_TICK = 4
_MAX_TICKS = 6
_DASHES = (0, (4, 3))


@dataclass(frozen=True)
class Picture:
    """A figure in the Data Docs, with its title and caption.

    Attributes:
        title: heading above the figure.
        caption: the main numbers, as text below the figure.
        alt: description of the axes, for screen readers.
        light: PNG for light pages, as a `data:` URI.
        dark: PNG for dark pages, as a `data:` URI.
    """

    title: str
    caption: str
    alt: str
    light: str
    dark: str


def draw_pictures(distributions: Distributions) -> dict[str, list[Picture]]:
    """Draw the class balance of each split, the image sizes and the file sizes, in groups that each have a heading.

    Figures without data are omitted.
    """
    groups = {"Images per class": _draw_classes(distributions), "Sizes": _draw_sizes(distributions)}
    return {heading: pictures for heading, pictures in groups.items() if pictures}


def _draw_classes(distributions: Distributions) -> list[Picture]:
    return [
        _make_picture(
            f"{split}/",
            describe_class_balance(counts),
            f"Images per class in {split}/",
            partial(draw_class_balance, split, counts),
        )
        for split in SPLITS
        if (counts := distributions.class_counts[split])
    ]


def _draw_sizes(distributions: Distributions) -> list[Picture]:
    pictures = []
    if distributions.sides.any():
        pictures += [
            _make_picture(
                "Width and height",
                _describe_sides(distributions.quantiles),
                "Number of images by width and height in pixels",
                partial(draw_sides, distributions.sides),
            ),
            _make_picture(
                "Shorter side",
                _describe_short_sides(distributions.quantiles["short_side"]),
                "Number of images by their shorter side in pixels",
                partial(draw_short_sides, distributions.short_sides),
            ),
        ]
    if distributions.file_sizes.any():
        pictures.append(
            _make_picture(
                "File size",
                _describe_file_sizes(distributions.quantiles["bytes"]),
                "Number of images by file size",
                partial(draw_file_sizes, distributions.file_sizes),
            )
        )
    return pictures


def draw_class_balance(split: Split, counts: Sequence[ClassCount], theme: Theme = LIGHT) -> Figure:
    """Draw the number of images per class.

    Up to `MAX_NAMED_CLASSES` classes are drawn as named bars, sorted by label. More classes are drawn as an outline in
    descending order.
    """
    color = theme.main if split == "train" else theme.contrast
    if len(counts) <= MAX_NAMED_CLASSES:
        return _draw_named_classes(counts, theme, color)
    images = [one.images for one in counts]
    figure, axes = _new_axes(theme, _CLASSES_INCHES)
    # A bar per class would be narrower than a pixel.
    axes.stairs(sorted(images, reverse=True), fill=True, color=color)
    axes.set(xlim=(0, len(counts)), ylim=(0, 1.1 * max(images)), ylabel="images")
    axes.set_xlabel(f"{len(counts):,} classes, largest first")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(count_ticks())
    if min(images) < max(images):
        axes.axhline(median(images), color=theme.text, linewidth=1.2, linestyle=_DASHES)
    return figure


def _draw_named_classes(counts: Sequence[ClassCount], theme: Theme, color: str) -> Figure:
    width, height = _CLASSES_INCHES
    figure, axes = _new_axes(theme, (width, max(height, 0.8 + _INCHES_PER_CLASS * len(counts))))
    images = [one.images for one in counts]
    bars = axes.barh(range(len(counts)), images, height=0.74, color=color)
    axes.bar_label(bars, [f"{count:,}" for count in images], padding=3, color=theme.muted, fontsize=SMALL_SIZE)
    # Class names may contain `$`, which matplotlib would interpret as math.
    axes.set_yticks(range(len(counts)), [shorten(one.name, _MAX_NAME_LENGTH) for one in counts], parse_math=False)
    axes.set(xlim=(0, 1.14 * max(images)), ylim=(len(counts) - 0.4, -0.6), xlabel="images")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(count_ticks())
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=theme.grid, linewidth=0.9)
    if min(images) < max(images):
        axes.axvline(median(images), color=theme.text, linewidth=1.2, linestyle=_DASHES)
    return figure


def describe_class_balance(counts: Sequence[ClassCount]) -> str:
    """Describe the range and median of the images per class, and list the smallest and largest classes."""
    smallest = sorted(counts, key=lambda one: one.images)[:_CLASSES_IN_CAPTION]
    largest = sorted(counts, key=lambda one: -one.images)[:_CLASSES_IN_CAPTION]
    fewest, most = smallest[0].images, largest[0].images
    if fewest == most:
        return f"{len(counts):,} classes with {most:,} images each."
    return (
        f"{len(counts):,} classes with {fewest:,} to {most:,} images; the median is "
        f"{median(one.images for one in counts):,.0f} (dashed line). "
        f"Smallest: {_list_classes(smallest)}. Largest: {_list_classes(largest)}."
    )


def draw_sides(sides: NDArray[np.int64], theme: Theme = LIGHT) -> Figure:
    """Draw a heat map of images by width and height. `sides` has shape [W, H], with bins defined by `SIDE_EDGES`."""
    figure, axes = _new_axes(theme)
    occupied = np.flatnonzero(sides.any(axis=0) | sides.any(axis=1))
    colors = LinearSegmentedColormap.from_list(
        "images", [blend(theme.main, theme.background, weight) for weight in (0.2, 1)]
    )
    cells = axes.pcolormesh(
        SIDE_EDGES,
        SIDE_EDGES,
        np.where(sides.T > 0, sides.T, np.nan),
        cmap=colors,
        # A logarithmic color scale needs two different limits.
        norm=LogNorm(vmin=1, vmax=max(2, int(sides.max()))),
    )
    for axis in ("x", "y"):
        _scale_to_bins(axes, axis, SIDE_EDGES, occupied, _format_side)
    axes.axline((SIDE_EDGES[0], SIDE_EDGES[0]), (SIDE_EDGES[-1], SIDE_EDGES[-1]), color=theme.muted, linestyle=_DASHES)
    axes.set(aspect="equal", xlabel="width in pixels", ylabel="height in pixels")
    bar = figure.colorbar(cells, ax=axes, format=count_ticks(), shrink=0.9)
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.ax.tick_params(colors=theme.muted, labelsize=SMALL_SIZE, length=0)
    bar.set_label("images", color=theme.muted, fontsize=SMALL_SIZE)
    return figure


def draw_short_sides(counts: NDArray[np.int64], theme: Theme = LIGHT) -> Figure:
    """Draw a histogram of images by shorter side. `counts` has shape [S], with one count per bin of `SIDE_EDGES`."""
    figure, axes = _draw_histogram(counts, SIDE_EDGES, theme, _format_side)
    axes.set_xlabel("shorter side in pixels")
    return figure


def draw_file_sizes(counts: NDArray[np.int64], theme: Theme = LIGHT) -> Figure:
    """Draw a histogram of images by file size. `counts` has shape [B], with one count per bin of `BYTES_EDGES`."""
    figure, axes = _draw_histogram(counts, BYTES_EDGES, theme, format_bytes)
    axes.set_xlabel("file size")
    return figure


def _make_picture(title: str, caption: str, alt: str, draw: Callable[[Theme], Figure]) -> Picture:
    light, dark = (data_uri(encode_png(draw(theme)), "image/png") for theme in (LIGHT, DARK))
    return Picture(title, caption, alt, light, dark)


def _new_axes(theme: Theme, inches: tuple[float, float] = _SIZES_INCHES) -> tuple[Figure, Axes]:
    figure = new_figure(*inches, theme)
    axes: Axes = figure.subplots()
    style_axes(axes, theme)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(count_ticks())
    return figure, axes


def _draw_histogram(
    counts: NDArray[np.int64], edges: NDArray[np.float64], theme: Theme, format_tick: Callable[[float], str]
) -> tuple[Figure, Axes]:
    figure, axes = _new_axes(theme)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=theme.main, edgecolor=theme.background)
    _scale_to_bins(axes, "x", edges, np.flatnonzero(counts), format_tick)
    axes.set_ylabel("images")
    return figure, axes


def _scale_to_bins(
    axes: Axes,
    axis: str,
    edges: NDArray[np.float64],
    occupied: NDArray[np.int64],
    format_tick: Callable[[float], str],
) -> None:
    """Make an axis logarithmic and limit it to the occupied bins plus a margin, with ticks at bin edges."""
    low = max(int(occupied[0]) - _MARGIN_BINS, 0)
    high = min(int(occupied[-1]) + 1 + _MARGIN_BINS, len(edges) - 1)
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (edges[low], edges[high])})
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    shown = [edge for number, edge in enumerate(edges) if number % _BINS_PER_TICK == 0 and low <= number <= high]
    ticks.set_major_locator(FixedLocator(shown[:: math.ceil(len(shown) / _MAX_TICKS)]))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))
    ticks.set_minor_locator(NullLocator())


def _describe_sides(quantiles: dict[str, dict[str, float]]) -> str:
    width, height = (_show_range(quantiles[name], _format_pixels) for name in ("width", "height"))
    return f"Width: {width}. Height: {height}. The dashed line marks square images."


def _describe_short_sides(quantiles: dict[str, float]) -> str:
    most = (
        f"90% of the images are between {quantiles['p05']:,.0f} and {quantiles['p95']:,.0f} pixels. "
        if quantiles["p05"] < quantiles["p95"]
        else ""
    )
    return f"{_show_range(quantiles, _format_pixels)}. {most}Images smaller than the crop size are enlarged."


def _describe_file_sizes(quantiles: dict[str, float]) -> str:
    return f"{_show_range(quantiles, format_bytes)}."


def _list_classes(classes: Sequence[ClassCount]) -> str:
    return ", ".join(f"{one.name} ({one.images:,})" for one in classes)


def _show_range(quantiles: dict[str, float], show: Callable[[float], str]) -> str:
    low, middle, high = (quantiles[name] for name in ("min", "median", "max"))
    return f"{show(low)} to {show(high)}, median {show(middle)}" if low < high else f"{show(low)} each"


def _format_pixels(pixels: float) -> str:
    return f"{pixels:,.0f} pixels"


def _format_side(pixels: float) -> str:
    return f"{pixels:.0f}"
