"""A tab that the browser can freeze: it must be hidden, and Playwright's pages never are."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, CDPSession

LOADED = "location.href !== 'about:blank' && document.readyState === 'complete'"


class DevtoolsError(Exception):
    """The browser cannot do what it was asked for."""


class Tab:
    """A page that Playwright does not know.

    Args:
        devtools: A session with the browser.
        session_id: That of the tab.
    """

    def __init__(self, devtools: CDPSession, session_id: str) -> None:
        self._devtools = devtools
        self._session_id = session_id
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        devtools.on("Target.receivedMessageFromTarget", self._receive)

    def _receive(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if event["sessionId"] == self._session_id and message.get("id") in self._answers:
            self._answers.pop(message["id"]).set_result(message)

    async def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = json.dumps({"id": number, "method": method, "params": parameters})
        to = {"sessionId": self._session_id, "message": message}
        await self._devtools.send("Target.sendMessageToTarget", to)
        result = await answer
        if "error" in result:
            raise DevtoolsError(result["error"])
        return result["result"]

    async def evaluate(self, expression: str, argument: Any = None) -> Any:
        """Do what Playwright's method of this name does."""
        if argument is not None:
            expression = f"({expression})({json.dumps(argument)})"
        options = {"awaitPromise": True, "returnByValue": True}
        answer = await self._send("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until_loaded(self) -> None:
        while True:
            with contextlib.suppress(DevtoolsError):  # it is on its way to its URL
                if await self.evaluate(LOADED):
                    return
            await asyncio.sleep(0.02)

    async def freeze(self) -> None:
        """Hide the tab behind another one, and stop its timers and all else that it runs."""
        other = await self._devtools.send("Target.createTarget", {"url": "about:blank"})
        await self._devtools.send("Target.activateTarget", other)
        await self.evaluate(
            """new Promise((resolve) => {
                const look = () => document.hidden ? resolve() : setTimeout(look, 10);
                look();
                document.onfreeze = () => { window.wasFrozen = true; };
            })"""
        )
        await self._send("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        await self._send("Page.setWebLifecycleState", state="active")
        assert await self.evaluate("window.wasFrozen")


@asynccontextmanager
async def tab(browser: Browser, url: str) -> AsyncIterator[Tab]:
    """Open `url`, and wait until the page has loaded."""
    devtools = await browser.new_browser_cdp_session()
    target = await devtools.send("Target.createTarget", {"url": url})
    session = await devtools.send("Target.attachToTarget", target)
    tab = Tab(devtools, session["sessionId"])
    await tab.until_loaded()
    yield tab
    await devtools.send("Target.closeTarget", target)
    await devtools.detach()
