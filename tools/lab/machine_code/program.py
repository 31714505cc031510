"""The sm_90 code in a program: extracted by NVIDIA's cuobjdump, decoded when it is launched."""
import pathlib
import subprocess
import tempfile

from .decode import DecodeError, load_cubin, load_lines
from .plant import without


class Code:
    """The kernels of a program, by their mangled names. `planted`, (part of a kernel's name,
    opcode): the first such instruction is left out."""

    def __init__(self, program, cuobjdump, nvdisasm=None, planted=None):
        self._folder = tempfile.TemporaryDirectory(prefix="cuda-mnist-cubins-")
        subprocess.run([cuobjdump, "-xelf", "sm_90", str(pathlib.Path(program).resolve())],
                       cwd=self._folder.name, check=True, capture_output=True)
        self._cubins = sorted(pathlib.Path(self._folder.name).glob("*.cubin"))
        if not self._cubins:
            raise DecodeError(f"{program} has no code for sm_90")
        self._cuobjdump, self._nvdisasm = cuobjdump, nvdisasm
        self._planted = planted
        self._kernels, self._where = {}, {}

    def kernel(self, name):
        """LookupError if there is none."""
        if name not in self._kernels:
            cubin = self._cubin_of(name)
            kernels = load_cubin(cubin, self._cuobjdump)
            for found in kernels:
                self._where[found] = cubin
                if self._planted is not None and self._planted[0] in found:
                    kernels[found] = without(kernels[found], self._planted[1])
            self._kernels.update(kernels)
        return self._kernels[name]

    def _cubin_of(self, name):
        for cubin in self._cubins:
            if b".text." + name.encode() + b"\0" in cubin.read_bytes():
                return cubin
        raise LookupError(f"no kernel {name} in the sm_90 code of this program")

    def lines(self, name):
        """Source lines by address; empty without nvdisasm or -lineinfo."""
        if self._nvdisasm is None:
            return {}
        return load_lines(self._where[name], self._nvdisasm).get(name, {})
