"""How figures look: one theme, a colour per trial, scales that spread out small errors, and texts all figures share."""

import functools
import io
import zlib
from collections.abc import Callable, Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

from s6lib.evidence.statistics import ENOUGH_SEEDS
from s6lib.evidence.tables import listed
from s6lib.records import NO_WEIGHTS, Record
from s6lib.studies import find_arm
from s6lib.studies.base import COLOURS

THEME = {
    "figure.facecolor": "white",  # opaque, so that a figure reads on a dark page as well
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "image.cmap": "gray",
}
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>P"
NAMES = {
    "train_loss": "running training loss (nats per image)",
    "test_loss": "test loss (nats per image)",
    "train_accuracy": "running training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "seconds": "time per epoch, all seeds together (s)",
}
BESIDE: dict = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}  # a legend right of its panel
NOTHING_KEPT = NO_WEIGHTS.replace(": ", ":\n")
FEW = f"intervals from {ENOUGH_SEEDS} seeds on"
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def style() -> None:
    """Sets the style of all figures and how notebooks store them; called once at the top of a notebook."""
    sns.set_theme("notebook", "whitegrid", rc=THEME)
    if (shell := get_ipython()) and shell.display_formatter:
        plt.figure().clear()  # the inline backend sets its own format at the first figure
        plt.close()
        shell.display_formatter.formatters["image/png"].for_type(Figure, palette_png)


def palette_png(figure: Figure) -> bytes:
    """A figure as a PNG with a palette of 256 colours: a third of the size of one without, and it looks the same."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi, bbox_inches="tight")
    return palette(Image.open(drawn))


def palette(picture: Image.Image) -> bytes:
    small = io.BytesIO()
    few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def trial_style(record: Record) -> tuple[str, str, str]:
    """Colour, line style and marker of a record's trial, the same in every figure and every run."""
    if arm := find_arm(record.trial.study, record.name):
        return arm.colour, arm.line, arm.marker
    number = zlib.crc32(record.name.encode())  # `hash` of a string differs from run to run
    return COLOURS[number % 8], LINES[number // 8 % 4], MARKERS[number // 32 % 8]


def panel(width: float, height: float, per_record: float = 0.0) -> Callable[[Callable[..., str]], Callable[..., Axes]]:
    """Makes `draw(records, ..., ax)` a figure of one panel. What it draws it returns as a line for the title.

    The Axes is made where none is given, `per_record` inches higher for every record; without records it says so.
    """

    def decorate(draw: Callable[..., str]) -> Callable[..., Axes]:
        @functools.wraps(draw)
        def drawn(records: Record | Sequence[Record], *rest, ax: Axes | None = None, **options) -> Axes:
            many = [records] if isinstance(records, Record) else list(records)
            ax = ax or plt.subplots(figsize=(width, height + per_record * len(many)))[1]
            if said_empty(ax, many):
                return ax
            text = draw(many, *rest, ax=ax, **options)
            ax.set_title(f"{data_title(many)}\n{text}", loc="left")
            if ax.get_legend_handles_labels()[0] and not ax.get_legend():
                ax.legend(**BESIDE)
            return ax

        return drawn

    return decorate


def said_empty(ax: Axes, records: Sequence[Record]) -> bool:
    """True, and said on the panel, when there is nothing to draw."""
    if not records:
        say(ax, "no records")
        ax.set_axis_off()
    return not records


def weightless(record: Record) -> Figure:
    """A figure that says why it shows nothing: the record was kept without weights."""
    figure, ax = plt.subplots(figsize=(7, 1.6))
    title(figure, [record], "no weights")
    say(ax, NOTHING_KEPT)
    ax.set_axis_off()
    return figure


def say(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


# --- words -----------------------------------------------------------------------------------------


def title(figure: Figure, records: Sequence[Record], text: str) -> None:
    name = f"{records[0].name}, " if len(records) == 1 else ""
    figure.suptitle(f"{data_title(records)}: {name}{text}", x=0.01, ha="left")


def data_title(records: Iterable[Record]) -> str:
    """Data set and study, which every figure names."""
    pairs = [(record.dataset["title"], record.trial.study) for record in records]
    titles, studies = (listed(dict.fromkeys(words)) for words in zip(*pairs, strict=True))
    return f"{titles} · {studies}"


# --- scales ----------------------------------------------------------------------------------------

ACCURACY_TICKS = (  # by importance; the last are for short axes
    *(99, 90, 99.4, 98, 50, 95, 80, 0, 99.2, 99.6, 97, 98.5, 99.8, 100, 99.9, 99.3, 99.5),
    *(96, 85, 92, 94, 70, 60, 88),
)
FLOOR = 0.05  # points of error added, which keeps 100 % on the page


def to_scale(accuracy: np.ndarray | float) -> np.ndarray:
    """-log10 of the error: equal steps are equal factors of it, so that 99.4 and 99.5 are told apart."""
    return -np.log10(np.maximum(100 + FLOOR - np.asarray(accuracy, float), FLOOR / 2))


def from_scale(z: np.ndarray | float) -> np.ndarray:
    return 100 + FLOOR - 10.0 ** -np.asarray(z, float)


def accuracy_scale(ax: Axes, label: str, axis: str = "y") -> None:
    """Accuracy in percent on a logarithmic scale of the error, with ticks that keep apart, from 0 to 100 %."""
    line = ax.yaxis if axis == "y" else ax.xaxis
    shared = ax.get_shared_y_axes() if axis == "y" else ax.get_shared_x_axes()
    panels = [one for one in shared.get_siblings(ax) if one.has_data()] or [ax]
    ends = np.clip([getattr(one.dataLim, f"interval{axis}") for one in panels], 0, 100)
    getattr(ax, f"set_{axis}scale")("function", functions=(to_scale, from_scale))
    z = to_scale(np.array([ends.min(), ends.max()]))
    z += np.array([-0.04, 0.04]) * max(np.ptp(z), 0.2)
    getattr(ax, f"set_{axis}lim")(*np.clip(from_scale(z), 0, 100 + FLOOR / 2))
    box, size = ax.get_position(), plt.Figure.get_size_inches(ax.get_figure(root=True) or plt.gcf())
    inches = box.height * size[1] / 0.19 if axis == "y" else box.width * size[0] / 0.6
    line.set_major_formatter(PLAIN)
    line.set_minor_locator(NullLocator())
    line.set_major_locator(FixedLocator(apart(ACCURACY_TICKS, np.ptp(z) / inches, from_scale(z))))
    line.set_label_text(f"{label}, log scale of the error" if axis == "x" else f"{label}\nlog scale of the error")


def apart(ticks: Sequence[float], gap: float, limits: np.ndarray) -> list[float]:
    """The ticks within `limits`, the more important first, that stay `gap` apart from those kept before."""
    kept: list[float] = []
    for tick in ticks:
        if limits[0] <= tick <= limits[1] and all(abs(to_scale(tick) - to_scale(other)) >= gap for other in kept):
            kept.append(tick)
    return kept


def loss_scale(ax: Axes, label: str) -> None:
    """Loss on a logarithmic axis with plain numbers."""
    ax.set(yscale="log", ylabel=f"{label}\nlog scale")
    ax.yaxis.set(major_locator=LogLocator(10, (1, 1.5, 2, 3, 5, 7), numticks=12), major_formatter=PLAIN)
    ax.yaxis.set_minor_formatter(NullFormatter())


def column_scale(ax: Axes, column: str) -> None:
    """The axis that suits a column of the history."""
    if column.endswith("accuracy"):
        accuracy_scale(ax, NAMES[column])
    elif column.endswith("loss"):
        loss_scale(ax, NAMES[column])
    else:
        ax.set_ylabel(NAMES[column])


def epoch_axis(ax: Axes, records: Iterable[Record]) -> None:
    ax.set(xlabel="epoch", xlim=(0.6, max(record.trial.epochs for record in records) + 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
