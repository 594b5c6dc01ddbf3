"""The commands by subject; :mod:`flows.command_line` gathers them. Each imports what it needs when it runs."""
