from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.grpo.answers import as_rational, exact_verdict, final_answer, last_boxed, normalised


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{1} then \boxed{ 2 }", "2"),
        (r"\boxed{\frac{a}{\sqrt{b}}}", r"\frac{a}{\sqrt{b}}"),
        (r"\boxed{\text{so \boxed{3}}}", r"\text{so \boxed{3}}"),
        (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
        (r"\boxed{ oops, again \boxed{7}", "7"),
        (r"{\boxed{7}", "7"),
        (r"} \boxed{7}", "7"),
        (r"\\boxed{7}", "7"),
        (r"\fbox{204} and \framebox{205}", "205"),
        (r"\boxed{}", ""),
        (r"\boxed{1} \boxed{}", ""),
        (r"\boxed{12", None),
        ("boxed{12}", None),
        ("", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_boxes_that_are_never_closed_cost_linear_time():
    assert last_boxed(r"\boxed{" * 200_000) is None
    assert last_boxed(r"\boxed{" * 50_000 + "7" + "}" * 50_000).endswith("7" + "}" * 49_999)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<answer>1</answer> #### 2 \boxed{3}", "3"),
        ("<answer>1</answer> <answer>\n2\n</answer> #### 3", "2"),
        ("<answer> the tag <answer>1</answer>", "1"),
        ("#### 1\nand\n#### 2 \nrest", "2"),
        ("<answer></answer>", ""),
        ("####", ""),
        ("12", None),
    ],
)
def test_final_answer(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("$5$.", "5"),
        (r"\[ x \]", "x"),
        (r"\(x\)", "x"),
        ("$3$ and $5$", "$3$and$5$"),
        (r"10,\!000", "10,000"),
        (r"\$18", "18"),
        ("$18", "18"),
        (r"50\%", "50%"),
        ("\u22125", "-5"),
        ("1  1/2", "1 1/2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"x \leqslant 3", r"x\leq 3"),
        (r"a\leftarrow b", r"a\leftarrow b"),
    ],
)
def test_normalised(text, same):
    assert normalised(text) == same


@given(st.text(alphabet=r"\{}()[]. 12ab,%!-", max_size=25).filter(lambda text: ".." not in text))
def test_normalising_twice_is_never_a_different_answer(text):
    assert exact_verdict(text, normalised(text)) is bool(normalised(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("007", 7),
        ("-1,234,567", -1234567),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+2/4", Fraction(1, 2)),
        (r"-\frac{3}{4}", Fraction(-3, 4)),
        (r"\frac{-3}{4}", Fraction(-3, 4)),
        (r"\dfrac34", Fraction(3, 4)),
        ("2 3/4", Fraction(11, 4)),
        (r"-2\frac{3}{4}", Fraction(-11, 4)),
        ("4.5e3", 4500),
        (r"4.5 \times 10^{-3}", Fraction(45, 10000)),
        (r"2\cdot10^3", 2000),
        ("12,34", None),
        ("1/0", None),
        ("50%", None),
        ("x", None),
        ("1 2", None),
        ("٣", None),
        ("9" * 301, None),
        ("1e9999", None),
    ],
)
def test_as_rational(text, value):
    assert as_rational(text) == value


@given(st.fractions())
def test_every_fraction_is_read_exactly(value):
    top, bottom = value.numerator, value.denominator
    assert as_rational(f"{top}/{bottom}") == value
    assert as_rational(rf"$\frac{{{top}}}{{{bottom}}}$") == value


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("11/2", "1 1/2", False),
        ("10000", "10,000", True),
        ("1/3", "0.333333", None),
        ("72", "72.0", True),
        ("72", "", False),
        ("72", "$$", False),
        ("", "", False),
        ("no", "on", False),
        ("listen", "silent", False),
        ("Even", "even", True),
        ("xy", "yx", None),
        (r"\text{Evelyn}", "Evelyn", True),
        ("x+1", "1+x", None),
    ],
)
def test_exact_verdict(gold, answer, verdict):
    assert exact_verdict(gold, answer) is verdict
