import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

# Not getrusage's ru_maxrss: a process starts with that of the one it was forked from.
_MEASURED = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
{prepare}
before = peak()
{work}
print(peak() - before)
"""


@pytest.fixture(scope="session")
def peak_growth():
    """How many bytes a new process grows by, at its peak, while it runs `work` after `prepare`."""

    def measure(prepare, work):
        script = _MEASURED.format(prepare=prepare, work=work)
        return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)

    return measure


@pytest.fixture(scope="session", params=["both", "indptr", "indices"])
def wide(request):
    """Copies of csr arrays whose row pointers, column indices or both are 64-bit, as from 2^31 values on."""

    def widen(matrix):
        matrix = sparse.csr_array(matrix, copy=True)
        for name in ("indptr", "indices"):
            if request.param in ("both", name):
                setattr(matrix, name, getattr(matrix, name).astype(np.int64))
        return matrix

    return widen
