"""What all widgets share: hostile text stays text, errors become lines, the wheel goes when the work is done."""

import pytest

from sepo_kit.widgets.common import busy, escaped, friendly, message, sentence

HOSTILE = "<img src=x onerror=\"alert('1')\"> & </div><script>alert(2)</script>"


def test_hostile_text_has_nothing_left_that_html_reads():
    for made in (escaped(HOSTILE), message(HOSTILE).value.removeprefix(sentence("x").split("x")[0])[:-6]):
        assert not set(made) & set("<>\"'")


def test_the_wheel_turns_while_the_work_lasts():
    line = message("ready")
    with busy(line, "training"):
        assert "sepo-busy" in line.value and "training" in line.value
    assert line.value == sentence("ready")


def test_what_the_work_said_stays():
    line = message()
    with busy(line):
        line.value = sentence("done")
    assert line.value == sentence("done")


def test_bad_files_become_a_line_and_bugs_do_not():
    line = message()
    with busy(line), friendly(line):
        raise ValueError("base.json is <broken>")
    assert line.value == sentence("base.json is <broken>")
    with pytest.raises(ZeroDivisionError), busy(line), friendly(line):
        _ = 1 / 0
    assert "sepo-busy" not in line.value
