"""The memory page in a headless Chromium: its figures against those counted in Python, and the ways to use it."""

# Fixtures are imported, and named again as arguments.
# ruff: noqa: F401, F811

from __future__ import annotations

import re

import pytest
from page_browser import MARKS, block_shown, cells, chromium, settled, show, state
from page_runs import KINDS, block_at, by_kind, by_module, column, live, peak, share, totals, training_run

from ownt.report import human_bytes

pytestmark = MARKS


def test_figures_are_those_counted_here(show):
    run = training_run()
    page, at, end = show(run), peak(run), len(run["times"]) - 1
    kinds, now = by_kind(run, at), by_kind(run, end)
    found = state(page)
    assert (found["peakEvent"], found["peakBytes"], found["totalsAtPeak"]) == (at, totals(run)[at], kinds)
    rows = [
        [kind, human_bytes(now[kind]), human_bytes(kinds[kind]), share(kinds[kind], sum(kinds.values()))]
        for kind in KINDS
    ]
    assert cells(page, "#kinds tbody tr") == rows
    assert page.locator(".figures strong").all_inner_texts()[:3] == [
        human_bytes(size_bytes) for size_bytes in (totals(run)[at], totals(run)[end], run["resident_bytes"])
    ]
    free = run["arenas"][0]["capacity"] - run["arenas"][0]["used"]
    parts = [totals(run)[end], free, run["resident_bytes"] - totals(run)[end] - free]
    assert [row[1] for row in cells(page, "#process table:first-of-type tbody tr")] == [
        human_bytes(part) for part in parts
    ]
    arena = [human_bytes(run["arenas"][0][name]) for name in ("used", "peak", "capacity", "fragmented")]
    assert [row[1] for row in cells(page, "#process table:last-of-type tbody tr")] == [*arena, "7"]


def test_the_ten_largest_are_those_at_the_peak(show):
    run = training_run()
    page, at = show(run), peak(run)
    largest = sorted(live(run, at), key=lambda block: (-run["blocks"]["bytes"][block], block))[:10]
    for block, row in zip(largest, cells(page, "#largest tbody tr"), strict=True):
        size_bytes = run["blocks"]["bytes"][block]
        assert row[0].startswith(column(run, "path", block) or "(no module)")
        assert row[1:5] == [column(run, name, block) for name in ("name", "op", "shape", "line")]
        assert row[5:] == [human_bytes(size_bytes), share(size_bytes, totals(run)[at])]
    page.locator("#largest button").nth(3).click()
    assert state(page)["hovered"] == {"run": 0, "event": at, "block": largest[3]}


def test_the_tree_adds_up(show):
    run = training_run()
    page, at, end = show(run), by_module(run, peak(run)), by_module(run, len(run["times"]) - 1)
    page.locator("#open-all").click()
    rows = page.locator("#modules tbody tr").evaluate_all(
        "rows => rows.map(row => [row.dataset.path, ...[...row.cells].map(cell => cell.textContent)])"
    )
    shown = {path: (now, then) for path, name, now, then, _ in rows if name != "(itself)"}
    assert shown == {path: (human_bytes(end[path]), human_bytes(at[path])) for path in at | end}
    assert [row[1] for row in rows].count("(itself)") == 24  # what the residual sums keep
    page.locator("#close-all").click()
    assert len(cells(page, "#modules tbody tr")) == 5
    page.locator("#modules button", has_text="layer2").press("Enter")
    assert page.evaluate("document.activeElement.dataset.path") == "layer2"
    assert len(cells(page, "#modules tbody tr")) == 11


def test_bytes_are_written_as_in_reports(show):
    sizes = [1_125_000_000, 2_625_000, 1_375_000, 1_125_000, 1_005_000, 999_999, 999_995, 1_125, 625_000, 7]
    run = training_run(layers=2) | {"times": [0.0], "phases": []}
    columns = {name: [0] * len(sizes) for name in run["blocks"]}
    run["blocks"] = columns | {"start": [-1] * len(sizes), "end": [-1] * len(sizes), "bytes": sizes}
    rows = cells(show(run), "#largest tbody tr")
    assert [row[-2] for row in rows] == [human_bytes(size_bytes) for size_bytes in sorted(sizes, reverse=True)]


def test_a_hover_names_the_block_under_the_pointer(show):
    run = training_run(layers=12)
    page = show(run)
    box, bytes_shown = page.locator(".plot").bounding_box(), state(page)["bytes"][1]
    seen = set()
    for step in range(40):
        x, y = box["width"] * (0.1 + 0.022 * step), box["height"] * (0.25 + 0.016 * step)
        page.mouse.move(box["x"] + x, box["y"] + y)
        hovered = state(page)["hovered"]
        levels = [bytes_shown * (1 - (y + dy - 26) / (box["height"] - 52)) for dy in (-1.5, 0, 1.5)]
        assert hovered["block"] in {block_at(run, hovered["event"], level) for level in levels}
        if hovered["block"] >= 0:
            seen.add(hovered["block"])
            check_block(page, run, hovered["block"])
    assert len(seen) > 10
    page.mouse.move(0, 0)
    assert state(page)["hovered"] is None


def check_block(page, run: dict, block: int) -> None:
    shown, blocks = block_shown(page), run["blocks"]
    for title, name in {"Tensor": "name", "Module": "path", "Op": "op", "Shape": "shape"}.items():
        assert shown[title] in (column(run, name, block), "(no module)", "–")
    assert shown["Bytes"].startswith(human_bytes(blocks["bytes"][block]) + ", ")
    start, end = blocks["start"][block], blocks["end"][block]
    born, died = shown["Life"].split(" → ")
    assert born.startswith(f"event {start + 1}, " if start >= 0 else "before the first event")
    assert died.startswith(f"event {end + 1}, " if end >= 0 else "after the last event")
    assert human_bytes(blocks["bytes"][block]) in page.locator("#spoken").text_content()


def test_a_click_keeps_a_block_and_a_moment(show):
    run = training_run()
    page = show(run)
    box = page.locator(".plot").bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"])
    kept = state(page)["hovered"]
    page.mouse.move(0, 0)
    assert state(page)["hovered"] == kept
    now = by_kind(run, kept["event"])
    assert [row[1] for row in cells(page, "#kinds tbody tr")] == [human_bytes(now[kind]) for kind in KINDS]
    page.keyboard.press("Escape")
    assert state(page)["hovered"] is None


def test_keys(show):
    run = training_run()
    page, last = show(run), len(run["times"]) - 1
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.plot')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    def pressed(key: str) -> dict:
        page.keyboard.press(key)
        return state(page)["hovered"]

    assert pressed("p")["event"] == peak(run)
    assert f"{human_bytes(totals(run)[peak(run)])} live" in page.locator("#spoken").text_content()
    assert pressed("ArrowRight")["event"] == peak(run) + 1
    assert pressed("ArrowLeft")["event"] == peak(run)
    stack = live(run, peak(run))
    at = stack.index(state(page)["hovered"]["block"])
    assert pressed("ArrowUp")["block"] == stack[at + 1]
    assert pressed("ArrowDown")["block"] == stack[at]
    check_block(page, run, stack[at])
    assert pressed("Home")["event"] == -1
    assert pressed("ArrowRight")["event"] == 0
    assert page.locator("#spoken").text_content().startswith("makes 4.82 MB, activation, images")
    assert pressed("End")["event"] == last
    assert page.locator("#spoken").text_content().startswith("releases 8.19 kB, workspace, rates, adamw")
    assert pressed("Shift+ArrowLeft")["event"] == last - last // 50
    assert pressed("Escape") is None


def span(found: dict) -> float:
    return found["window"][1] - found["window"][0]


def test_zoom(show):
    page = show(training_run())
    whole = state(page)
    page.locator("#zoom-in").click()
    assert span(settled(page)) == pytest.approx(span(whole) / 2)
    page.locator(".plot").press("+")
    assert span(settled(page)) == pytest.approx(span(whole) / 4)
    page.locator(".plot").press("-")
    page.locator(".plot").press("]")
    assert settled(page)["bytes"][1] < whole["bytes"][1]
    page.locator(".plot").press("0")
    assert settled(page)["window"] == whole["window"]
    box = page.locator(".plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -100)
    assert span(settled(page)) < span(whole)
    page.locator("#overview canvas").dblclick()
    assert settled(page)["window"] == whole["window"]
    page.locator("#axis").get_by_text("Events").click()
    assert settled(page)["window"] == [0, len(training_run()["times"]) + 1]


def test_the_overview_chooses_a_window_and_a_drag_moves_it(show):
    page = show(training_run())
    whole = state(page)
    box = page.locator("#overview canvas").bounding_box()
    drag(page, box, 0.25, 0.5)
    chosen = settled(page)
    assert span(chosen) == pytest.approx(span(whole) / 4, rel=0.02)
    drag(page, box, 0.4, 0.6)
    assert settled(page)["window"][0] == pytest.approx(chosen["window"][0] + 0.2 * span(whole), rel=0.02)
    moved = state(page)
    drag(page, page.locator(".plot").bounding_box(), 0.4, 0.6)
    assert settled(page)["window"][0] < moved["window"][0]
    assert span(state(page)) == pytest.approx(span(moved))


def drag(page, box: dict, start: float, end: float) -> None:
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


def test_search(show):
    run = training_run()
    page = show(run)
    settled(page)
    before = page.locator(".plot").screenshot()
    page.locator("#search").fill("LAYER2.1")
    found = [block for block in live(run, peak(run)) if "layer2.1" in column(run, "path", block)]
    size_bytes = sum(run["blocks"]["bytes"][block] for block in found)
    assert page.locator("#found").text_content() == f"3 modules, {human_bytes(size_bytes)} at the peak"
    assert [row[0] for row in cells(page, "#modules tbody tr")] == ["layer2", "1"]
    settled(page)
    assert page.locator(".plot").screenshot() != before
    page.locator("#search").fill("no such module")
    assert page.locator("#found").text_content() == "0 modules, 0 B at the peak"
    assert cells(page, "#modules tbody tr") == []
    page.locator("#search").fill("")
    settled(page)
    assert page.locator(".plot").screenshot() == before


def test_the_peak_may_be_before_the_first_event(show):
    run = training_run(layers=2)
    size = len(run["blocks"]["start"])
    run["blocks"] |= {"start": [-1] * size, "end": [0, *[-1] * (size - 1)]}
    page = show(run | {"times": [0.5], "phases": []})
    found = state(page)
    assert (found["peakEvent"], found["peakBytes"]) == (-1, sum(run["blocks"]["bytes"]))
    assert page.locator(".figures small").first.text_content() == "the beginning"
    assert page.locator(".figures strong").nth(1).text_content() == human_bytes(sum(run["blocks"]["bytes"][1:]))


def test_a_run_without_events_shows_what_is_there(show):
    run = training_run(layers=2)
    size = len(run["blocks"]["start"])
    run["blocks"] |= {"start": [-1] * size, "end": [-1] * size}
    page = show(run | {"times": [], "phases": [], "arenas": [], "resident_bytes": 0})
    page.locator(".plot").press("ArrowRight")
    page.locator(".plot").press("+")
    assert state(page)["peakBytes"] == sum(run["blocks"]["bytes"])
    assert page.locator(".figures strong").nth(2).text_content() == "not known"


def test_an_estimate_has_events_and_no_times(show):
    page = show(training_run(layers=2) | {"device": "meta"})
    assert page.locator("#axis :checked").get_attribute("value") == "events"
    page.locator(".plot").press("End")
    assert not re.search(r"\d (ms|s)\b", page.locator("#moment").text_content())
