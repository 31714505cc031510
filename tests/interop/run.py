#!/usr/bin/env python3
"""The program against real Keras: run.py BINARY [TEST...]

Needs keras (3), a backend (KERAS_BACKEND, by default jax), h5py and numpy. MNIST comes from
CUDA_MNIST_DATA_DIR; without it, patterns made up here stand in.
"""

import logging
import os
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
os.environ.setdefault("KERAS_BACKEND", "jax")
here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here))

import common  # noqa: E402

if __name__ == "__main__":
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    common.binary = pathlib.Path(sys.argv[1]).resolve()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras calls HDF5 legacy at every save
    loader = unittest.TestLoader()
    tests = (loader.loadTestsFromNames(sys.argv[2:]) if sys.argv[2:] else
             loader.discover(str(here), pattern="check_*.py"))
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    sys.exit(not result.wasSuccessful())
