"""The committed files and records, read once by all tests of a process."""

from s6lib.records import Record
from s6lib.report.values import Evidence

EVIDENCE = Evidence()  # reads what it is asked for, when it is asked


def committed_records() -> list[Record]:
    """The records of the reference run."""
    return list(EVIDENCE.records.values())
