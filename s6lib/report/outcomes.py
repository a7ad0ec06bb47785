"""What the first lines of notebooks say: how long it takes, where to open it, what came out. Values for markers."""

from s6lib.evidence import controls, statistics
from s6lib.evidence.verdicts import in_words
from s6lib.records import counted
from s6lib.report import address
from s6lib.report.committed import Committed, arms_like
from s6lib.report.text import ends, fixed
from s6lib.studies import STUDIES


def takes(e: Committed, *patterns: str) -> str:
    """How long arms ("study/arm", or with a `*`) take: to show, and per seed to train on MNIST and on the digits."""
    arms = arms_like(*patterns)
    measured = e.measured("durations")["digits"]
    if not arms or any(arm not in measured for arm in arms):
        return "a time that nobody has measured yet (`benchmarks/durations.py` does)"
    digits = _seconds(sum(measured[arm] for arm in arms))
    each = "per seed" if len(arms) == 1 else f"for one seed of each of its {len(arms)} arms"
    if any(arm not in e.records for arm in arms):
        return f"at most {digits} {each} on the digits; on MNIST about 40 times as long"
    mnist = _seconds(sum(e.records[arm].seconds_per_seed for arm in arms))
    seeds = min(len(e.records[arm].seeds) for arm in arms)
    shown = f"seconds: shown from the committed run, which has {counted(seeds, 'seed')} (`seeds = {seeds}` shows all)"
    digits = f"{digits} on the digits"
    return f"{shown}. Training anew takes {mnist} {each} on MNIST and {digits}"


def colab(e: Committed, notebook: str) -> str:
    """A badge that opens the notebook in Colab; how to open it here while the repository has no address."""
    repository = address.current()
    if "your-name" in repository or "github.com/" not in repository:
        return "in JupyterLab, with `make lab`"
    where = f"https://colab.research.google.com/github/{repository.split('github.com/')[1]}/blob/main/{notebook}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({where})"


def came_out(e: Committed, arm: str) -> str:
    """The arm's last-epoch accuracy, its difference to its control, and the claims that name it with their verdicts."""
    if arm not in e.records:
        return "not in the committed run yet"
    study, name = arm.split("/")
    ours = statistics.mean_interval(e.last(arm))
    about = f"{counted(ours.n, 'seed')}, 95 % interval {ends(ours)}"
    text = f"{fixed(ours.mean)} % after the last epoch ({about})"
    if control := STUDIES[study].control(name):
        text += f"; {_against(e, arm, '/'.join(control))}"
    mine = [row for row in e.verdicts if row["study"] == study and name in row["arms"]]
    ready = [row for row in mine if row["verdict"] != "missing"]
    told = " ".join(f"({row['claim']}) {row['sentence']} *{in_words(row).capitalize()}*." for row in ready)[:-1]
    return f"{text}. [Claims](../../docs/results.md#the-claims) that name it: {told}" if told else text


def answers(e: Committed, study: str, *claims: str) -> str:
    """What became of some claims of a study, by their ids."""
    rows = [row for row in e.verdicts if row["study"] == study and row["claim"] in claims]
    words = [in_words(row).replace("missing", "not in the committed run yet").capitalize() for row in rows]
    return " ".join(f"({row['claim']}) {row['sentence']} **{word}.**" for row, word in zip(rows, words, strict=True))


# --- pieces ----------------------------------------------------------------------------------------


def _against(e: Committed, arm: str, control: str) -> str:
    name = control.split("/")[1]
    if control not in e.records:
        return f"its control `{name}` is not in the committed run yet"
    ours, theirs = e.last(arm), e.last(control)
    found = statistics.difference(ours, theirs)
    about = f"{fixed(found.mean)} points against its control `{name}` (95 % interval {ends(found)})"
    shown = controls.in_words(ours, theirs)
    return f"{about}: {shown}{' by this comparison alone' * shown.startswith(('higher', 'lower', 'equal'))}"


def _seconds(value: float) -> str:
    if value < 99.5:
        return f"{value:.2g} s"
    return f"{value / 60:.2g} minutes" if value < 99.5 * 60 else f"{value / 3600:.2g} hours"
