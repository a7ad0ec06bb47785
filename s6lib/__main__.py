"""The command line: `python -m s6lib <command>`. Exit code 1: a failure; 2: a request refused."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from s6lib.batch import OVERRIDES

NUMBERS = {"jobs": int, "workers": int, "retries": int, "cell_timeout": int, "time_limit": float, "worker_wait": float}
UNLIMITED = ("cell_timeout", "time_limit")  # where empty; elsewhere it means the default


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m s6lib", description="Runs the notebooks that studies.toml lists.")
    commands = top.add_subparsers(dest="command", required=True, metavar="<command>")
    texts = {
        "plan": "show what would run with which parameters",
        "run": "run what is not done yet, then the summary notebook",
        "decide": "add seeds, look by look, until the studies' claims are decided",
        "status": "list trials as done, running, failed, missing or stale, and the time left",
        "summary": "execute the summary notebook on what is there",
        "report": "write the run's page, report.html, leaderboard.csv and verdicts.json from its records",
        "prune": "list the parts that no trial asks for with its present settings; --yes deletes them",
        "clean": "delete what batches made in the run folder",
    }
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in texts.items()}
    for command in made.values():
        add_selection(command)
    made["prune"].add_argument("--yes", action="store_true", help="delete them")
    made["plan"].add_argument("--count", action="store_true", help="print the number of trials only")
    for name in ("run", "decide"):
        add_running(made[name])
    made["run"].add_argument("--index", default="", help="only the trial at this place of the plan, for array jobs")
    made["decide"].add_argument("--hours", default="", help="stop after so many hours; the same command continues")
    made["decide"].set_defaults(profile="full")
    return top


def add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--profile", default="quick", help="a profile of studies.toml (quick; decide: full)")
    command.add_argument("--study", default="", help="these studies only, comma-separated")
    command.add_argument("--trial", default="", help="these trials only, comma-separated")
    for name in OVERRIDES:
        command.add_argument(f"--{name}", default="", help=f"in place of the profile's {name}")
    command.add_argument("-p", "--set", action="append", default=[], metavar="NAME=VALUE", help="any other parameter")
    command.add_argument("--results", default="results", help="folder for all runs (default: results)")
    command.add_argument("--run", default="", help="folder below it (default: the profile's name)")
    command.add_argument("--studies", default="studies.toml", help="the table of studies (default: studies.toml)")
    command.add_argument("--jobs", default="", help="trials at a time (default: one per GPU, else to keep cores busy)")
    command.add_argument("--workers", default="", help="processes for the seeds of a trial (default: cores / jobs)")


def add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--stale", default="keep", help="keep (default), or rerun: run again what older code made")
    command.add_argument("--scheduler", default="", help="tcp://host:port, tls://host:port, local:N, slurm[:file.toml]")
    command.add_argument("--worker-wait", default="60", help="seconds to wait for a first worker (default: 60)")
    command.add_argument("--retries", default="1", help="tries again after a dead kernel or process (default: 1)")
    command.add_argument("--cell-timeout", default="", help="seconds a cell may take (default: no limit)")
    command.add_argument("--time-limit", default="86400", help="seconds a notebook may take (default: a day)")


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    with contextlib.suppress(AttributeError, ValueError):  # a terminal of few letters fails no command
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from s6lib.batch import prune, runner, status  # after --help, which needs none of it
    from s6lib.batch.plan import PlanError
    from s6lib.batch.request import check
    from s6lib.records import RecordError, plain_text

    try:
        request = make_request(arguments)
        if arguments.command == "plan":
            return show_plan(request, arguments.count)
        if arguments.command == "report":
            from s6lib.report.page import build

            check(request)
            return build.main(request.folder)
        if arguments.command == "decide":
            from s6lib.batch import decide

            return decide.decide(request, number("hours", arguments.hours, float))
        if arguments.command == "run":
            return runner.run(request, number("index", arguments.index, int))
        if arguments.command in ("prune", "clean"):
            return prune.clean(request) if arguments.command == "clean" else prune.prune(request, arguments.yes)
        return status.status(request) if arguments.command == "status" else runner.summary(request)
    except (PlanError, RecordError, OSError) as error:  # OSError: a full disk, a folder that may not be read
        print(f"error: {plain_text(str(error))}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        return 1 if isinstance(error, OSError) else 2


def make_request(arguments: argparse.Namespace):
    from s6lib.batch.request import Request, results_folder

    overrides = {name: value for name in OVERRIDES if (value := getattr(arguments, name))}
    overrides |= {name: number(name, overrides[name], int) for name in ("seeds", "epochs") if name in overrides}
    for entry in arguments.set:
        name, _, value = entry.partition("=")
        overrides[name] = plain(value)
    chosen = {name: getattr(arguments, name) for name in ("profile", "study", "trial", "run")}
    given = {name: kind for name, kind in NUMBERS.items() if name in arguments}
    numbers = {name: number(name, getattr(arguments, name), kind) for name, kind in given.items()}
    numbers = {name: value for name, value in numbers.items() if value is not None or name in UNLIMITED}
    if "stale" in arguments:
        chosen |= {"scheduler": arguments.scheduler, "stale": arguments.stale or "keep"}
    return Request(
        studies_file=Path(arguments.studies),
        results=results_folder(arguments.results),
        overrides=overrides,
        **chosen,
        **numbers,
    )


def number(name: str, text: str, kind: type):
    """`text` as a number, None where it is empty."""
    from s6lib.batch.plan import PlanError

    try:
        return kind(text) if text else None
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise PlanError(f"{name.upper().replace('_', '-')}={text!r} is not a {what}") from None


def plain(text: str) -> object:
    """JSON where it is JSON, otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def show_plan(request, count: bool) -> int:
    """A line per trial: its state, its notebook, every setting as it would run, and how it differs from its arm."""
    from s6lib.batch.plan import arm_differences
    from s6lib.batch.progress import Display
    from s6lib.batch.request import check
    from s6lib.batch.state import state_of

    check(request)
    runs, display = request.plan(), Display()
    if count:
        display.line(str(len(runs)))
        return 0
    width = max((len(run.name) for run in runs), default=0)
    for run in runs:
        settings = " ".join(f"{name}={json.dumps(value)}" for name, value in run.settings.items())
        other = f"  (not as its arm: {different})" if (different := arm_differences(run)) else ""
        kind = state_of(run, request.folder).kind
        display.line(f"{run.name:<{width}}  {kind:<8}  {run.notebook.name}  {settings}{other}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
