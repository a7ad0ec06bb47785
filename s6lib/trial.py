"""What a trial is: every setting of one training recipe, checked when made.

A protocol is a trial with nothing chosen yet: what one published study shares between its arms.
A trial is a protocol with a name and a few settings replaced: `make_trial("regularisers", "gbn", normaliser="ghost")`.
"""

import dataclasses
import difflib
import math
import re
from dataclasses import dataclass

from s6lib.nets import NETWORKS, Net, build
from s6lib.norms import NORMALISERS

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
    """One recipe. Published values are in `PROTOCOLS`; the defaults here are the neutral ones."""

    name: str
    protocol: str
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
    rotate_after_normalise: bool = False  # corners become mean grey: a slip of the `normalisers` study

    def __post_init__(self):
        if isinstance(self.groups, list):  # JSON and papermill have no tuples
            object.__setattr__(self, "groups", tuple(self.groups))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise TrialError(f"{name}={getattr(self, name)!r} is unknown; valid: {', '.join(valid)}")
        _check_ranges(self)

    def build(self, replicas: int = 1) -> Net:
        """The trial's network for R replicas, not initialised."""
        return build(
            self.network,
            self.normaliser,
            replicas,
            self.groups,
            self.dropout,
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
        """The echo shown in notebooks: every setting, those that differ from the protocol marked with `*`."""
        base = PROTOCOLS[self.protocol]
        lines = [f"trial {self.name} of protocol {self.protocol} (* differs from the protocol)"]
        for key, value in self.settings().items():
            if key not in ("name", "protocol"):
                mark = "*" if value != base.get(key, _DEFAULTS.get(key)) else " "
                lines.append(f"{mark} {key:<24}{'of the network' if value is None else value}")
        return "\n".join(lines)


def make_trial(protocol: str, name: str, **settings) -> Trial:
    """The trial `name` of a published protocol, with `settings` replaced. Raises TrialError naming what is unknown."""
    if protocol not in PROTOCOLS:
        raise TrialError(f"protocol={protocol!r} is unknown; valid: {', '.join(PROTOCOLS)}")
    for key in settings:
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TrialError(f"unknown setting {key!r}: {hint}valid: {', '.join(FIELDS)}")
    return Trial(**{"name": name, "protocol": protocol, **PROTOCOLS[protocol], **settings})


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
    }
    for name, (fine, valid) in rules.items():
        if not fine:
            raise TrialError(f"{name}={getattr(trial, name)!r} is out of range; valid: {valid}")
    if trial.l2_kind == "decoupled" and trial.optimiser != "adam":
        raise TrialError("l2_kind='decoupled' needs optimiser='adam' (AdamW)")
    try:
        trial.build()
    except ValueError as error:  # group counts that do not divide the network's channels
        raise TrialError(str(error)) from None


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Trial) if f.default is not dataclasses.MISSING}
FIELDS = tuple(f.name for f in dataclasses.fields(Trial) if f.name not in ("name", "protocol"))

# What each published study states; where its documents are silent the notebooks say "not stated; we use ...".
# `speedrun` is nobody's study: notebook `speedrun` says how it was chosen.
PROTOCOLS: dict[str, dict] = {
    "regularisers": {
        "network": "regularisers",
        "epochs": 25,
        "batch_size": 128,
        "optimiser": "adam",
        "learning_rate": 0.03,
        "schedule": "pi",
        "running_var_start": 0.0,
    },
    "normalisers": {
        "network": "normalisers",
        "epochs": 20,
        "batch_size": 128,
        "optimiser": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "l1": 1e-4,
        "rotate_after_normalise": True,
    },
    "progression": {
        "network": "gap",
        "epochs": 15,
        "batch_size": 64,
        "optimiser": "sgd",
        "learning_rate": 0.015,
        "momentum": 0.9,
    },
    "speedrun": {
        "network": "speedrun",
        "epochs": 3,
        "batch_size": 128,
        "optimiser": "adam",
        "learning_rate": 0.02,
        "schedule": "one_cycle",
        "label_smoothing": 0.1,
    },
}
