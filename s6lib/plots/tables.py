"""Tables as a page shows them."""

import pandas as pd
from IPython.display import HTML

CELLS = "text-align: left !important; white-space: normal; font-size: 80%; padding: 0.25em 0.4em"
LOOK = f"<style>table.s6 td, table.s6 th {{{CELLS}}}</style>"


def page(table: pd.DataFrame) -> HTML:
    """A table that fits a page: text to the left, long texts over several lines, no row numbers; "none" if empty."""
    if table.empty:
        return HTML("<p>none</p>")
    numbered = isinstance(table.index, pd.RangeIndex)
    return HTML(LOOK + table.to_html(index=not numbered, classes="s6", border=0, escape=True))
