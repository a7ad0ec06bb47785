"""Claims beside each other: every part's estimate with its interval, positive where it goes the claimed way."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from s6lib.evidence import verdicts
from s6lib.evidence.measures import POINTS
from s6lib.plots.style import PLAIN, data_title, said_empty
from s6lib.records import Record
from s6lib.studies.base import BLACK, BLUE, GREEN, GREY, RED

# Of a part's line and dot, by the verdict's first words; the dots of what no look has tested are hollow.
COLOURS = {"supported": GREEN, "contradicted": RED, "no difference": BLUE, "undecided": GREY, verdicts.UNTESTED: GREY}
TICKS = (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
FEW_TICKS = (0, 0.1, 1, 10, 100)  # where effects are large
COLUMNS = ["study", "claim", "part", "estimate", "low", "high", "unit", "verdict", "band"]


def parts(records: Sequence[Record]) -> pd.DataFrame:
    """A row per part of every claim whose arms are there, with its claim's verdict."""
    rows = [
        {**part, "part": part["text"], "band": band(part)}
        | {"study": row["study"], "claim": row["claim"], "verdict": verdicts.in_words(row)}
        for row in verdicts.verdicts(records)
        for part in row["parts"]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def band(part: dict) -> float | None:
    """Up to which size a part's difference counts as none; None where every difference counts."""
    return part["bound"] if part["relation"] == "within" else part["margin"]


def forest(records: Sequence[Record], study: str) -> Figure:
    """One study's claims part by part: estimates with 95 % intervals, points above (on a scale that is linear up to
    0.1) and losses below; shaded, part by part, what counts as no difference. `records` are all there are: verdicts are
    corrected for the claims tested together."""
    table = parts(records)
    table = table[table.study == study]
    kinds = sorted(table.unit.unique(), key=lambda unit: unit != POINTS)
    counts = [int((table.unit == unit).sum()) for unit in kinds] or [1]
    size = (9, 1.2 + 0.27 * sum(counts) + 0.7 * len(counts))
    figure, grid = plt.subplots(len(counts), 1, figsize=size, height_ratios=counts, squeeze=False)
    if said_empty(grid[0, 0], [] if table.empty else records):
        return figure
    own = [record for record in records if record.trial.study == study]
    figure.suptitle(f"{data_title(own)}: claims part by part, positive as claimed", x=0.01, ha="left")
    for ax, unit in zip(grid[:, 0], kinds, strict=True):
        _estimates(ax, table[table.unit == unit], unit)
    for word in COLOURS:
        if any(kind(verdict) == word for verdict in table.verdict):
            grid[0, 0].plot([], [], label=f"claim {word}", **dot(word))
    grid[0, 0].fill_between([], [], color=GREY, alpha=0.15, label="counts as no difference")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def kind(verdict: str) -> str:
    """Its first words, those that COLOURS has."""
    return next(word for word in COLOURS if verdict.startswith(word))


def dot(word: str) -> dict:
    """How a part's estimate is drawn."""
    colour = COLOURS[word]
    return {"marker": "o", "ls": "none", "color": colour, "mfc": "white" if word == verdicts.UNTESTED else colour}


def _estimates(ax: Axes, table: pd.DataFrame, unit: str) -> None:
    for y, row in enumerate(table.itertuples()):
        look = dot(kind(row.verdict))
        ax.plot([row.low, row.high], [y, y], color=look["color"], lw=2)
        ax.plot(row.estimate, y, **look)
        if pd.notna(row.band):
            ax.fill_betweenx([y - 0.5, y + 0.5], -row.band, row.band, color=GREY, alpha=0.15, linewidth=0)
    if unit == POINTS:
        ax.set_xscale("symlog", linthresh=0.1)
        ticks = TICKS if table[["estimate", "low", "high"]].abs().max(axis=None) < 5 else FEW_TICKS
        both = FixedLocator([*(-one for one in ticks[:0:-1]), *ticks])
        ax.xaxis.set(major_locator=both, major_formatter=PLAIN, minor_locator=NullLocator())
    ax.axvline(0, color=BLACK, lw=0.8)
    names = [
        f"{row.claim}:  {row.part}{': needs more epochs' if pd.isna(row.estimate) else ''}"
        for row in table.itertuples()
    ]
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"{unit}, log scale beyond 0.1" if unit == POINTS else unit)
    ax.grid(axis="y", visible=False)
