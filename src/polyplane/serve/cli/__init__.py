"""The command line: Typer commands, loaded when they are used."""
