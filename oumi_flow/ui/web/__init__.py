"""The screen in a browser: serves any viewer program, and knows nothing of runs."""
