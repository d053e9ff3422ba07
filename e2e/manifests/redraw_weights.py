"""Put a model at a path of a volume, with its key and value projections drawn anew from a seed if one is given.

``python3 redraw_weights.py SOURCE DESTINATION [SEED]``, in the engine image. The result has the same architecture,
tokenizer and file names as the source and other KV for every prompt: what a new training run leaves at an old path.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
PROJECTIONS = (".k_proj.weight", ".v_proj.weight")


def redraw(source: Path, destination: Path, seed: int) -> None:
    """Write the source's weights to `destination` with new K and V projections of the same spread."""
    weights = load_file(source)
    generator = torch.Generator().manual_seed(seed)
    for name, old in weights.items():
        if name.endswith(PROJECTIONS):
            drawn = torch.randn(old.shape, generator=generator) * old.float().std()
            weights[name] = drawn.to(old.dtype)
    save_file(weights, destination, metadata={"format": "pt"})
    # safetensors makes files that only their owner may read; engines may run as another user.
    destination.chmod(0o644)


def main() -> None:
    """Copy, redraw, and replace each file at once, so that a running engine keeps the file that it has mapped."""
    source, destination = Path(sys.argv[1]), Path(sys.argv[2])
    destination.mkdir(exist_ok=True)
    for file in source.iterdir():
        scratch = destination / f".{file.name}.new"
        if file.name == WEIGHTS and len(sys.argv) > 3:
            redraw(file, scratch, int(sys.argv[3]))
        else:
            shutil.copyfile(file, scratch)
        scratch.replace(destination / file.name)


if __name__ == "__main__":
    main()
