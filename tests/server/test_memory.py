from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from rarevoxel.server import memory
from rarevoxel.server.memory import give_back, limit_arenas

COUNT = """
import ctypes, threading
from rarevoxel.server.memory import limit_arenas
limited = {limited}
if limited:
    assert limit_arenas(2)
held = []
threads = []
barrier = threading.Barrier(13)
def work():
    held.append(ctypes.CDLL(None).malloc(1000))
    barrier.wait()
for _ in range(12):
    threads.append(threading.Thread(target=work))
    threads[-1].start()
barrier.wait()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_two_pools() -> None:
    def pools(limited: bool) -> int:
        script = COUNT.format(limited=limited)
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return sum(line.startswith("Arena") for line in result.stderr.splitlines())

    assert pools(limited=True) == 2
    assert pools(limited=False) > 2


def test_another_c_library_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert limit_arenas() is False
    assert give_back() is False


FREE = """
import ctypes, psutil
from rarevoxel.server.memory import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(ctypes.c_void_p(block), 1, 100_000)
last = libc.malloc(1000)
for block in blocks:
    libc.free(block)
before = psutil.Process().memory_info().rss
assert give_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can trim")
def test_free_memory_below_a_block_in_use_goes_back() -> None:
    result = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 80_000_000
