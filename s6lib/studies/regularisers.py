"""Study `regularisers`: batch or ghost batch norm, with L1, L2 or both. Document 002, one seed per arm."""

from typing import TYPE_CHECKING

from s6lib.studies import base
from s6lib.studies.base import Arm, Claim, Study, above, all_against, less, more, within

if TYPE_CHECKING:
    from s6lib.models.builder import Stack


def regularisers(net: "Stack") -> None:
    """7,384 parameters with batch norm."""
    net.conv(8).relu().norm().dropout(0.05)
    net.conv(16).relu().norm().max_pool().dropout(0.1)
    net.conv(16).relu().norm().dropout(0.05)
    net.conv(16).relu().norm().max_pool().dropout(0.1)
    net.conv(10).avg_pool(2)


PROTOCOL = {
    "network": "regularisers",
    "epochs": 25,
    "batch_size": 128,
    "optimiser": "adam",
    "learning_rate": 0.03,
    "schedule": "pi",
    "running_var_start": 0.0,  # the study's own code; 1 where that code came from
}
L1, L2 = {"l1": 5e-5}, {"l2": 1e-5}
GHOST = {"normaliser": "ghost", "ghost_splits": 2}

ARMS = {
    "bn": Arm("batch norm alone, batch 128: a control", {}, base.BLACK, "-", "o"),
    "bn_batch64": Arm("batch norm alone, batch 64: a control", {"batch_size": 64}, base.GREY, "--", "o"),
    "bn_l1": Arm("batch norm, L1", L1, base.ORANGE, "-", "s"),
    "bn_l2": Arm("batch norm, L2", L2, base.BLUE, "-", "^"),
    "bn_l1_l2": Arm("batch norm, L1 and L2", L1 | L2, base.PURPLE, "--", "D"),
    "gbn": Arm("ghost norm, batch 64", GHOST | {"batch_size": 64}, base.GREEN, "-", "v"),
    "gbn_batch128": Arm("ghost norm, batch 128: a control", GHOST, base.SKY, "--", "v"),
    "gbn_l1_l2": Arm("ghost norm, L1 and L2, batch 64", GHOST | L1 | L2 | {"batch_size": 64}, base.RED, "-.", "P"),
}

PUBLISHED = ("bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2")
# fmt: off
CLAIMS = (
    Claim("a", "Ghost batch norm alone beats every other arm in test accuracy and test loss.",
          all_against("gbn", PUBLISHED, more) + all_against("gbn", PUBLISHED, less, "test_loss"),
          "confounded with batch size and penalty: see a, like with like"),
    Claim("a, like with like",
          "Our question: ghost norm beats batch norm at the same batch size and without penalties.",
          (more("gbn", "bn_batch64"), more("gbn_batch128", "bn")), "not published"),
    Claim("b", "L2 beats L1 under batch norm, in final test accuracy and in steadiness.",
          (more("bn_l2", "bn_l1"), less("bn_l2", "bn_l1", "late_steps"))),
    Claim("c", "L1 and L2 together come out about half-way between each alone.",
          (within({"bn_l1_l2": 1.0, "bn_l1": -0.5, "bn_l2": -0.5}, "bn_l1_l2 − mean of bn_l1 and bn_l2"),)),
    Claim("d", "Ghost norm with both penalties is the worst arm and irregular in its first epochs.",
          tuple(more(other, "gbn_l1_l2") for other in PUBLISHED[:-1])
          + all_against("gbn_l1_l2", PUBLISHED, more, "early_steps")),
    Claim("e", "Ghost norm passes 99.4 % by epoch 9 and stays above.",
          (above("gbn", "lowest_from_9", 99.4, "lowest accuracy from epoch 9 on, over 99.4"),),
          "published as the sixth epoch; its own plot shows index 8, the ninth"),
)
# fmt: on

CONTROLS = dict.fromkeys(("bn_batch64", "bn_l1", "bn_l2", "bn_l1_l2", "gbn_batch128"), "bn")
CONTROLS |= {"gbn": "bn_batch64", "gbn_l1_l2": "gbn"}

STUDY = Study(
    name="regularisers",
    title="Batch or ghost norm, with which penalty?",
    source="github.com/dexter11235813/EVA_5, assignment 6",
    protocol=PROTOCOL,
    arms=ARMS,
    networks={"regularisers": regularisers},
    claims=CLAIMS,
    controls=CONTROLS,
)
