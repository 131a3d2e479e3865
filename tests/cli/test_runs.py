"""Result directories are whole or absent; JSON is finite and repeats."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from mmx_jax.errors import InputError
from mmx_jax.runs import check_output, free_name, plain, read_json, result_directory, write_json


def test_a_directory_appears_only_when_it_is_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with result_directory(out) as partial:
        write_json(partial / "a.json", {"x": 1})
        assert not out.exists()
        assert partial.parent == out.parent
    assert read_json(out / "a.json") == {"x": 1}
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_stays_after_an_error(tmp_path, error):
    def begin():
        with result_directory(tmp_path / "out") as partial:
            (partial / "a.json").write_text("{")
            raise error

    with pytest.raises(error):
        begin()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with result_directory(tmp_path / "out") as partial:
        (partial / "a").write_text("")
    assert (tmp_path / "out" / "a").exists()


def test_killed_in_the_middle_nothing_looks_whole(tmp_path):
    code = (
        "import os, signal, sys\nfrom mmx_jax.runs import result_directory\n"
        "with result_directory(sys.argv[1]) as d:\n"
        "    (d / 'results.json').write_text('{')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, str(out)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert all(p.name.startswith(".out.partial-") for p in tmp_path.iterdir())


def test_places_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_output(tmp_path / "file")
    with pytest.raises(InputError, match="can't be written"):
        check_output(tmp_path / "file" / "below")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    with pytest.raises(InputError, match="not empty"):
        check_output(tmp_path / "full")
    assert free_name(tmp_path / "full") == tmp_path / "full-2"
    assert free_name(tmp_path / "new") == tmp_path / "new"


def test_numbers_are_plain_rounded_and_finite():
    tree = {"b": np.float32(1 / 3), "a": np.array([1, 2]), "c": (True, None, "é"), 1: -0.0}
    assert plain(tree) == {"b": 0.333333, "a": [1, 2], "c": [True, None, "é"], "1": 0.0}
    for bad in (np.nan, np.inf, np.array([np.nan])):
        with pytest.raises(ValueError, match="can't be written"):
            plain({"x": bad})
    with pytest.raises(ValueError, match="as JSON"):
        plain({"x": object()})


def test_json_does_not_depend_on_the_order_of_keys(tmp_path):
    write_json(tmp_path / "one", {"b": 1, "a": {"d": 2, "c": 3}})
    write_json(tmp_path / "two", {"a": {"c": 3, "d": 2}, "b": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
