"""Normalisation and regularisation of small CNNs: many seeds at once, honest statistics.

Rooms, highest first; each imports only from those after it.
The batch: `__main__`, `status`, `batch`, `cluster`, `pool`, `attempt`, `child`, `folders`, `progress`, `plan`.
The reading: `summary`, `claims`, `lessons`, `plots`, `stats`, `probes`.
The work: `training`, `checkpoints`, `penalties`, `trial`, `nets`, `norms`, `layers`, `data`, `streams`.
What all use: `records`, `places`.
Importing the package imports none of them, so the command line starts without torch.
"""

__version__ = "0.1.0"
