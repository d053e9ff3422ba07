# ruff: noqa: INP001 - a program of a build stage, not a package
"""Write C source and a linker script of a stand-in for the CUDA libraries that PyPI's torch links to.

PyPI has no CPU build of torch: its wheel needs 2.7 GB of CUDA libraries merely to be imported, and the CPU build of
vLLM calls none of them. The stand-in exports every symbol that torch's libraries look for, under the version name that
they ask for (NVIDIA uses the library's soname); each function returns 100, cudaErrorNoDevice. It is one library with a
symbolic link for each soname, put beside libtorch.so, where torch's RPATH ($ORIGIN) finds it.

Run in the build stage of the engine-cpu image: ``python cuda_stand_in.py TORCH_LIB_FOLDER``; needs gcc and binutils.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

STAND_IN = "libcuda_stand_in.so"
SONAME = re.compile(r"Shared library: \[(lib(?:cu|nv|nccl)[^\]]*)\]")
# Kept real: 1 MB, and torch asks it for the number of devices when it is imported.
REAL = frozenset({"libcudart.so.13"})
SYMBOL = re.compile(r" U ((?:cu|nv|nccl)\w+)(?:@(\S+))?$", re.MULTILINE)


def output(*command: str) -> str:
    """Return what the command prints; raise CalledProcessError if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wanted(libraries: list[Path]) -> tuple[set[str], dict[str, set[str]]]:
    """Return the CUDA sonames that the libraries need, and the symbols they look for by version name."""
    sonames: set[str] = set()
    symbols: defaultdict[str, set[str]] = defaultdict(set)
    for library in libraries:
        sonames |= set(SONAME.findall(output("readelf", "--dynamic", str(library)))) - REAL
        for name, version in SYMBOL.findall(output("nm", "--dynamic", str(library))):
            if version not in REAL:
                symbols[version].add(name)
    return sonames, dict(symbols)


def main() -> None:
    """Build the stand-in and its links in the folder given as the only argument."""
    folder = Path(sys.argv[1])
    sonames, symbols = wanted(sorted(folder.glob("*.so")))
    names = sorted(set().union(*symbols.values()))
    source, script = folder / "stand_in.c", folder / "stand_in.map"
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in names))
    versioned = {version: members for version, members in symbols.items() if version}
    script.write_text(
        "".join(f"{version} {{ {'; '.join(sorted(members))}; }};\n" for version, members in versioned.items())
    )
    output("gcc", "-shared", "-nostdlib", "-o", str(folder / STAND_IN), f"-Wl,--version-script={script}", str(source))
    source.unlink()
    script.unlink()
    for soname in sonames:
        (folder / soname).symlink_to(STAND_IN)
    print(f"{STAND_IN}: {len(names)} symbols for {', '.join(sorted(sonames))}")


if __name__ == "__main__":
    main()
