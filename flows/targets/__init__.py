"""Families of targets: what can be made of one picture of faces. Importing this package imports nothing else.

A new family is one file here (its schema entries, its tables, how a sample gets its values) and a line in
:data:`flows.targets.family.FAMILIES`.
"""
