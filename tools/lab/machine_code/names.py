"""Short names of kernels."""
import functools
import re
import subprocess


@functools.lru_cache(maxsize=None)
def short_name(mangled):
    """adam of mnist::cuda::(anonymous namespace)::adam_kernel(float*, ...)."""
    full = subprocess.run(["c++filt", mangled], check=True, capture_output=True,
                          text=True).stdout
    name = re.split(r"[<(]", full.replace("(anonymous namespace)::", "").strip(), maxsplit=1)[0]
    return name.split("::")[-1].split(" ")[-1].removesuffix("_kernel")
