"""What `notebooks/explore` shows: records and normalisers with interactive controls. Nothing is trained.

Every view is a function from settings to a figure. Without interactive controls (`S6_QUIET`: batches, replayed
and published notebooks) the figure is shown alone, at its initial settings.
"""

import difflib
import os
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from s6lib import data, plots, tutorial
from s6lib.evidence import controls, measures, statistics
from s6lib.evidence.measures import history
from s6lib.models.norms import NormContext, make_norm
from s6lib.plots import epochs
from s6lib.plots.style import NAMES, column_scale, data_title, said_empty, trial_style
from s6lib.records import Record

COLUMNS = {name.split(" (")[0]: column for column, name in NAMES.items()}
NORMALISERS = ("batch", "ghost", "layer", "group", "instance")


def show(draw: Callable[..., Figure | None], **turned: widgets.Widget) -> widgets.Widget | None:
    """The figure below its controls; the figure alone where nobody can turn them."""
    if os.environ.get("S6_QUIET"):
        draw(**{name: control.value for name, control in turned.items()})
        return None
    return widgets.VBox([*turned.values(), widgets.interactive_output(draw, turned)])


def here(records: Sequence[Record], asked: Sequence[str]) -> dict[str, Record]:
    """Records by "study/arm", of several by one name the last; says which of those asked for are not among them."""
    known = {f"{record.trial.study}/{record.name}": record for record in records}
    for name in asked:
        if name and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            print(f"{name} is not in this run" + (f"; did you mean {close[0]}?" if close else ""))
    return known


# --- arms, seeds, epochs ---------------------------------------------------------------------------


def curves(records: Sequence[Record], arms: Sequence[str] = ()) -> widgets.Widget | None:
    """Arms, how many seeds, what is measured and an epoch to choose; the curves, and every seed at that epoch."""
    known = here(records, arms)
    chosen = [arm for arm in arms if arm in known] or list(known)[:2]
    most, longest = _reach([known[arm] for arm in chosen])
    seeds, epoch = _slider("first seeds", most, 1, most), _slider("epoch", longest, 1, longest)
    wide = widgets.Layout(width="30em")
    choice = widgets.SelectMultiple(options=list(known), value=chosen, description="arms", rows=8, layout=wide)

    def stretch(change: dict) -> None:  # as far as any arm chosen so far, so that nothing that was set is lost
        further = _reach([known[arm] for arm in change["new"]])
        seeds.max, epoch.max = max(seeds.max, further[0]), max(epoch.max, further[1])

    choice.observe(stretch, "value")
    return show(
        lambda arms, measure, seeds, epoch: draw_curves([known[arm] for arm in arms], COLUMNS[measure], seeds, epoch),
        arms=choice,
        measure=widgets.Dropdown(options=list(COLUMNS), value="test accuracy", description="measure"),
        seeds=seeds,
        epoch=epoch,
    )


def _reach(records: Sequence[Record]) -> tuple[int, int]:
    """The most seeds and the most epochs of any of them."""
    seeds, epochs = [len(record.seeds) for record in records], [record.trial.epochs for record in records]
    return max(seeds, default=1), max(epochs, default=1)


def draw_curves(records: Sequence[Record], column: str, seeds: int, epoch: int) -> Figure:
    """Curves of the arms' first `seeds` seeds (left), and the seeds at one epoch or the last before it (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2))
    if said_empty(left, records):
        right.set_axis_off()
        return figure
    for row, record in enumerate(records):
        colour, line, marker = trial_style(record)
        table = history(record)
        table = table[table.seed.isin(record.seeds[:seeds])]
        if table.empty:  # all of these seeds diverged
            continue
        wide = epochs.seeds(table, column)
        epochs.draw_seeds(left, wide, colour, line, record.name)
        values = wide.loc[min(epoch, wide.index.max())]
        right.plot(values, [row] * len(values), marker, color=colour, alpha=0.6)
        right.plot(values.mean(), row + 0.25, "|", color="black", ms=12)
    left.axvline(epoch, color="black", lw=0.8)
    column_scale(left, column)
    left.set(xlabel="epoch", title=data_title(records))
    if left.get_legend_handles_labels()[0]:
        left.legend()
    right.set_yticks(range(len(records)), [record.name for record in records])
    right.set(xlabel=NAMES[column], ylim=(len(records) - 0.5, -0.5), title=f"epoch {epoch}: a mark per seed, | mean")
    return figure


# --- two arms --------------------------------------------------------------------------------------


def compare(records: Sequence[Record], first: str = "", second: str = "") -> widgets.Widget | None:
    """Two arms to choose: their difference in a measure, and the images on which they disagree."""
    known = here(records, (first, second))
    if not known:
        return None
    names = list(known)
    starts = [name if name in known else names[min(k, len(names) - 1)] for k, name in enumerate((first, second))]
    return show(
        lambda a, b, measure, images: draw_comparison(known[a], known[b], measure, images),
        a=widgets.Dropdown(options=names, value=starts[0], description="arm"),
        b=widgets.Dropdown(options=names, value=starts[1], description="against"),
        measure=widgets.Dropdown(options=list(measures.MEASURES), description="measure"),
        images=_slider("images", 5, 3, 8),
    )


def draw_comparison(a: Record, b: Record, measure: str, images: int) -> Figure | None:
    """Prints the difference; draws the images that change most from `b` to `a`."""
    function, unit = measures.MEASURES[measure]
    found = statistics.difference(function(a), function(b))
    enough = found.n >= statistics.ENOUGH_SEEDS
    span = f"95 % interval {found.low:+.3g} to {found.high:+.3g}; " if enough else ""
    whose = f"{measures.who(a)} and {measures.who(b)}"
    print(f"{measure.replace('_', ' ')}, {a.name} − {b.name}: {found.mean:+.3g} {unit} ({span}{whose})")
    if a.dataset["checksum"] != b.dataset["checksum"]:
        print("no images: the two are of different data sets")
        return None
    words = controls.in_words(measures.test_accuracy(a), measures.test_accuracy(b))
    print(f"test accuracy of {a.name} against {b.name}: {words}")
    return plots.changed_images(a, b, images)


# --- a playground for the tutorial -----------------------------------------------------------------


def playground() -> widgets.Widget | None:
    """A normaliser, batch size, splits and groups to choose; who shares a statistic, and how far outputs scatter."""
    return show(
        draw_playground,
        name=widgets.Dropdown(options=NORMALISERS, value="ghost", description="normaliser"),
        images=widgets.SelectionSlider(options=[4, 8, 16, 32, 64, 128], value=16, description="batch size"),
        splits=widgets.SelectionSlider(options=[1, 2, 4], value=2, description="splits"),
        groups=widgets.SelectionSlider(options=[1, 2, 4], value=2, description="groups"),
    )


def draw_playground(name: str, images: int, splits: int, groups: int) -> Figure:
    """The cube of what shares a statistic (left); one output of one digit among changing companions (right)."""
    norm = _norm(name, 2, splits, groups)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    tutorial.cube(left, norm).set_title(f"{name}: blue shares its statistic with orange", loc="left")
    drawn: dict[int | str, torch.Tensor] = {f"{name}, {images}": scatter(name, images, splits, groups)}
    drawn |= {f"batch, {size}": scatter("batch", size) for size in (4, 8, 128)}
    tutorial.show_draws(right, drawn)
    right.set(xlabel="normaliser, batch size (images)")
    right.set_title(f"the same pixel of the same digit: sd {drawn[f'{name}, {images}'].std():.2g}", loc="left")
    return figure


def scatter(name: str, images: int, splits: int = 1, groups: int = 1, draws: int = 60) -> torch.Tensor:
    """[draws]: the output at one pixel of one digit whose companions in the batch are drawn anew, 26 x 26 maps of the
    bundled digits: vertical edges, horizontal edges, blur, the digit."""
    digits = data.load("digits")
    pictures = digits.normalise(digits.train_images[:500], torch.float64)
    maps = torch.cat([tutorial.edge_maps(pictures).relu(), pictures[:, None, 1:-1, 1:-1]], 1)  # [500, 4, 26, 26]
    return tutorial.among(_norm(name, 26, splits, groups).double(), maps, images, draws)


def scatter_table(sizes: Sequence[int] = (4, 16, 64)) -> pd.DataFrame:
    """The sd of `scatter` for every normaliser and some batch sizes, two splits and two groups."""
    rows = {name: [scatter(name, size, 2, 2).std().item() for size in sizes] for name in NORMALISERS}
    return pd.DataFrame(rows, index=[f"batch of {size}" for size in sizes]).T


def _norm(name: str, size: int, splits: int, groups: int) -> torch.nn.Module:
    norm = make_norm(name, NormContext(4, size, size, groups=groups, ghost_splits=splits))
    assert norm is not None
    return norm


def _slider(text: str, value: int, low: int, high: int) -> Any:
    return widgets.IntSlider(value, low, high, description=text, continuous_update=False)
