"""What a running batch shows: one line per trial, live on a terminal, and the time that is left."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s6lib.studies import trained_by

EVERY = 60  # seconds between lines about running trials where there is no terminal
SLOW = 3  # an epoch that takes so many times as long as the one before is worth a word


def heartbeat(results: Path, name: str) -> dict:
    """The newest heartbeat of a trial's attempts, with `started` and `beaten` (seconds since 1970: the attempt's start
    and its last whole epoch) and `more` (whether its notebook has arms that are not in this training); {} where nobody
    works on it."""
    found: dict = {}
    for spec in Path(results, ".work", name).glob("attempt-*/spec.json"):
        try:
            started = spec.stat().st_mtime
            file = spec.with_name("heartbeat.json")
            beat = json.loads(file.read_text(encoding="utf-8")) | {"beaten": file.stat().st_mtime}
        except FileNotFoundError:
            beat = {}
        except (OSError, ValueError):
            continue
        if started >= found.get("started", 0):
            found = {**beat, "started": started, "more": more_arms(name, beat.get("trial", ""))}
    return found


def more_arms(name: str, told: str) -> bool:
    """Whether the entry `name` of studies.toml trains other arms than those `told`, "a, b", before or after them."""
    arms = trained_by(name)
    return len(arms) > 1 and not set(arms) <= set(told.split(", "))


def left(beat: dict, typical: float | None) -> float | None:
    """Seconds the training under way still needs: by its own epochs, else what trials typically take, else None."""
    if "epochs" in beat:
        under_way = min(_silent(beat), beat["seconds"])  # of the epoch that is being trained
        return max((beat["epochs"] - beat["epoch"]) * beat["seconds"] - under_way, 0) + 3
    return None if typical is None else max(typical - (time.time() - beat["started"]), 0)


def _silent(beat: dict) -> float:
    """Seconds since a running trial ended its last epoch."""
    return max(time.time() - beat["beaten"], 0)


def total_left(beats: list[dict], waiting: int, typical: float | None, jobs: int) -> float | None:
    """Seconds until the last trial ends, `jobs` at a time."""
    asked = [left(beat, typical) for beat in beats]
    running = [seconds for seconds in asked if seconds is not None]
    if typical is None:
        totals = [b["epochs"] * b["seconds"] for b in beats if "epochs" in b]
        typical = sum(totals) / len(totals) if totals else None
    if len(running) < len(asked) or (waiting and typical is None):
        return None
    return max(max(running, default=0), (sum(running) + waiting * (typical or 0)) / max(jobs, 1))


def remaining(seconds: float | None, beats: Iterable[dict]) -> str:
    """`total_left` in words: a lower bound where a notebook may have more arms to train; "" where it is unknown."""
    if seconds is None:
        return ""
    return f"{'at least' if any(beat['more'] for beat in beats) else 'about'} {duration(seconds)} left"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(name: str, beat: dict) -> str:
    """`regularisers/gbn  epoch 3/25 [###.......] 12 s`, and a word where an epoch takes much longer than others did."""
    spent = duration(time.time() - beat["started"])
    if "epochs" not in beat:
        return f"{name}  starting, {spent}"
    share = round(10 * beat["epoch"] / max(beat["epochs"], 1))
    name = f"{name} ({beat['trial']})" if beat["more"] else name
    text = f"{name}  epoch {beat['epoch']}/{beat['epochs']} [{'#' * share}{'.' * (10 - share)}] {spent}"
    stuck = _silent(beat) > max(SLOW * beat["seconds"], EVERY)
    return f"{text}, no epoch ended for {duration(_silent(beat))}" if stuck else text


class Display:
    """Lines that stay, also in the file `log`, and below them, on a terminal, a block that is redrawn.

    A terminal that has gone, a full disk or an alphabet without these letters does not stop a batch.
    """

    def __init__(self, stream: Any = None, log: Path | None = None):
        self.stream: Any = stream or sys.stdout
        self.log = log
        self.live = self.stream.isatty()
        self.drawn, self.last = 0, time.monotonic()
        self.unlogged = [time.strftime("--- %Y-%m-%d %H:%M:%S")]
        with contextlib.suppress(AttributeError, ValueError):
            self.stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def line(self, text: str) -> None:
        self._erase()
        self._print(f"{text}\n")
        self.unlogged.append(text)
        if self.log and self.log.parent.is_dir():
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.unlogged)
                self.unlogged = []

    def block(self, lines: list[str]) -> None:
        """Redraws the block; without a terminal, prints it as one line now and then."""
        if self.live:
            self._erase()
            width = shutil.get_terminal_size().columns - 1
            self._print("".join(f"{line[:width]}\n" for line in lines))
            self.drawn = len(lines)
        elif lines and time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            self.line("  " + "; ".join(lines))

    def _erase(self) -> None:
        if self.drawn:
            self._print(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0

    def _print(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads any more: what is left in buffers must not fail at exit either
            self.live = False
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
