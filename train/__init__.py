"""Torch datasets and loaders, and what is trained with them. Torch is imported by the modules, not by the package."""
