"""auto_LiRPA's side of the comparison; runs in an environment of its own, without this package.

Command: ``python experiments/certify/lirpa_side.py nets.npz out.json`` in an environment with torch
and auto_LiRPA; ``against_lirpa.py`` writes the one and reads the other.
"""

import importlib
import json
import sys
import time
from pathlib import Path


def bounds_of(torch, weights, point, radius, kind, optimize):
    """Certified inf to inf constant of one net on a box, as the largest row sum of |J|."""
    import numpy as np

    lirpa, jacobian, perturbations = (
        importlib.import_module(f"auto_LiRPA{part}") for part in ("", ".jacobian", ".perturbations")
    )

    layers = []
    for k, (w, b) in enumerate(weights):
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(w.T))
            linear.bias.copy_(torch.tensor(b))
        layers.append(linear)
        if k < len(weights) - 1:
            layers.append(torch.nn.Tanh() if kind == "tanh" else torch.nn.ReLU())

    class Lipschitz(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.grad_norm = torch.nn.Sequential(*layers), jacobian.GradNorm(norm=1)

        def forward(self, x, mask):
            return self.grad_norm(jacobian.JacobianOP.apply(self.model(x).matmul(mask), x))

    outputs = weights[-1][0].shape[1]
    x = torch.tensor(point[None])
    mask = torch.zeros(outputs, 1)
    mask[0, 0] = 1
    built = time.perf_counter()
    model = lirpa.BoundedModule(Lipschitz(), (lirpa.BoundedTensor(x), mask), device="cpu")
    built = time.perf_counter() - built
    box = lirpa.BoundedTensor(x, perturbations.PerturbationLpNorm(norm=np.inf, eps=radius))
    rows, started = [], time.perf_counter()
    for i in range(outputs):
        mask.zero_()
        mask[i, 0] = 1
        _, upper = model.compute_jacobian_bounds((box, mask), optimize=optimize, bound_lower=False)
        rows.append(float(upper.max()))
    return max(rows), time.perf_counter() - started, built


def main(source: str, out: str) -> None:
    """Bounds all nets of a file at all radii, plain and with optimised slopes."""
    try:
        import numpy as np

        torch, lirpa = importlib.import_module("torch"), importlib.import_module("auto_LiRPA")
    except ImportError as error:
        print(f"error: {error}; install torch and auto_LiRPA here", file=sys.stderr)
        raise SystemExit(2) from None
    torch.set_num_threads(1)
    data = np.load(source)
    plan = json.loads(str(data["plan"]))
    rows = []
    for net in plan["nets"]:
        name = net["name"]
        weights = [(data[f"{name}/w{k}"], data[f"{name}/b{k}"]) for k in range(net["layers"])]
        for radius in plan["radii"]:
            for optimize in (False, True):
                row = {"name": name, "radius": radius, "optimised": optimize}
                try:
                    found = bounds_of(
                        torch, weights, data[f"{name}/x"], radius, net["kind"], optimize
                    )
                    row |= dict(zip(("bound", "seconds", "build_s"), found, strict=True))
                except Exception as error:  # what it can't do is a result
                    row["error"] = f"{type(error).__name__}: {error}"[:300]
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    versions = {"auto_LiRPA": lirpa.__version__, "torch": torch.__version__}
    Path(out).write_text(json.dumps({"versions": versions, "rows": rows}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
