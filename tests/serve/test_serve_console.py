"""The console page in a real Chromium, and what it is told."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.runtime import Answer
from pilotfish.serve import ServeOptions, Server
from pilotfish.serve.report.alarm_words import alarm_words
from pilotfish.serve.report.console_page import console_page
from pilotfish.serve.report.snapshot import snapshot
from pilotfish.serve.served import Served
from pilotfish.serve.watch.drift import Alarm
from support.browser import CHROMIUM, browser
from support.server import ALLOWED, pictures, serving

HOSTILE = '<img src=x onerror="alert(1)">'
TOKEN = "open-sesame"


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="module")
def server(cascade_folder):
    with serving({"birds": cascade_folder, HOSTILE: cascade_folder}, tokens={TOKEN: "operator"}, reload=False) as found:
        for pixels in pictures(12, seed=7):
            found.ask("POST", "/predict?model=birds", png(pixels), {"Content-Type": "image/png"})
        yield found


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium, server):
    return opened(chromium, server)


def opened(chromium, server, model="birds", **size):
    found = chromium.page(**size)
    found.open(f"{server.url}/?model={model}")
    found.until("document.getElementById('live').classList.contains('on')")
    return found


def click(page, element_id):
    page.value(f"document.getElementById('{element_id}').click()")


# What the server tells.


def test_the_snapshot_holds_what_its_documentation_says(server):
    found = server.get("/console.json").json
    documented = set(re.findall(r"\.?[a-z_]+", snapshot.__doc__.partition("=\n")[2]))
    assert {*found, *(f".{key}" for key in found["model"])} <= documented
    assert found["models"] == ["birds", HOSTILE]
    assert found["model"]["name"] == "birds"
    assert found["access"] == "locked"
    assert found["model"]["flagged"] is None
    known = server.get("/console.json", Authorization=f"Bearer {TOKEN}").json
    assert known["access"] == "token"
    assert known["model"]["flagged"] == []
    assert TOKEN not in json.dumps([found, known])
    assert "operator" not in json.dumps([found, known])


def test_unknown_models_and_lone_surrogates(server):
    refused = server.get("/console.json?model=cats")
    assert refused.status == 404
    assert "cats" in refused.json["error"]
    history = server.server.models[HOSTILE].history
    history.answered(Served("\ud800", Answer("0", 1, None, 0.5, 1, None), ("unsure",)), False, "r1")
    assert server.get("/console.json?model=%3Cimg%20src%3Dx%20onerror%3D%22alert(1)%22%3E").status == 200


def test_each_place_of_the_frontier_is_reached_by_its_drop(cascade_folder):
    server = Server({"birds": cascade_folder}, ServeOptions(allow_python=ALLOWED))
    drops = snapshot(server)["model"]["frontier"]["drop"]
    assert len(drops) > 5
    for i, drop in enumerate(drops):
        server.models["birds"].move(max_drop=f"{100 * drop}%")
        model = snapshot(server)["model"]
        assert model["frontier"]["at"] == i
        assert model["point"]["drop"] == drop
        assert model["frontier"]["drop"] == drops
    server.models["birds"].drain(1.0)


def test_the_page_says_what_a_browser_may_do_for_it(server):
    answered = server.get("/")
    policy = answered.headers["content-security-policy"]
    assert answered.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in policy, "no other host"
    outside = set(re.findall(rb"https?://[^'\"\s]+", console_page()[0]))
    assert outside == {b"http://www.w3.org/2000/svg"}, "the name of a format, which nothing asks for"


@pytest.mark.parametrize("kind", ["exit ratio", "score"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_alarm_names_band_baseline_and_what_to_do(kind, direction):
    alarm = Alarm(kind, direction, 0.7, 0.68, 0.72, 2500, 431, 0.0, 0.5)
    said = alarm_words(alarm)
    for number in ("70.0%", "68.0%", "72.0%") if kind == "exit ratio" else ("0.700", "0.680", "0.720"):
        assert number in said["says"]
    assert "2,500" in said["says"]
    assert "431" in said["says"]
    assert "evaluate" in said["advice"]
    page, _, anchor = said["page"].partition("#")
    docs = Path(__file__).parents[2] / page
    assert f"### {anchor.replace('-', ': ', 1).capitalize()}" in docs.read_text()


# What Chromium makes of it.


def test_figures_appear_and_nobody_else_is_asked(page, server):
    assert re.fullmatch(r"\d+\.\d%", page.text("t-exit"))
    assert page.text("state") == "ready"
    assert page.value("document.querySelectorAll('#stages tbody tr').length") == 2
    for chart in ("rate", "exit", "frontier", "audit"):
        assert page.value(f"document.querySelector('#{chart} svg').getAttribute('aria-label').length") > 10
    page.until("performance.getEntriesByType('resource').length >= 2")  # it asks again by itself
    assert page.complaints == []
    assert all(url.startswith((f"{server.url}/", "data:")) for url in page.asked)


def test_the_slider_moves_the_operating_point_with_the_token_alone(page, server):
    hosted = server.server.models["birds"]
    before = hosted.point
    page.value("document.getElementById('slider').focus()")
    page.press("ArrowRight")
    assert "points" in page.text("c-drop")
    assert page.value("document.getElementById('slider').getAttribute('aria-valuetext')").startswith("drop ")

    click(page, "apply")
    page.until("document.getElementById('said').textContent.includes('needs a token')")
    page.type("open-barley-0123")  # the field has the focus now
    page.press("Enter")
    page.until("document.getElementById('said').textContent.startsWith('Nothing was changed: ')")
    assert hosted.point is before
    assert any("401" in complaint for complaint in page.complaints), "the browser says so itself"
    page.complaints.clear()

    page.value("document.getElementById('token').focus()")
    page.type(TOKEN)
    page.press("Enter")
    page.until("document.getElementById('said').classList.contains('good')")
    assert int(hosted.point.id) == int(before.id) + 1
    page.until(f"document.getElementById('point-read').textContent.includes('point {hosted.point.id} ')")
    assert page.text("c-drop") == "–"
    assert TOKEN not in page.value("document.documentElement.outerHTML")
    assert page.value("localStorage.length + document.cookie.length") == 0

    click(page, "forget")
    assert page.value("sessionStorage.length") == 0
    assert page.complaints == []


def test_without_a_token_file_nothing_can_be_moved_and_the_page_says_so(page):
    page.value("clearTimeout(live.timer); document.getElementById('slider').focus()")
    page.press("Home")
    assert page.value("document.getElementById('apply').disabled") is False
    page.value("fetch('console.json').then((r) => r.json()).then((s) => show({ ...s, access: 'open' }))")
    assert page.value("document.getElementById('apply').disabled") is True
    assert "--token-file" in page.text("point-note")


def test_ids_and_answers_are_shown_to_who_has_a_token(chromium, server):
    server.server.models["birds"].history.answered(
        Served("order-7", Answer("0", 1, "bee", 0.5, 1, None), ("unsure",)), False, "r1"
    )
    page = opened(chromium, server)
    assert "token" in page.text("no-flagged")
    for token, shown in (("no-such-token", False), (TOKEN, True)):
        page.value("document.getElementById('token').focus()")
        page.type(token)
        page.press("Enter")
        if shown:
            page.until("document.getElementById('flagged').textContent.includes('order-7')")
        else:
            page.until("document.getElementById('said').textContent.includes('does not know')")
            assert "order-7" not in page.value("document.body.textContent")
    page.open(f"{server.url}/")  # the tab keeps it
    page.until("document.getElementById('flagged').textContent.includes('order-7')")


def test_names_ids_and_errors_of_others_run_nothing_and_turn_nothing_round(chromium, server):
    history = server.server.models[HOSTILE].history
    history.answered(Served(HOSTILE, Answer("0", 1, f"\u202e{HOSTILE}", 0.5, 1, None), (HOSTILE,)), False, "r1")
    history.answered(Served("b", Answer("0", None, None, None, None, HOSTILE)), False, "r1")
    drift = server.server.models[HOSTILE].point.drift
    drift.alarm = Alarm("score", "down", 0.5, 0.4, 0.6, 150, 99, 7.0)  # as a restart finds it
    history.alarmed("1", Alarm("exit ratio", "up", 0.5, 0.4, 0.6, 150, 99, 5.0))
    page = opened(chromium, server, "%3Cimg%20src%3Dx%20onerror%3D%22alert(1)%22%3E")
    page.value(f"remember({json.dumps(TOKEN)}); refresh()")
    page.until("document.querySelectorAll('#flagged tbody tr').length >= 2")
    shown = page.value("document.body.innerText")
    assert shown.count(HOSTILE) >= 4
    assert "\u202e" not in shown
    assert page.value("document.images.length") == 0
    assert page.text("alarm-pill") == "1 alarm"
    assert page.value("document.querySelectorAll('#alarm-list li:not(.past)').length") == 1
    assert page.value("document.querySelectorAll('#alarm-list li.past').length") == 1
    assert page.complaints == []


def test_an_alarm_is_acknowledged_with_the_token(chromium, server):
    drift = server.server.models["birds"].point.drift
    drift.alarm = Alarm("exit ratio", "up", 0.5, 0.4, 0.6, 150, 99, 9.0)
    page = opened(chromium, server)
    page.value("document.querySelector('#alarm-list button').click()")
    page.type(TOKEN)  # it was asked for
    page.value("document.querySelector('#alarm-list button').click()")
    page.until("document.getElementById('alarm-said').classList.contains('good')")
    page.until("document.getElementById('alarm-pill').textContent === 'no alarms'")
    assert drift.alarm is None
    assert "chance" in page.text("promise-note")


@pytest.mark.parametrize("width", [390, 1265, 1440])
def test_it_fits_a_phone_and_a_screen(chromium, server, width):
    page = opened(chromium, server, width=width, height=800, dark=width == 390)
    page.value("document.getElementById('slider').focus()")
    page.press("Home")
    assert "points" in page.text("c-drop")
    assert page.value("document.documentElement.scrollWidth") == width
    page.value("document.getElementById('t-latency-more').textContent = 'p99 12.3 ms, base 1,234 ms'")
    cut = "[...document.querySelectorAll('.tiles .more')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert page.value(cut) == 0
    back = page.value("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", back))) < 150 or width != 390, "dark where that is preferred"


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_no_figure_of_a_table_is_cut(chromium, server, width):
    history = server.server.models["birds"].history
    history.answered(Served("order-7", Answer("0", 1, "bee", 0.5, 1, None), ("unsure",)), False, "r1")
    page = opened(chromium, server, width=width, height=800)
    page.value(f"remember({json.dumps(TOKEN)}); refresh()")
    page.until("document.getElementById('flagged').textContent.includes('order-7')")
    cut = "[...document.querySelectorAll('.spread td, .head .read')].filter((e) => e.scrollWidth > e.clientWidth)"
    assert page.value(f"{cut}.map((e) => e.textContent)") == []
    assert page.value("document.documentElement.scrollWidth") == width


def test_nothing_moves_when_it_is_refreshed(page):
    boxes = "[...document.querySelectorAll('main > *')].map((e) => Object.values(e.getBoundingClientRect().toJSON()))"
    before = page.value(boxes)
    page.value("refresh()")
    assert page.value(boxes) == before


def test_a_hidden_tab_asks_for_nothing(page):
    page.value("Object.defineProperty(document, 'hidden', { get: () => true }); refresh()")
    asked = len(page.asked)
    page.value("document.dispatchEvent(new Event('visibilitychange')); refresh()")
    assert page.value("live.timer = null; refresh().then(() => live.timer)") is None
    assert len(page.asked) == asked


def test_a_server_that_is_gone_is_said(chromium, server):
    page = opened(chromium, server)
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    page.value("refresh().then(refresh)")
    assert page.text("state").startswith("unreachable since")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.value("refresh()")
    assert page.text("state") == "ready"
