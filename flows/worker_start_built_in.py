"""Imported where workers are forked from, when they are to use the built-in model: it is decoded once and they share it."""

import contextlib

from geometry.built_in import load_built_in

with contextlib.suppress(Exception):  # a damaged file is for those to report who need it
    load_built_in().decode()
