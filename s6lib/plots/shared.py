"""How figures look: colours, scales and words that all of them share, and the published numbers drawn beside ours."""

import zlib
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from s6lib.records import Record
from s6lib.studies import find_arm
from s6lib.studies.base import COLOURS

STYLE = {
    "figure.facecolor": "white",  # opaque, so that a figure reads on a dark page as well
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "text.color": "black",
    "axes.labelcolor": "black",
    "axes.edgecolor": "#444444",
    "xtick.color": "#222222",
    "ytick.color": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "image.cmap": "gray",
}
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>P"
NAMES = {
    "learning_rate": "learning rate (per step)",
    "train_loss": "training loss (nats per image)",
    "test_loss": "test loss (nats per image)",
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "seconds": "time per epoch, all seeds together (s)",
}


def style() -> None:
    """Sets the look of all figures; called once at the top of a notebook."""
    plt.rcParams.update(STYLE)


def trial_style(record: Record) -> tuple[str, str, str]:
    """Colour, line style and marker of a record's trial, the same in every figure and every run."""
    if arm := find_arm(record.trial.study, record.name):
        return arm.colour, arm.line, arm.marker
    number = zlib.crc32(record.name.encode())  # `hash` of a string differs from run to run
    return COLOURS[number % 8], LINES[number // 8 % 4], MARKERS[number // 32 % 8]


ACCURACY_TICKS = (99, 90, 99.4, 98, 50, 95, 80, 0, 99.2, 99.6, 97, 98.5, 99.8, 100, 99.9, 99.3, 99.5)  # by importance


def accuracy_scale(ax: Axes, label: str) -> None:
    """Accuracy in percent on an axis where equal steps are equal factors of the error, so that 99.4 and 99.5 part."""
    floor = 0.05  # in points of error: keeps 100 % on the page
    to = lambda y: -np.log10(np.maximum(100 + floor - np.asarray(y, float), floor / 2))  # noqa: E731
    back = lambda z: 100 + floor - 10.0 ** -np.asarray(z, float)  # noqa: E731
    panels = ax.get_shared_y_axes().get_siblings(ax)
    ends = np.array([panel.dataLim.intervaly for panel in panels if panel.has_data()])
    low, high = ends.min(), ends.max()
    ax.set_yscale("function", functions=(to, back))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    z = to(np.array([low, high])) + np.array([-0.04, 0.04]) * max(np.ptp(to(np.array([low, high]))), 0.2)
    ax.set_ylim(*np.clip(back(z), 0, 100 + floor / 2))
    height = ax.get_position().height * ax.figure.get_figheight()  # inches
    ax.yaxis.set_major_locator(
        FixedLocator(_apart(ACCURACY_TICKS, to, np.ptp(to(ax.get_ylim())) * 0.19 / height, ax.get_ylim()))
    )
    ax.set_ylabel(f"{label}\nlog scale of the error")


def _apart(ticks: Sequence[float], to: Callable, gap: float, limits: tuple[float, float]) -> list[float]:
    """The ticks within `limits`, the more important first, that stay `gap` apart from those kept before."""
    kept: list[float] = []
    for tick in ticks:
        if limits[0] <= tick <= limits[1] and all(abs(to(tick) - to(other)) >= gap for other in kept):
            kept.append(tick)
    return kept


def loss_scale(ax: Axes, label: str) -> None:
    """Loss on a logarithmic axis with plain numbers."""
    ax.set(yscale="log", ylabel=f"{label}\nlog scale")
    ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def epoch_axis(ax: Axes, epochs: int) -> None:
    ax.set(xlabel="epoch", xlim=(0.6, epochs + 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def seed_mean_lines(ax: Axes, wide: pd.DataFrame, colour: str, line: str, label: str | None) -> None:
    """Columns thin, their mean thick."""
    if wide.shape[1] > 1:
        ax.plot(wide.index, wide, color=colour, ls=line, lw=0.6, alpha=0.45)
    marker = "o" if len(wide) == 1 else ""
    ax.plot(wide.index, wide.mean(axis=1), color=colour, ls=line, lw=2.2, label=label, marker=marker)


def published_line(ax: Axes, table: pd.DataFrame, column: str, colour: str, label: str) -> None:
    if len(table):
        ax.plot(table.epoch, table[column], color=colour, ls="--", lw=1.2, zorder=1, label=label)


def layer_weights(record: Record, wanted: Callable[[str, np.ndarray], bool]) -> dict[str, np.ndarray]:
    """The weights [R, ...] that are `wanted`, in the network's order."""
    names = [name for name, w in record.weights.items() if wanted(name, w)]
    return {
        name: record.weights[name][record.non_diverged] for name in sorted(names, key=lambda n: int(n.split(".")[1]))
    }


def percent(mask: np.ndarray) -> float:
    return 100 * float(mask.sum()) / max(mask.size, 1)


def kept_weight_norms(record: Record) -> pd.DataFrame:
    return record.weight_norms[record.weight_norms.seed.isin([record.seeds[r] for r in record.non_diverged])]


def convolutions(record: Record) -> dict[str, np.ndarray]:
    return layer_weights(record, lambda name, w: name.endswith(".weight") and w.ndim == 5)


def legend_beside(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:  # else matplotlib warns
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def title(figure: Figure, records: Sequence[Record], text: str) -> None:
    name = f"{records[0].name}, " if len(records) == 1 else ""
    figure.suptitle(f"{data_title(records)}: {name}{text}", x=0.01, ha="left")


def data_title(records: Sequence[Record]) -> str:
    """Data set and study, which every figure names."""
    titles, studies = ({r.dataset["title"]: 0 for r in records}, {r.trial.study: 0 for r in records})
    return f"{' and '.join(titles)} · {' and '.join(studies)}"


def some(ax: Axes, records: Sequence[Record]) -> bool:
    """False, and said on the panel, when there is nothing to draw."""
    if not records:
        ax.text(0.5, 0.5, "no records", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
    return bool(records)
