"""Study `ingredients`: what does each part of the frontier's recipe bring, and does its normaliser matter? Our own
question, at 3,798 parameters: one part taken out, or replaced, at a time."""

from s6lib.studies import base, frontier
from s6lib.studies.base import Arm, Claim, Plan, Study, above, more

# A list, as a trial writes its settings down: `describe` marks what differs from the protocol.
PROTOCOL = frontier.PROTOCOL | {"widths": list(frontier.ARMS["p4k"].settings["widths"])}

# 0.015 is the mean rate of the cycle, whose peak is 0.03.
CONSTANT = {"schedule": "constant", "learning_rate": 0.015}

ARMS = {
    "recipe": Arm("the whole recipe, batch norm", {}, base.BLACK, "-", "o"),
    "no_shift": Arm("images not shifted", {"shift": 0}, base.ORANGE, "--", "s"),
    "no_rotation": Arm("images not rotated", {"rotation": 0.0}, base.SKY, "-.", "^"),
    "constant": Arm("constant learning rate, of the same mean", CONSTANT, base.GREEN, ":", "D"),
    "smoothing": Arm("labels smoothed by 0.05", {"label_smoothing": 0.05}, base.PURPLE, "--", "P"),
    "ghost": Arm("ghost norm", {"normaliser": "ghost"}, base.BLUE, "-", "v"),
    "layer": Arm("layer norm", {"normaliser": "layer"}, base.RED, "-.", "<"),
    "group": Arm("group norm, 2 groups", {"normaliser": "group", "groups": 2}, base.GREY, "--", ">"),
}

# fmt: off
CLAIMS = (
    Claim("a", "Random shifts of the images raise accuracy.", (more("recipe", "no_shift"),),
          reading="without them; a difference below 0.05 points counts as none, here and in b to g", own=True),
    Claim("b", "Random rotations of the images raise accuracy.", (more("recipe", "no_rotation"),),
          reading="without them", own=True),
    Claim("c", "A learning rate that rises and falls once ends higher than a constant one.",
          (more("recipe", "constant"),), reading="constant at the mean of the cycle, 0.015", own=True),
    Claim("d", "Smoothing the labels costs accuracy.", (more("recipe", "smoothing"),),
          reading="by 0.05; at 10,000 parameters held-out images had hinted at it", own=True),
    Claim("e", "Ghost norm is more accurate than batch norm.", (more("ghost", "recipe"),),
          reading="as document 002 says of its own recipe", own=True),
    Claim("f", "Batch norm is more accurate than layer norm.", (more("recipe", "layer"),),
          reading="at the learning rate that was chosen for batch norm", own=True),
    Claim("g", "Batch norm is more accurate than group norm.", (more("recipe", "group"),),
          reading="two groups, at the learning rate that was chosen for batch norm", own=True),
    Claim("h", "Under a constant learning rate, averaging the weights raises accuracy.",
          (above("constant", "averaging_gain", 0, "averaged − not averaged, last epoch"),),
          reading="the averaged weights against those of the last step, seed by seed", own=True),
)
# fmt: on

STUDY = Study(
    name="ingredients",
    title="What does each part of a recipe bring?",
    source="our own question",
    protocol=PROTOCOL,
    arms=ARMS,
    claims=CLAIMS,
    plan=Plan(looks=(10,)),
    runs=dict.fromkeys(ARMS, "ingredients"),
)
