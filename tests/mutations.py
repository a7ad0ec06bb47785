"""Breaks one behaviour at a time and shows that the tests notice: `python tests/mutations.py [words of a name ...]`.

Every mutation replaces one text in a copy of the repository and runs the tests that should fail (`make test` runs them
all). Exit code 1 when a mutation survives, when its text is gone, or when a guard fails for want of an import.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = "s6lib.report --check"  # a guard that is no test file

# fmt: off
# what breaks, file, text, its replacement, guards
MUTATIONS = [
    ("RMS norm sums squares", "s6lib/models/norms.py", "parts.square().mean(", "parts.square().sum(", "models"),
    ("batch renorm's sign", "s6lib/models/norms.py", "((mean - self.running_mean)", "((mean + self.running_mean)", "models"),
    ("ghost splits not interleaved", "s6lib/models/norms.py", "(-1, self.splits))  #", "(self.splits, -1)).movedim(0, 1)  #", "models"),
    ("layer norm over all replicas", "s6lib/models/norms.py", "GroupNorm(context.replicas, c", "GroupNorm(1, c", "models"),
    ("dropout's factor", "s6lib/models/layers.py", "65536 / (65536 - self", "65536 / (65536 + self", "models"),
    ("views across for down", "s6lib/models/views.py", "for down, right in self", "for right, down in self", "models"),
    ("views not in the fingerprint", "s6lib/provenance.py", "return parts + _imported(parts)", "return parts", "test_provenance.py"),
    ("initial weights too small", "s6lib/models/builder.py", "numel() ** -0.5", "numel() ** -1.0", "models"),
    ("a stream reused for two purposes", "s6lib/streams.py", "[seed, PURPOSES.index(purpose), epoch]", "[seed, epoch]", "test_streams.py"),
    ("images rotated the other way", "s6lib/data.py", "rotate(k * ANGLE_STEP", "rotate(-k * ANGLE_STEP", "test_data.py"),
    ("corners black where grey", "s6lib/data.py", "if self.grey:", "if not self.grey:", "test_data.py"),
    ("learning rate an epoch early", "s6lib/trial.py", "0.1 ** (epoch // 6)", "0.1 ** ((epoch + 1) // 6)", "test_trial.py"),
    ("a mistyped arm is the bare protocol", "s6lib/trial.py", "if like is None and name not in arms", "if False and arms", "test_trial.py"),
    ("L1 twice as strong", "s6lib/training/optim.py", ".sign(), l1[:", ".sign(), 2 * l1[:", "training"),
    ("proximal step without momentum", "s6lib/training/optim.py", ' / (1 - group.get("momentum", 0.0))', "", "training"),
    ("loss averaged over replicas", "s6lib/training/trainer.py", "losses.sum().backward()", "losses.mean().backward()", "training"),
    ("evaluated in training mode", "s6lib/training/trainer.py", "net.eval()", "net.train()", "training"),
    ("evaluated on augmented images", "s6lib/training/trainer.py", "self.dataset.normalise(pixels", "self.dataset.normalise(pixels.roll(1, -1)", "training"),
    ("shifts one way only", "s6lib/data.py", "torch.arange(-shift, shift + 1", "torch.arange(0, 2 * shift + 1", "test_data.py"),
    ("averaged weights not evaluated", "s6lib/training/trainer.py", "return self.average.net if self.average else self.net", "return self.net", "training"),
    ("looks counted as one", "s6lib/evidence/sequential.py", "levels[k] - levels[k - 1]", "levels[k]", "evidence"),
    ("an arm's batch size", "s6lib/studies/regularisers.py", 'GHOST | {"batch_size": 64}, base.GREEN', 'GHOST | {"batch_size": 32}, base.GREEN', "studies"),
    ("a part of a claim dropped", "s6lib/studies/regularisers.py", '(more("bn_l2", "bn_l1"), less', '(less("bn_l2", "bn_l1", "test_loss"), less', CHECK),
    ("a published number", "s6lib/studies/published/best_and_last.csv", "gbn,99.51,99.51", "gbn,99.51,99.15", CHECK),
    ("a notebook's default", "notebooks/regularisers/bn_l2.ipynb", "l2: float = 1e-5", "l2: float = 1e-4", "studies"),
    ("a verdict's direction", "s6lib/evidence/verdicts.py", "shown & (p_for < p_against)", "shown & (p_for > p_against)", "evidence"),
    ("looks not paid for", "s6lib/evidence/sequential.py", "NORMAL.isf(alpha / 2) / time**0.5", "NORMAL.isf(alpha / 2)", "evidence"),
    ("equality releases a claim", "s6lib/evidence/sequential.py", "np.maximum(first, second))  #", "np.minimum(first, second))  #", "evidence"),
    ("pairs taken apart", "s6lib/evidence/verdicts.py", "if is_paired(part, study):", "if False:", "evidence"),
    ("settings of an arm unchecked", "s6lib/evidence/verdicts.py", "if found[key] != value]", "if False]", "evidence"),
    ("variance over n", "s6lib/evidence/statistics.py", "g.var(-1, ddof=1)", "g.var(-1, ddof=0)", "evidence"),
    ("Holm without its steps", "s6lib/evidence/statistics.py", "np.arange(len(order), 0, -1)", "len(order) ** 0", "evidence"),
    ("an interval of two seeds", "s6lib/evidence/statistics.py", "if found.n >= ENOUGH_SEEDS", "if found.n > 1", "evidence"),
    ("diverged replicas averaged in", "s6lib/evidence/measures.py", "return [record.seeds[r] for r in record.non_diverged]", "return record.seeds", "evidence test_plots.py"),
    ("an axis label", "s6lib/plots/weights.py", 'xlabel="|w| (no unit)"', 'xlabel=""', "test_plots.py"),
    ("a trial's colour", "s6lib/plots/style.py", "return arm.colour, arm.line", "return COLOURS[0], arm.line", "test_plots.py"),
    ("sharing of a statistic", "s6lib/tutorial.py", "> 1e-9", "> 1e9", "test_tutorial.py"),
    ("a number in docs", "docs/results.md", "99.50", "99.05", CHECK),
    ("a number in README", "README.md", "0.01 points", "0.10 points", CHECK),
    ("a check that finds nothing", "s6lib/report/__main__.py", "return int(bool(found))", "return 0", "test_docs.py"),
    ("ratios to a void peer", "benchmarks/bench.py", 'and not other["void"]]', "]", "test_benchmarks.py"),
    ("a peer that does not learn", "benchmarks/bench.py", '>= ours["accuracy"] - TOLERANCE', '>= 0', "test_benchmarks.py"),
    ("an import upwards", "s6lib/evidence/measures.py", "def _kept_seeds", "def upwards():\n    from s6lib import plots\n\n\ndef _kept_seeds", "test_structure.py"),
    ("fingerprint blind to norms", "s6lib/provenance.py", "parts += _normaliser_source(normaliser) + ", "parts += ", "test_provenance.py"),
]
# fmt: on


def survives(mutation: tuple[str, str, str, str, str]) -> str:
    """ "" when the guards fail as they should, else what went wrong."""
    name, file, old, new, guards = mutation
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        copied = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for path in filter(None, copied.decode().split("\0")):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy / path)
        text = (copy / file).read_text(encoding="utf-8")
        if old not in text:
            return f"{name}: {file} does not hold {old!r} any more"
        (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        tests = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow"]
        tests += [f"tests/{guard}" for guard in guards.split()]
        command = [sys.executable, *(["-m", *guards.split()] if guards == CHECK else tests)]
        around = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=around, capture_output=True, text=True, check=False)
        # pytest's exit code 1 is not enough: a test that cannot be imported has noticed nothing
        noticed = done.returncode == 1 and ("FAILED tests/" in done.stdout or ": found " in done.stdout)
        return "" if noticed else f"{name}: exit code {done.returncode}\n{done.stdout[-500:]}"


def main(words: list[str]) -> int:
    chosen = [one for one in MUTATIONS if all(word in one[0] for word in words)]
    with ThreadPoolExecutor(2) as pool:
        found = []
        for mutation, trouble in zip(chosen, pool.map(survives, chosen), strict=True):
            print(f"{'caught' if not trouble else 'SURVIVED'}: {mutation[0]}", flush=True)
            found += [trouble] * bool(trouble)
    print(*found, f"{len(chosen) - len(found)} of {len(chosen)} caught", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
