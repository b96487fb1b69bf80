"""Defines the look of all figures: light and dark colors, font sizes, axes and labels.

The series colors come from the color-blind safe palette of Okabe and Ito (2008).
"""

from __future__ import annotations

import base64
import io
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

logger = logging.getLogger(__name__)

# Fonts, if installed, for class names in scripts that matplotlib's own font does not cover.
_MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai", "Unifont"),
)
_INSTALLED = {font.name for font in fontManager.ttflist}
rcParams["font.family"] = ["DejaVu Sans", *(name for name in _MORE_FONTS if name in _INSTALLED)]
_MISSING_GLYPH = re.compile(r"Glyph ([0-9]+) ")
# Characters already reported, so that each character is reported only once.
_named_characters: set[str] = set()

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
    """The colors of a figure, each as `#rrggbb`."""

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
    """The label at the last point of a line, in data coordinates."""

    x: float
    y: float
    text: str
    color: str


def new_figure(width: float, height: float, theme: Theme, title: str = "", subtitle: str = "") -> Figure:
    """Return an empty figure with an optional title and subtitle.

    Args:
        width: width in inches. Figures have 150 pixels per inch.
        height: height in inches.
        theme: colors to use.
        title: bold text above the axes.
        subtitle: smaller text below the title.
    """
    top = 1 - _TITLE_INCHES / height if title else 1
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.14, wspace=0.06, hspace=0.05, rect=(0, 0, 1, top))
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=theme.background, layout=layout)
    left, baseline = 0.14 / width, top + 0.02 / height
    heading = figure.text(left, baseline + 0.24 / height, title, color=theme.text, fontsize=TITLE_SIZE, weight="bold")
    note = figure.text(left, baseline, subtitle, color=theme.muted, fontsize=SMALL_SIZE)
    for text in (heading, note):
        text.set_in_layout(False)
    return figure


def save_png(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as a PNG file. Identical figures produce identical bytes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Otherwise, matplotlib would write its version number to the file.
        figure.savefig(target, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    missing = set()
    for warning in caught:
        if (match := _MISSING_GLYPH.match(str(warning.message))) is not None:
            missing.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if new := sorted(missing - _named_characters):
        _named_characters.update(new)
        logger.warning(
            "figures show boxes instead of %s, because no installed font has these characters (tables do show them) "
            "→ install a font, such as Debian's fonts-noto-cjk",
            " ".join(new[:10]),
        )


def encode_png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes. Identical figures produce identical bytes."""
    buffer = io.BytesIO()
    save_png(figure, buffer)
    return buffer.getvalue()


def data_uri(data: bytes, media_type: str) -> str:
    """Return bytes as a base64 `data:` URI that can be embedded in an HTML page."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def style_axes(axes: Axes, theme: Theme) -> None:
    """Apply the theme to axes: only a bottom spine, muted ticks, and horizontal grid lines."""
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
    """Write a panel's title and subtitle above it, aligned with its left edge."""
    for text, height, color, size, weight in (
        (title, 22, theme.text, TITLE_SIZE, "bold"),
        (subtitle, 7, theme.muted, SMALL_SIZE, "normal"),
    ):
        axes.annotate(
            text, (0, 1), (0, height), xycoords="axes fraction", textcoords="offset points", color=color, fontsize=size,
            fontweight=weight, va="bottom",
        )  # fmt: skip


def label_line_ends(axes: Axes, ends: Sequence[LineEnd]) -> None:
    """Label each line to the right of its last point, moving overlapping labels apart.

    Call this once the axis limits are final.
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
    """Return a tick formatter that shows fractions as percentages."""
    return FuncFormatter(lambda value, _: format_percent(value, decimals))


def count_ticks() -> FuncFormatter:
    """Return a tick formatter that shows counts as `format_count` does."""
    return FuncFormatter(lambda value, _: format_count(value))


def format_percent(fraction: float, decimals: int = 1) -> str:
    """Return a fraction as a percentage: 0.953 becomes `95.3%`."""
    return f"{fraction * 100:.{decimals}f}%"


def format_count(value: float) -> str:
    """Return a count in short form: 59.6, 4,545, 25k, 1.28M."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    if value >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shorten(text: str, length: int) -> str:
    """Return `text` shortened to at most `length` characters, with an ellipsis at the end if text was cut off."""
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"


def blend(color: str, background: str, weight: float) -> tuple[float, float, float]:
    """Return a mix of two colors as red, green and blue in 0..1, where `weight` (0..1) is the share of `color`."""
    over, under = to_rgb(color), to_rgb(background)
    red, green, blue = (weight * a + (1 - weight) * b for a, b in zip(over, under, strict=True))
    return red, green, blue


def text_color_on(color: tuple[float, float, float]) -> str:
    """Return a near-black or white text color that is readable on `color` (WCAG 2.1 relative luminance)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < _MAX_LUMINANCE_FOR_WHITE_TEXT else "#101418"
