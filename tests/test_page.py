"""The memory page as a file: complete in itself, small, and safe whatever a run says."""

from __future__ import annotations

import copy
import itertools
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from page_runs import KINDS, hostile_run, training_run

from ownt import page


class Elements(HTMLParser):
    """What a browser would see: elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in ("script", "style"):
            self.texts.append(data)


def written(folder: Path, *runs: dict) -> str:
    page.write(folder / "page.html", list(runs))
    return (folder / "page.html").read_text("utf-8")


def own_code() -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in (files("ownt") / "web").iterdir()}


def test_the_page_holds_the_runs(tmp_path):
    runs = [training_run("first"), training_run("second", seed=1)]
    text = written(tmp_path, *runs)
    data = re.search(r'<script type="application/json" id="runs">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data) == runs
    assert "{{" not in text.replace(data, "")


def test_the_page_names_nothing_outside_itself(tmp_path):
    text = written(tmp_path, training_run())
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
    for tag, attributes in Elements(text).found:
        assert tag not in ("img", "iframe", "object", "embed", "base", "a"), tag
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_the_policy_lets_nothing_be_loaded(tmp_path):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written(tmp_path, training_run()))[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_own_code_is_small():
    code = own_code()
    assert set(code) == {"memory.html", "memory.css", *(f"{name}.js" for name in page.SCRIPTS)}
    assert sum(len(text.encode()) for text in code.values()) < 100_000
    for name, text in code.items():
        assert len(text.splitlines()) <= 300, name


def test_own_code_never_makes_html_of_data():
    for name, text in own_code().items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name


def test_what_a_run_says_stays_text(tmp_path):
    plain, hostile = (Elements(written(tmp_path, run)) for run in (training_run(layers=4), hostile_run()))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    data = next(text for text in hostile.texts if text.startswith("[{"))
    assert json.loads(data) == [hostile_run()]


@pytest.mark.parametrize("number", [0, 3])
def test_another_number_of_runs_is_an_error(tmp_path, number):
    with pytest.raises(ValueError, match=f"1 run, or 2 to compare; got {number}"):
        page.write(tmp_path / "page.html", [training_run(layers=2)] * number)
    assert not (tmp_path / "page.html").exists()


BROKEN = {
    "expected times that ascend": lambda run: run["times"].reverse(),
    "expected columns of one length": lambda run: run["blocks"]["bytes"].pop(),
    "expected start of -1": lambda run: run["blocks"]["start"].__setitem__(0, 10**6),
    "expected end of -1": lambda run: run["blocks"]["end"].__setitem__(0, -2),
    "expected kind of 0": lambda run: run["blocks"]["kind"].__setitem__(0, 6),
    "expected path of 0": lambda run: run["blocks"]["path"].__setitem__(0, 10**6),
    "expected bytes of 0": lambda run: run["blocks"]["bytes"].__setitem__(0, -1),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_run_that_does_not_fit_together_is_an_error(tmp_path, message):
    run = copy.deepcopy(training_run(layers=2))
    BROKEN[message](run)
    with pytest.raises(ValueError, match=message):
        page.write(tmp_path / "page.html", [run])


# Machado, Oliveira and Fernandes (2009): what is seen without the cones for red, green or blue, in linear RGB.
VISION = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
LMS += [[0.0883024619, 0.2817188376, 0.6299787005]]
LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
LAB += [[0.0259040371, 0.7827717662, -0.8086757660]]


def closest(colours: list[str], vision: str) -> float:
    """The smallest distance between two colours, in Oklab: black and white are 1 apart."""
    values = np.array([[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in colours])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    lab = np.cbrt(seen @ np.array(LMS).T) @ np.array(LAB).T
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))


@pytest.mark.parametrize("vision", VISION)
def test_kinds_are_told_apart_with_any_colour_vision(vision):
    themes = re.findall(r"--kind-(?!other)\w+: light-dark\((#\w+), (#\w+)\)", own_code()["memory.css"])
    assert len(themes) == len(KINDS)
    for colours in zip(*themes):
        assert closest(list(colours), vision) > 0.15
    red_and_green = closest(["#b35837", "#6f8f37"], vision)
    assert (red_and_green < 0.15) == (vision in ("no red", "no green"))
