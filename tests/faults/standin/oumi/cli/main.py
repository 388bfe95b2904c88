"""Says who imports it, reads some of the environment on the way, and sets some."""

import atexit
import os
import sys
import time

PLACE = os.path.dirname(os.path.abspath(__file__))
if os.getcwd() != "/":  # where oumi is asked for its keys
    with open(os.path.join(PLACE, "imports.log"), "a") as log:
        log.write(f"{os.getpid()}\n")
    while os.path.exists(os.path.join(PLACE, "slow")):
        time.sleep(0.01)
HF_HOME = os.environ.get("HF_HOME", "nowhere")
os.environ.setdefault("SET_BY_IMPORT", "yes")
SAID = sys.stdout  # held on to, as loggers do


def run() -> int:
    """`oumi infer -c CONFIG --output_path=PLACE`."""
    words = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--"))
    config = sys.argv[sys.argv.index("-c") + 1]
    with open(config) as file:
        keys = dict(line.split(": ", 1) for line in file.read().splitlines())
    place = words.get("output_path") or words.get("output")
    with open(keys["input_path"]) as file:
        text = file.read()
    atexit.register(print, "at exit")
    exec(
        compile(text, keys["input_path"], "exec"),
        {"place": place, "HF_HOME": HF_HOME, "SAID": SAID},
    )
    return 0
