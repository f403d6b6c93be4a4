"""The page in a real headless Chromium. Where there is none, these are skipped, except where `CI` is set."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.pipeline.predict.demo.conftest import HOSTILE

_BROWSER, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
pytestmark = pytest.mark.skipif(
    not (_BROWSER and _DRIVER) and "CI" not in os.environ, reason="needs chromium and chromedriver"
)


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    assert _BROWSER, "no chromium: apt-get install chromium chromium-driver"
    assert _DRIVER, "no chromedriver: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = _BROWSER
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(_DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: WebDriver, address: str) -> WebDriver:
    browser.get(address)
    _wait_for(browser, "For user ")
    return browser


def _wait_for(page: WebDriver, status: str) -> None:
    WebDriverWait(page, 60, 0.05).until(lambda at: status in at.find_element(By.ID, "status").text)


def _lists(page: WebDriver) -> dict[str, list[tuple[str, str, float]]]:
    """Rank, title and score of every line, by arm."""
    read = """return [...document.querySelectorAll('.arm')].map(arm => [arm.dataset.arm,
        [...arm.querySelectorAll('li')].map(li => [li.querySelector('.rank').textContent,
            li.querySelector('.title').firstChild.textContent, parseFloat(li.querySelector('.score').textContent)])])"""
    return {arm: [tuple(line) for line in lines] for arm, lines in page.execute_script(read)}


def test_the_page_opens_with_three_lists_in_order(page):
    lists = _lists(page)
    assert list(lists) == ["collab", "text_only", "sella"]
    for lines in lists.values():
        assert [rank for rank, _, _ in lines] == [str(n) for n in range(1, 11)]
        scores = [score for _, _, score in lines]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


def test_another_user_by_keyboard_alone(page, ranker):
    field = page.find_element(By.ID, "user")
    field.clear()
    user_id = ranker.bundle.users["user_id"][7]
    field.send_keys(user_id, Keys.ENTER)
    _wait_for(page, f"For user {user_id}, ")
    known = ranker.bundle.users.row(7, named=True)
    liked = dict(ranker.bundle.items.select("item_id", "title").iter_rows())[known["history"][-1]]
    assert page.find_element(By.ID, "likes").text.endswith(liked)


def test_typed_titles_are_judged_and_not_recommended(page, ranker):
    titles = ranker.bundle.items["title"].to_list()[1:3]
    field = page.find_element(By.ID, "title")
    for title in titles:
        field.send_keys(title)
        page.find_element(By.ID, "add").click()
    field.send_keys("Quite unheard of", Keys.ENTER)
    _wait_for(page, "For these likes")
    assert len(page.find_elements(By.CSS_SELECTOR, "#chosen li")) == 3
    for lines in _lists(page).values():
        assert not {title for _, title, _ in lines} & set(titles)
    page.find_element(By.CSS_SELECTOR, "#chosen li button").click()
    assert len(page.find_elements(By.CSS_SELECTOR, "#chosen li")) == 2


def test_a_hostile_title_is_text(page):
    field = page.find_element(By.ID, "title")
    field.send_keys(HOSTILE)
    page.find_element(By.ID, "add").click()
    assert page.find_element(By.CSS_SELECTOR, "#chosen li").text.startswith(HOSTILE)
    assert page.find_elements(By.CSS_SELECTOR, "main img") == []
    assert page.title == "SeLLa-Rec"


def test_an_unknown_user_is_told(page):
    field = page.find_element(By.ID, "user")
    field.clear()
    field.send_keys("nobody", Keys.ENTER)
    _wait_for(page, "user nobody is not known to this model")
    assert not page.find_element(By.ID, "results").is_displayed()


def test_the_page_fits_a_phone(page, tmp_path: Path):
    # Chromium's windows are not narrower than 500 pixels, what it emulates may be
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        width = "return [document.documentElement.scrollWidth, window.innerWidth]"
        needed, given = page.execute_script(width)
        assert needed <= given
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
