"""Figures of the benchmarks: training speed beside that of other programs, and what more seeds and trials cost."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from s6lib.plots.style import PLAIN
from s6lib.studies.base import BLACK, BLUE, GREEN, ORANGE

COLOURS = {"float32": ORANGE, "bfloat16": BLUE}
Row = dict[str, Any]


def training_speed(rows: Sequence[Row]) -> Figure:
    """Replica-images per second against replicas fused, a panel per network; the best others as level lines."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    size = (max(7.4, 3.6 * len(networks)), 3.8)  # the legend needs the room of two panels
    figure, axes = plt.subplots(1, len(networks), figsize=size, sharey=True, squeeze=False)
    for ax, network in zip(axes[0], networks, strict=True):
        same = [row for row in rows if row["network"] == network and not row["void"]]
        _ours([row for row in same if row["who"] == "s6lib"], ax)
        _others(same, ax)
        ax.set_title(network, loc="left")
    axes[0, 0].set_ylabel("training speed (replica-images/s)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _ours(rows: Sequence[Row], ax: Axes) -> None:
    forms, columns = ["precision", "processes"], ["replicas", "images_per_second", "lowest", "highest"]
    for (precision, processes), points in pd.DataFrame(rows, columns=forms + columns).groupby(forms):
        x, y, low, high = points.sort_values(columns)[columns].to_numpy().T
        name = "a process per core" if processes > 1 else "one process"
        marker, line = "os"[precision == "float32"], "-" if processes > 1 else ":"
        ax.plot(x, y, label=f"s6lib, {precision}, {name}", color=COLOURS[precision], marker=marker, ls=line)
        ax.vlines(x, low, high, color=COLOURS[precision], lw=1)
    counts = sorted({row["replicas"] for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.set(xlabel="replicas fused in a process (count)", ylim=(0, None))


def _others(rows: Sequence[Row], ax: Axes) -> None:
    levels: list[tuple[str, str, str, Any]] = [("plain PyTorch", *one, "--") for one in COLOURS.items()]
    levels += [("torch.func", "float32", GREEN, "-."), ("DataLoader loop", "float32", BLACK, (0, (1, 1)))]
    for who, precision, colour, style in levels:
        speeds = [row["images_per_second"] for row in rows if (row["who"], row["precision"]) == (who, precision)]
        if speeds:
            ax.axhline(max(speeds), color=colour, ls=style, lw=1.2, label=f"best {who}, {precision}")


def growing(seeds: Sequence[Row], trials: Sequence[Row]) -> Figure:
    """Time and memory per seed against seeds fused in one process, and of whole commands against trials."""
    figure, (time, memory, commands) = plt.subplots(1, 3, figsize=(10.8, 3.4))
    counts = [row["seeds"] for row in seeds]
    time.plot(counts, [row["seconds_per_epoch_and_seed"] for row in seeds], "o-", color=BLUE)
    time.set(ylabel="time per seed and epoch (s)", ylim=(0, None))
    memory.plot(counts, [row["memory_mb_per_seed"] for row in seeds], "o-", color=BLUE)
    memory.set(ylabel="peak memory per seed (MB, log scale)", yscale="log")
    memory.yaxis.set(major_locator=LogLocator(10, (1, 2, 5)), minor_locator=NullLocator(), major_formatter=PLAIN)
    for ax in (time, memory):
        ax.set_xscale("log", base=2)
        ax.set_xticks(counts, [str(count) for count in counts])
        ax.set_xlabel("seeds fused in one process (count)")
    for word, colour, marker in (("status", BLUE, "o"), ("plan", ORANGE, "s"), ("read", GREEN, "^")):
        label = "reading all records" if word == "read" else f"make {word}"
        commands.plot([row["trials"] for row in trials], [row[word] for row in trials], marker, ls="-", color=colour)
        commands.lines[-1].set_label(label)
    commands.set(xlabel="trials (count)", ylabel="time (s)", ylim=(0, None))
    commands.legend()
    return figure
