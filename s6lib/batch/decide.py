"""Adds seeds until claims are decided: trains those of the next look, tests, reports, and goes on.

    results/<run>/verdicts.json     a row per claim (s6lib.evidence.verdicts), written after every look

A study's plan, fixed in its file, says at how many seeds claims are tested (looks). A look is made when all arms of a
claim have its seeds, and nothing is tested between looks. The runner trains the arms, so existing results are kept and
a killed command continues where it was.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from s6lib import records
from s6lib.batch import runner
from s6lib.batch.plan import PlanError, arm_differences, names, one_of
from s6lib.batch.progress import Display
from s6lib.batch.request import Request, check, check_reach
from s6lib.evidence import forecast, verdicts
from s6lib.evidence.wanted import verdict_rows
from s6lib.records import PRECISIONS, Record, counted
from s6lib.studies import STUDIES, trained_by
from s6lib.studies.base import Claim, Study
from s6lib.training.precision import default_device, resolve_precision

OPEN = ("undecided", "missing")
TAKES = "STUDY, HOURS, PRECISION, STALE"


@dataclass(frozen=True)
class Step:
    """Entries of studies.toml to run for one study's next look."""

    study: Study
    seeds: int
    entries: tuple[str, ...]


def decide(request: Request, hours: float | None = None) -> int:
    """Looks until all claims of the request's studies are decided, their plans or the hours are over.

    Returns 0, or the exit code of the run that failed or was interrupted. Raises PlanError for what would make other
    trials than the studies' arms.
    """
    check(request)
    if request.profile != "full":
        raise PlanError(f"PROFILE={request.profile}: the plan fixes data and budget; decide takes {TAKES}")
    if hours is not None and not hours > 0:  # nor nan
        raise PlanError(f"HOURS={hours:g} is out of range; valid: above 0, or empty for no limit")
    studies, display = asked(request), Display(log=request.folder / "batch.log")
    precision = precision_here(request)
    over = time.monotonic() + 3600 * hours if hours is not None else float("inf")
    before: Step | None = None
    known: dict[tuple[str, str], str] = {}
    while True:
        found = records.find(request.folder)[0] if request.folder.is_dir() else []
        rows, added = verdict_rows(found), [one for one in found if is_added_to(one, precision, request.stale)]
        step = next_step(studies, rows, added)
        if step and before is None:
            check_step(replace_with(request, step))
        verdicts.write(rows, request.folder)
        known = report(rows, studies, known, display)
        if before is None:
            tell_precision(found, studies, precision, display)
        if step is None:
            return finish(rows, studies, display)
        if step == before:
            display.line(f"{step.study.name}: the run did not add all seeds of this look; see {display.log}")
            return 1
        announce(step, rows, added, display, precision)
        if time.monotonic() >= over:
            display.line("the hours are over; the same command continues from here")
            return 0
        code = train(replace_with(request, step), over)
        if time.monotonic() >= over and code == 128 + signal.SIGTERM:
            display.line("the hours are over; the same command continues from the last epochs")
            return 0
        if code:
            return code
        before = step


def precision_here(request: Request) -> str:
    """The precision of the request, or what `auto` stands for on this machine."""
    asked_for = request.overrides.get("precision", "auto")
    one_of("precision", asked_for, PRECISIONS)
    return resolve_precision(asked_for, default_device())


def asked(request: Request) -> list[Study]:
    """The studies to decide: those named, or all that claim something."""
    if other := sorted(set(request.overrides) - {"precision"}):
        raise PlanError(f"{', '.join(map(str.upper, other))}: the plan fixes it; decide takes {TAKES}")
    if request.trial:
        raise PlanError(f"TRIAL: decide trains what a study's claims need; it takes {TAKES}")
    able = [name for name, study in STUDIES.items() if study.claims]
    for name in names(request.study):
        one_of("study", name, STUDIES)
        if name not in able:
            raise PlanError(f"STUDY={name}: it claims nothing; those that do: {', '.join(able)}")
    return [STUDIES[name] for name in names(request.study) or able]


def check_step(request: Request) -> None:
    """Raises PlanError where the first step cannot be run, or studies.toml has other settings than the arms."""
    plan = request.plan()
    for run in plan:
        if changed := arm_differences(run):
            raise PlanError(f"studies.toml: {run.name}: {changed}; the plan fixes these, leave them out")
    check_reach(request, plan)


def is_added_to(record: Record, precision: str, stale: str) -> bool:
    """Whether a record's seeds count as trained: not those of other settings, data or precision than planned, nor what
    STALE=rerun trains anew."""
    planned = verdicts.is_as_planned(record) and verdicts.precision_of(record) == precision
    return planned and not (stale == "rerun" and record.stale)


def next_step(studies: Iterable[Study], rows: Sequence[dict], found: Sequence[Record]) -> Step | None:
    """The smallest look that some open claim still needs seeds for; of two alike, the first study's."""
    steps = []
    for study in studies:
        have = verdicts.select(found, study.name)
        wanted: dict[int, list[str]] = {}
        for claim in open_claims(study, rows):
            seeds = verdicts.next_look(study, claim, have)
            if lacking := [arm for arm in claim.arms if seeds_of(have.get(arm)) < seeds]:
                wanted.setdefault(seeds, []).extend(lacking)
        if wanted:
            seeds = min(wanted)
            steps.append(Step(study, seeds, tuple(dict.fromkeys(study.run(arm) for arm in wanted[seeds]))))
    return min(steps, key=lambda step: step.seeds, default=None)


def open_claims(study: Study, rows: Sequence[dict]) -> list[Claim]:
    """Those that more seeds could decide: undecided, and not at the end of their plan."""
    unsettled = {
        row["claim"]
        for row in rows
        if row["study"] == study.name and row["verdict"] in OPEN and row["looks"] != row["planned_looks"]
    }
    return [claim for claim in study.claims if claim.id in unsettled]


def seeds_of(record: Record | None) -> int:
    """Seeds 0 to n - 1 that are there: n; 0 without a record."""
    return record.seeds_from_0 if record else 0


def replace_with(request: Request, step: Step) -> Request:
    """The runner's request for a step."""
    fixed = {**request.overrides, "seeds": step.seeds, "dataset": step.study.plan.dataset}
    return replace(request, study=step.study.name, trial=",".join(step.entries), overrides=fixed)


def train(request: Request, over: float) -> int:
    """Runs it; at the time `over`, whatever it is doing, it is stopped as by SIGTERM, which loses nothing."""
    left = over - time.monotonic()
    timer = threading.Timer(min(left, threading.TIMEOUT_MAX), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    try:
        with runner.signals():
            timer.start()
            try:
                return runner.run(request)
            finally:
                timer.cancel()
    except runner.Interrupted as stop:
        return 128 + stop.number


# --- what is said ----------------------------------------------------------------------------------


def report(rows: Sequence[dict], studies: Sequence[Study], known: dict, display: Display) -> dict:
    """A line for every claim whose verdict is new; all verdicts."""
    mine = [row for row in rows if row["study"] in {study.name for study in studies}]
    for row in mine:
        if row["verdict"] not in OPEN and known.get((row["study"], row["claim"])) != row["verdict"]:
            part = verdicts.weakest(row)
            display.line(f"{row['study']} ({row['claim']}) {row['sentence']}")
            display.line(
                f"    {row['verdict']}, p = {row['p']:.2g} over all looks and claims; "
                f"{verdicts.shown(part) if part else ''}"
            )
    return {(row["study"], row["claim"]): row["verdict"] for row in mine}


def announce(step: Step, rows: Sequence[dict], found: Sequence[Record], display: Display, precision: str) -> None:
    """The next look: its arms, its cost, and the chance that it decides what is open."""
    what = f"{step.seeds} seeds of {', '.join(step.entries)} in {precision}"
    display.line(f"{step.study.name}: next look at {what}; {cost(step, found)}")
    have, still_open = verdicts.select(found, step.study.name), open_claims(step.study, rows)
    for own in (False, True):
        family = [claim for claim in step.study.claims if claim.own == own]
        made = forecast.outlook(step.study, family, have)
        for claim, soon, late, seeds in zip(*made, strict=True) if made else ():
            if claim in still_open:
                chances = f"chance of a decision: {soon:.0%} at the next look, {late:.0%} by the end of its plan"
                display.line(f"    ({claim.id}) {chances}, {seeds:.0f} seeds on average")


def cost(step: Step, found: Sequence[Record]) -> str:
    """Hours of training at the seconds per seed that it took so far. Of arms that share a notebook, those that claims
    need. Stale seeds are trained again."""
    have = verdicts.select(found, step.study.name)
    trained = [arm for entry in step.entries for arm in trained_by(f"{step.study.name}/{entry}")]
    arms = {arm: min(step.seeds, most) for arm in trained if (most := most_seeds(step.study, arm))}
    known = [have[arm] for arm in arms if arm in have]
    if not known:
        return "none of them timed yet"
    lacking = {one.name: max(0, arms[one.name] - (0 if one.stale else seeds_of(one))) for one in known}
    seconds = sum(record.seconds_per_seed * lacking[record.name] for record in known)
    left = len(arms) - len(known)
    unknown = f", {counted(left, 'arm')} not timed yet" if left else ""
    return f"about {seconds / 3600:.1f} hours{unknown}"


def most_seeds(study: Study, arm: str) -> int:
    """The last look of the claims that compare an arm, 0 without one: notebooks train few seeds of some arms."""
    return max((study.looks(claim)[-1] for claim in study.claims if arm in claim.arms), default=0)


def tell_precision(found: Sequence[Record], studies: Sequence[Study], precision: str, display: Display) -> None:
    """Says so where there are seeds of another precision, which this command would not add to."""
    names = {study.name for study in studies}
    kinds = Counter(verdicts.precision_of(one) for one in found if one.trial.study in names)
    for kind in sorted(set(kinds) - {precision}):
        some = counted(kinds[kind], "trial")
        display.line(
            f"{some} in {kind}: PRECISION={kind} adds to them; without it, all arms are trained in {precision}"
        )


def finish(rows: Sequence[dict], studies: Sequence[Study], display: Display) -> int:
    """Counts of the verdicts."""
    words = [row["verdict"] for row in rows if row["study"] in {study.name for study in studies}]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    display.line(f"{counted(len(words), 'claim')}, no look left that could decide one more: {counts}")
    return 0
