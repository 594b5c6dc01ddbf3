"""Colours as a screen is given them: display-referred = linear ** (1 / GAMMA), in LEVELS of a byte."""

GAMMA = 2.2
LEVELS = 255.0
