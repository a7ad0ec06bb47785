"""The values that texts quote, each a function of the committed files; markers name functions of four modules.

Accuracies are in percent, differences in percentage points, intervals at 95 %. Arms are named `study/arm`.
"""

import inspect
from collections.abc import Callable

from s6lib.report import architecture, frontier, gallery, outcomes, performance, results
from s6lib.report.committed import Committed

# Every public function of the four, by name; the page of the gallery and the map of the code.
VALUES: dict[str, Callable[..., str]] = {
    prefix + name: function
    for prefix, module in (("", results), ("", performance), ("", outcomes), ("frontier_", frontier))
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
}
VALUES |= {"gallery": gallery.page, "floors": lambda e: architecture.floors()}


class Evidence(Committed):
    """The committed files, and every value that texts quote of them."""

    def value(self, expression: str) -> str:
        """The text for `name argument ...`. Raises ValueError naming what is unknown and what is valid."""
        name, *arguments = expression.split()
        if name not in VALUES:
            raise ValueError(f"<!--= {expression} -->: no value {name!r}; valid: {', '.join(sorted(VALUES))}")
        try:
            return VALUES[name](self, *arguments)
        except Exception as error:  # whatever a function makes of arguments that name nothing
            raise ValueError(f"<!--= {expression} -->: {type(error).__name__} {error}") from error
