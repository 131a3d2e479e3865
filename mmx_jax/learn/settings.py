"""How an explainer is trained, and which of it may change when training is resumed."""

import dataclasses
from typing import Literal

from mmx_jax.errors import InputError
from mmx_jax.mapping import default_chunk

__all__ = ["MAY_CHANGE", "Settings"]

MAY_CHANGE = ("patience",)
"""Settings that may differ on resume; all others decide the weights."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How an explainer is trained.

    Attributes:
      steps: in all, rounded up to whole blocks.
      batch: examples per step.
      chunk: examples whose losses are computed at once; gradients are summed over chunks in one
        order on any number of devices. 0 chooses: 16 on CPU, the whole share on accelerators.
      block: steps per compiled scan; evaluation and a checkpoint follow each.
      learning_rate: peak of a warm-up and cosine decay.
      weight_decay: of AdamW.
      clip: largest global norm of a gradient.
      ema: decay of the averaged weights, which are what is evaluated and kept.
      compute: ``"bfloat16"`` halves what the network computes with, weights and losses stay
        float32; for accelerators, on a CPU it is slower.
      target: ``"fixed"`` (the task's), ``"predicted"`` (the largest output) or ``"random"``.
      patience: evaluations without a better one after which training stops; 0 never stops.
      seed: of weights and data.
    """

    steps: int = 2000
    batch: int = 128
    chunk: int = 0
    block: int = 100
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.99
    compute: Literal["float32", "bfloat16"] = "float32"
    target: Literal["fixed", "predicted", "random"] = "predicted"
    patience: int = 0
    seed: int = 0

    @property
    def total(self) -> int:
        """Steps in whole blocks."""
        return -(-self.steps // self.block) * self.block

    def rows(self, devices: int = 1) -> int:
        """Examples per chunk."""
        if self.chunk:
            return self.chunk
        share = max(1, self.batch // devices)
        return max(d for d in range(1, min(share, default_chunk()) + 1) if share % d == 0)

    def check(self, devices: int = 1) -> None:
        """Raises where a setting can't be used on so many devices."""
        least = {"steps": 1, "batch": 1, "block": 1, "chunk": 0, "patience": 0, "seed": 0}
        for name, smallest in least.items():
            number = getattr(self, name)
            if not isinstance(number, int) or number < smallest:
                raise InputError(name, f"is {number}", f"use a whole number, {smallest} or more")
        if not 0 < self.clip < float("inf"):
            raise InputError("clip", f"is {self.clip}", "use a finite number above 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError("weight_decay", f"is {self.weight_decay}", "use 0 or more, finite")
        if not 0 < self.learning_rate < 1:
            raise InputError("learning_rate", f"is {self.learning_rate}", "use 0 to 1")
        if not 0 <= self.ema < 1:
            raise InputError("ema", f"is {self.ema}", "use 0 up to, not including, 1")
        if self.target not in ("fixed", "predicted", "random"):
            raise InputError("target", f"is {self.target!r}", "use fixed, predicted or random")
        if self.compute not in ("float32", "bfloat16"):
            raise InputError("compute", f"is {self.compute!r}", "use float32 or bfloat16")
        if self.batch % devices:
            raise InputError("batch", f"is {self.batch}", f"use a multiple of {devices} devices")
        if self.batch // devices % self.rows(devices):
            raise InputError(
                "chunk", f"is {self.chunk}", f"use a divisor of {self.batch // devices}, or 0"
            )
