"""The studies, a file each: what was published, what we vary, what is claimed. A new study is one file and one line.

regularisers, normalisers, progression    what five course documents report
more, speedrun, frontier, ingredients     questions of our own
"""

from collections.abc import Callable

from s6lib.studies import frontier, ingredients, more, normalisers, progression, regularisers, speedrun
from s6lib.studies.base import Arm, Study

STUDIES: dict[str, Study] = {
    study.STUDY.name: study.STUDY
    for study in (regularisers, normalisers, progression, more, speedrun, frontier, ingredients)
}
NETWORKS: dict[str, Callable] = {
    name: network for study in STUDIES.values() for name, network in study.networks.items()
}


def trained_by(entry: str) -> list[str]:
    """The arms that an entry of studies.toml, "study/name", trains: several where they share a notebook."""
    study, _, name = entry.partition("/")
    return [arm for arm in STUDIES[study].arms if STUDIES[study].run(arm) == name] if study in STUDIES else []


def find_arm(study: str, name: str) -> Arm | None:
    """The arm `name` of a study; None for a trial of the user's own."""
    return STUDIES[study].arms.get(name) if study in STUDIES else None
