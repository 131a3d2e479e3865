"""A small run of the soundness experiment: sampled points never exceed a certified bound."""

from experiments.certify.soundness import check_structure


def test_a_structure_whose_constants_were_once_rounded_apart():
    found = check_structure(7355, nets=8, points=200)
    assert found["operations"] == ["scan", "convolution"]
    assert found["violations"] == 0
    assert found["median_ratio"] < 1.05
