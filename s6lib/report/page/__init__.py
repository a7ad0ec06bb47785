"""The one page of a run: every answer, figure and digit in one file that opens without a network.

facts       what records say, as plain data
claims      the claims with their verdicts
images      the hardest test images, their pixels, the confirmed label errors
answers     the three sentences, and who leads each study
marks       static drawings: strips of intervals and dots, small curves
charts      the curves: one Vega chart, drawn ahead for readers without JavaScript
reproduce   commands, machines, citation
build       all of it through one template into results/<run>/report.html
"""

PAGE, TABLE = "report.html", "leaderboard.csv"  # what `build.write` leaves in a run's folder
