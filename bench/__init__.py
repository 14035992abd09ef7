"""Reproducible measurements. `make bench` prints one table; ratios within one run are what counts."""
