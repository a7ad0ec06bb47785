"""One figure of a training under way, redrawn after every epoch."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import DisplayHandle
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s6lib.plots.epochs import draw_seeds, seeds
from s6lib.plots.style import BESIDE, accuracy_scale, loss_scale
from s6lib.studies.base import COLOURS


def live(on: bool = True) -> Callable[[pd.DataFrame], None] | None:
    """What a notebook passes to a training as `live`: one figure, renewed; None where `on` is false."""
    return Live() if on else None


class Live:
    """Shows the histories it is called with in one and the same place."""

    def __init__(self) -> None:
        self.handle, self.shown = DisplayHandle(), False

    def __call__(self, table: pd.DataFrame) -> None:
        figure = growing_curves(table)
        plt.close(figure)
        (self.handle.update if self.shown else self.handle.display)(figure)
        self.shown = True


def growing_curves(table: pd.DataFrame) -> Figure:
    """Test accuracy and loss per epoch, a colour per trial: every seed thin, their mean thick."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    trials = dict(list(table.groupby("trial", sort=False)))
    for colour, (name, part) in zip(COLOURS * len(trials), trials.items(), strict=False):
        for ax, kind in zip(axes, ("accuracy", "loss"), strict=True):
            draw_seeds(ax, seeds(part, f"test_{kind}"), colour, "-", name)
    accuracy_scale(axes[0], "test accuracy (%)")
    loss_scale(axes[1], "test loss (nats per image)")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    last = table[table.epoch == table.epoch.max()]
    done = f"{last.seed.nunique()} of {table.seed.nunique()} seeds are through epoch {table.epoch.max()}"
    figure.suptitle(f"{', '.join(trials)}, training: {done}", x=0.01, ha="left")
    if len(trials) > 1:
        axes[1].legend(**BESIDE)
    return figure
