import asyncio
import ctypes
import gc
import os
import subprocess
import sys
import weakref
from functools import partial

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.serve import heap
from tailwise.serve.heap import LONG, Leaving, settle

ARENAS_OF_24_THREADS = """
import ctypes, sys, tempfile, threading
from tailwise.serve.heap import few_arenas

libc = ctypes.CDLL(None)
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_char_p)
libc.malloc_info.argtypes, libc.fclose.argtypes = (ctypes.c_int, ctypes.c_void_p), (ctypes.c_void_p,)
together = threading.Barrier(24)

def arenas():
    with tempfile.NamedTemporaryFile() as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return file.read().count(b"<heap")

def work():
    held = [bytes(2000) for _ in range(100)]
    together.wait()

if sys.argv[1] == "few":
    few_arenas()
before = arenas()
threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(arenas() - before)
"""


class Model:
    """Something that points at itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_lives_is_set_aside_and_the_collector_leaves_it_alone() -> None:
    model = Model()

    settle()

    assert not any(found is model for found in gc.get_objects())
    assert gc.get_freeze_count() > 1000


def test_a_circle_that_was_set_aside_goes_once_nobody_needs_it() -> None:
    model = Model()
    settle()
    gone = weakref.ref(model)
    del model
    gc.collect()
    before = gone() is not None

    settle()

    assert before  # a collection alone does not find it
    assert gone() is None


def test_who_holds_a_model_for_long_is_asked_ever_more_rarely_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settled: list[int] = []
    model, leaving = Model(), Leaving()
    leaving.changed(model)

    for look in range(1, LONG + 1):
        monkeypatch.setattr(heap, "settle", partial(settled.append, look))
        asyncio.run(leaving.look())

    assert settled == [1, 2, 4, 8, 16, 32, LONG]
    assert caplog.messages == ["models that were let go are still held: models=1"]


def test_a_model_that_goes_while_memory_is_put_in_order_has_its_turn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving, settled = Leaving(), []

    def another_goes() -> None:
        settled.append(True)
        if len(settled) == 1:
            leaving.changed(lambda: None)  # gone at once

    monkeypatch.setattr(heap, "settle", another_goes)
    leaving.changed()

    for _ in range(5):
        asyncio.run(leaving.look())

    assert len(settled) == 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has arenas that can be counted")
def test_threads_share_arenas_of_the_allocator() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}

    def more(how: str, **added: str) -> int:
        command = [sys.executable, "-c", ARENAS_OF_24_THREADS, how]
        return int(subprocess.run(command, env=environment | added, capture_output=True, check=True).stdout)

    many, few, as_told = more("many"), more("few"), more("few", MALLOC_ARENA_MAX="3")

    assert many > 2 >= few
    assert as_told <= 3  # who sets the variable knows why


def test_requests_leave_no_circles_behind(client: TestClient) -> None:
    kinds: list[tuple[str, str, object]] = [
        ("POST", "/v1/rank", {"user_id": "u1"}),
        ("POST", "/v1/recommend", {"user_id": "u2", "explain": True}),
        ("POST", "/v1/events", {"user_id": "u1", "item_id": "i1"}),
        ("GET", "/v1/users/u1", None),
        ("GET", "/v1/items/i1/similar", None),
        ("GET", "/metrics", None),
    ]

    def left(times: int) -> int:
        gc.collect()
        gc.disable()
        try:
            for _ in range(times):
                for method, path, body in kinds:
                    assert client.request(method, path, json=body).status_code == 200
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            return sum(type(found).__module__.startswith("tailwise") for found in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    left(2)

    assert left(20) == 0


def test_free_pages_go_back_while_it_serves(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[float] = []
    monkeypatch.setattr(heap, "TIDY_S", 0.01)
    monkeypatch.setattr(heap, "trim", lambda: trims.append(0.0))

    with TestClient(app) as client:
        for _ in range(200):
            client.get("/health")
            if len(trims) > 1:
                break

    assert len(trims) > 1
