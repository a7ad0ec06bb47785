"""Normalisation and regularisation of small CNNs: many seeds at once, honest statistics.

Rooms, highest first; each imports only from those below it:
`batch`, `summary`, `claims`, `plots`, `stats`, `training`, `checkpoints`, `records`, `penalties`, `trial`, `nets`,
`norms`, `data`, `streams`.
Importing the package imports none of them, so the command line starts without torch.
"""

__version__ = "0.1.0"
