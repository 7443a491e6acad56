"""The data set `photos`: photographs that ship with scikit-image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import DataCard, param
from pruningbench_data._disk import OnDisk
from pruningbench_data._sampling import Limited

if TYPE_CHECKING:
    from pruningbench.contract import Samples

PHOTOS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
"""File of each photograph; ``chelsea`` is a cat and ``coffee`` an espresso."""


@dataclass(frozen=True, kw_only=True)
class Photos(OnDisk, Limited):
    """Photographs that ship with scikit-image (the `demo` extra): nothing is downloaded. They have no labels."""

    card: ClassVar[DataCard] = DataCard(
        licence="public domain and CC0 (scikit-image lists each image's)",
        citation="S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2:e453, 2014",
        homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        checksum="ships with scikit-image",
        obtain="install it with `pip install pruningbench[demo]`",
    )
    name: ClassVar[str] = "photos"
    place: ClassVar[str] = ""

    names: tuple[str, ...] = param(("chelsea", "coffee", "astronaut", "rocket"), doc=f"which of {', '.join(PHOTOS)}")

    def problem(self) -> str | None:
        """Check the names."""
        unknown = [name for name in self.names if name not in PHOTOS]
        if unknown:
            return f"names: there is no photograph {unknown[0]!r}; there are: {', '.join(PHOTOS)}"
        if not self.names or len(set(self.names)) < len(self.names):
            return f"names must list at least one photograph, each once, got {list(self.names)}"
        return super().problem()

    def folder(self) -> Path:
        """Return scikit-image's data folder."""
        spec = find_spec("skimage")
        return Path(spec.origin).parent / "data" if spec and spec.origin else Path("skimage/data")

    def needs(self) -> Sequence[str]:
        """Return the files of the photographs."""
        return [PHOTOS[name] for name in self.names]

    def missing(self) -> str | None:
        """Return that scikit-image is not installed, or which file is missing, or None."""
        return super().missing() if find_spec("skimage") else f"scikit-image is not installed; {self.remedy()}"

    def open(self) -> Samples:
        """Return RGB photographs; keys are their names."""
        from pruningbench.contract import EncodedSamples
        from pruningbench.images.decode import read_encoded
        from pruningbench_data._digests import contents, fingerprint

        keys = [self.names[i] for i in self.select(self.names)]
        paths = [self.folder() / PHOTOS[name] for name in keys]
        return EncodedSamples(
            keys,
            lambda i: read_encoded(paths[i]),
            name=lambda i: str(paths[i]),
            fingerprint=fingerprint(keys, contents(paths)),
            remedy="install scikit-image again",
        )
