"""A browser that is driven: what it asks for, what it complains of, and what stands on the page."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from web.web_server import Served

LIMIT_S = 60.0
"""Nothing here takes so long unless it is broken, on a machine with much else to do either."""
SILENT = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    # It asks nobody for anything of its own.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--disable-default-apps", "--disable-extensions", "--no-default-browser-check", "--lang=en-US"),
)
T = TypeVar("T")


@contextmanager
def chromium_driver(chromium: str, driver: str, profile: Path) -> Iterator[Chrome]:
    """Until the end of the block; ``profile`` is a folder that is not there yet."""
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (*SILENT, f"--user-data-dir={profile}", "--window-size=1280,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = Chrome(options=options, service=Service(driver))
    try:
        opened.set_page_load_timeout(LIMIT_S)
        opened.set_script_timeout(LIMIT_S)
        yield opened
    finally:
        opened.quit()


def fresh(browser: Chrome) -> None:
    """Nothing open, nothing emulated, nothing in the logs."""
    browser.get("about:blank")
    for command in ("Emulation.clearDeviceMetricsOverride", "Network.clearBrowserCache", "Network.clearBrowserCookies"):
        browser.execute_cdp_cmd(command, {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for log in ("browser", "performance"):
        browser.get_log(log)


class Page:
    """The page of a server, in a browser."""

    def __init__(self, browser: Chrome, site: Served) -> None:
        self.browser, self.site = browser, site
        self._requests: list[str] = []

    def open(self) -> None:
        """Until the numbers and the charts stand."""
        self.browser.get(self.site.url + "/")
        self.until(self.is_drawn)

    def is_drawn(self) -> bool:
        """Whether everything is shown."""
        return bool(
            self.run(
                "return document.querySelectorAll('#windows li').length > 0"
                " && [...document.querySelectorAll('.chart')].every((one) => one.querySelector('.main-svg'))"
                " && document.querySelectorAll('#facts dt').length > 0"
            )
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.browser.execute_script(script, *arguments)

    def until(self, is_so: Callable[[], T], limit_s: float = LIMIT_S) -> T:
        """Wait for something to be so."""
        end_at_s = time.monotonic() + limit_s
        while not (found := is_so()):
            assert time.monotonic() < end_at_s, f"it does not come: {self.text('main')[:2_000]}, {self.complaints()}"
            time.sleep(0.05)
        return found

    def text(self, place: str) -> str:
        """What stands in an element, for whoever reads it."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", place))

    def choose(self, **values: Any) -> None:
        """Set fields by their ids, as somebody would who picks from them."""
        for name, value in values.items():
            self.run(
                "const field = document.getElementById(arguments[0]);"
                "if (field.type === 'checkbox') field.checked = arguments[1]; else field.value = arguments[1];"
                "field.dispatchEvent(new Event('change', { bubbles: true }));",
                name,
                value,
            )

    def counts(self) -> dict[str, int]:
        """The big numbers, by window."""
        found = self.run(
            "return [...document.querySelectorAll('#windows li')].map((one) =>"
            " [one.dataset.window, one.querySelector('[data-count]')?.dataset.count,"
            " one.querySelector('.big').innerText])"
        )
        for _, count, shown in found:
            assert count is None or f"{int(count):,}" == shown
        return {window: int(count) for window, count, _ in found if count is not None}

    def trace(self, chart: str, name: str) -> list[int]:
        """The values of a line or of bars, as plotly has them."""
        return [int(value) for value in self.parts(chart, name) if value is not None]

    def parts(self, chart: str, name: str) -> list[float | None]:
        """The same, where they need not be whole or there."""
        found: list[float | None] = self.run(
            "const trace = document.getElementById(arguments[0]).data.find((one) => one.name === arguments[1]);"
            "return trace ? [...trace.y] : []",
            chart,
            name,
        )
        return found

    def table(self, details: str) -> list[list[str]]:
        """The rows of a table, which is unfolded for it."""
        self.run("document.getElementById(arguments[0]).open = true", details)
        return self.until(
            lambda: self.run(
                "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
                ".map((row) => [...row.cells].map((cell) => cell.textContent))",
                details,
            )
        )

    def link(self, name: str) -> str:
        """Where a link leads to, on this server."""
        return str(
            self.run(
                "const to = new URL(document.getElementById(arguments[0]).href);return to.pathname + to.search", name
            )
        )

    def requests(self) -> list[str]:
        """Every address that was asked for since the browser was opened."""
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
        return self._requests

    def complaints(self) -> list[str]:
        """What the console says since it was last looked at."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def barriers(self) -> list[str]:
        """What axe finds to keep people out, by the rules of WCAG 2.1 AA and best practice."""
        self.run(files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
        found = self.browser.execute_async_script("axe.run(document).then(arguments[0])")
        assert found["passes"]
        return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found["violations"]]

    def emulate(self, *, dark: bool = False, width: int = 1280, height: int = 1400) -> None:
        """A system that wants dark colours, and a screen of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
