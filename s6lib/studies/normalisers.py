"""Study `normalisers`: batch, layer and group norm, all with L1, and a sweep of L1's lambda. Documents 000 and 001."""

from typing import TYPE_CHECKING

from s6lib.studies import base
from s6lib.studies.base import Arm, Claim, Plan, Study, all_against, below, less, more, same

if TYPE_CHECKING:
    from s6lib.models.builder import Stack


def normalisers(net: "Stack") -> None:
    """9,802 parameters with any of batch, layer and group norm."""
    net.conv(10).relu().norm().dropout(0.05)
    net.conv(18).relu().norm().dropout(0.05).conv(10, 1).max_pool()
    net.conv(16).relu().norm().dropout(0.05)
    net.conv(20).relu().norm().dropout(0.05).conv(10, 1)
    net.conv(32).relu().norm().dropout(0.05).avg_pool(6).conv(10, 1)


PROTOCOL = {
    "network": "normalisers",
    "epochs": 20,
    "batch_size": 128,
    "optimiser": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "l1": 1e-4,
    "rotate_after_normalise": True,  # reproduced from the original code: corners become mean grey
}
LAYER = {"normaliser": "layer"}
GROUP = {"normaliser": "group", "groups": (2, 3, 2, 2, 2)}
NO_L1, BLACK_CORNERS = {"l1": 0.0}, {"rotate_after_normalise": False}


LAMBDAS = {0.0: "batch norm, no L1", 1e-5: "L1 1e-5", 1e-4: "L1 1e-4", 1e-3: "L1 1e-3"}


def sweep(kind: str, prefix: str, *colours: str) -> dict[str, Arm]:
    """The arms of the lambda sweep, 15 epochs, under one form of the L1 step."""
    step = ", proximal step" if kind == "proximal" else ""
    looks = zip(LAMBDAS.items(), colours, ("-", "--", "-.", ":"), "os^D", strict=True)
    return {
        f"{prefix}_{value:g}": Arm(
            text + step, {"epochs": 15, "l1": value, "l1_kind": kind}, colour, line, marker, "lambda"
        )
        for (value, text), colour, line, marker in looks
    }


ARMS = {
    "bn_l1": Arm("batch norm", {}, base.ORANGE, "-", "s"),
    "ln_l1": Arm("layer norm", LAYER, base.BLUE, "--", "^"),
    "gn_l1": Arm("group norm", GROUP, base.GREEN, "-.", "v"),
    "bn": Arm("batch norm, no L1: a control", NO_L1, base.BLACK, "-", "o"),
    "ln": Arm("layer norm, no L1: a control", LAYER | NO_L1, base.SKY, "--", "^"),
    "gn": Arm("group norm, no L1: a control", GROUP | NO_L1, base.RED, "-.", "v"),
    "bn_l1_black": Arm("batch norm, black corners: a control", BLACK_CORNERS, base.GREY, "-", "s"),
    "ln_l1_black": Arm("layer norm, black corners: a control", LAYER | BLACK_CORNERS, base.PURPLE, "--", "^"),
    "gn_l1_black": Arm("group norm, black corners: a control", GROUP | BLACK_CORNERS, base.GREY, "-.", "v"),
    **sweep("subgradient", "lambda", base.BLACK, base.SKY, base.ORANGE, base.RED),
    **sweep("proximal", "proximal", base.GREY, base.BLUE, base.GREEN, base.PURPLE),
}

# The rate is constant, so that epochs jitter: the mean of the last five is the primary measure.
LATE, LATE_TRAIN, WIDE = "late_test_accuracy", "late_train_accuracy", 0.075
SWEEP = (10,)  # its arms are compared seed by seed: ten seeds are enough for one look
# fmt: off
CLAIMS = (
    Claim("a", "Group norm reaches the highest test accuracy, then layer norm, then batch norm.",
          (more("gn_l1", "ln_l1", LATE, WIDE), more("ln_l1", "bn_l1", LATE, WIDE)),
          "document 001, findings 1 to 3", "published: best epochs (99.34, 99.28, 99.22); here the last five epochs"),
    Claim("a, best epoch", "Group norm's best epoch is the highest, too, then layer norm's, then batch norm's.",
          (more("gn_l1", "ln_l1", "best_test_accuracy", WIDE), more("ln_l1", "bn_l1", "best_test_accuracy", WIDE)),
          "document 001, findings 1 to 3", "as published: the best epoch, chosen on the test set"),
    Claim("b", "Group norm's test accuracy fluctuates more from epoch to epoch than the others'.",
          all_against("gn_l1", ("bn_l1", "ln_l1"), more, "late_steps"),
          "document 001, finding 3", "mean step between the last ten epochs"),
    Claim("c", "Layer norm has the lowest training accuracy.",
          all_against("ln_l1", ("bn_l1", "gn_l1"), less, LATE_TRAIN),
          "document 001, finding 2", "running training accuracy, last five epochs"),
    Claim("d", "Batch norm's test loss falls most consistently.",
          all_against("bn_l1", ("ln_l1", "gn_l1"), less, "loss_rises"),
          "document 001, finding 4", "the sum of all rises of the test loss is the smallest"),
    Claim("e", "Lambda 1e-3 keeps training accuracy below 98 %, lowers test accuracy and makes it volatile.",
          (below("lambda_0.001", "running_train_accuracy", 98, "98 − running training accuracy at 1e-3"),
           more("lambda_0", "lambda_0.001", LATE, WIDE), more("lambda_0.001", "lambda_0", "late_steps")),
          "document 000, conclusion 3", "published: training accuracy never crossed 97.83 %", looks=SWEEP),
    Claim("f", "Lambda 1e-4 costs a little training accuracy; test accuracy stays near the same.",
          (more("lambda_0", "lambda_0.0001", LATE_TRAIN), same("lambda_0.0001", "lambda_0", LATE, WIDE)),
          "document 000, conclusion 4", "near the same: within 0.075 points", looks=SWEEP),
    Claim("g", "At lambda 1e-5 the effect of L1 is gone, in training and test accuracy.",
          (same("lambda_1e-05", "lambda_0", LATE, WIDE), same("lambda_1e-05", "lambda_0", LATE_TRAIN, WIDE)),
          "document 000, lambda 1e-5", "nullified: within 0.075 points in both", looks=SWEEP),
    Claim("h", "L1 lowers training accuracy, the more the larger lambda is.",
          (more("lambda_0", "lambda_0.0001", LATE_TRAIN), more("lambda_0.0001", "lambda_0.001", LATE_TRAIN)),
          "document 000, conclusion 1", "running training accuracy, from 0 to 1e-4 and from 1e-4 to 1e-3", looks=SWEEP),
    Claim("norms alone", "Without L1, batch, layer and group norm end at the same test accuracy.",
          (same("ln", "bn", LATE, WIDE), same("gn", "bn", LATE, WIDE), same("gn", "ln", LATE, WIDE)),
          "", "the published arms all carry a penalty", own=True),
    Claim("exact zeros", "At lambda 1e-4 the proximal step and the subgradient give near the same test accuracy.",
          (same("proximal_0.0001", "lambda_0.0001", LATE, WIDE),), "", "within 0.075 points", own=True,
          looks=SWEEP),
)
# fmt: on

CONTROLS = {"bn_l1": "bn", "ln_l1": "bn_l1", "gn_l1": "bn_l1", "ln": "bn", "gn": "bn"}
CONTROLS |= {f"{arm}_black": arm for arm in ("bn_l1", "ln_l1", "gn_l1")}
CONTROLS |= {f"{kind}_{value:g}": f"{kind}_0" for kind in ("lambda", "proximal") for value in LAMBDAS if value}

STUDY = Study(
    name="normalisers",
    title="Batch, layer or group norm, and how large an L1 penalty?",
    source="github.com/raghunadh-eva/eva6, S6 assignment",
    protocol=PROTOCOL,
    arms=ARMS,
    networks={"normalisers": normalisers},
    claims=CLAIMS,
    plan=Plan(looks=(10, 20), paired=("lambda",)),
    controls=CONTROLS,
    runs={arm: "l1_lambda" for arm in ARMS if ARMS[arm].family == "lambda"},
)
