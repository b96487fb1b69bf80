"""The pictures of the Data Docs, as SVG that stands in the page itself: class balance and sizes of images.

Colours are the page's CSS variables, so that they follow its light and its dark scheme. There are no scripts: what a
bar stands for is its `<title>`, which browsers show as a tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.expectations.distributions import BYTES_EDGES, SIDE_EDGES, ClassCount, Distributions
from resnet50_pipeline.imagenet.list_files import SPLITS, Split

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 18, 42
_MOST_CLASSES_NAMED = 24
_NAMED_AT_THE_ENDS = 3
_FEWEST_BINS = 10


@dataclass(frozen=True)
class Picture:
    """One picture with its words.

    Attributes:
        title: what it shows.
        caption: what can be seen in it, in numbers.
        svg: the `<svg>` element, escaped.
    """

    title: str
    caption: str
    svg: str


def draw_pictures(distributions: Distributions) -> list[Picture]:
    """Return the class balance of each split, the sizes of images and those of files: of what there is."""
    pictures = [
        _draw_balance(split, distributions.class_counts[split]) for split in SPLITS if distributions.class_counts[split]
    ]
    if distributions.sides.any():
        pictures += [_draw_sides(distributions), _draw_short_sides(distributions)]
    if distributions.file_sizes.any():
        pictures.append(_draw_file_sizes(distributions))
    return pictures


def _draw_balance(split: Split, counts: Sequence[ClassCount]) -> Picture:
    by_images = sorted(counts, key=lambda one: (-one.images, one.label))
    images = [one.images for one in by_images]
    middle = median(images)
    if len(counts) <= _MOST_CLASSES_NAMED:
        shown, x_label = list(counts), "class"
    else:
        shown, x_label = by_images, f"the {len(counts):,} classes, from the most images to the fewest"
    top = _round_up(max(images))
    plot = _Plot((0, len(shown)), (0, top))
    parts = plot.grid_y(_ticks(top))
    if shown is by_images:
        # One outline instead of a bar a class: a thousand bars are narrower than a pixel each.
        outline = [f"M{plot.x(0):.1f},{plot.y(0):.1f}"]
        for number, one in enumerate(shown):
            outline.append(f"V{plot.y(one.images):.1f}H{plot.x(number + 1):.1f}")
        parts.append(f'<path class="series {split}" d="{"".join(outline)}V{plot.y(0):.1f}Z"/>')
        rank_ticks = [tick for tick in _ticks(len(shown)) if 0 < tick <= len(shown)]
        parts += [plot.text_x(tick, f"{tick:,}") for tick in rank_ticks]
    else:
        parts += [
            plot.bar(number + 0.1, number + 0.9, one.images, f"{one.name}: {one.images:,} images", split)
            for number, one in enumerate(shown)
        ]
        step = math.ceil(len(shown) / 12)
        parts += [plot.text_x(number + 0.5, str(one.label)) for number, one in enumerate(shown) if number % step == 0]
    parts.append(plot.line("median", (0, middle), (len(shown), middle)))
    few, many = by_images[: -_NAMED_AT_THE_ENDS - 1 : -1], by_images[:_NAMED_AT_THE_ENDS]
    if images[0] == images[-1]:
        caption = f"{len(counts):,} classes of {images[0]:,} images each."
    else:
        caption = (
            f"{len(counts):,} classes of {images[-1]:,} to {images[0]:,} images, median {middle:,.0f} (dashed). "
            f"Fewest: {_list_classes(few)}; most: {_list_classes(many)}."
        )
    return Picture(f"Class balance of {split}/", caption, plot.svg(parts, f"images a class in {split}/", x_label))


def _draw_sides(distributions: Distributions) -> Picture:
    columns, rows = np.nonzero(distributions.sides)
    occupied = np.concatenate([columns, rows])
    low, high = _widen(int(occupied.min()), int(occupied.max()) + 1, len(distributions.sides))
    # Both axes alike, so that the diagonal is what is square.
    plot = _Plot((low, high), (low, high), width=_HEIGHT + _LEFT - _BOTTOM)
    most = int(distributions.sides.max())
    side_ticks = [number for number in range(low, high + 1) if number % 4 == 0]
    parts = plot.grid_y({number: _show_side(number) for number in side_ticks})
    parts += [plot.text_x(number, _show_side(number)) for number in side_ticks]
    parts.append(plot.line("median", (low, low), (high, high)))
    for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
        count = int(distributions.sides[column, row])
        strength = 0.15 + 0.85 * math.log1p(count) / math.log1p(most)
        title = f"{_range(SIDE_EDGES, column)} wide, {_range(SIDE_EDGES, row)} high: {count:,} images"
        parts.append(
            f'<rect class="series both" fill-opacity="{strength:.2f}" '
            f'x="{plot.x(column):.1f}" width="{plot.x(column + 1) - plot.x(column):.1f}" '
            f'y="{plot.y(row + 1):.1f}" height="{plot.y(row) - plot.y(row + 1):.1f}"><title>{title}</title></rect>'
        )
    width, height = distributions.quantiles["width"], distributions.quantiles["height"]
    caption = (
        f"Width {_show_quantiles(width)} pixels, height {_show_quantiles(height)} pixels: least, median and most. "
        "The stronger the colour, the more images; the dashed line is what is square."
    )
    return Picture("Width and height", caption, plot.svg(parts, "height in pixels", "width in pixels"))


def _draw_short_sides(distributions: Distributions) -> Picture:
    quantiles = distributions.quantiles["short_side"]
    svg = _draw_histogram(
        distributions.short_sides,
        lambda number: f"{_range(SIDE_EDGES, number)} pixels",
        lambda number: _show_side(number) if number % 4 == 0 else "",
        "shorter side in pixels",
    )
    caption = (
        f"{_show_quantiles(quantiles)} pixels: least, median and most; 90 % lie between {quantiles['p05']:,.0f} and "
        f"{quantiles['p95']:,.0f}. Images below the size of the crop are enlarged."
    )
    return Picture("Shorter side", caption, svg)


def _draw_file_sizes(distributions: Distributions) -> Picture:
    quantiles = distributions.quantiles["bytes"]
    svg = _draw_histogram(
        distributions.file_sizes,
        lambda number: f"{_show_bytes(BYTES_EDGES[number])} to {_show_bytes(BYTES_EDGES[number + 1])}",
        lambda number: _show_bytes(BYTES_EDGES[number]) if number % 4 == 2 else "",
        "size of the file",
    )
    values = " / ".join(_show_bytes(quantiles[name]) for name in ("min", "median", "max"))
    return Picture("File size", f"{values}: least, median and most.", svg)


def _draw_histogram(
    counts: NDArray[np.int64], name: Callable[[int], str], tick: Callable[[int], str], x_label: str
) -> str:
    occupied = np.flatnonzero(counts)
    low, high = _widen(int(occupied[0]) - 1, int(occupied[-1]) + 2, len(counts))
    top = _round_up(int(counts.max()))
    plot = _Plot((low, high), (0, top))
    parts = plot.grid_y(_ticks(top))
    parts += [
        plot.bar(
            number + 0.04, number + 0.96, int(counts[number]), f"{name(number)}: {counts[number]:,} images", "both"
        )
        for number in occupied.tolist()
    ]
    parts += [plot.text_x(number, tick(number)) for number in range(low, high + 1) if tick(number)]
    return plot.svg(parts, "images", x_label)


class _Plot:
    """The frame of one picture: from values to places in it."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], width: int = _WIDTH) -> None:
        self._x_range, self._y_range, self._width = x_range, y_range, width

    def x(self, value: float) -> float:
        low, high = self._x_range
        return _LEFT + (value - low) / (high - low) * (self._width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def grid_y(self, ticks: Iterable[int] | dict[int, str]) -> list[str]:
        """Return a line and a number for each tick."""
        shown = ticks if isinstance(ticks, dict) else {tick: f"{tick:,}" for tick in ticks}
        parts = []
        for tick, text in shown.items():
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{self._width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
            )
        return parts

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
        """Return a line between two points."""
        (x1, y1), (x2, y2) = ((self.x(x), self.y(y)) for x, y in (start, end))
        return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'

    def text_x(self, value: float, text: str) -> str:
        """Return a number below the axis."""
        return f'<text x="{self.x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>'

    def bar(self, start: float, end: float, value: int, title: str, series: str) -> str:
        """Return a bar from `start` to `end`, at least a pixel high where there is something."""
        height = max(self.y(0) - self.y(value), 1.0 if value else 0.0)
        return (
            f'<rect class="series {series}" x="{self.x(start):.1f}" y="{self.y(0) - height:.1f}" '
            f'width="{self.x(end) - self.x(start):.1f}" height="{height:.1f}"><title>{escape(title)}</title></rect>'
        )

    def svg(self, parts: Sequence[str], y_label: str, x_label: str) -> str:
        """Return the picture."""
        middle = (_LEFT + self._width - _RIGHT) / 2
        return (
            f'<svg viewBox="0 0 {self._width} {_HEIGHT}" role="img" aria-label="{escape(f"{y_label} by {x_label}")}" '
            f'style="max-width: {self._width * 1.15:.0f}px">'
            f'<text class="axis" x="{_LEFT}" y="9">{escape(y_label)}</text>'
            f"{''.join(parts)}"
            f"{self.line('base', (self._x_range[0], self._y_range[0]), (self._x_range[1], self._y_range[0]))}"
            f'<text class="axis" x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text></svg>'
        )


def _widen(low: int, high: int, bins: int) -> tuple[int, int]:
    """Return a range of bins around the given one that is wide enough to have numbers at its axis."""
    missing = max(_FEWEST_BINS - (high - low), 0)
    return max(low - missing // 2, 0), min(high + (missing + 1) // 2, bins)


def _ticks(top: int) -> list[int]:
    """Return about five round numbers from 0 to `top`."""
    step = _round_up(max(top // 5, 1))
    return list(range(0, top + 1, step))


def _round_up(value: int) -> int:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten, and their like, that is not below `value`."""
    power = 10 ** max(len(str(value)) - 1, 0)
    for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if factor * power >= value and float(factor * power).is_integer():
            return int(factor * power)
    return value


def _list_classes(classes: Sequence[ClassCount]) -> str:
    return ", ".join(f"{one.name} {one.images:,}" for one in classes)


def _range(edges: NDArray[np.float64], number: int) -> str:
    return f"{math.ceil(edges[number])} to {math.ceil(edges[number + 1]) - 1}"


def _show_side(number: int) -> str:
    return f"{SIDE_EDGES[number]:.0f}"


def _show_bytes(value: float) -> str:
    for unit in ("B", "KiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} MiB" if value < 10 else f"{value:.0f} MiB"


def _show_quantiles(quantiles: dict[str, float]) -> str:
    return " / ".join(f"{quantiles[name]:,.0f}" for name in ("min", "median", "max"))
