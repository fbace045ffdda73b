"""The parts of `benchmarks/speed.py`, a file for each section of what it prints."""
