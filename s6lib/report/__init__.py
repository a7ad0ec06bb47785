"""What is written for readers by code: the tables of README and docs/, figures of the committed records."""
