"""Pages in a real browser: both themes, by keyboard, nothing from elsewhere, and no scripts."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from search.demo import run_demo
from service.api.app import create_app
from service.api.settings import make_settings
from service.jobs.model import State
from service.web.serving import pages

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
PATHS = ("", "/thresholds", "/router", "/try", "/download")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of a service and id of its one job, which is done."""
    folder = tmp_path_factory.mktemp("site")
    app = create_app(make_settings(folder=folder / "service", jobs=0), None, pages())
    store = app.state.context.store
    job = store.create_job(tenant="local", name="digits", spec={"max_kb": 22}, created_by="local")
    run = folder / "service" / job.folder / "run"
    run.parent.mkdir(parents=True)
    list(run_demo(run))
    store.transition(job.id, State.QUEUED, State.CHECKING)
    store.transition(job.id, State.CHECKING, State.DONE)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", job.id
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def all_paths(job: str) -> list[str]:
    own = [f"/jobs/{job}{path}" for path in PATHS]
    return ["/", "/new", "/content", "/keys", "/login", f"/compare?id={job}&id={job}", *own]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_ask_nobody_else(
    site: tuple[str, str], browser: Any, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    base, job = site
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    for path in all_paths(job):
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda one, to=wrong: to.append(one.text) if one.type == "error" else 0)
        page.on("pageerror", lambda error, to=wrong: to.append(str(error)))
        page.on(
            "request",
            lambda one, to=wrong: (
                None if one.url.startswith((base, "blob:")) else to.append(one.url)
            ),
        )
        page.goto(base + path)
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .main-svg")
        page.wait_for_timeout(500)
        found = axe.run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"][:100]) for one in found
                   if one["impact"] in ("serious", "critical")]  # fmt: skip
        assert serious == [], path
        assert wrong == [], path
        page.close()
    context.close()


def test_thresholds_are_ranked_as_sliders_move(site: tuple[str, str], browser: Any) -> None:
    base, job = site
    page = browser.new_page()
    page.goto(f"{base}/jobs/{job}/thresholds")
    page.wait_for_selector("#ranked table")
    page.select_option("select[name=target]", "balanced")
    page.focus("#f-c0")
    for _ in range(5):
        page.keyboard.press("ArrowRight")  # by keyboard alone
    page.wait_for_function("document.querySelector('[name=fields]').value.includes('c0')")
    page.wait_for_selector("#ranked caption")
    page.close()


def test_images_are_answered(site: tuple[str, str], browser: Any, tmp_path: Path) -> None:
    base, job = site
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "blank.png")
    page = browser.new_page()
    page.goto(f"{base}/jobs/{job}/try")
    page.set_input_files("input[name=images]", [str(tmp_path / "blank.png")])
    page.click("text=Ask the pair")
    page.wait_for_selector("article")
    assert "blank.png" in page.inner_text("article")
    assert "Teacher" in page.inner_text("article")
    page.close()


def test_lists_and_forms_work_without_scripts(site: tuple[str, str], browser: Any) -> None:
    base, job = site
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base)
    page.click("text=digits")
    assert page.url == f"{base}/jobs/{job}"
    page.goto(f"{base}/jobs/{job}/router")
    page.fill("#f-appeals", "0.2")
    page.click("text=Save as the bundle's threshold")
    assert page.locator("text=Not done").count() == 0
    assert "calibration rows" in page.content()
    page.goto(f"{base}/jobs/{job}/thresholds?max_kb=22&target=smallest")
    assert page.locator("#ranked table").count() == 1
    context.close()
