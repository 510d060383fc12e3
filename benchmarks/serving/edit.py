"""A word that is corrected in the page: how soon the rest is there again."""

import shutil
import statistics
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from rich.console import Console

from benchmarks.serving.common import serving
from whisfusion_jax.errors import WhisfusionError


def edit(file: Path, /, edits: int = 9, decoder: str = "diffusion", batch_size: int = 4) -> int:
    """Correct one word of a recording after the other, in Chromium.

    Args:
        file: a recording of a window.
        edits: how often, of which the first isn't counted.
        decoder: of the server.
        batch_size: of the server.

    Raises:
        WhisfusionError: no Chromium is there.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise WhisfusionError("edit needs Chromium")
    flags = ["--decoder", decoder, "--batch-size", str(batch_size)]
    with serving(flags) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        seconds = [_edited(page, server.url, file, number) for number in range(edits)][1:]
        browser.close()
    spread = f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f}"
    Console().print(
        f"{file}: the rest is there again in {statistics.median(seconds):.2f} s ({spread})"
    )
    return 0


def _edited(page: Page, url: str, file: Path, number: int) -> float:
    """Seconds from the Enter that ends a correction to the text that is shown, as the page says."""
    page.goto(url)
    expect(page.locator("#model")).to_contain_text("tiny.en")
    page.set_input_files("#file", file)
    expect(page.locator("#written")).to_be_visible(timeout=30_000)
    expect(page.locator("#say")).to_have_text("", timeout=30_000)
    expect(page.locator(".masked.word")).to_have_count(0, timeout=30_000)
    words = page.locator(".word")
    words.nth(number % words.count()).click()
    page.keyboard.type("Gothick")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_contain_text("written again", timeout=30_000)
    return float(page.locator("#say").inner_text().split()[-2])
