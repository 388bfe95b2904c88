"""oumi-flow: a build tool for oumi pipelines."""

__version__ = "0.1.0"
