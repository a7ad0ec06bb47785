"""What a study is: its protocol, networks, arms, published numbers and claims, as plain data.

One file per study describes it; nothing here trains, tests or draws, and nothing imports torch, so the command line
can check names and settings before it starts a kernel.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

# Okabe and Ito 2008, without their yellow (too pale on white), and a grey: told apart by colour-blind readers.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, GREY)

MARGIN = 0.05  # percentage points: about one seed's standard deviation on 10,000 test images at 99.5 %
# The same for other measures, in their units.
MARGINS = {"late_train_accuracy": 0.075, "first_epochs": 0.2, "late_steps": 0.02, "early_steps": 0.1}
MARGINS |= {"epochs_to_99_4": 1.0, "test_loss": 0.002, "late_loss_steps": 0.001, "loss_rises": 0.01}
# What parts call them, where that is not their name.
WORDS = {"test_accuracy": "", "epochs_to_99_4": "epochs until 99.4 %", "first_epochs": "test accuracy of epochs 1 to 3"}
WORDS |= {"late_steps": "late steps of accuracy", "late_loss_steps": "late steps of loss"}
WORDS |= {"early_steps": "early steps of accuracy", "loss_rises": "rises of the test loss"}
WORDS |= {"late_train_accuracy": "late training accuracy"}


@dataclass(frozen=True)
class Arm:
    """One arm: what it is, the settings in which it differs from its study's protocol, and how figures draw it."""

    label: str
    settings: dict[str, Any] = field(default_factory=dict)
    colour: str = GREY
    line: str = "-"
    marker: str = "o"
    family: str = ""  # arms that are compared with each other and not with the study's others: a sweep


@dataclass(frozen=True)
class Part:
    """One comparison: sum_i weights[i] * mean(measure over the seeds of arm i), held against `bound`.

    `relation` says what the claim states: the estimate is above the bound, below it, or within +-bound. A difference
    smaller than `margin` counts as none. `unit` replaces the measure's own.
    """

    text: str
    weights: dict[str, float]
    measure: str = "test_accuracy"
    relation: Literal["above", "below", "within"] = "above"
    bound: float = 0.0
    margin: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Claim:
    """A published sentence in our words and the parts that must all hold for it to be supported.

    `place` is where its document says so, `reading` how the sentence became the parts. What no document claims is
    `own`: our questions are decided together, apart from the published claims.
    """

    id: str
    sentence: str
    parts: tuple[Part, ...]
    place: str = ""
    reading: str = ""
    own: bool = False
    looks: tuple[int, ...] = ()  # in place of the plan's

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms whose records decide it, each once."""
        return tuple(dict.fromkeys(arm for part in self.parts for arm in part.weights))


@dataclass(frozen=True)
class Plan:
    """How the claims of a study are decided, fixed before seeds are added.

    Claims are tested when every arm they compare has all seeds 0 to n - 1 for the n of a look, and at no other time.
    In arms of the `paired` families equal seeds have the same streams, and they are compared seed by seed.
    """

    looks: tuple[int, ...] = (10, 20, 30)
    paired: tuple[str, ...] = ()
    dataset: str = "mnist"

    def __post_init__(self) -> None:
        if not self.looks or min(self.looks) < 2 or list(self.looks) != sorted(set(self.looks)):
            raise ValueError(f"looks={self.looks!r}: expected rising numbers of seeds, from 2 on, such as (10, 20, 30)")


@dataclass(frozen=True)
class Study:
    """One document's experiment: what it held fixed, what it varied, what it claimed."""

    name: str
    title: str
    source: str
    protocol: dict[str, Any]
    arms: dict[str, Arm]
    networks: dict[str, Callable] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    plan: Plan = Plan()
    controls: dict[str, str] = field(default_factory=dict)  # arm -> what it is held against; "study/arm" of another
    runs: dict[str, str] = field(
        default_factory=dict
    )  # arm -> the entry of studies.toml that trains it, if not its own

    def run(self, arm: str) -> str:
        """The entry of studies.toml that trains an arm: of its own name, or a notebook that trains several."""
        return self.runs.get(arm, arm)

    def control(self, arm: str) -> tuple[str, str] | None:
        """Study and arm of the control of `arm`; None for a control itself."""
        study, _, name = self.controls.get(arm, "").rpartition("/")
        return (study or self.name, name) if name else None

    def looks(self, claim: Claim) -> tuple[int, ...]:
        """The numbers of seeds at which a claim is tested."""
        return claim.looks or self.plan.looks

    def settings(self, arm: str) -> dict[str, Any]:
        """The protocol with the settings of `arm` in place of its own; the bare protocol for ""."""
        return {**self.protocol, **(self.arms[arm].settings if arm else {})}


# --- parts -----------------------------------------------------------------------------------------


def more(a: str, b: str, measure: str = "test_accuracy", margin: float | None = MARGIN) -> Part:
    """The mean of `a` is above that of `b`; a difference below `margin`, or the measure's own, counts as none."""
    margin = margin if measure.endswith("test_accuracy") else MARGINS.get(measure)
    return Part(f"{words(measure)}{a} − {b}", {a: 1.0, b: -1.0}, measure, margin=margin)


def less(a: str, b: str, measure: str = "test_accuracy", margin: float | None = MARGIN) -> Part:
    """The mean of `a` is below that of `b`."""
    return more(b, a, measure, margin)


def above(arm: str, measure: str, bound: float, text: str) -> Part:
    """The mean of one arm is above a fixed number."""
    return Part(text, {arm: 1.0}, measure, "above", bound)


def below(arm: str, measure: str, bound: float, text: str) -> Part:
    """The mean of one arm is below a fixed number."""
    return Part(text, {arm: 1.0}, measure, "below", bound)


def within(weights: dict[str, float], text: str, measure: str = "test_accuracy", margin: float = MARGIN) -> Part:
    """A contrast of means is smaller than `margin` either way."""
    return Part(f"|{words(measure)}{text}| < {margin:g}", weights, measure, "within", margin)


def same(a: str, b: str, measure: str = "test_accuracy", margin: float = MARGIN) -> Part:
    """The means of `a` and `b` differ by less than the margin."""
    return within({a: 1.0, b: -1.0}, f"{a} − {b}", measure, margin)


def slope(
    arms: dict[str, float], text: str, unit: str, measure: str = "test_accuracy", margin: float | None = None
) -> Part:
    """The least-squares slope of the arms' means on their x is above 0: weights (x - mean) / sum (x - mean)^2."""
    centre = sum(arms.values()) / len(arms)
    scale = sum((x - centre) ** 2 for x in arms.values())
    weights = {arm: (x - centre) / scale for arm, x in arms.items()}
    return Part(text, weights, measure, margin=margin, unit=unit)


def words(measure: str) -> str:
    name = WORDS.get(measure, measure.replace("_", " "))
    return f"{name}, " if name else ""


def all_against(arm: str, others: Iterable[str], relation: Callable[..., Part], *options: Any) -> tuple[Part, ...]:
    """`relation` between `arm` and each of the others."""
    return tuple(relation(arm, other, *options) for other in others if other != arm)


# --- published numbers -----------------------------------------------------------------------------


@cache
def published_table(name: str) -> pd.DataFrame:
    """A table of published numbers: "per_epoch" (one seed each), "best_and_last",
    "layer_tables" or "small_networks" (of anyone)."""
    return pd.read_csv(Path(__file__).parent / "published" / f"{name}.csv")


def published(study: str, arm: str, table: str = "best_and_last") -> pd.DataFrame:
    """The rows of a published table for one arm; none where nothing was published."""
    frame = published_table(table)
    return frame[(frame.study == study) & (frame.trial == arm)].reset_index(drop=True)
