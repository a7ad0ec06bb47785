"""The published claims, stated so that records can support or contradict them.

A claim is a conjunction of parts, each an estimate over seeds with a one-sided p for and against it. The claim's
p for is the largest of its parts' (all must hold), its p against the smallest times their number (one failing part
is enough). Twice the smaller is the claim's p, corrected by Holm over the claims tested together. A claim that
something is better is also contradicted when some part's difference is shown to be within `stats.MARGIN`.
Accuracies are those of the LAST epoch unless a claim says otherwise.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from s6lib import stats
from s6lib.records import Record
from s6lib.stats import MARGIN, Difference

ENOUGH_SEEDS = 5
LEVEL = 0.05
POINTS = "points"  # percentage points of accuracy
Records = dict[str, Record]
Measure = Callable[[Record], np.ndarray]  # a number per sound replica


@dataclass(frozen=True)
class Part:
    """One comparison: what is compared, the estimate, its p for and against the claim, and p of "no difference"."""

    text: str
    found: Difference
    unit: str
    p_for: float
    p_against: float
    p_equal: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.found.low):
            return f"{self.text}: {self.found.mean:+.3g} {self.unit}, no interval"
        return f"{self.text}: {self.found.mean:+.3g} [{self.found.low:+.3g}, {self.found.high:+.3g}] {self.unit}"


@dataclass(frozen=True)
class Claim:
    """A published sentence in our words, the trials it needs, and how to take its parts from their records."""

    id: str
    study: str  # the protocol of the records it is about
    sentence: str
    needs: tuple[str, ...]
    parts: Callable[[Records], list[Part]]
    epochs: int
    note: str = ""


# --- measures: a number per replica --------------------------------------------------------------


def test_accuracy(record: Record) -> np.ndarray:
    return stats.last(record, "test_accuracy")


def train_accuracy(record: Record) -> np.ndarray:
    return stats.last(record, "train_accuracy")


def test_loss(record: Record) -> np.ndarray:
    return stats.last(record, "test_loss")


def best_test_accuracy(record: Record) -> np.ndarray:
    """Of the best epoch, chosen on the test set: only beside published numbers that were."""
    return stats.by_epoch(record, "test_accuracy").max(1, initial=-np.inf)


def late_jumps(record: Record) -> np.ndarray:
    """Mean size of the steps of test accuracy between the last ten epochs, points."""
    return _mean(np.abs(np.diff(stats.by_epoch(record, "test_accuracy")[:, -10:])))


def early_jumps(record: Record) -> np.ndarray:
    """The same between epochs 2 and 8."""
    return _mean(np.abs(np.diff(stats.by_epoch(record, "test_accuracy")[:, 1:8])))


def loss_rises(record: Record) -> np.ndarray:
    """Sum of all rises of the test loss from one epoch to the next, nats per image."""
    return np.maximum(np.diff(stats.by_epoch(record, "test_loss")), 0).sum(1)


def lowest_from(epoch: int) -> Measure:
    """Lowest test accuracy from `epoch` (counted from 1, or from the end when negative) on."""
    start = epoch - 1 if epoch > 0 else epoch

    def measure(record: Record) -> np.ndarray:
        late = stats.by_epoch(record, "test_accuracy")[:, start:]
        return late.min(1) if late.shape[1] else np.full(len(late), np.nan)

    return measure


def fit_gap(epoch: int) -> Measure:
    """Training minus test accuracy after `epoch` (from 1; -1 the last), points."""
    place = epoch - 1 if epoch > 0 else epoch

    def measure(record: Record) -> np.ndarray:
        gap = stats.by_epoch(record, "train_accuracy") - stats.by_epoch(record, "test_accuracy")
        return gap[:, place] if gap.shape[1] >= abs(epoch) else np.full(len(gap), np.nan)

    return measure


def _mean(steps: np.ndarray) -> np.ndarray:
    return steps.mean(1) if steps.shape[1] else np.full(len(steps), np.nan)


# --- parts ---------------------------------------------------------------------------------------


def more(records: Records, a: str, b: str, measure: Measure = test_accuracy, unit: str = POINTS) -> Part:
    """a's mean is above b's."""
    found = stats.difference(measure(records[a]), measure(records[b]))
    accuracy = measure in (test_accuracy, best_test_accuracy)
    p_equal = max(found.above(-MARGIN), found.below(MARGIN)) if accuracy else float("nan")
    return Part(f"{_words(measure)}{a} − {b}", found, unit, found.above(), found.below(), p_equal)


def less(records: Records, a: str, b: str, measure: Measure, unit: str = POINTS) -> Part:
    """a's mean is below b's."""
    return more(records, b, a, measure, unit)


def exceeds(record: Record, measure: Measure, bound: float, text: str, sign: int = 1) -> Part:
    """A replica's mean is above (sign 1) or below (sign -1) a fixed bound, in points."""
    found = stats.contrast([sign * (measure(record) - bound)], [1])
    return Part(text, found, POINTS, found.above(), found.below())


def within(found: Difference, text: str, margin: float = MARGIN) -> Part:
    """The difference is smaller than `margin` either way."""
    against = min(1.0, 2 * min(found.above(margin), found.below(-margin)))
    return Part(f"|{text}| < {margin:g}", found, POINTS, max(found.above(-margin), found.below(margin)), against)


def _words(measure: Measure) -> str:
    name = getattr(measure, "__name__", "").replace("_", " ")
    return "" if measure is test_accuracy else f"{name}, "


# --- the claims ----------------------------------------------------------------------------------

_ARMS = ("bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2")
_NORMS = ("bn_l1", "ln_l1", "gn_l1")
_NATS = "nats per image"


def _ghost_best(records: Records) -> list[Part]:
    others = [name for name in _ARMS if name != "gbn"]
    return [more(records, "gbn", b) for b in others] + [less(records, "gbn", b, test_loss, _NATS) for b in others]


def _average(records: Records) -> list[Part]:
    arms = [test_accuracy(records[name]) for name in ("bn_l1_l2", "bn_l1", "bn_l2")]
    return [within(stats.contrast(arms, [1, -0.5, -0.5]), "bn_l1_l2 − mean of bn_l1 and bn_l2")]


def _worst(records: Records) -> list[Part]:
    others = [name for name in _ARMS if name != "gbn_l1_l2"]
    worse = [more(records, b, "gbn_l1_l2") for b in others]
    return worse + [more(records, "gbn_l1_l2", b, early_jumps) for b in others]


def _order(measure: Measure) -> Callable[[Records], list[Part]]:
    return lambda r: [more(r, "gn_l1", "ln_l1", measure), more(r, "ln_l1", "bn_l1", measure)]


def _same(a: str, b: str, *measures: Measure) -> list[Callable[[Records], Part]]:
    def part(measure: Measure) -> Callable[[Records], Part]:
        text = f"{_words(measure)}{a} − {b}"
        return lambda r: within(stats.difference(measure(r[a]), measure(r[b])), text)

    return [part(measure) for measure in measures]


def _more_groups(records: Records) -> list[Part]:
    sweep = {int(m[1]): record for name, record in records.items() if (m := re.fullmatch(r"groups_(\d+)", name))}
    x = np.concatenate([np.full(len(test_accuracy(record)), np.log2(k)) for k, record in sweep.items()])
    found = stats.slope(x, np.concatenate([test_accuracy(record) for record in sweep.values()]))
    return [Part("slope of test accuracy", found, "points per doubling of the groups", found.above(), found.below())]


def _not_repaid(records: Records) -> list[Part]:
    found = stats.difference(test_accuracy(records["layer_full"]), test_accuracy(records["layer"]))
    counts = [records[name].provenance.get("parameters", 0) for name in ("layer_full", "layer")]
    text = f"layer_full − layer < {MARGIN:g} ({counts[0]:,} against {counts[1]:,} parameters)"
    return [Part(text, found, POINTS, found.below(MARGIN), found.above(MARGIN))]


CLAIMS = (
    Claim("a", "regularisers", "Ghost batch norm alone beats every other arm in test accuracy and test loss.",
          _ARMS, _ghost_best, 25, "confounded with batch size and penalty: see a, like with like"),
    Claim("a, like with like", "regularisers",
          "Our question: ghost norm beats batch norm at the same batch size and without penalties.",
          ("gbn", "bn_batch64", "gbn_batch128", "bn"),
          lambda r: [more(r, "gbn", "bn_batch64"), more(r, "gbn_batch128", "bn")], 25, "not published"),
    Claim("b", "regularisers", "L2 beats L1 under batch norm, in final test accuracy and in steadiness.",
          ("bn_l1", "bn_l2"), lambda r: [more(r, "bn_l2", "bn_l1"), less(r, "bn_l2", "bn_l1", late_jumps)], 25),
    Claim("c", "regularisers", "L1 and L2 together come out about half-way between each alone.",
          ("bn_l1", "bn_l2", "bn_l1_l2"), _average, 25),
    Claim("d", "regularisers", "Ghost norm with both penalties is the worst arm and irregular in its first epochs.",
          _ARMS, _worst, 25),
    Claim("e", "regularisers", "Ghost norm passes 99.4 % by epoch 9 and stays above.",
          ("gbn",), lambda r: [exceeds(r["gbn"], lowest_from(9), 99.4, "lowest accuracy from epoch 9 on, over 99.4")],
          25, "published as the sixth epoch; its own plot shows index 8, the ninth"),
    Claim("a", "normalisers", "Group norm reaches the highest test accuracy, then layer norm, then batch norm.",
          _NORMS, _order(test_accuracy), 20, "published on best epochs; tested on the last"),
    Claim("a, best epoch", "normalisers", "The same order on best epochs.",
          _NORMS, _order(best_test_accuracy), 20, "best epoch, chosen on the test set as published"),
    Claim("b", "normalisers", "Group norm's test accuracy fluctuates more from epoch to epoch than the others'.",
          _NORMS, lambda r: [more(r, "gn_l1", b, late_jumps) for b in ("bn_l1", "ln_l1")], 20),
    Claim("c", "normalisers", "Layer norm has the lowest training accuracy.",
          _NORMS, lambda r: [less(r, "ln_l1", b, train_accuracy) for b in ("bn_l1", "gn_l1")], 20),
    Claim("d", "normalisers", "Batch norm's test loss falls most consistently.",
          _NORMS, lambda r: [less(r, "bn_l1", b, loss_rises, _NATS) for b in ("ln_l1", "gn_l1")], 20),
    Claim("e", "normalisers", "Lambda 1e-3 keeps training accuracy below 98 % and makes test accuracy volatile.",
          ("lambda_0", "lambda_0.001"),
          lambda r: [exceeds(r["lambda_0.001"], train_accuracy, 98, "98 − training accuracy at 1e-3", -1),
                     more(r, "lambda_0.001", "lambda_0", late_jumps)], 15, "published: about 97.8 %"),
    Claim("f", "normalisers", "Lambda 1e-4 costs a little training accuracy and no test accuracy.",
          ("lambda_0", "lambda_0.0001"),
          lambda r: [more(r, "lambda_0", "lambda_0.0001", train_accuracy),
                     *(part(r) for part in _same("lambda_0.0001", "lambda_0", test_accuracy))], 15),
    Claim("g", "normalisers", "At lambda 1e-5 the effect of L1 is gone, in training and test accuracy.",
          ("lambda_0", "lambda_1e-05"),
          lambda r: [part(r) for part in _same("lambda_1e-05", "lambda_0", test_accuracy, train_accuracy)], 15),
    Claim("a", "progression", "The 258,602-parameter network over-fits: the train-test gap opens by epoch 5 and grows.",
          ("skeleton",),
          lambda r: [exceeds(r["skeleton"], fit_gap(5), 0, "train − test at epoch 5"),
                     exceeds(r["skeleton"], lambda x: fit_gap(-1)(x) - fit_gap(5)(x), 0, "its growth to the end")], 15),
    Claim("b", "progression", "The network with one-channel bottlenecks under-fits: below 99 %, worse in training.",
          ("bn_dropout",),
          lambda r: [exceeds(r["bn_dropout"], test_accuracy, 99, "99 − test accuracy", -1),
                     exceeds(r["bn_dropout"], fit_gap(-1), 0, "test − train", -1)], 15,
          "its dropout rate is not stated"),
    Claim("c", "progression", "The 10,224-parameter network holds 99.4 % in its last epochs.",
          ("gap",), lambda r: [exceeds(r["gap"], lowest_from(-3), 99.4, "lowest of the last 3 epochs, over 99.4")],
          15, "published: 99.33, 99.37, 99.46; its learning rate's schedule is not stated"),
    Claim("d", "progression", "More groups make group norm better.",
          ("groups_1", "groups_2", "groups_4"), _more_groups, 15),
    Claim("e", "progression", "Layer norm per element multiplies the parameters and does not repay them.",
          ("layer", "layer_full"), _not_repaid, 15),
    Claim("f", "progression", "With batch norm, a larger L1 lambda costs accuracy.",
          ("gap_lambda_0", "gap_lambda_0.0001", "gap_lambda_0.001"),
          lambda r: [more(r, f"gap_lambda_{small}", "gap_lambda_0.001") for small in ("0", "0.0001")], 15,
          "published without its lambda"),
)  # fmt: skip

# --- verdicts ------------------------------------------------------------------------------------


def select(records: Iterable[Record], study: str) -> Records:
    """The records of one protocol by name; of two with one name, the one with more sound seeds."""
    found = sorted((r for r in records if r.trial.protocol == study), key=lambda r: len(r.sound))
    return {record.name: record for record in found}


def verdicts(records: Iterable[Record], claims: Iterable[Claim] = CLAIMS) -> pd.DataFrame:
    """A row per claim: study, claim, sentence, verdict, p (Holm), evidence, parts, seeds, note.

    Verdicts are "supported", "contradicted", "undecided" and "missing: ...". `evidence` is the claim's weakest part
    with its 95 % interval, `parts` how many point the claimed way, `note` what stands in the way of a verdict.
    """
    records, rows = list(records), []
    for claim in claims:
        chosen = select(records, claim.study)
        lacking = [name for name in claim.needs if name not in chosen]
        rows.append(_missing(claim, lacking) if lacking else _weigh(claim, chosen))
    table = pd.DataFrame(rows)
    p, p_equal = stats.holm(table.p), stats.holm(table.p_equal)
    free = table.verdict.isna()
    found = [_verdict(*row) for row in zip(p, table.p_for, table.p_against, p_equal, strict=True)]
    table["verdict"], table["p"] = np.where(free, found, table.verdict), p
    return table.drop(columns=["p_for", "p_against", "p_equal"])


def evidence(records: Iterable[Record], claims: Iterable[Claim] = CLAIMS) -> pd.DataFrame:
    """A row per part of every claim whose trials are there: estimate, interval, unit, uncorrected one-sided p."""
    records, rows = list(records), []
    for claim in claims:
        chosen = select(records, claim.study)
        for part in claim.parts(chosen) if all(name in chosen for name in claim.needs) else []:
            found = {"estimate": part.found.mean, "low": part.found.low, "high": part.found.high, "unit": part.unit}
            rows.append({"study": claim.study, "claim": claim.id, "part": part.text, **found, "p_for": part.p_for})
    return pd.DataFrame(rows, columns=["study", "claim", "part", "estimate", "low", "high", "unit", "p_for"])


def reservations(claim: Claim, records: Records) -> list[str]:
    """Why these records cannot decide the claim, whatever they show."""
    used = [records[name] for name in claim.needs]
    reasons, fewest = [], min(len(record.sound) for record in used)
    if fewest < ENOUGH_SEEDS:
        reasons.append(f"{fewest} seed{'s' * (fewest != 1)}, at least {ENOUGH_SEEDS} needed")
    if other := sorted({r.dataset["name"] for r in used if r.dataset["name"] != "mnist"}):
        reasons.append(f"on {' and '.join(other)}, not MNIST")
    if other := sorted({r.trial.epochs for r in used if r.trial.epochs != claim.epochs}):
        reasons.append(f"{' and '.join(map(str, other))} epochs, not {claim.epochs}")
    return reasons


def _weigh(claim: Claim, records: Records) -> dict:
    parts, reasons = claim.parts(records), reservations(claim, records)
    p_for, p_against = _worst_p(parts), min(1.0, len(parts) * np.nanmin([1.0, *(part.p_against for part in parts)]))
    p_equal = min(1.0, len(parts) * np.nanmin([1.0, *(part.p_equal for part in parts)]))
    weakest = max(parts, key=lambda part: np.nan_to_num(part.p_for, nan=2.0))
    lost = sum(stats.left_out(records[name]) for name in claim.needs)
    remarks = [f"{lost} diverged, left out"] * bool(lost) + [claim.note] * bool(claim.note)
    agreeing = sum(part.p_for < 0.5 for part in parts)
    nothing = {"p": np.nan, "p_for": np.nan, "p_against": np.nan, "p_equal": np.nan}
    tested = {"p": min(1.0, 2 * min(p_for, p_against)), "p_for": p_for, "p_against": p_against, "p_equal": p_equal}
    return {
        **_row(claim, "undecided" if reasons else None),
        **(nothing if reasons else tested),
        "evidence": str(weakest),
        "parts": f"{agreeing} of {len(parts)}",
        "seeds": min(len(records[name].sound) for name in claim.needs),
        "note": "; ".join(reasons + remarks),
    }


def _worst_p(parts: list[Part]) -> float:
    return float(np.max([1.0 if np.isnan(part.p_for) else part.p_for for part in parts]))


def _missing(claim: Claim, names: list[str]) -> dict:
    p = {"p": np.nan, "p_for": np.nan, "p_against": np.nan, "p_equal": np.nan}
    empty = {"evidence": "", "parts": "", "seeds": 0, "note": claim.note}
    return {**_row(claim, f"missing: {', '.join(names)}"), **p, **empty}


def _row(claim: Claim, verdict: str | None) -> dict:
    return {"study": claim.study, "claim": claim.id, "sentence": claim.sentence, "verdict": verdict}


def _verdict(p: float, p_for: float, p_against: float, p_equal: float) -> str:
    if p < LEVEL:
        return "supported" if p_for < p_against else "contradicted"
    return "contradicted" if p_equal < LEVEL else "undecided"
