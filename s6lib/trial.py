"""What a trial is: every setting of one training recipe, checked when made.

A trial is an arm of a study as it is run: the study's protocol, the arm's settings, and whatever is named besides:
`make_trial("regularisers", "gbn", epochs=2)`.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from s6lib.models import Net, build
from s6lib.models.norms import NORMALISERS
from s6lib.studies import NETWORKS, STUDIES

CHOICES = {
    "network": tuple(NETWORKS),
    "normaliser": tuple(NORMALISERS),
    "l1_kind": ("subgradient", "proximal"),
    "l2_kind": ("coupled", "decoupled"),
    "penalise": ("all", "weights"),
    "optimiser": ("adam", "sgd"),
    "schedule": ("constant", "pi", "step", "one_cycle"),
}


class TrialError(ValueError):
    """A setting that is unknown, ill-typed or out of range; the message names it and what is valid."""


@dataclass(frozen=True)
class Trial:
    """One recipe. The studies' files hold published values; the defaults here are the neutral ones."""

    name: str
    study: str
    network: str
    epochs: int
    batch_size: int
    optimiser: str
    learning_rate: float
    schedule: str = "constant"  # pi: lr_e = max(lr_{e-1} / (1 + pi/50 * e), 5e-4); step: x 0.1 every 6 epochs
    momentum: float = 0.0  # SGD only
    normaliser: str = "batch"
    groups: int | tuple[int, ...] = 1  # of group norm: one number, or one per layer
    ghost_splits: int = 2
    running_var_start: float = 1.0  # of ghost norm; the `regularisers` study's own code starts at 0
    l1: float = 0.0  # adds l1 * sum|p| to the loss
    l1_kind: str = "subgradient"  # proximal: soft threshold after the step, which reaches exact zeros
    l2: float = 0.0  # adds l2 * p to the gradient; decoupled (AdamW): shrinks p by lr * l2 instead
    l2_kind: str = "coupled"
    penalise: str = "all"  # what l1 and l2 act on; weights: convolution weights only, no norm or bias parameters
    dropout: float | None = None  # None: the network's own rates
    label_smoothing: float = 0.0
    rotation: float = 7.0  # degrees either way, uniform per image; 0: none
    rotate_after_normalise: bool = False  # corners become mean grey, as in the code of study `normalisers`
    shift: int = 0  # pixels either way along each axis, uniform per image; 0: none
    ema: float = 0.0  # decay per step of the weights' moving average, which is evaluated and kept; 0: none
    distillation: float = 0.0  # share of the target that is the data set's soft labels, 1 - it the label
    widths: tuple[int, ...] | None = None  # channels of a network family; None: a network of fixed widths

    def __post_init__(self):
        for name in ("groups", "widths"):
            if isinstance(value := getattr(self, name), list):  # JSON and papermill have no tuples
                object.__setattr__(self, name, tuple(value))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise TrialError(f"{name}={getattr(self, name)!r} is unknown; valid: {', '.join(valid)}")
        _check_ranges(self)

    def build(self, replicas: int = 1) -> Net:
        """The trial's network for R replicas, not initialised."""
        return build(
            NETWORKS[self.network],
            self.normaliser,
            replicas,
            self.groups,
            self.dropout,
            self.widths,
            ghost_splits=self.ghost_splits,
            running_var_start=self.running_var_start,
        )

    def learning_rates(self) -> list[float]:
        """The learning rate of every epoch; `one_cycle` changes within epochs and shows its epoch means."""
        within = [(k + 0.5) / 32 for k in range(32)] if self.schedule == "one_cycle" else [0.0]
        return [sum(self.rate_at(e + part) for part in within) / len(within) for e in range(self.epochs)]

    def rate_at(self, time: float) -> float:
        """The learning rate at `time`, in epochs since the start."""
        epoch = int(time)
        if self.schedule == "pi":
            rate = self.learning_rate
            for e in range(1, epoch + 1):
                rate = max(round(rate / (1 + math.pi / 50 * e), 10), 5e-4)
            return rate
        if self.schedule == "step":
            return self.learning_rate * 0.1 ** (epoch // 6)
        if self.schedule == "one_cycle":
            progress, peak = time / self.epochs, 0.25  # linear up to the peak, linear down to 0
            return self.learning_rate * min(progress / peak, (1 - progress) / (1 - peak))
        return self.learning_rate

    def settings(self) -> dict:
        """All fields as JSON-plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def describe(self) -> str:
        """The echo shown in notebooks: every setting, those that differ from the study's protocol marked with `*`."""
        protocol = STUDIES[self.study].protocol if self.study in STUDIES else {}
        base = {**_DEFAULTS, **protocol}
        lines = [f"trial {self.name} of study {self.study} (* differs from its protocol)"]
        for key, value in self.settings().items():
            if key not in ("name", "study"):
                mark = "*" if value != base.get(key) else " "
                lines.append(f"{mark} {key:<24}{'of the network' if value is None else value}")
        return "\n".join(lines)


def make_trial(study: str, name: str, like: str | None = None, **settings) -> Trial:
    """The arm `name` of a study, with `settings` replaced.

    A trial of your own says which arm it is like: `like="bn"` starts from that arm, `like=""` from the bare protocol.
    Raises TrialError naming what is unknown and what is valid.
    """
    if study not in STUDIES:
        raise TrialError(f"study={study!r} is unknown; valid: {', '.join(STUDIES)}")
    arms = STUDIES[study].arms
    if like is None and name not in arms:
        own = f'; for a trial of your own say like="{next(iter(arms))}", or like="" for the bare protocol'
        raise TrialError(f"{study} has no arm {name!r}: {_hint(name, arms)}valid: {', '.join(arms)}{own}")
    if like and like not in arms:
        raise TrialError(f"like={like!r} is no arm of {study}: {_hint(like, arms)}valid: {', '.join(arms)}")
    for key in settings:
        if key not in FIELDS:
            raise TrialError(f"unknown setting {key!r}: {_hint(key, FIELDS)}valid: {', '.join(FIELDS)}")
    start = STUDIES[study].settings(name if like is None else like)
    return Trial(**{"name": name, "study": study, **start, **settings})


def _hint(word: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(valid), 1)
    return f"did you mean {close[0]!r}? " if close else ""


def _check_type(name: str, value: object, kind: type) -> None:
    kinds = getattr(kind, "__args__", (kind,))
    plain = [getattr(k, "__origin__", k) for k in kinds]
    if float in plain:
        plain.append(int)
    right = isinstance(value, tuple(plain)) and (bool in plain or not isinstance(value, bool))
    if not right or (isinstance(value, tuple) and not all(type(v) is int for v in value)):
        raise TrialError(f"{name}={value!r} is a {type(value).__name__}; expected {getattr(kind, '__name__', kind)}")


def _check_ranges(trial: Trial) -> None:
    groups = trial.groups if isinstance(trial.groups, tuple) else (trial.groups,)
    rules = {
        "name": (bool(re.fullmatch(r"[\w.+-]+", trial.name)) and trial.name[0] != ".", "letters, digits, _ . + -"),
        "epochs": (trial.epochs >= 1, "1 or more"),
        "batch_size": (trial.batch_size >= 2, "2 or more"),
        "learning_rate": (0 < trial.learning_rate < math.inf, "above 0"),
        "momentum": (0 <= trial.momentum < 1, "0 up to, not including, 1"),
        "groups": (min(groups, default=0) >= 1, "1 or more, one number or one per layer"),
        "ghost_splits": (trial.ghost_splits >= 1, "1 or more"),
        "running_var_start": (0 <= trial.running_var_start < math.inf, "0 or more"),
        "l1": (0 <= trial.l1 < math.inf, "0 or more"),
        "l2": (0 <= trial.l2 < math.inf, "0 or more"),
        "dropout": (trial.dropout is None or 0 <= trial.dropout <= 0.99, "0 to 0.99, or None"),
        "label_smoothing": (0 <= trial.label_smoothing < 1, "0 up to, not including, 1"),
        "rotation": (0 <= trial.rotation <= 180, "0 to 180 degrees"),
        "shift": (0 <= trial.shift <= 14, "0 to 14 pixels"),
        "ema": (0 <= trial.ema < 1, "0 up to, not including, 1"),
        "distillation": (0 <= trial.distillation <= 1, "0 to 1"),
        "widths": (trial.widths is None or min(trial.widths, default=0) >= 1, "a number of channels per convolution"),
    }
    for name, (fine, valid) in rules.items():
        if not fine:
            raise TrialError(f"{name}={getattr(trial, name)!r} is out of range; valid: {valid}")
    if trial.l2_kind == "decoupled" and trial.optimiser != "adam":
        raise TrialError("l2_kind='decoupled' needs optimiser='adam' (AdamW)")
    if trial.shift and trial.rotate_after_normalise:
        raise TrialError("shift needs rotate_after_normalise=False: what is shifted in is black")
    if trial.distillation and trial.label_smoothing:
        raise TrialError("distillation needs label_smoothing=0: the soft labels are smooth already")
    try:
        trial.build()
    except ValueError as error:  # groups or widths that do not fit the network
        raise TrialError(str(error)) from None


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Trial) if f.default is not dataclasses.MISSING}
FIELDS = tuple(f.name for f in dataclasses.fields(Trial) if f.name not in ("name", "study"))
