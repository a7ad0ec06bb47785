"""Normalisation and regularisation of small CNNs: many seeds at once, honest statistics.

The layers, highest first; each imports only from those below it.

    __main__        the command line
    batch           studies.toml and the notebooks -> trials run side by side, resumed, recorded
    report          a run's page; tables and figures that README and docs/ quote: all written by code
    explore         what the interactive notebook shows
    tutorial        what the first notebook shows
    plots           figures: a function takes records and an Axes, returns the Axes
    evidence        measures, intervals and tests, errors per image, verdicts, tables
    training        the optimiser, the epoch loop, its checkpoints, seeds dealt over processes
    records         records on disk: write, check, read
    provenance      what produced a record
    trial           one arm as it is run: every setting, checked
    studies         a file per study: protocol, networks, arms, published numbers, claims
    models          layers, normalisers, the builder: replicas as channel groups
    data            data sets in memory, augmentation
    streams         every random stream, from (seed, purpose, epoch)
    processes       cores, memory, children that end with their parent
    paths           where data and results are

Importing the package imports none of them, so the command line starts without torch.
"""

__version__ = "0.2.0"
