# ruff: noqa: E402
"""A small run in a process of its own: python tiny.py DIRECTORY [--resume] [--devices N] [--x64].

With --host I --hosts N --port P it is one of N processes that train together.

Prints the steps as they are done and the fingerprint of the final and of the best state.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
parser = argparse.ArgumentParser()
parser.add_argument("directory")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--steps", type=int, default=256)
parser.add_argument("--block", type=int, default=64)
parser.add_argument("--weights")
parser.add_argument("--x64", action="store_true")
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--host", type=int, default=0)
parser.add_argument("--hosts", type=int, default=1)
parser.add_argument("--port", type=int, default=0)
args = parser.parse_args()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.config.update("jax_enable_x64", args.x64)
jax.config.update("jax_num_cpu_devices", args.devices)
if args.hosts > 1:
    jax.distributed.initialize(f"localhost:{args.port}", args.hosts, args.host)
devices = args.devices * args.hosts

import jax.numpy as jnp
import numpy as np
from conftest import A, B, Bilinear, C, Normal
from flax import nnx

import mmx_jax as mmx
from mmx_jax.learn import Demands, NetworkSettings, Recipe, Settings, fit, recipe
from mmx_jax.learn.checkpoint import digest
from mmx_jax.learn.step import cast

if args.x64:  # fit builds networks in float32
    built = recipe.build_network

    def wide(*given):
        graphdef, params = nnx.split(built(*given))
        return nnx.merge(graphdef, cast(params, jnp.float64))

    recipe.build_network = wide

model = Bilinear(*(np.asarray(w, np.float64 if args.x64 else np.float32) for w in (A, B, C)))
held = Normal()(jax.random.key(7), 32)[0]
trained = fit(
    model,
    {"x": mmx.Modality.columns(3), "y": mmx.Modality.columns(2)},
    Normal(),
    held,
    np.ones(32, np.int32),
    Recipe(
        network=NetworkSettings(dim=4, rounds=1),
        demands=Demands(pairs=1),
        settings=Settings(steps=args.steps, batch=16, chunk=2, block=args.block, target="fixed"),
    ),
    directory=None if args.directory == "-" else args.directory,
    resume=args.resume,
    mesh=mmx.example_mesh(devices) if devices > 1 else None,
    progress=lambda step, *_: (print("step", step, flush=True), time.sleep(args.pause)),
)
if args.weights:
    np.save(args.weights, np.concatenate([np.ravel(x) for x in jax.tree.leaves(trained.state)]))
print("digest", digest((trained.state, trained.best.state)), flush=True)
