"""The screen in a browser: a real server, real viewers, and Chromium where there is one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("textual_serve")
import aiohttp

from tests.flow.conftest import Space, space, wait_for

__all__ = ["space"]

PATIENCE = 60.0
GO = "while [ ! -e go ]; do sleep 0.05; done"


class Served:
    def __init__(self, space: Space, *flags: str) -> None:
        self._space = space
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", "monitor", "--web", *flags],
            cwd=space.root,
            env=space.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"(http://127\.0\.0\.1:(\d+)/)\?token=(\S+)", self.said)
        assert found, self.said + self.process.communicate()[1]
        self.address, self.root, self.port, self.token = found[0], found[1], found[2], found[3]

    def get(self, url: str, **headers: str) -> tuple[int, str, Any]:
        try:
            with urlopen(Request(url, headers=headers), timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode("utf-8", "replace"), answer.headers
        except HTTPError as refused:
            return refused.code, refused.read().decode(), refused.headers

    @property
    def viewers(self) -> list[int]:
        found: list[int] = []
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):  # of a thread that has ended since
                found += map(int, children.read_text().split())
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running(space: Space) -> Iterator[Space]:
    space.workflow(
        space.job("train", f"env; echo 'step 3/10 loss=0.5'; {GO}"),
        space.job("after", depends_on=["train"]),
    )
    assert space.command("run", "workflow.yaml", "--detach").code == 0
    yield space
    space.write("go", "")


def log_of(space: Space) -> str:
    """What the newest run has told."""
    return max((space.root / "out/.oumi-flow/runs").glob("*/events.jsonl")).read_text()


@pytest.fixture
def served(running: Space) -> Iterator[Served]:
    opened = Served(running)
    yield opened
    opened.close()


class Tab:
    """A viewer at the other end of a websocket."""

    def __init__(self, socket: Any) -> None:
        self._socket, self.seen = socket, ""

    async def sees(self, *words: str) -> None:
        while not all(word in self.seen for word in words):
            message = await asyncio.wait_for(self._socket.receive(), PATIENCE)
            assert message.type is aiohttp.WSMsgType.BINARY, (message, self.seen)
            text = message.data.decode("utf-8", "replace")
            self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

    async def press(self, keys: str) -> None:
        self.seen = ""
        await self._socket.send_json(["stdin", keys])

    async def closed(self) -> None:
        while (await asyncio.wait_for(self._socket.receive(), PATIENCE)).type not in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        ):
            pass


def tabs(served: Served, story: Callable[..., Awaitable[None]], count: int = 1) -> None:
    async def live() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"{served.root}ws/{served.token}?width=100&height=30"
            sockets = [await session.ws_connect(url) for _ in range(count)]
            await story(*[Tab(socket) for socket in sockets])

    asyncio.run(live())


def test_only_who_has_the_address_comes_in(served: Served) -> None:
    status, page, headers = served.get(served.address)
    assert status == 200
    assert f"ws://127.0.0.1:{served.port}/ws/{served.token}" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    outside = set(re.findall(r"\w+://[^\s\"'<]+", page)) - {
        f"ws://127.0.0.1:{served.port}/ws/{served.token}"
    }
    assert not outside
    assert served.get(f"{served.root}static/js/textual.js")[0] == 200
    for url, name, value in (
        (served.root, "Accept", "text/html"),
        (f"{served.root}?token=wrong", "Accept", "text/html"),
        (f"{served.root}?token=%C3%A4", "Accept", "text/html"),
        (served.address, "Host", f"evil.example:{served.port}"),
        (f"{served.root}ws/wrong", "Upgrade", "websocket"),
        (f"{served.root}ws/{served.token}", "Origin", "http://evil.example"),
    ):
        status, words, _ = served.get(url, **{name: value})
        assert status == 403, (url, words)
        assert served.token not in words
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert served.token.encode() not in command.read_bytes()
        except OSError:
            continue
    assert served.viewers == []


def test_a_tab_shows_the_run_and_may_only_look_on(running: Space, served: Served) -> None:
    async def story(tab: Tab) -> None:
        await tab.sees("train", "running", "3/10 steps", "waits for train")
        for keys in ("c", "Q", "\x03"):
            await tab.press(keys)
            await tab.sees("this screen may only look on")
        await tab.press("q")
        await tab.closed()

    tabs(served, story)
    wait_for(lambda: served.viewers == [], "the viewer goes with its tab")
    assert served.end() == 0
    running.write("go", "")
    wait_for(lambda: "run_finished" in log_of(running), "the run goes on by itself")
    assert running.ran() == ["train", "after"]


def test_writable_may_stop_a_job_and_run_it_again(running: Space) -> None:
    served = Served(running, "--writable")
    log = running.root / "out/train/job.log"

    async def story(tab: Tab) -> None:
        await tab.sees("3/10 steps")
        await tab.press("c")
        await tab.sees("Stop train?")
        await tab.press("y")
        await tab.sees("cancelled", "Status: Cancelled")
        running.write("go", "")
        await tab.press("R")
        await tab.sees("this is run", "done")
        assert "step 3/10" in log.read_text()
        assert "TEXTUAL" not in log.read_text()  # the page is none of its business

    try:
        tabs(served, story)
        assert served.end(signal.SIGINT) == 0
    finally:
        served.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_of_a_server_that_ends(served: Served, number: int) -> None:
    async def story(*both: Tab) -> None:
        for tab in both:
            await tab.sees("train")
        viewers = served.viewers
        assert len(viewers) == 2
        served.process.send_signal(number)
        for tab in both:
            await tab.closed()
        wait_for(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in viewers), "viewers go too"
        )

    tabs(served, story, 2)
    assert served.process.wait(PATIENCE) == (-number if number == signal.SIGKILL else 0)


def test_errors_in_words(running: Space, served: Served) -> None:
    taken = running.command("monitor", "--web", "--port", served.port)
    assert taken.code == 2
    assert f"--web: cannot listen on port {served.port}: Address already in use" in taken.err
    far = running.command("monitor", "--web", "--port", "99999")
    assert far.code == 2
    assert "cannot listen on port 99999" in far.err
    alone = running.command("monitor", "--port", "8000")
    assert alone.code == 2
    assert "--port and --writable belong to --web" in alone.err


class Browser:
    """A page of Chromium, driven over its debugging socket."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._count = socket, 0
        self.asked: list[str] = []  # addresses
        self.faults: list[str] = []

    async def call(self, method: str, **words: Any) -> Any:
        self._count += 1
        number = self._count
        await self._socket.send_json({"id": number, "method": method, "params": words})
        while True:
            told = await asyncio.wait_for(self._socket.receive_json(), PATIENCE)
            if told.get("id") == number:
                return told["result"]
            said = told.get("params", {})
            if told.get("method") == "Network.requestWillBeSent":
                self.asked.append(said["request"]["url"])
            if told.get("method") == "Network.webSocketCreated":
                self.asked.append(said["url"])
            if told.get("method") == "Runtime.exceptionThrown":
                self.faults.append(json.dumps(said))

    async def evaluate(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_chromium_draws_it_and_asks_nobody_else(served: Served, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "about:blank"),
            *(f"--user-data-dir={tmp_path}", "--remote-debugging-port=0"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    note = tmp_path / "DevToolsActivePort"
    try:
        wait_for(lambda: note.exists() and len(note.read_text().split()) == 2, "chromium is up")
        asyncio.run(_browse(served, note.read_text().split()[0]))
    finally:
        process.terminate()
        process.wait(PATIENCE)


async def _browse(served: Served, port: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = await answer.json()
        place = next(one for one in pages if one["type"] == "page")["webSocketDebuggerUrl"]
        async with session.ws_connect(place, max_msg_size=0) as socket:
            browser = Browser(socket)
            for part in ("Network", "Runtime", "Page"):
                await browser.call(f"{part}.enable")
            await browser.call("Page.navigate", url=served.address)

            async def until(script: str) -> None:
                async def asking() -> None:
                    while True:
                        with suppress(KeyError):  # there is no page yet that could be asked
                            if await browser.evaluate(script):
                                return
                        await asyncio.sleep(0.05)

                await asyncio.wait_for(asking(), PATIENCE)

            await until("document.body?.classList.contains('-first-byte')")
            assert len(served.viewers) == 1
            await until("document.querySelector('#terminal canvas, #terminal .xterm-rows') != null")
            await until("document.querySelector('textarea.xterm-helper-textarea') != null")
            await browser.evaluate("document.querySelector('textarea').focus()")
            key = {"key": "q", "code": "KeyQ", "text": "q", "windowsVirtualKeyCode": 81}
            await browser.call("Input.dispatchKeyEvent", type="keyDown", **key)
            await browser.call("Input.dispatchKeyEvent", type="keyUp", **key)
            await until("document.body.classList.contains('-closed')")
            assert "The run goes on by itself" in await browser.evaluate("document.body.innerText")
            assert browser.faults == []
            hosts = {re.sub(r"^\w+://([^/]*).*", r"\1", url) for url in browser.asked}
            assert hosts == {f"127.0.0.1:{served.port}"}
