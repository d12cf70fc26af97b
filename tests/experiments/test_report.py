import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from typer.testing import CliRunner

from evenhand.cli import app
from evenhand.experiments.report import write_report
from evenhand.experiments.runs import Run, RunError, find_runs

GAIN = {"tags": 2.0, "rules <&> pipes | more": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two methods on two data sets; on the second there is no difference that shows."""
    out = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for data, gain in GAIN.items():
        for seed in range(5):
            for method in ("ensemble", "the game"):
                run = Run.start(out / data.split()[0] / method / str(seed), method, data, seed)
                better = gain if method == "the game" else 0.0
                for epoch in range(6):
                    run.log({"epoch": epoch, "potential": -1 / (epoch + 1), "map": 0.1 * epoch, "x": epoch})
                figures = {"Rare-F1": 20 + better + seed + rng.normal(0, 0.1), "P@1": 80.0 + seed}
                tenths = {f"mAP, tenth {tenth}": 40.0 + tenth + better for tenth in range(1, 11)}
                run.finish(figures | tenths)
    Run.start(out / "unfinished", "the game", "tags", 9)
    return out


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "page.html"
    write_report(find_runs(runs), out, title="A <title>", baseline="ensemble")
    return out


def test_the_verdict_is_computed_from_the_intervals(page):
    said = page.with_suffix(".md").read_text()
    points = re.findall(r"^- (the game against .*)$", said, re.MULTILINE)
    assert len(points) == 2
    assert re.match(
        r"the game against ensemble, Rare-F1: \+[01]\.\d\d in the mean; above on 1 and below on 0"
        r" of 2 data sets by the 95 % interval, on 1 and 0 after Holm",
        points[0],
    )
    assert points[1].endswith(
        "+0.00 in the mean; the interval holds 0 on all of 2 data sets: nothing is shown."
    )
    assert "Not finished, and left out: 1." in said
    assert re.search(r"the game \| \+[12]\.\d\d \[\+\d.\d\d, \+\d.\d\d\] \*\* \| \+0\.00", said)


def test_everything_is_on_the_page_and_nothing_beside_it(page):
    text = page.read_text()
    assert "A &lt;title&gt;" in text
    assert "rules &lt;&amp;&gt; pipes" in text
    assert "pipes \\| more" not in text
    assert text.count("<svg") == 2 * 3  # tenths, potential, map; x is not known
    assert not re.search(r"(?:src|href)=\"(?!#)", text)  # what is named by url is inside the page
    assert "#000000" not in text  # black would not be seen on a dark screen
    tenths = re.search(r"mAP by tenths.*?</details>", text, re.DOTALL)[0]
    assert "tenth of the labels 1<" in tenths
    assert "43.00" in tenths


def test_the_page_is_the_same_each_time(runs, page, tmp_path):
    again = tmp_path / "again.html"
    write_report(find_runs(runs), again, title="A <title>", baseline="ensemble")
    assert again.read_text() == page.read_text()


def test_one_chooses_what_to_show(runs, tmp_path):
    write_report(find_runs(runs), tmp_path / "p.html", title="T", figures=["P@1"], curves=["x"])
    said = (tmp_path / "p.md").read_text()
    assert "Rare-F1" not in said
    assert "nothing is judged here" in said
    assert (tmp_path / "p.html").read_text().count("<svg") == 2 * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "none"}, "no run is of the method 'none'; there are ensemble, the game"),
        ({"figures": ["F2"]}, "no run has a figure 'F2'; there are Rare-F1, P@1"),
        ({"curves": ["y"]}, "no run has a record 'y'"),
    ],
)
def test_what_there_is_not_is_refused(runs, tmp_path, options, message):
    with pytest.raises(RunError, match=message):
        write_report(find_runs(runs), tmp_path / "p.html", title="T", **options)
    assert list(tmp_path.iterdir()) == []


def test_records_that_are_no_numbers_are_refused(tmp_path):
    run = Run.start(tmp_path / "run", "game", "tags", 0)
    run.log({"step": 0, "map": "high"})
    run.finish({"mAP": 1.0})
    with pytest.raises(RunError, match="run: the record 'map' is 'high', not a number"):
        write_report([run], tmp_path / "p.html", title="T")


def test_one_data_set_is_spoken_of_as_one(runs, tmp_path):
    for name, said in (
        ("tags", "above by the 95 % interval, and after Holm's correction over 2."),
        ("rules", "the interval holds 0: nothing is shown."),
    ):
        write_report(find_runs(runs / name), tmp_path / "p.html", title="T", baseline="ensemble")
        markdown = (tmp_path / "p.md").read_text()
        assert said in markdown
        assert "10 runs: 2 methods, 1 data set, 5 seeds (0, 1, 2, 3, 4)." in markdown


def test_two_runs_for_one_place_in_the_tables_are_refused(tmp_path):
    for name in "ab":
        Run.start(tmp_path / name, "the game", "tags", 0).finish({"P@1": 50.0})
    with pytest.raises(RunError, match=r"a and .*b are both 'the game' on 'tags' with seed 0; give one"):
        write_report(find_runs(tmp_path), tmp_path / "page.html", title="Twice")


def test_runs_without_an_end_or_records(tmp_path):
    run = Run.start(tmp_path / "run", "game", "tags", 0)
    with pytest.raises(RunError, match="none of the 1 runs is finished"):
        write_report([run], tmp_path / "p.html", title="T")
    run.finish({"mAP": math.nan})
    write_report([run], tmp_path / "p.html", title="T", baseline="game")
    assert "No method shares two seeds" in (tmp_path / "p.md").read_text()


def test_the_shell(runs, tmp_path):
    arguments = ["report", str(runs), "--out", str(tmp_path / "p.html"), "--baseline", "ensemble"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "p.md").exists()
    refused = CliRunner().invoke(app, ["report", str(runs), "--out", str(tmp_path / "p.txt")])
    assert refused.exit_code == 2
    assert "ends in .html" in refused.stderr


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_complaint(page, tmp_path, width, scheme):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    measure = """<script>addEventListener("load", () => document.body.append(JSON.stringify({
        over: document.documentElement.scrollWidth - innerWidth,
        drawn: [...document.querySelectorAll("svg")].filter(s => s.clientWidth > 200).length,
        text: getComputedStyle(document.querySelector("svg text")).fill,
        page: matchMedia("(prefers-color-scheme: dark)").matches })))</script>"""
    measured = tmp_path / "page.html"
    measured.write_text(page.read_text().replace("</body>", measure + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    options += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    if scheme == "dark":
        options.append("--blink-settings=preferredColorScheme=0")
    done = subprocess.run(
        [chromium, *options, measured.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search(r"\{.over.*?\}", done.stdout.rpartition("</script>")[2])[0])
    assert found["over"] <= 0
    assert found["drawn"] == 6
    assert found["page"] is (scheme == "dark")
    assert found["text"] == ("rgb(255, 255, 255)" if scheme == "dark" else "rgb(0, 0, 0)")
