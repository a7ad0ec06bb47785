"""Values of measurements, results/bench: speed beside peers, growing, the speedrun, simulated studies."""

from itertools import product

from scipy import stats as scipy_stats

from s6lib.evidence import statistics
from s6lib.report.committed import Committed
from s6lib.report.text import ends, fixed, percent, span, table
from s6lib.studies import STUDIES


def number(e: Committed, file: str, path: str, form: str) -> str:
    """A number of results/bench/<file>.json; of a list, its length."""
    value = e.measured(file)
    for key in path.split("/"):
        value = value[int(key) if isinstance(value, list) else key]
    return f"{len(value) if isinstance(value, list) else value:{form}}"


def rung(e: Committed, name: str, what: str) -> str:
    """Of a rung of the speedrun's ladder: accuracy, seconds, seeds, or p that its mean is above 99.4."""
    one = next(one for one in e.measured("speedrun") if one["trial"]["name"] == name)
    found = statistics.mean_interval(one["test_accuracy"])
    texts = {
        "accuracy": f"{found.mean:.3f} % (sd {found.sd:.3f}, interval {ends(found, '3')})",
        "seconds": f"{one['seconds_per_seed']:.3g}",
        "seeds": str(found.n),
        "p": f"{scipy_stats.ttest_1samp(one['test_accuracy'], 99.4, alternative='greater').pvalue:.2g}",
    }
    return texts[what]


def ratio(e: Committed, network: str, precision: str, base: str = "plain") -> str:
    """How many times as fast our best is as the best plain PyTorch of the same precision, or the DataLoader `loop`."""
    key = {"plain": "ratio_to_plain", "loop": "ratio_to_dataloader"}[base]
    found = [row[key] for row in _rows(e, network, "s6lib", precision) if row[key]]
    return f"{max(found):.1f}" if found else "—"  # no peer counts


def speed(e: Committed, network: str, a: str, b: str) -> str:
    """How many times as fast `a` is as `b`, each `precision:R` in one process, `precision:R:cores` in one per core."""
    found = [_speed(e, network, a), _speed(e, network, b)]
    return f"{found[0] / found[1]:.1f}" if all(found) else "—"  # not measured


def caution(e: Committed) -> str:
    """Said of speeds measured beside other programs' work or in fewer than three rounds."""
    found = e.measured("cpu")
    busy = (found["load_before"] or 0) > found["cores"] / 2
    return "; **provisional**: too few rounds, or a busy machine" if busy or found["rounds"] < 3 else ""


def start(e: Committed, *words: str) -> str:
    """Seconds of a start that benchmarks/growing.py timed."""
    return f"{e.measured('growing')['starts'][' '.join(words)]:.2g}"


def grown(e: Committed, what: str, count: str, column: str, form: str) -> str:
    """A number of benchmarks/growing.py: of `seeds` or `trials`, at a count."""
    rows = e.measured("growing")[what]
    return f"{next(row for row in rows if row[what] == int(count))[column]:{form}}"


def null_studies(e: Committed) -> str:
    """The share of simulated studies with some false verdict, family by family."""
    found = e.measured("null_studies")
    head = ["family", "claims", "looks", f"no difference, {found['studies']:,} studies"]
    head += ["differences of 0, 1 and 2 margins at random (worst of 20)"]
    return table(head, [_family(one) for one in found["families"]])


def decided_studies(e: Committed) -> str:
    """Claims decided and seeds used at three true differences, against one look at the end."""
    head = ["true difference, points (sd 0.05)", "decided", "supported", "seeds", "decided at a fixed number"]
    return table([*head, "seeds saved"], [_power(one) for one in e.measured("null_studies")["power"]])


def coverage_of_intervals(e: Committed) -> str:
    """How often 95 % intervals for a difference hold it."""
    found = e.measured("null_studies")["coverage"]
    rows = [(one["seeds"], f"{one['ratio']:g}", percent(one["covered"], "1")) for one in found]
    return table(["seeds an arm", "ratio of the sds", "95 % intervals that hold the difference"], rows)


def ladder(e: Committed) -> str:
    """The rungs of the speedrun."""
    names, arms = [one["trial"]["name"] for one in e.measured("speedrun")], STUDIES["speedrun"].arms
    words = ("seeds", "accuracy", "seconds")
    rows = [(f"`{name}`", arms[name].label, *(rung(e, name, word) for word in words)) for name in names]
    return table(["rung", "what it is", "seeds", "last epoch, mean", "s per seed"], rows)


def candidates(e: Committed) -> str:
    """What was tried on held-out images before the speedrun's recipe was chosen."""
    rows = [tuple(one.values()) for one in e.measured("speedrun_candidates")["candidates"]]
    head = ["candidate", "epochs", "peak rate", "labels smoothed", "held-out %, mean (sd)", "s per seed, one core"]
    return table(head, [(a, b, c, d, f"{m:.2f} ({s:.2f})", t) for a, b, c, d, m, s, t in rows])


def chosen_anew(e: Committed) -> str:
    """What was tried on held-out images before the recipe `anew` was chosen, by a rule that its script states."""
    found = e.measured("speedrun_chosen")["candidates"]
    accuracy = [statistics.mean_interval(one["held_out"]) for one in found]
    held = [f"{a.mean:.3f} ({a.sd:.3f})" for a in accuracy]
    rows = [
        (one["candidate"], one["settings"]["epochs"], len(one["seeds"]), h) for one, h in zip(found, held, strict=True)
    ]
    return table(["candidate", "epochs", "seeds", "held-out %, mean (sd)"], rows)


def equivalences(e: Committed) -> str:
    """Every test that bfloat16 is as accurate as float32: last epochs of a one-cycle schedule on MNIST."""
    head = ["arm", "epochs", "seeds each", "float32, mean % (sd)", "bfloat16, mean % (sd)", "difference, points", "p"]
    files = [path.stem for path in sorted((e.results / "bench").glob("equivalence_*.json"))]
    return table(head, [_equivalence(e, file) for file in files if e.measured(file).get("verdict")])


def groupings(e: Committed) -> str:
    """The same seeds alone, by eight and all together."""
    head = ["seeds fused", "mean, % (sd)", "seeds with the same last epoch as alone", "difference to alone, points"]
    rows = [
        (one["together"], f"{one['mean']:.2f} ({one['sd']:.2f})", one["same"], *_apart(one))
        for one in e.measured("groupings")["rows"]
    ]
    return table([*head, "p, Kolmogorov–Smirnov"], rows)


def throughput(e: Committed) -> str:
    """Replica-images per second of the best form of everyone, and our ratios."""
    others = ("DataLoader loop", "plain PyTorch", "torch.func")
    head = ["network", "precision", *(f"{who}, best" for who in others), "s6lib, best", "s6lib / plain PyTorch"]
    forms = product(dict.fromkeys(row["network"] for row in e.measured("cpu")["rows"]), ("float32", "bfloat16"))
    rows = [(f"`{n}`", p, *(_best(e, n, who, p) for who in (*others, "s6lib")), ratio(e, n, p)) for n, p in forms]
    return table(head, rows)


def contest(e: Committed, network: str) -> str:
    """Every row of the benchmark on one network."""
    head = ["who", "precision", "processes x threads", "R each", "replica-images/s (lowest to highest)", "to plain"]
    head += ["to the loop", "peak memory, MB", "share of products", "share of copies"]
    return table(head, [_contestant(row) for row in e.measured("cpu")["rows"] if row["network"] == network])


def voids(e: Committed) -> str:
    """Rows that do not count, and why."""
    found = [row for row in e.measured("cpu")["rows"] if row["void"]]
    reasons = dict.fromkeys(f"{row['who']} on {row['network']} in {row['precision']}: {row['void']}" for row in found)
    return "; ".join(reasons) or "none"


def ablations(e: Committed, network: str) -> str:
    """How many times as long a step takes without one optimisation."""
    medians = e.measured(f"ablations_{network}")["medians"]
    whole = ("as it is", "bfloat16")  # what an entry is held against
    pairs = [(name, medians[whole[name.startswith("bfloat16,")]], medians[name]) for name in medians]
    rows = [(name, f"{before / after:.2f}") for name, before, after in pairs if name not in whole]
    return table(["changed", "a step takes, times as long"], rows)


def norms(e: Committed) -> str:
    """How many times as long a step takes under each normaliser as under batch norm."""
    found = e.measured("norms")["norms"]
    return table(["normaliser", "a step takes, times as long"], [(name, f"{one:.2f}") for name, one in found.items()])


def skeleton(e: Committed) -> str:
    """The speed of the 258,602-parameter network as a share of the rate of matrix products."""
    return percent(e.measured("norms")["skeleton"]["share_of_product_rate"])


# --- pieces ----------------------------------------------------------------------------------------


def _family(one: dict) -> tuple:
    wrong = percent(one["no_difference"], "1"), f"{percent(one['mixed'], '1')} ({percent(one['worst_mixed'], '1')})"
    return f"`{one['study']}`{', our own' * one['own']}", one["claims"], ", ".join(map(str, one["looks"])), *wrong


def _power(one: dict) -> tuple:
    fixed_number = f"{percent(one['fixed_decided'])} at {one['fixed_seeds']}"
    saved = percent(1 - one["seeds"] / one["fixed_seeds"])
    decided = percent(one["decided"]), percent(one["supported"])
    return f"{one['difference']:g}", *decided, f"{one['seeds']:.1f}", fixed_number, saved


def _rows(e: Committed, network: str, who: str, precision: str) -> list[dict]:
    """The rows of a contestant that are not void."""
    wanted = (network, who, precision, None)
    rows = e.measured("cpu")["rows"]
    return [row for row in rows if (row["network"], row["who"], row["precision"], row["void"]) == wanted]


def _speed(e: Committed, network: str, what: str) -> float:
    precision, replicas, *cores = what.split(":")
    rows = _rows(e, network, "s6lib", precision)
    same = [row for row in rows if row["replicas"] == int(replicas) and (row["processes"] > 1) == bool(cores)]
    return same[0]["images_per_second"] if same else 0.0


def _best(e: Committed, network: str, who: str, precision: str) -> str:
    speeds = [row["images_per_second"] for row in _rows(e, network, who, precision)]
    return f"{max(speeds):,.0f}" if speeds else ""


def _contestant(row: dict) -> tuple:
    who = f"{row['who']}, {row['workers']} workers" if row["who"] == "DataLoader loop" else row["who"]
    form = f"{row['processes']} x {row['threads']}"
    speed = f"{row['images_per_second']:,.0f} ({row['lowest']:,.0f} to {row['highest']:,.0f})"
    known = (row["ratio_to_plain"], row["ratio_to_dataloader"])  # None where the base is void
    ratios = ["void" if row["void"] else "—" if one is None else f"{one:.2f}" for one in known]
    shares = [percent(row[key]) for key in ("share_of_product_rate", "share_of_copy_rate")]
    return who, row["precision"], form, row["replicas"], speed, *ratios, f"{row['memory_mb']:,.0f}", *shares


def _equivalence(e: Committed, file: str) -> tuple:
    found = e.measured(file)
    tested, changed = found["verdict"], [f"{name} {value:g}" for name, value in found["settings"].items()]
    arm = ", ".join([f"`{found['study']}/{found['arm']}`", *changed])
    both = [f"{tested[name]['mean']:.3f} ({tested[name]['sd']:.3f})" for name in ("float32", "bfloat16")]
    difference = fixed(tested["difference"], "3")
    return arm, found["epochs"], found["seeds"], *both, difference, f"{tested['p_equivalence']:.2g}"


def _apart(one: dict) -> tuple[str, str]:
    if one["together"] == 1:
        return "", ""
    return f"{fixed(one['difference'])} ({span(one['low'], one['high'])})", f"{one['p_one_distribution']:.2f}"
