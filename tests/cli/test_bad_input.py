"""Bad input: one clear line, status 2, no traceback, nothing written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mmx_jax
from mmx_jax.cli.main import main
from mmx_jax.cli.own import load_model, read_npz
from mmx_jax.errors import InputError


def save(place, name="bad.npz", **arrays):
    rng = np.random.default_rng(0)
    whole = {"table": rng.normal(size=(18, 3)).astype(np.float32), "note": np.ones((18, 2), int)}
    np.savez(place / name, **{k: v for k, v in (whole | arrays).items() if v is not None})
    return place / name


def table(**changes):
    array = np.zeros((18, 3), np.float32)
    for place, value in changes.items():
        array.flat[int(place[1:])] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"note": None}, "lacks note"),
        ({"sound": np.zeros((18, 2))}, "unknown sound"),
        ({"note/words": np.zeros((18, 2))}, "names below it"),
        ({"table": np.zeros((18, 4), np.float32)}, "shape (4,)"),
        ({"table": np.zeros((18, 3), int)}, "use real numbers"),
        ({"note": np.zeros((18, 2), np.float32)}, "use integers"),
        ({"table": np.full((18, 3), "x")}, "dtype <U1"),
        ({"table": table(_4=np.nan)}, "NaN or infinite"),
        ({"table": table(_4=np.inf)}, "NaN or infinite"),
        ({"note": np.ones((17, 2), int)}, "different numbers"),
        ({"table": np.zeros((0, 3)), "note": np.zeros((0, 2), int)}, "zero examples"),
        ({"table": np.zeros((3, 3)), "note": np.ones((3, 2), int)}, "at least 4"),
        ({"target": np.full(18, 2)}, "use 0 to 1"),
        ({"target": np.full(18, -1)}, "use 0 to 1"),
        ({"target": np.full(18, 2**32 + 1)}, "out of range"),
        ({"target": np.zeros(18)}, "use integers"),
        ({"target": np.zeros((18, 1), int)}, "shape (18, 1)"),
        ({"note": np.full((18, 2), 2**40)}, "out of range"),
        ({"table": np.array([{"a": 1}] * 18, dtype=object)}, "pickled"),
    ],
)
def test_data_that_can_not_be_used(refused, place, arrays, said):
    assert said in refused(data=save(place, **arrays))


def test_pickled_code_is_not_run(place):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(place / "pwned"),))

    np.savez(place / "evil.npz", table=np.array([Evil()], dtype=object))
    with pytest.raises(InputError, match="pickled"):
        read_npz(place / "evil.npz")
    assert not (place / "pwned").exists()


def test_files_that_are_no_npz(refused, place):
    (place / "text.npz").write_text("hello")
    np.save(place / "one.npy", np.zeros(3))
    whole = (place / "own.npz").read_bytes()
    (place / "half.npz").write_bytes(whole[: len(whole) // 2])
    (place / "damaged.npz").write_bytes(whole[:200] + b"\0" * 60 + whole[260:])
    assert "not an npz" in refused(data="text.npz")
    assert "not an npz" in refused(data="one.npy")
    assert "not an npz" in refused(data="half.npz")
    assert "can't be read" in refused(data="damaged.npz")
    assert "not a file" in refused(data="absent.npz")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("absent.py:build", "is not a file"),
        ("own.py:biuld", "did you mean 'build'"),
        ("own.py:number", "is int"),
        ("own.py:nothing", "return (model, modalities)"),
        ("own.py:fails", "raised KeyError: 'weights"),
        ("own.py:scalar", "returns () for one example"),
        ("own.py:broken", "NaN or infinite outputs"),
        ("own.py:raising", "raises TypeError on the first example"),
        ("own.py:plain", "write it in jax.numpy"),
        ("own.py:reserved", "'joint'"),
        ("own.py:real", "inputs lacks sound"),
    ],
)
def test_models_that_can_not_be_used(refused, model, said):
    assert said in refused(model=model)


def test_a_file_that_does_not_parse(refused, place):
    (place / "typo.py").write_text("def build(:\n")
    assert "SyntaxError" in refused(model="typo.py")


def test_groups_that_do_not_match_the_data(refused, place):
    (place / "groups.py").write_text(
        "import numpy as np\nfrom own import build as b\nfrom mmx_jax import Modality\n"
        "def build():\n"
        "    model, modalities = b()\n"
        "    return model, modalities | {'table': Modality(groups=np.arange(5))}\n"
    )
    assert "groups need (5,)" in refused(model="groups.py")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--explainers", "oclusion"], "did you mean 'occlusion'"),
        (["--explainers", "saliency"], "use saliency+occlusion"),
        (["--explainers", "mask"], "use mask+occlusion"),
        (["--explainers", "saliency+smoothgrad"], "must not need gradients"),
        (["--explainers", "rescaled-nothing"], "'nothing' is not known"),
        (["--explainers", "occlusion,occlusion"], "twice"),
        (["--explainers", "truth"], "doesn't know"),
        (["--explainers", ","], "is empty"),
        (["--examples", "0"], "is 0"),
        (["--examples", "13"], "12 are left of 18"),
        (["--chunk", "0"], "chunk is 0"),
        (["--stability", "-1"], "stability is -1"),
        (["--devices", "0"], "devices is 0"),
        (["--devices", "4000"], "use 1 to"),
        (["--reference", "zeros"], "did you mean 'zero'"),
        (["--link", "logodds"], "did you mean 'log-odds'"),
        (["explain", "--example", "18"], "use 0 to 17"),
        (["explain", "--example", "-1"], "count from 0"),
        (["explain", "--target", "2"], "use 0 to 1"),
    ],
)
def test_options_that_can_not_be_used(refused, arguments, said):
    assert said in refused(*arguments)


def test_tasks_and_half_a_model(refused):
    assert "did you mean 'digits'" in refused("--task", "digit", model=None)
    assert "without a model" in refused("--data", "own.npz", model=None)
    assert "without data" in refused("--model", "own.py", model=None)
    assert "beside a model" in refused("--task", "mixed", "--model", "own.py", model=None)
    # said before a model is trained
    assert "saliency+occlusion" in refused("--explainers", "saliency", model=None)


def test_gradient_methods_of_a_model_without_gradients(refused, place):
    (place / "loop.py").write_text(
        "import jax\nfrom own import build as b\n"
        "def build():\n"
        "    model, modalities = b()\n"
        "    def until(inputs):\n"
        "        return jax.lax.while_loop(lambda v: v[0] < 0, lambda v: v + 1, model(inputs))\n"
        "    return until, modalities\n"
    )
    said = refused("--explainers", "occlusion,saliency+occlusion", model="loop.py")
    assert "the model can't be differentiated" in said


def test_soft_gates_on_ids_and_reserved_names():
    import jax.numpy as jnp

    from mmx_jax import Modality, check_modalities

    with pytest.raises(InputError, match="is soft"):
        Modality.token_ids(2, 5).blend(jnp.ones(2, jnp.int32), jnp.ones(2))
    for name in ("joint", "a<-b", "a/b", ""):
        with pytest.raises(InputError, match="has the name"):
            check_modalities({name: Modality.columns(2)})


def test_output_directories(refused, place):
    (place / "full").mkdir()
    (place / "full" / "mine.txt").write_text("keep")
    (place / "file").write_text("keep")
    assert "is not empty" in refused("--out", "full")
    assert "is a file" in refused("--out", "file")
    assert "can't be written" in refused("--out", "file/below")
    assert (place / "full" / "mine.txt").read_text() == "keep"


def test_unknown_options_end_with_status_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["audit", "--explainer", "occlusion"])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_module_of_the_user_may_import_its_neighbours(place):
    (place / "neighbour.py").write_text("from own import build\n")
    model, modalities = load_model("neighbour.py")
    assert sorted(modalities) == ["note", "table"]
    assert model.link.name == "identity"


def test_ctrl_c_leaves_nothing(place):
    command = [sys.executable, "-m", "mmx_jax.cli.main", "audit", "--quick", "--out", "out"]
    own = ["--model", "own.py", "--data", "own.npz"]
    here = {"PYTHONPATH": str(Path(mmx_jax.__file__).parents[1])}
    process = subprocess.Popen(
        [*command, *own], stderr=subprocess.PIPE, text=True, cwd=place, env=os.environ | here
    )
    assert process.stderr is not None
    for line in process.stderr:  # the first stage is done, the expensive ones are under way
        if "loading" in line:
            break
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, said = process.communicate(timeout=120)
    assert time.monotonic() - started < 10  # a program that is being compiled is not waited for
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (place / "out").exists()
    assert not [p.name for p in place.iterdir() if "partial" in p.name]
