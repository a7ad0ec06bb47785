"""Figures. Functions of one panel take records and an Axes (made when not given) and return the Axes; those of
several panels return the Figure. Nothing is shown or closed here; begin such a line in a notebook with `_ =`.

A trial keeps its colour, line style and marker everywhere. Replicas that diverged are left out, and said to be.
"""

from s6lib.plots.accuracy import by_setting as by_setting
from s6lib.plots.accuracy import dots as dots
from s6lib.plots.accuracy import time_and_accuracy as time_and_accuracy
from s6lib.plots.claims import forest as forest
from s6lib.plots.epochs import curves as curves
from s6lib.plots.epochs import generalisation_gap as generalisation_gap
from s6lib.plots.epochs import jumps as jumps
from s6lib.plots.epochs import overlay as overlay
from s6lib.plots.epochs import penalty_against_loss as penalty_against_loss
from s6lib.plots.epochs import small_multiples as small_multiples
from s6lib.plots.epochs import weight_norms as weight_norms
from s6lib.plots.images import changed_images as changed_images
from s6lib.plots.images import confusion as confusion
from s6lib.plots.images import grids_side_by_side as grids_side_by_side
from s6lib.plots.images import misclassified_grid as misclassified_grid
from s6lib.plots.images import samples as samples
from s6lib.plots.live import live as live
from s6lib.plots.sizes import accuracy_and_size as accuracy_and_size
from s6lib.plots.speed import growing as growing
from s6lib.plots.speed import training_speed as training_speed
from s6lib.plots.style import style as style
from s6lib.plots.tables import page as page
from s6lib.plots.weights import batch_noise as batch_noise
from s6lib.plots.weights import confidence as confidence
from s6lib.plots.weights import ghost_statistics as ghost_statistics
from s6lib.plots.weights import scale_histogram as scale_histogram
from s6lib.plots.weights import weight_histogram as weight_histogram
from s6lib.plots.weights import zeros_by_layer as zeros_by_layer
