"""Values of records: accuracies, differences, what was published, what became of claims."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from s6lib.evidence import images, sizes, statistics, verdicts, wanted
from s6lib.evidence.measures import by_epoch, published_for, test_accuracy
from s6lib.evidence.statistics import mean_interval, prediction_interval
from s6lib.records import Record
from s6lib.report.committed import Committed
from s6lib.report.text import ends, fixed, span, table
from s6lib.studies import STUDIES, base

STAR = 0.05  # chi-squared's p below which seeds spread otherwise than predicted


def mean(e: Committed, arm: str, measure: str = "test_accuracy", digits: str = "2") -> str:
    return fixed(e.last(arm, measure).mean(), digits)


def difference(e: Committed, a: str, b: str, measure: str = "test_accuracy", digits: str = "2") -> str:
    """Mean of `a` minus mean of `b`, an arm of the same study, with Welch's interval."""
    found = statistics.difference(*e.pair(a, b, measure))
    return f"{fixed(found.mean, digits)} points ({ends(found, digits)})"


def equivalence(e: Committed, a: str, b: str) -> str:
    """p of two one-sided tests within the margin."""
    return f"p = {statistics.equivalence(*e.pair(a, b)):.2g}"


def sd(e: Committed, arm: str, first: str = "") -> str:
    """Over all seeds, or the `first` so many."""
    return fixed(e.last(arm)[: int(first) if first else None].std(ddof=1), "3")


def sd_of_images(e: Committed, arm: str) -> str:
    """The sd over seeds that independent errors per image predict."""
    return fixed(images.predicted_sd(e.records[arm]), "3")


def seeds(e: Committed, measure: str, *arms: str) -> str:
    """The lowest and highest value of any seed of the arms."""
    values = np.concatenate([e.last(arm, measure) for arm in arms])
    return span(values.min(), values.max())


def best_over_last(e: Committed, *arms: str) -> str:
    """By how many points a run's best epoch is above its last, on average: the lowest and the highest of the arms."""
    gaps = [float((e.last(arm, "best_test_accuracy") - e.last(arm)).mean()) for arm in arms]
    return span(min(gaps), max(gaps))


def seeds_needed(e: Committed, study: str, points: str) -> str:
    """Seeds per arm at which an uncorrected two-sided test sees a difference with 80 % power, at the pooled sd."""
    variance = np.mean([test_accuracy(record).var(ddof=1) for record in e.study(study)])
    z = scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)
    return str(math.ceil(2 * variance * (z / float(points)) ** 2))


def published(e: Committed, arm: str, column: str) -> str:
    """A published number: best or last."""
    return fixed(base.published(*arm.split("/"))[column].iloc[0])


def replicated(e: Committed, *studies: str) -> str:
    """How many published last epochs lie inside the 95 % interval for one more seed of ours."""
    pairs = [(r, published_for(r)["last"].dropna()) for study in studies for r in e.study(study)]
    inside = [prediction_interval(test_accuracy(r)).holds(seen.iloc[0]) for r, seen in pairs if len(seen)]
    return f"{sum(inside)} of {len(inside)}"


def above_ours(e: Committed, which: str, *studies: str) -> str:
    """How many published last epochs, `all` or those in `logs`, are above our mean; two-sided p of the sign test."""
    pairs = [(r, published_for(r).dropna(subset="last")) for study in studies for r in e.study(study)]
    known = [(r, seen.iloc[0]) for r, seen in pairs if len(seen)]
    chosen = [(r, seen) for r, seen in known if which == "all" or "plot" not in str(seen.note)]
    return _signs(sum(seen["last"] > test_accuracy(r).mean() for r, seen in chosen), len(chosen))


def late_above_ours(e: Committed) -> str:
    """The same of the published means of the last five epochs."""
    logged = [(by_epoch(one, "test_accuracy")[:, -5:].mean(), log.test_accuracy_pct.mean()) for one, log in _logs(e)]
    return _signs(sum(theirs > ours for ours, theirs in logged), len(logged))


def verdict(e: Committed, word: str, whose: str = "") -> str:
    """How many claims have a verdict (`decided`: any; `all`: however it stands), of those whose arms were run; of the
    `published` or our `own` alone."""
    told = [row for row in e.verdicts if not whose or row["family"].endswith("our own") == (whose == "own")]
    found = [verdicts.in_words(row) for row in told if row["verdict"] != "missing"]
    if word == "decided":
        return str(sum(one not in ("undecided", verdicts.UNTESTED) for one in found))
    return str(len(found) if word == "all" else sum(one == word.replace("_", " ") for one in found))


def arms(e: Committed, study: str) -> str:
    """Last-epoch test accuracy of a study's arms beside what was published."""
    head = ["arm", "what it is", "seeds", "mean, %", "sd", "95 % interval of the mean", "95 % of single seeds"]
    return table([*head, "published, last epoch, 1 seed"], [_arm(record) for record in e.study(study)])


def small_networks(e: Committed) -> str:
    """Test accuracy of networks of few parameters: our means over seeds between published single runs, by size."""
    head = ["parameters", "test accuracy, %", "of what", "whose"]
    seen = base.published_table("small_networks").itertuples()
    rows = [(r.parameters, f"{r.accuracy:g}", r.what, r.source) for r in seen] + [_small(record) for record in e.small]
    return table(head, [(f"{size:,}", *rest) for size, *rest in sorted(rows, key=lambda row: row[0])])


def late_epochs(e: Committed) -> str:
    """The mean of the last five epochs beside the published logs."""
    rows = [_late(record, log, column) for record, log in _logs(e) for column in ("test_accuracy", "train_accuracy")]
    return table(["arm", "accuracy", "published", "ours, mean", "95 % of single seeds", "inside"], rows)


def claims_of(e: Committed, study: str) -> str:
    """Every claim of a study: place, sentence, verdict, Holm's p, the effect of every part with its interval, seeds,
    and how many would decide it."""
    head = ["claim", "place", "sentence", "verdict", "p (Holm)", "effects with 95 % intervals, positive as claimed"]
    return table([*head, "seeds", "seeds wanted"], [_claim(row) for row in e.verdicts if row["study"] == study])


def spreads(e: Committed, study: str) -> str:
    """The sd over seeds beside what independent errors per image predict; * where chi-squared says they differ."""
    rows = [_spread(record) for record in e.study(study) if len(record.non_diverged) > 1]
    return table(["arm", "seeds", "sd, points", "predicted from the images", "p, chi-squared"], rows)


def stars(e: Committed, *studies: str) -> str:
    """How many arms have a star in `spreads`."""
    found = [images.spread(one) for study in studies for one in e.study(study) if len(one.non_diverged) > 1]
    return f"{sum(spread.p < STAR for spread in found)} in {len(found)}"


# --- pieces ----------------------------------------------------------------------------------------


def _logs(e: Committed) -> Iterator[tuple[Record, pd.DataFrame]]:
    """Every record whose last five epochs are in a published log, and those lines of the log."""
    for record in e.records.values():
        log = published_for(record, "per_epoch").set_index("epoch")
        epochs = range(record.trial.epochs - 4, record.trial.epochs + 1)
        if set(epochs) <= set(log.index):
            yield record, log.loc[list(epochs)]


def _signs(above: int, total: int) -> str:
    return f"{above} of {total} (sign test, p = {scipy_stats.binomtest(above, total).pvalue:.2g})"


def _claim(row: dict) -> tuple:
    p = "" if row["p"] is None else f"{row['p']:.2g}"
    effects = "<br>".join(verdicts.shown(part).replace("|", "\\|") for part in row["parts"]) or row["note"]
    place = row["place"] or "our own question"
    return (
        row["claim"],
        place,
        row["sentence"],
        verdicts.in_words(row),
        p,
        effects,
        row["seeds"] or "",
        wanted.told(row),
    )


def _published_last(record: Record) -> str:
    """With a dagger where it was read off a plot; "" where nothing was published."""
    rows = published_for(record).dropna(subset="last")
    return f"{fixed(row.last)}{'†' * ('plot' in str(row.note))}" if (row := next(rows.itertuples(), None)) else ""


def _spread(record: Record) -> tuple:
    found = images.spread(record)
    numbers = fixed(found.observed, "3"), fixed(found.predicted, "3"), f"{found.p:.3g}{' *' * (found.p < STAR)}"
    return f"`{record.name}`", len(record.non_diverged), *numbers


def _arm(record: Record) -> tuple:
    values = test_accuracy(record)
    ours, one_more = mean_interval(values), prediction_interval(values)
    label = STUDIES[record.trial.study].arms[record.name].label
    numbers = ours.n, fixed(ours.mean), fixed(ours.sd), ends(ours), ends(one_more)
    return f"`{record.name}`", label, *numbers, _published_last(record)


def _small(record: Record) -> tuple:
    ours = mean_interval(test_accuracy(record))
    text = f"**{fixed(ours.mean)}** ({ends(ours)})"
    what = f"last epoch of {record.trial.epochs}, mean over {ours.n} seeds{sizes.in_views(record)}"
    return record.provenance["parameters"], text, what, f"`{record.trial.study}/{record.name}`, here"


def _late(record: Record, log: Any, column: str) -> tuple:
    ours = prediction_interval(by_epoch(record, column)[:, -5:].mean(1))
    theirs = log[f"{column}_pct"].mean()
    kind = "test" if column == "test_accuracy" else "running training"
    numbers = fixed(theirs), fixed(ours.mean), ends(ours)
    return f"`{record.trial.study}/{record.name}`", kind, *numbers, "yes" if ours.holds(theirs) else "**no**"
