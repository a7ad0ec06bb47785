"""What records show: measures, intervals and tests, errors per image, verdicts on claims, tables of them."""
