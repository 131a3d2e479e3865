"""Networks of HD-XOR that the scripts share: InterSHAP, EMAP and SHAPE look at the same ones."""

import dataclasses
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import Run
from experiments.published import hdxor
from experiments.published.hdxor import PUBLISHED_SEEDS, Data, Scale, make_data, network, train
from experiments.resumable import WorkDirectory
from mmx_jax import SplitModel

__all__ = ["Networks", "Options"]


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the scripts about HD-XOR."""

    networks: Path | None = None
    """Keep trained networks in this directory: a run that was stopped, and the other scripts,
    find them there instead of training them again."""

    @property
    def scale(self) -> Scale:
        """How large the run is."""
        return Scale.quick() if self.quick else Scale()

    @property
    def network_seeds(self) -> list[int]:
        """The published seeds, moved by ``--seed``."""
        return [s + self.seed for s in (PUBLISHED_SEEDS[:1] if self.quick else PUBLISHED_SEEDS)]


class Networks:
    """Data and trained networks by setting, fusion and seed.

    Args:
      options: of the script.

    Raises:
      InputError: a directory with networks of another scale, version or source.
    """

    def __init__(self, options: Options):
        self.scale, self._place = options.scale, None
        if options.networks is not None:
            source = hashlib.sha256(Path(hdxor.__file__).read_bytes()).hexdigest()
            config = dataclasses.asdict(self.scale) | {"source": source, "jax": version("jax")}
            self._place = WorkDirectory(options.networks, config)

    def data(self, setting: str, seed: int) -> Data:
        """One draw of a setting; ``"synergy, M = 3"`` has three modalities."""
        name, m = (setting.split(",", maxsplit=1)[0], 3) if "M = 3" in setting else (setting, 2)
        return make_data(name, seed, self.scale.examples, m)

    def __call__(
        self, setting: str, fusion: str, seed: int, frozen: bool = False, large: bool = False
    ) -> tuple[Data, dict[str, SplitModel]]:
        """The data and :func:`experiments.published.hdxor.train` of them.

        With ``large``, an epoch is three batches, as 5000 of the 14000 rows make.
        """
        data = self.data(setting, seed)
        third = dataclasses.replace(self.scale, batch=len(data.train[1]) // 3)
        scale = third if large else self.scale
        if self._place is None:
            return data, train(data, fusion, seed, scale, frozen)
        name = f"{setting}-{fusion}-{seed}{'-frozen' * frozen}{'-large' * large}.npz"
        name = name.replace(" ", "")
        if not self._place.has(name):
            found = train(data, fusion, seed, scale, frozen)
            leaves = {f"{m}/{i}": x for m in found for i, x in enumerate(jax.tree.leaves(found[m]))}
            self._place.write_with(name, lambda path: _save(path, leaves))
        like = network(fusion, {n: x.shape[1] for n, x in data.train[0].items()}, seed)
        with np.load(self._place.path / name) as kept:
            moments = dict.fromkeys(key.split("/")[0] for key in kept)
            count, form = len(jax.tree.leaves(like)), jax.tree.structure(like)
            return data, {
                m: jax.tree.unflatten(form, [kept[f"{m}/{i}"] for i in range(count)])
                for m in moments
            }


def _save(path: Path, leaves: dict[str, Any]) -> None:
    with path.open("wb") as handle:  # savez would add a suffix to the name
        np.savez(handle, **leaves)
