"""Study `more`: normalisers and regularisers that no document has, with the protocol of `regularisers`."""

from s6lib.studies import base, regularisers
from s6lib.studies.base import Arm, Study

ARMS = {
    "none": Arm("no normaliser", {"normaliser": "none"}, base.GREY, "--", ">"),
    "instance": Arm("instance norm", {"normaliser": "instance"}, base.ORANGE, "-", "s"),
    "layer": Arm("layer norm", {"normaliser": "layer"}, base.GREEN, "--", "^"),
    "group": Arm("group norm, 2 groups", {"normaliser": "group", "groups": 2}, base.BLUE, "-.", "v"),
    "rms": Arm("RMS norm", {"normaliser": "rms"}, base.RED, ":", "D"),
    "filter_response": Arm("filter response norm", {"normaliser": "filter_response"}, base.PURPLE, "-", "P"),
    "batch_renorm": Arm("batch renormalisation", {"normaliser": "batch_renorm"}, base.SKY, "--", "o"),
    "group_ws": Arm(
        "group norm, 2 groups, weight standardisation", {"normaliser": "group_ws", "groups": 2}, base.BLACK, "-.", "<"
    ),
    "adamw": Arm("batch norm, AdamW", {"l2": 1e-2, "l2_kind": "decoupled"}, base.BLUE, "-", "^"),
    "label_smoothing": Arm("batch norm, label smoothing 0.1", {"label_smoothing": 0.1}, base.ORANGE, ":", "o"),
}

STUDY = Study(
    name="more",
    title="Other normalisers and regularisers",
    source="our own questions",
    protocol=regularisers.PROTOCOL,
    arms=ARMS,
    controls=dict.fromkeys(ARMS, "regularisers/bn"),  # the same network and protocol
)
