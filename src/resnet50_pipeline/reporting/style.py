"""One look for every picture: colours for light and dark pages, type sizes, axes and direct labels.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

DOTS_PER_INCH = 150
TITLE_SIZE = 13.0
TEXT_SIZE = 10.5
SMALL_SIZE = 9.5
_TITLE_INCHES = 0.56
_LABEL_GAP = 0.15
_HIGHEST_LABEL = 0.96
_MAX_LUMINANCE_FOR_WHITE_TEXT = 0.26


@dataclass(frozen=True)
class Theme:
    """The colours of a picture, `#rrggbb`."""

    background: str
    text: str
    muted: str
    grid: str
    main: str
    main_faint: str
    contrast: str


LIGHT = Theme(
    background="#ffffff",
    text="#1c2127",
    muted="#5a6470",
    grid="#e4e8ec",
    main="#0072b2",
    main_faint="#a9cfe6",
    contrast="#d55e00",
)
DARK = Theme(
    background="#171c23",
    text="#e8ebef",
    muted="#a2adb9",
    grid="#2d3540",
    main="#56b4e9",
    main_faint="#2f5876",
    contrast="#e69f00",
)


@dataclass(frozen=True)
class LineEnd:
    """What stands beside the last point of a line."""

    x: float
    y: float
    text: str
    color: str


def new_figure(width: float, height: float, theme: Theme, title: str = "", subtitle: str = "") -> Figure:
    """Return an empty figure of `width` by `height` inches, 150 pixels an inch, under its title if it has one."""
    top = 1 - _TITLE_INCHES / height if title else 1
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.14, wspace=0.06, hspace=0.05, rect=(0, 0, 1, top))
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=theme.background, layout=layout)
    left, baseline = 0.14 / width, top + 0.02 / height
    heading = figure.text(left, baseline + 0.24 / height, title, color=theme.text, fontsize=TITLE_SIZE, weight="bold")
    note = figure.text(left, baseline, subtitle, color=theme.muted, fontsize=SMALL_SIZE)
    for text in (heading, note):
        text.set_in_layout(False)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; equal figures give equal bytes."""
    figure.savefig(path, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})


def style_axes(axes: Axes, theme: Theme) -> None:
    """Give axes quiet spines and ticks, and a grid along y."""
    axes.set_facecolor(theme.background)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelsize=SMALL_SIZE, length=0, pad=5, which="both")
    axes.xaxis.label.set(color=theme.muted, fontsize=SMALL_SIZE)
    axes.yaxis.label.set(color=theme.muted, fontsize=SMALL_SIZE)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=theme.grid, linewidth=0.9)


def title_panel(axes: Axes, theme: Theme, title: str, subtitle: str) -> None:
    """Write the title and subtitle of one panel of a figure above its left edge."""
    for text, height, color, size, weight in (
        (title, 22, theme.text, TITLE_SIZE, "bold"),
        (subtitle, 7, theme.muted, SMALL_SIZE, "normal"),
    ):
        axes.annotate(
            text, (0, 1), (0, height), xycoords="axes fraction", textcoords="offset points", color=color, fontsize=size,
            fontweight=weight, va="bottom",
        )  # fmt: skip


def label_line_ends(axes: Axes, ends: Sequence[LineEnd]) -> None:
    """Write each line's name right of its last point, moved apart where two would touch.

    Call it when the limits of the axes are final.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    ordered = sorted(ends, key=lambda end: float(to_axes.transform((end.x, end.y))[1]))
    heights = [float(to_axes.transform((end.x, end.y))[1]) for end in ordered]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + _LABEL_GAP)
    overshoot = max(heights[-1] - _HIGHEST_LABEL, 0) if heights else 0
    for end, height in zip(ordered, heights, strict=True):
        axes.annotate(
            end.text, (1, height - overshoot), (6, 0), xycoords="axes fraction", textcoords="offset points",
            color=end.color, fontsize=SMALL_SIZE, fontweight="bold", va="center", parse_math=False,
        )  # fmt: skip


def percent_ticks(decimals: int = 0) -> FuncFormatter:
    """Return a tick formatter from fractions to percent."""
    return FuncFormatter(lambda value, _: format_percent(value, decimals))


def count_ticks() -> FuncFormatter:
    """Return a tick formatter for counts, as `format_count`."""
    return FuncFormatter(lambda value, _: format_count(value))


def format_percent(fraction: float, decimals: int = 1) -> str:
    """Return a fraction as percent, 0.953 as 95.3 %, with a space that never ends a line."""
    return f"{fraction * 100:.{decimals}f}\u00a0%"


def format_count(value: float) -> str:
    """Return a count in few characters: 59.6, 4,545, 25k, 1.28M."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    if value >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shorten(text: str, length: int) -> str:
    """Return `text` cut to `length` characters, the last an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"


def blend(color: str, background: str, weight: float) -> tuple[float, float, float]:
    """Return `weight` (0..1) of `color` over `background`, red, green and blue 0..1."""
    over, under = to_rgb(color), to_rgb(background)
    red, green, blue = (weight * a + (1 - weight) * b for a, b in zip(over, under, strict=True))
    return red, green, blue


def text_color_on(color: tuple[float, float, float]) -> str:
    """Return black or white, whichever reads better on `color` (relative luminance of WCAG 2.1)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < _MAX_LUMINANCE_FOR_WHITE_TEXT else "#101418"
