import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.grpo.answers import (
    as_rational,
    exact_verdict,
    final_answer,
    last_boxed,
    normalised,
    stated_answer,
)


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
    ("text", "answer"),
    [
        (r"The answer is 3. So \boxed{4}, and 5", "4"),
        (r"\boxed{}. The answer is 3", ""),
        ("The answer is 3. #### 4", "4"),
        ("The answer is $x+1$.", "x+1"),
        ("the answer is 3, no: the answer is 4. Then 5", "4"),
        ("The answer is 18 dollars.", "18"),
        ("The answer is **18**.", "18"),
        ("**Answer:** 7", "7"),
        ("Final Answer: 7.5\nand more 8", "7.5"),
        ("The final answer is:\n\\[ \\frac{1}{2} \\]", r"\frac{1}{2}"),
        ("The answer is $$\n3\n$$ or so", "3"),
        (r"The answer is \(\frac{1}{2}\) of 3.", r"\frac{1}{2}"),
        ("The answer is Evelyn. She ran 3 miles", "Evelyn"),
        ("The answer is $1,234", "$1,234"),
        ("So the answer is", None),
        ("Answer: " + "x" * 300, "x" * 200),
        ("3 and 4 make 7 apples.", "7"),
        ("5-3", "3"),
        ("down to -4", "-4"),
        ("it costs $1,234.50!", "1,234.50"),
        ("1.5.", "1.5"),
        ("it is 3/4 then", "3/4"),
        ("x23 and y4", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_stated_answer(text, answer):
    assert stated_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["answer is " * 20_000, "answer is $" * 20_000, "-1," * 60_000, "1" * 200_000, "answer" + "*" * 200_000],
)
def test_an_answer_in_long_text_is_found_in_linear_time(text):
    start = time.perf_counter()
    stated_answer(text)
    assert time.perf_counter() - start < 2


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
        ("40,  200", "40, 200"),
        ("(40, 200)", "(40,200)"),
        ("1, 2", "1,2"),
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
        ("40, 200", "40200", None),
        ("40, 200", "40,200", True),
        (r"10,\!080", "10080", True),
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
