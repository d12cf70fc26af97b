"""What is deprecated is an error where our own code uses it, in every module, and a warning elsewhere."""

import warnings

import pytest

from evenhand import terminal

KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["evenhand", "evenhand.cli", "evenhand.multilabel.extreme.estimator"])
def test_it_is_an_error_in_every_module_of_ours(module, kind):
    with pytest.raises(kind):
        warnings.warn_explicit("it goes", kind, "file.py", 1, module)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["numpy", "evenhand_plugin", "their.evenhand"])
def test_it_is_none_in_those_of_others(module, kind):
    with warnings.catch_warnings(record=True):  # with the same filters
        warnings.warn_explicit("it goes", kind, "file.py", 1, module)


def test_a_call_of_ours_is_told_by_our_module(monkeypatch):
    def going(text):
        warnings.warn("it goes", DeprecationWarning, stacklevel=2)

    monkeypatch.setattr(terminal, "Text", going)
    with pytest.raises(DeprecationWarning, match="it goes"):
        terminal.say("a line")
