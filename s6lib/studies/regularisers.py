"""Study `regularisers`: batch or ghost batch norm, with L1, L2 or both. Document 002, one seed per arm."""

from typing import TYPE_CHECKING

from s6lib.studies import base
from s6lib.studies.base import MARGIN, Arm, Claim, Part, Study, above, all_against, less, more, within

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
          "document 002, Trial 4", "every published arm, in both measures; confounded with batch size and penalty"),
    Claim("b", "L2 beats L1 under batch norm, in final test accuracy and in steadiness.",
          (more("bn_l2", "bn_l1"), less("bn_l2", "bn_l1", "late_steps"), less("bn_l2", "bn_l1", "late_loss_steps")),
          "document 002, Trial 2", "steadiness of accuracy and loss: mean step between the last ten epochs"),
    Claim("c", "L1 and L2 together come out about half-way between each alone.",
          (within({"bn_l1_l2": 1.0, "bn_l1": -0.5, "bn_l2": -0.5}, "bn_l1_l2 − mean of bn_l1 and bn_l2"),),
          "document 002, Trial 3", "published: more or less the average; here within 0.05 points of it"),
    Claim("c, on the way", "L1 and L2 together are steadier than L1 alone, and pass 99.4 % later than L2 alone.",
          (less("bn_l1_l2", "bn_l1", "late_steps"), more("bn_l1_l2", "bn_l2", "epochs_to_99_4")),
          "document 002, Trial 3", "later: more epochs until 99.4 % is first reached"),
    Claim("d", "Ghost norm with both penalties is the worst arm and irregular in its first epochs.",
          tuple(more(other, "gbn_l1_l2") for other in PUBLISHED[:-1])
          + all_against("gbn_l1_l2", PUBLISHED, more, "early_steps"),
          "document 002, Trial 5", "lowest final accuracy; larger steps between epochs 2 and 8 than any other arm"),
    Claim("e", "Ghost norm passes 99.4 % in the sixth epoch and stays above.",
          (above("gbn", "lowest_from_6", 99.4, "lowest accuracy from epoch 6 on, over 99.4"),),
          "document 002, Results", "the lowest test accuracy of a run from epoch 6 on, mean over seeds"),
    Claim("e, epoch 9", "Ghost norm stays above 99.4 % from the ninth epoch on.",
          (above("gbn", "lowest_from_9", 99.4, "lowest accuracy from epoch 9 on, over 99.4"),),
          "document 002, accuracy plot", "the plot shows the crossing at index 8"),
    Claim("f", "With L1 under batch norm, test accuracy hovers around 99.4 % after the 11th epoch.",
          (Part("|mean accuracy from epoch 12 on − 99.4| < 0.05", {"bn_l1": 1.0}, "hover_from_12", "within", MARGIN),),
          "document 002, Trial 1", "the mean of epochs 12 to 25 lies within 0.05 points of 99.4 %"),
    Claim("ghost or batch", "Ghost norm beats batch norm at the same batch size and without penalties.",
          (more("gbn", "bn_batch64"), more("gbn_batch128", "bn")), "", "the controls that the study lacked", own=True),
    Claim("penalties cost", "Both penalties together cost test accuracy, under batch norm and under ghost norm.",
          (more("bn", "bn_l1_l2"), more("gbn", "gbn_l1_l2")), "", "same normaliser, same batch", own=True),
    Claim("batch size", "Batch norm is better at batch 64 than at batch 128.",
          (more("bn_batch64", "bn"),), "", "twice the steps in the same epochs", own=True),
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
