"""What the first lines of notebooks say: how long it takes, where to open it, what came out. Values for markers."""

from fnmatch import fnmatch
from typing import Any

from s6lib.evidence import controls, statistics, verdicts
from s6lib.report import address
from s6lib.report import gallery as executed
from s6lib.studies import STUDIES

Evidence = Any  # values.Evidence, which imports this module


def takes(e: Evidence, *patterns: str) -> str:
    """How long arms ("study/arm", or with a `*`) take: to show, and per seed to train on MNIST and on the digits."""
    known = [f"{study.name}/{arm}" for study in STUDIES.values() for arm in study.arms]
    arms = [arm for arm in known if any(fnmatch(arm, pattern) for pattern in patterns)]
    measured = e.measured("durations")["digits"]
    if not arms or any(arm not in measured for arm in arms):
        return "a time that nobody has measured yet (`benchmarks/durations.py` does)"
    digits = _seconds(sum(measured[arm] for arm in arms))
    if any(arm not in e.records for arm in arms):
        return f"at most {digits} per seed on the digits (timed on a busy machine); on MNIST about 40 times as long"
    mnist = _seconds(sum(e.records[arm].seconds_per_seed for arm in arms))
    shown = f"seconds: {_seeds(min(len(e.records[arm].seeds) for arm in arms))} come from the committed run"
    digits = f"{digits} on the digits (timed on a busy machine)"
    return f"{shown}. Training anew takes {mnist} per seed on MNIST and {digits}"


def colab(e: Evidence, notebook: str) -> str:
    """A badge that opens the notebook in Colab; a word instead while the repository has no address."""
    repository = address.current()
    if "your-name" in repository or "github.com/" not in repository:
        return "in Colab once `make publish-url` has given the repository its address"
    where = f"https://colab.research.google.com/github/{repository.split('github.com/')[1]}/blob/main/{notebook}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({where})"


def came_out(e: Evidence, arm: str) -> str:
    """The arm's last-epoch accuracy, its difference to its control, and the claims that name it with their verdicts."""
    if arm not in e.records:
        return "not in the committed run yet"
    study, name = arm.split("/")
    ours = statistics.mean_interval(e.last(arm))
    text = f"{_n(ours.mean)} % after the last epoch ({_seeds(ours.n)}, {_span(ours)})"
    if control := STUDIES[study].control(name):
        text += f"; {_against(e, arm, '/'.join(control))}"
    named = [row for row in _verdicts(e, study) if name in row["arms"] and not row["verdict"].startswith("missing")]
    told = "; ".join(f"{row['claim']}: *{row['verdict']}*" for row in named)
    return f"{text}. Claims that name it ([sentences](../../docs/results.md)): {told}" if told else text


def answers(e: Evidence, study: str, *claims: str) -> str:
    """What became of some claims of a study, by their first letters."""
    rows = [row for row in _verdicts(e, study) if row["claim"] in claims]
    words = [row["verdict"].replace("missing", "not in the committed run yet") for row in rows]
    told = zip(rows, words, strict=True)
    return " ".join(f"({row['claim']}) {row['sentence']} **{_first_upper(word)}.**" for row, word in told)


def gallery(e: Evidence) -> str:
    """A picture per trial that links to its executed notebook."""
    return executed.page(e)


# --- pieces ----------------------------------------------------------------------------------------


def _verdicts(e: Evidence, study: str) -> list[dict[str, Any]]:
    """A row per claim of a study, with the arms it names."""
    rows = verdicts.verdicts(e.records.values())
    named = {claim.id: claim.arms for claim in STUDIES[study].claims}
    return [{**row, "arms": named[row["claim"]]} for row in rows if row["study"] == study]


def _against(e: Evidence, arm: str, control: str) -> str:
    name = control.split("/")[1]
    if control not in e.records:
        return f"its control `{name}` is not in the committed run yet"
    ours, theirs = e.last(arm), e.last(control)
    found = statistics.difference(ours, theirs)
    about = f"{_n(found.mean)} points against its control `{name}` ({_span(found)})"
    return f"{about}: {controls.in_words(ours, theirs)}"


def _span(found: Any) -> str:
    return f"95 % interval {_n(found.low)} to {_n(found.high)}"


def _n(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number != 1)}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 99.5 else f"{value / 60:.2g} minutes"


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
