"""The wiring: one function per command, each handed the parsed flags, each returning an exit code.

Says who is handed to whom. Imports inside the functions, draws nothing, parses no flags.
"""
