"""Something of oumi's shape: a command line whose verb runs the Python text that is its input."""
