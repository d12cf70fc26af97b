r"""Final answers as text: where a completion states its answer, and what the texts alone decide.

Texts of answers are LaTeX or plain, with or without `$` around them.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BOX_TOKEN = re.compile(r"\\+(?:boxed|fbox|framebox)\s*\{|\\.|[{}]", re.DOTALL)
_TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_ANNOUNCED = re.compile(r"answer[*_ ]*(?:is|:|=)[*_:\s]*(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?;][*_]*(?:\s|$)")
_IN_DELIMITERS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}])-)?(?<![\w.])(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?"
)
_COUNTED = re.compile(rf"\\?\$?({_NUMBER.pattern}) [A-Za-z ]+")
_LONGEST = 200  # characters of an answer in running text, so that the search of it ends soon

_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_REWRITES = (
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|~"), " "),  # not the line break `\\` and a space
    (re.compile(r"\\(leq|geq)slant(?![A-Za-z])"), r"\\\1"),  # math-verify knows the plain ones only
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])"), ""),
    (re.compile(r"(?<!\\)\\%"), "%"),
    (re.compile(r"^\\(?:text|textbf|textrm|mathrm|mbox)\{([^{}\\]*)\}$"), r"\1"),
    (re.compile(r"\s+"), " "),
)
# "1 1/2" is not 11/2, so a space between two digits or letters stays
_NEEDLESS_SPACE = re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])")
_SPACED_LIST = re.compile(r"[-+]?[0-9]{1,3}(?:, [0-9]{3})+")  # "40, 200" is not 40,200 either
_UNICODE = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " "})

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,300})"
_DECIMAL = re.compile(
    rf"(?P<sign>[-+]?)(?P<mantissa>{_DIGITS}(?:\.[0-9]{{0,300}})?|\.[0-9]{{1,300}})"
    r"(?:[eE](?P<e>[-+]?[0-9]{1,3})"
    r"|(?:\\times|\\cdot|×|\*) ?10(?:\^|\*\*)(?:\{(?P<power>[-+]?[0-9]{1,3})\}|(?P<digit>[0-9])))?"
)
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<whole>[0-9]{1,300})(?: |(?=\\)))?"
    r"(?:\\frac\{(?P<a>-?[0-9]{1,300})\}\{(?P<b>-?[0-9]{1,300})\}"
    r"|\\frac(?P<c>[0-9])(?P<d>[0-9])"
    r"|(?P<e>[0-9]{1,300})/(?P<f>[0-9]{1,300}))"
)
_WORDS = re.compile(r"(?:[A-Za-z]{3,}|[Nn]o)(?: [A-Za-z]+)*")
_LETTERS = re.compile(r"[A-Za-z ]+")


def last_boxed(text: str) -> str | None:
    r"""What stands in the last complete `\boxed{}`, `\fbox{}` or `\framebox{}`.

    Parameters
    ----------
    text : str
        A completion or a solution. Braces may nest; a box in a box is part of the outer one; a box that is
        never closed (in a truncated completion) is none.

    Returns
    -------
    str or None
        The content without white space at its ends, "" for an empty box; None where there is no box.

    Examples
    --------
    >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    depth: list[int] = []  # for every open brace, where the content of its box starts; -1 for no box
    closed: list[tuple[int, int]] = []
    for token in _BOX_TOKEN.finditer(text):
        mark = token.group()
        if mark.endswith("{") and mark != r"\{":
            depth.append(token.end() if mark != "{" else -1)
        elif mark == "}" and depth:
            start = depth.pop()
            if start >= 0:
                while closed and closed[-1][0] > start:
                    closed.pop()
                closed.append((start, token.start()))
    if not closed:
        return None
    start, end = closed[-1]
    return text[start:end].strip()


def after_hashes(text: str) -> str | None:
    """What stands after the last `####`, to the end of its line; None where there is none.

    Examples
    --------
    >>> after_hashes("16 - 3 - 4 = 9\\n#### 18")
    '18'
    """
    found = _HASHES.findall(text)
    return found[-1].strip() if found else None


def final_answer(text: str) -> str | None:
    r"""What a completion states as its answer: the last box, or else in `<answer>…</answer>` or after `####`.

    Parameters
    ----------
    text : str

    Returns
    -------
    str or None
        "" where the place is there and holds nothing; None where there is no such place.

    Examples
    --------
    >>> final_answer("<answer> 7 </answer>"), final_answer(r"#### 1, that is, \boxed{2}"), final_answer("7?")
    ('7', '2', None)
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    tagged = _TAGGED.findall(text)
    if tagged:
        return str(tagged[-1]).strip()
    return after_hashes(text)


def stated_answer(text: str) -> str | None:
    r"""The answer of a completion as public harnesses find it, for evaluation.

    What `final_answer` finds; else what stands behind the last "answer is" or "answer:" to the end of the
    sentence (of mathematics in it, the first); else the last number.

    Parameters
    ----------
    text : str

    Returns
    -------
    str or None
        None where there is no such place and no number.

    Notes
    -----
    The last two are guesses. A policy that is rewarded by them learns to be guessed, so rewards do not use
    them.

    Examples
    --------
    >>> stated_answer("The answer is $x+1$."), stated_answer("so 3 and 4 make 7 apples"), stated_answer("no")
    ('x+1', '7', None)
    """
    placed = final_answer(text)
    if placed is not None:
        return placed
    announced = _announced(text)
    if announced:
        return announced
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _announced(text: str) -> str | None:
    start = max((found.end() for found in _ANNOUNCED.finditer(text)), default=None)
    if start is None:
        return None
    rest = text[start : start + _LONGEST]
    set_off = rest.startswith(("$$", r"\["))  # such a formula may have lines of its own
    end = None if set_off else _SENTENCE_END.search(rest)
    stated = rest[: end.start()] if end else rest
    formula = _IN_DELIMITERS.search(stated)
    if formula:
        return next(content for content in formula.groups() if content is not None).strip()
    stated = stated.strip("*_ ")
    counted = _COUNTED.fullmatch(stated)
    return counted[1] if counted else stated


def normalised(answer: str) -> str:
    r"""One spelling for answers that differ only in their dress.

    Takes off `$…$` and the like, a full stop at the end, dollar signs, `\left`, `\right`, spacing commands
    and `\text{}` around the whole; writes `\dfrac` as `\frac`. White space stays only between letters or
    digits.

    Examples
    --------
    >>> normalised(r"$\left( 3, \dfrac{\pi}{2} \right)$."), normalised(r"\text{Evelyn}"), normalised("1 1/2")
    ('(3,\\frac{\\pi}{2})', 'Evelyn', '1 1/2')
    """
    text = answer.translate(_UNICODE).replace(r"\$", "").strip()
    while True:
        bare = _undressed(text)
        if bare == text:
            break
        text = bare
    if text.count("$") == 1:
        text = text.replace("$", "")  # the currency, not LaTeX
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    return text if _SPACED_LIST.fullmatch(text) else _NEEDLESS_SPACE.sub("", text)


def _undressed(text: str) -> str:
    if text.endswith(".") and not text.endswith(".."):
        return text[:-1].rstrip()
    for left, right in _DELIMITERS:
        inner = text[len(left) : -len(right)]
        dressed = len(text) >= len(left) + len(right) and text.startswith(left) and text.endswith(right)
        if dressed and left not in inner and right not in inner and not inner.endswith("\\"):
            return inner.strip()
    return text


def as_rational(answer: str) -> Fraction | None:
    r"""The number that an answer spells out in digits, exactly; None for everything else.

    Integers (with or without commas at the thousands), decimals, `4.5e33`, `4.5 \times 10^{33}`, `a/b`,
    `\frac{a}{b}` and mixed numbers such as `1 1/2` and `1\frac{1}{2}`.

    Examples
    --------
    >>> as_rational("1,234.50"), as_rational(r"-1\frac{1}{2}"), as_rational("50\\%"), as_rational("1/0")
    (Fraction(2469, 2), Fraction(-3, 2), None, None)
    """
    text = normalised(answer)
    if found := _DECIMAL.fullmatch(text):
        exponent = int(found["e"] or found["power"] or found["digit"] or 0)
        value = Fraction(found["mantissa"].replace(",", "")) * Fraction(10) ** exponent
    elif found := _FRACTION.fullmatch(text):
        top, bottom = int(found["a"] or found["c"] or found["e"]), int(found["b"] or found["d"] or found["f"])
        whole = int(found["whole"] or 0)
        if bottom == 0 or (whole and (top < 0 or bottom < 0)):
            return None
        value = whole + Fraction(top, bottom)
    else:
        return None
    return -value if found["sign"] == "-" else value


def as_latex(answer: str) -> str:
    r"""The answer in a form that an algebra system reads as it is meant.

    `4.5e33` becomes `4.5 \times 10^{33}` (not 4.5·e·33) and `1 1/2` becomes `\frac{3}{2}` (not 1).

    Examples
    --------
    >>> as_latex("4.5e33"), as_latex("1 1/2"), as_latex("x=5")
    ('4.5 \\times 10^{33}', '\\frac{3}{2}', 'x=5')
    """
    text = normalised(answer)
    if (found := _DECIMAL.fullmatch(text)) and found["e"]:
        return rf"{found['sign']}{found['mantissa']} \times 10^{{{int(found['e'])}}}"
    value = as_rational(text)
    if value is not None and (found := _FRACTION.fullmatch(text)) and found["whole"]:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return text


def is_words(answer: str) -> bool:
    """Whether an answer is plain words: "no", or the first of three letters or more ("John Smith")."""
    return _WORDS.fullmatch(normalised(answer)) is not None


def exact_verdict(gold: str, answer: str) -> bool | None:
    r"""Whether an answer is right, where that can be said from the texts alone; None where it cannot.

    Parameters
    ----------
    gold, answer : str

    Returns
    -------
    bool or None
        True for the same text (normalised) or the same number; False for an empty answer, for two different
        numbers of which neither is a decimal, and for letters other than the words that are asked for (an
        algebra system would read "no" as the product n·o, the same as "on"). Two different numbers of which
        one is a decimal may be equal up to rounding: None.

    Examples
    --------
    >>> exact_verdict("1/2", r"\frac{2}{4}"), exact_verdict("72", "73"), exact_verdict("1/3", "0.333333")
    (True, False, None)
    """
    wanted, given = normalised(gold), normalised(answer)
    if not given or not wanted:
        return False
    if wanted.replace(", ", ",") == given.replace(", ", ","):
        return True
    wanted_value, given_value = as_rational(wanted), as_rational(given)
    if wanted_value is not None and given_value is not None:
        if wanted_value == given_value:
            return True
        return None if _may_be_rounded(wanted) or _may_be_rounded(given) else False
    if is_words(wanted) and _LETTERS.fullmatch(given):
        return wanted.casefold() == given.casefold()
    return None


def _may_be_rounded(number: str) -> bool:
    digits = number.lstrip("+-").replace(",", "")
    return _DECIMAL.fullmatch(number) is not None and not digits.isdigit()
