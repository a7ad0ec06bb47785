"""What is written for readers by code: numbers and tables in README, docs/ and notebooks, and the committed figures.

python -m s6lib.report            rewrite every marked number and table (`make docs`)
python -m s6lib.report --check    exit 1 and say where when one differs from the committed files
python -m s6lib.report figures    draw the committed figures (`make figures`)
python -m s6lib.report gallery    execute the notebooks of docs/gallery that are outdated (`make gallery`)
python -m s6lib.report speedrun FOLDER    results/bench/speedrun.json from a run's records, and its figure
python -m s6lib.report url ADDRESS        the repository's address, everywhere (`make publish-url`)
"""
