"""Data sets in other programs' formats; each is one module and one function ``export(dataset, folder, …) -> n_files``."""
