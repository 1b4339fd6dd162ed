"""The studio: what a browser gets, and, where there is one, what a person does with it."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from slatewise.serving.app import create
from slatewise.serving.keys import add_key
from slatewise.serving.settings import ArmSpec, Settings
from slatewise.testing.backend import example_artifact

ITEMS = [f"i{at}" for at in range(8)]
REQUEST = json.dumps(
    {"candidates": ITEMS, "scores": [at / 10 for at in range(8)], "groups": {"brand": ["x", "y"] * 4}}
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def settings(folder: Path, **changes) -> Settings:
    path = str(example_artifact("eager").path)
    arms = (ArmSpec(name="main", path=path), ArmSpec(name="next", path=path, shadow=True))
    return Settings(arms=arms, watch_seconds=0.0, studio=True, log=str(folder / "log.db"), **changes)


def test_a_page_shows_lists_steps_and_what_a_rule_does(tmp_path: Path) -> None:
    with TestClient(create(settings(tmp_path, wait_for_log=True))) as client:
        empty = client.get("/studio")
        assert empty.status_code == 200
        assert "default-src 'none'" in empty.headers["content-security-policy"]
        assert not re.search(r'(src|href)="', empty.text)  # nothing comes from elsewhere
        served = client.post(
            "/v1/rank", json=json.loads(REQUEST) | {"request_id": "<b>&1", "user_id": "u1"}
        ).json()
        page = client.post(
            "/studio", data={"request": REQUEST, "rules": '[{"pin": "i7", "position": 1}]'}
        ).text
        assert page.count("under the rules") == page.count("without the rules") == 2
        assert page.count("Step 4: probabilities") == 2
        first = re.search(r"under the rules.*?<td class=\"n\">1</td><td>(\w+)</td>", page, re.S)
        plain = re.search(r"without the rules.*?<td class=\"n\">1</td><td>(\w+)</td>", page, re.S)
        assert first
        assert plain
        assert (first[1], plain[1]) == ("i7", served["items"][0])
        shares = re.findall(r'<meter min="0" max="1" value="([\d.e-]+)"', page)
        assert abs(sum(map(float, shares[:8])) - 1.0) < 1e-4  # of the first step
        recent = client.get("/studio").text
        assert "&lt;b&gt;&amp;1" in recent
        assert "<b>&1" not in recent
        picked = client.post("/studio", data={"action": "pick", "chosen": "<b>&1"}).text
        assert "without the rules" in picked
        assert client.get("/studio/live").json()["answers"] == 1  # what is asked here is no traffic
        log = client.get("/studio").text.count("<option")
        assert log == 1  # and is not logged


def test_mistakes_are_said_on_the_page(tmp_path: Path) -> None:
    with TestClient(create(settings(tmp_path))) as client:
        for request, rules, said in (
            ("{", "", "is no JSON"),
            ('{"candidates": [1, 1]}', "", "once more"),
            ("[]", "", "one request at a time"),
            (REQUEST, "x", "are no list of rules"),
            (REQUEST, '[{"of": "colour", "distance": 2}]', "no group of the request"),
            (REQUEST, '[{"of": "brand", "distance": 0}]', "allowed are 1 to 10000"),
            (REQUEST, '[{"of": "brand", "at_most": 1}]', "dropped: rules[0]"),
        ):
            page = client.post("/studio", data={"request": request, "rules": rules})
            assert page.status_code == 200
            assert said in page.text, said


def test_it_is_there_only_when_asked_for_and_behind_a_key(tmp_path: Path) -> None:
    plain = Settings(arms=settings(tmp_path).arms, watch_seconds=0.0)
    with TestClient(create(plain)) as client:
        assert client.get("/studio").status_code == 404
    key = add_key(tmp_path / "keys.txt", "me")
    with TestClient(create(settings(tmp_path, keys=str(tmp_path / "keys.txt")))) as client:
        refused = client.get("/studio")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
        assert client.get("/studio", auth=("anyone", key)).status_code == 200
        assert client.get("/studio", auth=("anyone", "no")).status_code == 401
        assert client.post("/v1/rank", content=REQUEST, auth=("anyone", key)).status_code == 401


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create(settings(tmp_path)), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_person_ranks_tries_a_rule_and_looks_at_a_step(address: str, tmp_path: Path) -> None:
    """By keyboard alone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        faults: list[str] = []
        page.on("console", lambda one: faults.append(one.text) if one.type == "error" else None)
        page.goto(f"{address}/studio")
        page.locator("#request").focus()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(REQUEST)
        page.keyboard.press("Tab")
        page.keyboard.insert_text('[{"pin": "i7", "position": 1}, {"of": "brand", "distance": 2}]')
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        card = page.get_by_role("region", name="main")
        card.get_by_text("under the rules").wait_for()
        ruled = card.locator("table").nth(1)
        assert ruled.locator("tr").nth(1).inner_text().split()[:2] == ["1", "i7"]
        second = card.locator("details").nth(1)
        second.locator("summary").focus()
        page.keyboard.press("Enter")
        assert second.locator("meter").first.is_visible()
        assert "✓" in second.inner_text()
        page.wait_for_timeout(2500)  # the numbers that move have been asked for
        assert not faults
        picture = tmp_path / "studio.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000
        browser.close()
