"""What is heavy, and is not loaded by the command line."""

import torch as torch  # type: ignore[import-not-found]
