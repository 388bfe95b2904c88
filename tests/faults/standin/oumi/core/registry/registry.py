"""Runs the user's modules when it is first asked, which its own import does."""

import os


class _Registry:
    _initialized = False

    def look_up(self) -> None:
        if not self._initialized:
            self._initialized = True
            if path := os.environ.get("OUMI_EXTRA_DEPS_FILE"):
                with open(path) as names:
                    for name in names.read().split():
                        with open(name) as file:
                            exec(file.read())


REGISTRY = _Registry()
REGISTRY.look_up()
