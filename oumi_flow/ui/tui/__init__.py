"""The full screen: a reader of one run, drawn by textual.

`app.py` is its program, `main.py` the screen one begins with, `source.py` all that it may know of a
run. Nothing outside this folder imports textual.
"""
