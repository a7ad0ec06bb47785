"""The values that texts quote, each a function of the committed files; markers name functions of this module.

Accuracies are in percent, differences in percentage points, intervals at 95 %. Arms are named `study/arm`.
"""

import inspect
import json
import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from s6lib import paths, records
from s6lib.evidence import images, measures, statistics, verdicts, wanted
from s6lib.records import Record
from s6lib.report import architecture
from s6lib.report.outcomes import answers, came_out, colab, gallery, takes  # noqa: F401  values as well
from s6lib.studies import STUDIES, base


class Evidence:
    """The committed files below `results`: records by "study/arm", and what was measured."""

    def __init__(self, results: Path | None = None):
        self.results = results or paths.home() / "results"

    @cached_property
    def records(self) -> dict[str, Record]:
        found, left_out = records.find(self.results / "reference")
        if left_out:
            raise ValueError("\n".join(left_out))
        return {f"{record.trial.study}/{record.name}": record for record in found}

    def study(self, study: str) -> list[Record]:
        """The records of a study in the order of its arms."""
        return [self.records[f"{study}/{arm}"] for arm in STUDIES[study].arms if f"{study}/{arm}" in self.records]

    @cached_property
    def small(self) -> list[Record]:
        """One arm of each small network, named beforehand, and the frontier's."""
        names = [f"frontier/{arm}" for arm in STUDIES["frontier"].arms]
        return [self.records[name] for name in (*SMALL, *names) if name in self.records]

    def measured(self, name: str) -> Any:
        return json.loads((self.results / "bench" / f"{name}.json").read_text(encoding="utf-8"))

    def value(self, expression: str) -> str:
        """The text for `name argument ...`. Raises ValueError naming what is unknown and what is valid."""
        name, *arguments = expression.split()
        if name not in VALUES:
            raise ValueError(f"<!--= {expression} -->: no value {name!r}; valid: {', '.join(sorted(VALUES))}")
        try:
            return VALUES[name](self, *arguments)
        except (KeyError, TypeError, FileNotFoundError) as error:
            raise ValueError(f"<!--= {expression} -->: {type(error).__name__} {error}") from error

    def last(self, arm: str, measure: str = "test_accuracy") -> np.ndarray:
        return measures.MEASURES[measure][0](self.records[arm])

    def pair(self, a: str, b: str, measure: str = "test_accuracy") -> tuple[np.ndarray, np.ndarray]:
        """The values of two arms of one study: "study/arm", "arm"."""
        return self.last(a, measure), self.last(f"{a.split('/')[0]}/{b}", measure)


SMALL = ("regularisers/bn_batch64", "normalisers/bn_l1", "progression/gap")


# --- numbers ---------------------------------------------------------------------------------------


def mean(e: Evidence, arm: str, measure: str = "test_accuracy", digits: str = "2") -> str:
    return _n(statistics.mean_interval(e.last(arm, measure)).mean, digits)


def difference(e: Evidence, a: str, b: str, measure: str = "test_accuracy", digits: str = "2") -> str:
    """Mean of `a` minus mean of `b`, an arm of the same study, with Welch's interval."""
    found = statistics.difference(*e.pair(a, b, measure))
    return f"{_n(found.mean, digits)} points ({_span(found.low, found.high, digits)})"


def equivalence(e: Evidence, a: str, b: str) -> str:
    """p of two one-sided tests within the margin."""
    return f"p = {statistics.equivalence(*e.pair(a, b)):.2f}"


def sd(e: Evidence, arm: str) -> str:
    return _n(statistics.mean_interval(e.last(arm)).sd, "3")


def sd_of_images(e: Evidence, arm: str) -> str:
    """The sd over seeds if each missed image i with its own probability p_i independently: sqrt(sum p (1 - p)) / n."""
    right = measures.correct(e.records[arm])  # [R, n]
    variance = right.var(axis=0, ddof=1).sum() / right.shape[1] ** 2
    return _n(100 * math.sqrt(variance), "3")


def seeds(e: Evidence, measure: str, *arms: str) -> str:
    """The lowest and highest value of any seed of the arms."""
    values = np.concatenate([e.last(arm, measure) for arm in arms])
    return _span(values.min(), values.max())


def best_over_last(e: Evidence, *arms: str) -> str:
    """By how many points a run's best epoch is above its last, on average: the lowest and the highest of the arms."""
    gaps = [float((e.last(arm, "best_test_accuracy") - e.last(arm)).mean()) for arm in arms]
    return _span(min(gaps), max(gaps))


def seeds_needed(e: Evidence, study: str, points: str) -> str:
    """Seeds per arm at which an uncorrected two-sided test sees a difference with 80 % power, at the pooled sd."""
    variance = np.mean([measures.test_accuracy(record).var(ddof=1) for record in e.study(study)])
    z = scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)
    return str(math.ceil(2 * variance * (z / float(points)) ** 2))


def published(e: Evidence, arm: str, column: str) -> str:
    """A published number: best or last."""
    return _n(base.published(*arm.split("/"))[column].iloc[0])


def replicated(e: Evidence, *studies: str) -> str:
    """How many published last epochs lie inside the 95 % interval for one more seed of ours."""
    inside = [_inside(record) for study in studies for record in e.study(study) if _published_last(record)]
    return f"{sum(inside)} of {len(inside)}"


def verdict(e: Evidence, word: str) -> str:
    """How many claims have a verdict, of those whose arms were run."""
    found = [row["verdict"] for row in verdicts.verdicts(e.records.values()) if row["verdict"] != "missing"]
    if word == "decided":
        return str(sum(one != "undecided" for one in found))
    return str(len(found) if word == "all" else sum(one == word.replace("_", " ") for one in found))


def number(e: Evidence, file: str, path: str, form: str) -> str:
    """A number of results/bench/<file>.json; of a list, its length."""
    value = e.measured(file)
    for key in path.split("/"):
        value = value[int(key) if isinstance(value, list) else key]
    return f"{len(value) if isinstance(value, list) else value:{form}}"


def rung(e: Evidence, name: str, what: str) -> str:
    """Of a rung of the speedrun's ladder: accuracy, seconds, seeds, or p that its mean is above 99.4."""
    one = next(one for one in e.measured("speedrun") if one["trial"]["name"] == name)
    found = statistics.mean_interval(one["test_accuracy"])
    texts = {
        "accuracy": f"{found.mean:.3f} % (sd {found.sd:.3f}, interval {_span(found.low, found.high, '3')})",
        "seconds": f"{one['seconds_per_seed']:.3g}",
        "seeds": str(found.n),
        "p": f"{scipy_stats.ttest_1samp(one['test_accuracy'], 99.4, alternative='greater').pvalue:.3f}",
    }
    return texts[what]


def ratio(e: Evidence, network: str, precision: str, base: str = "plain") -> str:
    """How many times as fast our best is as the best plain PyTorch of the same precision, or the DataLoader `loop`."""
    key = {"plain": "ratio_to_plain", "loop": "ratio_to_dataloader"}[base]
    found = [row[key] for row in _rows(e, network, "s6lib", precision) if row[key]]
    return f"{max(found):.1f}" if found else "—"  # no peer counts


def speed(e: Evidence, network: str, a: str, b: str) -> str:
    """How many times as fast `a` is as `b`, each `precision:R` in one process, `precision:R:cores` in one per core."""
    found = [_speed(e, network, a), _speed(e, network, b)]
    return f"{found[0] / found[1]:.1f}" if all(found) else "—"  # not measured


def caution(e: Evidence) -> str:
    """Said of speeds measured beside other programs' work or in fewer than three rounds."""
    found = e.measured("cpu")
    busy = (found["load_before"] or 0) > found["cores"] / 2
    return "; **provisional**: too few rounds, or a busy machine" if busy or found["rounds"] < 3 else ""


def start(e: Evidence, *words: str) -> str:
    """Seconds of a start that benchmarks/growing.py timed."""
    return _n(e.measured("growing")["starts"][" ".join(words)], "1")


def grown(e: Evidence, what: str, count: str, column: str, form: str) -> str:
    """A number of benchmarks/growing.py: of `seeds` or `trials`, at a count."""
    rows = e.measured("growing")[what]
    return f"{next(row for row in rows if row[what] == int(count))[column]:{form}}"


# --- tables ----------------------------------------------------------------------------------------


def arms(e: Evidence, study: str) -> str:
    """Last-epoch test accuracy of a study's arms beside what was published."""
    head = ["arm", "what it is", "seeds", "mean, %", "sd", "95 % interval of the mean", "95 % of single seeds"]
    return _table([*head, "published, last epoch, 1 seed"], [_arm(record) for record in e.study(study)])


def small_networks(e: Evidence) -> str:
    """Test accuracy of networks of few parameters: our means over seeds between published single runs, by size."""
    head = ["parameters", "test accuracy, %", "of what", "whose"]
    rows = [
        (r.parameters, f"{r.accuracy:g}", r.what, r.source) for r in base.published_table("small_networks").itertuples()
    ]
    rows += [_small(record) for record in e.small]
    return _table(head, [(f"{size:,}", *rest) for size, *rest in sorted(rows, key=lambda row: row[0])])


def late_epochs(e: Evidence) -> str:
    """The mean of the last five epochs beside the published logs."""
    rows = []
    for record in e.records.values():
        log = measures.published_for(record, "per_epoch").set_index("epoch")
        epochs = range(record.trial.epochs - 4, record.trial.epochs + 1)
        if set(epochs) <= set(log.index):
            rows += [_late(record, log.loc[list(epochs)], column) for column in ("test_accuracy", "train_accuracy")]
    return _table(["arm", "accuracy", "published", "ours, mean", "95 % of single seeds", "inside"], rows)


def claims_of(e: Evidence, study: str) -> str:
    """Every claim of a study: place, sentence, verdict, Holm's p, the effect of every part with its interval, seeds,
    and how many would decide it."""
    head = ["claim", "place", "sentence", "verdict", "p (Holm)", "effects with 95 % intervals, positive as claimed"]
    found = list(e.records.values())
    rows = [
        _claim_of(row) for row in wanted.with_seeds_wanted(verdicts.verdicts(found), found) if row["study"] == study
    ]
    return _table([*head, "seeds", "seeds wanted"], rows)


def _claim_of(row: dict) -> tuple:
    p = "" if row["p"] is None else f"{row['p']:.2g}"
    effects = "<br>".join(_bars(verdicts.shown(part)) for part in row["parts"]) or row["note"]
    place = row["place"] or "our own question"
    more = "" if row["seeds_wanted"] is None else f"about {row['seeds_wanted']:,}"
    return row["claim"], place, row["sentence"], row["verdict"], p, effects, row["seeds"] or "", more


def spreads(e: Evidence, study: str) -> str:
    """The sd over seeds beside what independent errors per image predict; * where chi-squared says they differ."""
    found = [(record, images.spread(record)) for record in e.study(study) if len(record.non_diverged) > 1]
    numbers = [(_n(s.observed, "3"), _n(s.predicted, "3"), f"{s.p:.2g}{' *' * (s.p < 0.05)}") for _, s in found]
    rows = [(f"`{r.name}`", len(r.non_diverged), *three) for (r, _), three in zip(found, numbers, strict=True)]
    return _table(["arm", "seeds", "sd, points", "predicted from the images", "p, chi-squared"], rows)


def null_studies(e: Evidence) -> str:
    """The share of simulated studies with some false verdict, family by family."""
    found = e.measured("null_studies")
    rows = [
        (
            f"`{one['study']}`{', our own' * one['own']}",
            one["claims"],
            ", ".join(map(str, one["looks"])),
            f"{100 * one['no_difference']:.1f} %",
            f"{100 * one['mixed']:.1f} % ({100 * one['worst_mixed']:.1f} %)",
        )
        for one in found["families"]
    ]
    head = ["family", "claims", "looks", f"no difference, {found['studies']:,} studies"]
    return _table([*head, "differences of 0, 1 and 2 margins at random (worst of 20)"], rows)


def decided_studies(e: Evidence) -> str:
    """Claims decided and seeds used at three true differences, against one look at the end."""
    rows = [
        (
            f"{one['difference']:g}",
            f"{100 * one['decided']:.0f} %",
            f"{100 * one['supported']:.0f} %",
            f"{one['seeds']:.1f}",
            f"{100 * one['fixed_decided']:.0f} % at {one['fixed_seeds']}",
            f"{100 * (1 - one['seeds'] / one['fixed_seeds']):.0f} %",
        )
        for one in e.measured("null_studies")["power"]
    ]
    head = ["true difference, points (sd 0.05)", "decided", "supported", "seeds", "decided at a fixed number"]
    return _table([*head, "seeds saved"], rows)


def coverage_of_intervals(e: Evidence) -> str:
    """How often 95 % intervals for a difference hold it."""
    rows = [
        (o["seeds"], f"{o['ratio']:g}", f"{100 * o['covered']:.1f} %") for o in e.measured("null_studies")["coverage"]
    ]
    return _table(["seeds an arm", "ratio of the sds", "95 % intervals that hold the difference"], rows)


def ladder(e: Evidence) -> str:
    """The rungs of the speedrun."""
    texts = STUDIES["speedrun"].arms
    rows = []
    for one in e.measured("speedrun"):
        name = one["trial"]["name"]
        rows.append((f"`{name}`", texts[name].label, *(rung(e, name, w) for w in ("seeds", "accuracy", "seconds"))))
    return _table(["rung", "what it is", "seeds", "last epoch, mean", "s per seed"], rows)


def candidates(e: Evidence) -> str:
    """What was tried on held-out images before the speedrun's recipe was chosen."""
    rows = [tuple(one.values()) for one in e.measured("speedrun_candidates")["candidates"]]
    head = ["candidate", "epochs", "peak rate", "labels smoothed", "held-out %, mean (sd)", "s per seed, one core"]
    return _table(head, [(a, b, c, d, f"{m:.2f} ({s:.2f})", t) for a, b, c, d, m, s, t in rows])


def throughput(e: Evidence) -> str:
    """Replica-images per second of the best form of everyone, and our ratios."""
    others = ("DataLoader loop", "plain PyTorch", "torch.func")
    head = ["network", "precision", *(f"{who}, best" for who in others), "s6lib, best", "s6lib / plain PyTorch"]
    rows = []
    for network in dict.fromkeys(row["network"] for row in e.measured("cpu")["rows"]):
        for precision in ("float32", "bfloat16"):
            cells = [_best(_rows(e, network, who, precision)) for who in (*others, "s6lib")]
            rows.append((f"`{network}`", precision, *cells, ratio(e, network, precision)))
    return _table(head, rows)


def contest(e: Evidence, network: str) -> str:
    """Every row of the benchmark on one network."""
    head = ["who", "precision", "processes x threads", "R each", "replica-images/s (lowest to highest)", "to plain"]
    head += ["to the loop", "peak memory, MB", "share of products", "share of copies"]
    return _table(head, [_contestant(row) for row in e.measured("cpu")["rows"] if row["network"] == network])


def voids(e: Evidence) -> str:
    """Rows that do not count, and why."""
    found = [row for row in e.measured("cpu")["rows"] if row["void"]]
    reasons = dict.fromkeys(f"{row['who']} on {row['network']} in {row['precision']}: {row['void']}" for row in found)
    return "; ".join(reasons) or "none"


def ablations(e: Evidence, network: str) -> str:
    """How many times as long a step takes without one optimisation."""
    medians = e.measured(f"ablations_{network}")["medians"]
    whole = ("as it is", "bfloat16")
    rows = [(name, f"{medians[_base_of(name)] / value:.2f}") for name, value in medians.items() if name not in whole]
    return _table(["changed", "a step takes, times as long"], rows)


def floors(e: Evidence) -> str:
    return architecture.floors()


# --- pieces ----------------------------------------------------------------------------------------


def _n(value: float, digits: str = "2") -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _span(low: float, high: float, digits: str = "2") -> str:
    return f"{_n(low, digits)} to {_n(high, digits)}"


def _bars(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _published_last(record: Record) -> str:
    """With a dagger where it was read off a plot; "" where nothing was published."""
    rows = measures.published_for(record).dropna(subset="last")
    return f"{_n(row.last)}{'†' * ('plot' in str(row.note))}" if (row := next(rows.itertuples(), None)) else ""


def _inside(record: Record) -> bool:
    span = statistics.prediction_interval(measures.test_accuracy(record))
    return bool(span.low <= measures.published_for(record)["last"].iloc[0] <= span.high)


def _arm(record: Record) -> tuple:
    values = measures.test_accuracy(record)
    ours, one_more = statistics.mean_interval(values), statistics.prediction_interval(values)
    label = STUDIES[record.trial.study].arms[record.name].label
    spans = (_span(ours.low, ours.high), _span(one_more.low, min(one_more.high, 100)))
    return f"`{record.name}`", label, ours.n, _n(ours.mean), _n(ours.sd), *spans, _published_last(record)


def _small(record: Record) -> tuple:
    ours = statistics.mean_interval(measures.test_accuracy(record))
    text = f"**{_n(ours.mean)}** ({_span(ours.low, ours.high)})"
    what = f"last epoch of {record.trial.epochs}, mean over {ours.n} seeds"
    return record.provenance["parameters"], text, what, f"`{record.trial.study}/{record.name}`, here"


def _late(record: Record, log: Any, column: str) -> tuple:
    ours = statistics.prediction_interval(measures.by_epoch(record, column)[:, -5:].mean(1))
    theirs = log[f"{column}_pct"].mean()
    kind = "test" if column == "test_accuracy" else "running training"
    inside = "yes" if ours.low <= theirs <= ours.high else "**no**"
    arm = f"`{record.trial.study}/{record.name}`"
    return arm, kind, _n(theirs), _n(ours.mean), _span(ours.low, min(ours.high, 100)), inside


def _rows(e: Evidence, network: str, who: str, precision: str) -> list[dict]:
    """The rows of a contestant that are not void."""
    wanted = (network, who, precision, None)
    rows = e.measured("cpu")["rows"]
    return [row for row in rows if (row["network"], row["who"], row["precision"], row["void"]) == wanted]


def _speed(e: Evidence, network: str, what: str) -> float:
    precision, replicas, *cores = what.split(":")
    rows = _rows(e, network, "s6lib", precision)
    same = [row for row in rows if row["replicas"] == int(replicas) and (row["processes"] > 1) == bool(cores)]
    return same[0]["images_per_second"] if same else 0.0


def _best(rows: list[dict]) -> str:
    return f"{max(row['images_per_second'] for row in rows):,.0f}" if rows else ""


def _contestant(row: dict) -> tuple:
    who = f"{row['who']}, {row['workers']} workers" if row["who"] == "DataLoader loop" else row["who"]
    form = f"{row['processes']} x {row['threads']}"
    speed = f"{row['images_per_second']:,.0f} ({row['lowest']:,.0f} to {row['highest']:,.0f})"
    known = (row["ratio_to_plain"], row["ratio_to_dataloader"])  # None where the base is void
    ratios = ["void" if row["void"] else "—" if one is None else f"{one:.2f}" for one in known]
    shares = [f"{100 * row[key]:.0f} %" for key in ("share_of_product_rate", "share_of_copy_rate")]
    return who, row["precision"], form, row["replicas"], speed, *ratios, f"{row['memory_mb']:,.0f}", *shares


def _base_of(name: str) -> str:
    return "bfloat16" if name.startswith("bfloat16,") else "as it is"


# Every public function above, by name.
VALUES = {name: f for name, f in vars().copy().items() if inspect.isfunction(f) and not name.startswith("_")}
