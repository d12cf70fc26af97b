"""The demo's table and page, from made-up records."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from evenhand.grpo.report import COLUMNS, findings, summarise, write_report

AFTER = {"grpo": [0.70, 0.72, 0.69], "dapo": [0.75, 0.76, 0.75], "lambda": [0.75, 0.74, 0.77]}


def record(scheme, seed, accuracy):
    step = {"accuracy": accuracy, "length": 20.0, "long_share": 0.5, "weight_min": 0.99, "weight_max": 1.02}
    if scheme == "lambda":
        step["lambda"] = 0.1 * seed
    return {
        "scheme": scheme,
        "seed": seed,
        "before": {"accuracy": 0.4},
        "steps": [{**step, "accuracy": 0.4}, step],
        "after": {"accuracy": accuracy, "length": 25.0, "long_share": 0.9},
        "seconds": 1.0,
    }


@pytest.fixture
def records():
    return [record(scheme, seed, AFTER[scheme][seed]) for seed in range(3) for scheme in AFTER]


def test_the_gain_is_the_paired_t_interval(records):
    by_scheme = {one.scheme: one for one in summarise(records)}
    for scheme in ("grpo", "lambda"):
        expected = stats.ttest_rel(AFTER[scheme], AFTER["dapo"]).confidence_interval(0.95)
        mean, low, high = by_scheme[scheme].gain
        assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-9)
        assert mean == pytest.approx(np.mean(AFTER[scheme]) - np.mean(AFTER["dapo"]))
    assert by_scheme["dapo"].gain is None
    assert by_scheme["lambda"].lam.mean == pytest.approx(0.1)
    assert by_scheme["grpo"].accuracy.sd == pytest.approx(np.std(AFTER["grpo"], ddof=1))


def test_pairs_are_made_by_seed_and_not_by_order(records):
    assert summarise(records[::-1])[-1].gain == pytest.approx(summarise(records)[0].gain)


def test_seeds_that_dapo_lacks_are_no_pair(records):
    short = [one for one in records if (one["scheme"], one["seed"]) != ("dapo", 2)]
    expected = stats.ttest_rel(AFTER["grpo"][:2], AFTER["dapo"][:2]).confidence_interval(0.95)
    assert summarise(short)[0].gain[1:] == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_spread_and_no_interval(records):
    one = summarise(records[:3])[0]
    assert one.gain is None
    assert one.cells()[1:3] == ("70.0", "–")


def test_findings_say_what_the_intervals_allow(records):
    told = "\n".join(findings(records))
    assert "starting policy: 40.0 %" in told
    assert "GRPO: worse than DAPO" in told
    assert "λ-GRPO: the interval holds 0" in told
    assert "3 seeds do not decide" in told
    assert "within 2.0 % of 1: in effect it is DAPO" in told


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.cells, self.loads, self.figures = [], 0, [], 0

    def handle_starttag(self, tag, attrs):
        self.cells += tag == "td"
        self.figures += tag == "figure"
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_stands_alone(tmp_path, records):
    path = tmp_path / "report.html"
    write_report(path, "A < B", ["Five & six."], records)
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.cells >= 3 * (len(COLUMNS) - 1)
    assert page.figures == text.count("<svg") == 5
    assert all(one.startswith("#") for one in page.loads)  # parts of the figures themselves
    assert not re.search(r"<(script|link|img)|url\((?!#)", text)
    assert "A &lt; B" in text
    assert "Five &amp; six." in text
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    write_report(path, "A < B", ["Five & six."], records)
    assert path.read_text() == text
