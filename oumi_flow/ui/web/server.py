"""Serves a viewer to browsers on this machine: each tab gets a process of its own.

The terminal in the page and its protocol are textual-serve's. What is ours is who may come in:
only who knows the token, only by this machine's own name (a foreign name that leads here would let
any web page in), and a websocket only from a page of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import signal
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import WSCloseCode, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from oumi_flow.ui.web.page import POLICY, page

_STOP_SECONDS = 5.0  # that a viewer has to end by itself
HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A socket on this machine's own address; port 0 takes a free one. Raises OSError,
    and OverflowError where there is no such port."""
    heard = socket.socket()
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        heard.bind((HOST, port))
        heard.listen()  # before anybody is told of the address
    except (OSError, OverflowError):
        heard.close()
        raise
    return heard


class Viewer(AppService):
    """The process of one tab. It ends with the tab, and with us: its standard input closes."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], **more: Any) -> None:
        super().__init__("", **more)
        self._argv, self._env = argv, env

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        env = {**self._build_environment(width, height), **self._env}
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env
        )
        assert process.stdin is not None
        self._stdin = process.stdin
        return process

    async def stop(self) -> None:
        process, task = self._process, self._task
        if process is None or task is None:
            return
        self._task = None
        with contextlib.suppress(OSError, RuntimeError):
            await self.send_meta({"type": "quit"})
        done, _ = await asyncio.wait({task}, timeout=_STOP_SECONDS)
        if not done:
            task.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                if not done:
                    process.kill()
            await process.wait()


class Web(Server):
    """`run()` serves until a signal ends it. `address` has the token in it."""

    def __init__(
        self,
        heard: socket.socket,
        argv: Sequence[str],
        env: Mapping[str, str],
        title: str,
    ) -> None:
        port = heard.getsockname()[1]
        super().__init__("", host=HOST, port=port, title=title)
        self._heard, self._argv, self._env = heard, argv, env
        self._token = secrets.token_urlsafe(24)
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        self._open: set[web.WebSocketResponse] = set()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/?token={self._token}"

    def run(self) -> None:
        """Blocks until SIGINT, SIGTERM or SIGHUP; leaves no viewer behind."""
        loop = asyncio.new_event_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_exit)
        web.run_app(
            self._make_app(),
            sock=self._heard,
            handle_signals=False,
            loop=loop,
            print=lambda *_: None,
            access_log=None,
            shutdown_timeout=2 * _STOP_SECONDS,
        )

    # -- who may come in ------------------------------------------------------------------

    async def _make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded()])
        app.add_routes(
            [
                web.get("/", self.handle_index),
                web.get("/ws/{token}", self.handle_websocket),
                web.static("/static", self.statics_path),
            ]
        )
        app.on_shutdown.append(self.on_shutdown)
        return app

    def _guarded(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            why = self._refused(request)
            if why:
                return web.Response(status=403, text=f"{why}\n")
            found: web.StreamResponse = await handler(request)
            if not found.prepared:
                found.headers["Referrer-Policy"] = "no-referrer"
                found.headers["X-Content-Type-Options"] = "nosniff"
            return found

        return guard

    def _refused(self, request: web.Request) -> str:
        if request.headers.get("Host", "") not in self._hosts:
            return "this address is not where the screen is served"
        if request.path.startswith("/static/"):
            return ""  # textual-serve's own files, the same everywhere
        # The page's script writes a query of its own, so a websocket has it in its path.
        token = request.match_info.get("token") or request.query.get("token", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return "the token is missing or wrong: take the address that oumi-flow printed, whole"
        origin = request.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return "asked for by another page"
        return ""

    # -- page and viewer ------------------------------------------------------------------

    async def handle_index(self, request: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(12)
        ours = f"ws://{request.headers['Host']}"
        size = max(6, min(48, to_int(request.query.get("fontsize", ""), 16)))
        text = page(self.title, f"{ours}/ws/{self._token}", nonce, size)
        policy = POLICY.format(nonce=nonce, socket=ours)
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        tab = web.WebSocketResponse(heartbeat=15)
        await tab.prepare(request)
        viewer = Viewer(
            self._argv,
            self._env,
            write_bytes=tab.send_bytes,
            write_str=tab.send_str,
            close=tab.close,
            download_manager=self.download_manager,
        )
        self._open.add(tab)
        width, height = (
            max(1, min(1000, to_int(request.query.get(side, ""), usual)))
            for side, usual in (("width", 80), ("height", 24))
        )
        try:
            await viewer.start(width, height)
            with contextlib.suppress(ValueError, LookupError, TypeError, AssertionError):
                await self._process_messages(tab, viewer)  # garbage closes the tab
        finally:
            self._open.discard(tab)
            await viewer.stop()
            await tab.close()
        return tab

    async def on_shutdown(self, app: web.Application) -> None:
        for tab in list(self._open):
            await tab.close(code=WSCloseCode.GOING_AWAY)
