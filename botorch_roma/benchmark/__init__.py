"""Benchmarks: methods side by side, one oracle call per finished batch."""
