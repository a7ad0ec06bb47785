"""The batch: studies.toml and the notebooks -> a plan, executed side by side through papermill; no torch here,
but in `decide`."""

OVERRIDES = ("dataset", "seeds", "epochs", "precision")  # what every trial's notebook takes
