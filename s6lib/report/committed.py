"""The committed files below results/, which every quoted value, figure and copy is made from. Arms are "study/arm"."""

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from s6lib import paths, records
from s6lib.evidence import measures, sizes, wanted
from s6lib.records import Record
from s6lib.studies import STUDIES


def arms_like(*patterns: str) -> list[str]:
    """The arms of all studies that some pattern with `*` matches."""
    known = [f"{study.name}/{arm}" for study in STUDIES.values() for arm in study.arms]
    return [arm for arm in known if any(fnmatch(arm, pattern) for pattern in patterns)]


class Committed:
    """Records of the reference run, what they say about claims, and what benchmarks measured."""

    def __init__(self, results: Path | None = None):
        self.results = results or paths.home() / "results"

    @cached_property
    def records(self) -> dict[str, Record]:
        found, left_out = records.find(self.results / "reference")
        if left_out:
            raise ValueError("\n".join(left_out))
        return {f"{record.trial.study}/{record.name}": record for record in found}

    @cached_property
    def verdicts(self) -> list[dict]:
        """A row per claim, with the seeds it wants."""
        found = list(self.records.values())
        return wanted.verdict_rows(found)

    def study(self, study: str) -> list[Record]:
        """The records of a study in the order of its arms."""
        return self.those_of(f"{study}/{arm}" for arm in STUDIES[study].arms)

    @property
    def small(self) -> list[Record]:
        """One arm of each small network (`sizes.SMALL`), and the frontier's."""
        return [*self.those_of(sizes.SMALL), *self.study(sizes.STUDY)]

    def those_of(self, names: Iterable[str]) -> list[Record]:
        return [self.records[name] for name in names if name in self.records]

    def measured(self, name: str) -> Any:
        return json.loads((self.results / "bench" / f"{name}.json").read_text(encoding="utf-8"))

    def last(self, arm: str, measure: str = "test_accuracy") -> np.ndarray:
        return measures.MEASURES[measure][0](self.records[arm])

    def pair(self, a: str, b: str, measure: str = "test_accuracy") -> tuple[np.ndarray, np.ndarray]:
        """The values of two arms of one study: "study/arm", "arm"."""
        return self.last(a, measure), self.last(f"{a.split('/')[0]}/{b}", measure)
