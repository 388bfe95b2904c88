"""Faults happen in the same space as the flow tests."""

from tests.flow.conftest import space as space
