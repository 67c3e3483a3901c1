"""Limits that every way into a model shares."""

LOUDEST = 1e30  # magnitude of a sample: near the end of single precision a network's state becomes NaN for good
LOUDEST_HALF = 100.0  # the same for a network in float16
MAX_THREADS = 1024  # with very many, libraries crash
