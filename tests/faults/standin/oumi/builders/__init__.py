"""What is heavy, and is not loaded by the command line."""

import torch as torch  # type: ignore[import-not-found]

from oumi.core.registry.registry import REGISTRY as REGISTRY  # type: ignore[import-not-found]
