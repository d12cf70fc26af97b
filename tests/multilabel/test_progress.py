import pytest

from evenhand.multilabel.progress import progress_bar


def test_nothing_is_shown_unless_asked_for(capsys):
    with progress_bar(False, "label blocks") as report:
        assert report is None
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_the_bar_goes_to_the_error_stream_with_its_unit(capsys):
    with progress_bar(True, "label blocks") as report:
        assert report is not None
        report("player words", 1, 3)
        report("player pairs", 3, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "player pairs" in shown.err
    assert "3/3" in shown.err
    assert "label blocks/s" in shown.err


def break_off():
    with progress_bar(True, "files") as report:
        assert report is not None
        report("reading", 1, 2)
        raise RuntimeError("broken")


def test_the_bar_ends_where_the_work_fails(capsys):
    with pytest.raises(RuntimeError, match="broken"):
        break_off()
    assert "1/2" in capsys.readouterr().err
