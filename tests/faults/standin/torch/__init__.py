"""A generator that forked siblings would share."""

import random


class _Generator:
    state = 1

    def seed(self) -> None:
        self.state = random.SystemRandom().getrandbits(60)


default_generator = _Generator()
