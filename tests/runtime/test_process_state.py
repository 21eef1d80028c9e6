"""State of the process: lent to one thread at a time, and put back."""

from __future__ import annotations

import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from dgl_rbm.data.dgl_compat import dgl, sampling_thread
from dgl_rbm.runtime import process_state
from dgl_rbm.runtime.process_state import as_caller, inference, isolated
from dgl_rbm.runtime.seeding import derive_seed, seeded

SECONDS = 60


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def draw() -> list[float]:
    """Draw from every generator that the process shares."""
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def draw_in_a_stage() -> list[float]:
    with seeded(4, "stage"):
        return draw()


def in_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=SECONDS)


def test_a_stream_is_that_of_its_seed_and_leaves_no_trace() -> None:
    seed_all(3)
    expected = draw()
    seed_all(derive_seed(7, "a stage"))
    of_stream = draw()
    seed_all(3)
    with seeded(7, "a stage"):
        assert draw() == of_stream
        with seeded(8, "another"):
            draw()
        with seeded(7, "a stage"):
            assert draw() == of_stream
    assert draw() == expected


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_state_is_put_back_after_errors(error: type[BaseException]) -> None:
    seed_all(3)
    expected = draw()
    seed_all(3)

    def fail() -> None:
        with seeded(1, "stage"):
            assert torch.get_default_dtype() == torch.float32
            draw()
            raise error

    with default_dtype(torch.float64):
        with pytest.raises(error):
            fail()
        assert torch.get_default_dtype() == torch.float64
    assert draw() == expected
    in_thread(draw_in_a_stage)


def test_a_generator_of_another_kind_is_put_back() -> None:
    before = np.random.mtrand.get_bit_generator()
    other = np.random.PCG64(4)
    np.random.mtrand.set_bit_generator(other)
    try:
        with seeded(1, "stage"):
            np.random.rand()
        assert np.random.mtrand.get_bit_generator() is other
    finally:
        np.random.mtrand.set_bit_generator(before)


def test_the_caller_of_dgl_gets_the_same_numbers_whatever_happens_between() -> None:
    def after(work: Callable[[], Any]) -> list[int]:
        dgl.seed(5)
        with seeded(0, "stage"):
            work()
        return dgl.random.choice(1000, 5).tolist()

    alone = after(lambda: None)
    assert after(lambda: dgl.random.choice(1000, 99)) == alone
    assert after(draw_in_a_stage) == alone


def test_within_a_callback_the_state_is_the_callers() -> None:
    seed_all(3)
    first, second = draw(), draw()
    seed_all(derive_seed(1, "stage"))
    of_stream = [draw(), draw()]
    seed_all(3)
    with default_dtype(torch.float64), seeded(1, "stage"):
        assert draw() == pytest.approx(of_stream[0])
        with as_caller():
            assert torch.get_default_dtype() == torch.float64
            torch.set_default_dtype(torch.float32)
            found = draw()
            torch.set_default_dtype(torch.float64)
        assert torch.get_default_dtype() == torch.float32
        assert draw() == of_stream[1]
    assert found == first
    assert draw() == second


def test_outside_nothing_is_put_back() -> None:
    with as_caller():
        seed_all(11)
        expected = draw()
        seed_all(11)
    assert draw() == expected


def test_threads_take_turns() -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with seeded(number, "stage"):
                inside.append(number)
                most.append(len(inside))
                draw()
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(most) == 1


def test_a_callback_may_wait_for_work_in_another_thread() -> None:
    alone = draw_in_a_stage()
    with seeded(1, "outer"):
        draw()
        with as_caller():
            assert in_thread(draw_in_a_stage) == alone


def test_a_callback_that_draws_does_not_disturb_other_threads() -> None:
    alone = draw_in_a_stage()

    def noisy() -> None:
        for _ in range(50):
            with seeded(1, "stage"), as_caller():
                draw()

    with ThreadPoolExecutor(2) as pool:
        noise = pool.submit(noisy)
        found = [draw_in_a_stage() for _ in range(50)]
        noise.result(timeout=SECONDS)
    assert found == [alone] * 50


def test_an_interrupt_while_waiting_leaves_the_callers_state(monkeypatch: pytest.MonkeyPatch) -> None:
    take, calls = process_state._Turns.take, []

    def interrupted(turns: Any, lease: Any) -> None:
        calls.append(lease)
        if len(calls) == 2:
            raise KeyboardInterrupt
        take(turns, lease)

    monkeypatch.setattr(process_state._Turns, "take", interrupted)
    seed_all(3)
    expected = draw()
    seed_all(3)

    def call_back() -> None:
        with seeded(1, "stage"):
            draw()
            with as_caller():
                pass

    with pytest.raises(KeyboardInterrupt):
        call_back()
    assert draw() == expected
    assert in_thread(draw_in_a_stage) == draw_in_a_stage()


def test_a_thread_has_the_number_of_threads_of_the_process() -> None:
    # As if the thread had made its first operation while another number was set.
    def of_a_fit() -> tuple[int, int]:
        before = torch.get_num_threads()
        with threadpool_limits(3, user_api="openmp"):
            assert torch.get_num_threads() == 3
            with isolated():
                inside = torch.get_num_threads()
        assert torch.get_num_threads() == before
        return before, inside

    assert in_thread(of_a_fit) == (torch.get_num_threads(), torch.get_num_threads())


def test_threads_of_one_measurement() -> None:
    before = torch.get_num_threads()
    with isolated(threads=2):
        assert torch.get_num_threads() == 2
        with isolated(threads=1):
            assert torch.get_num_threads() == 1
            with as_caller():
                assert torch.get_num_threads() == before
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_inference_waits_for_nobody() -> None:
    predict = inference(lambda: float(torch.ones(3).sum()))
    with isolated():
        assert in_thread(predict) == 3.0


@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
)
def test_modes_of_the_caller_are_off_inside(mode: Callable[[], Any]) -> None:
    with mode():
        with isolated():
            weight = torch.ones(2, 2, requires_grad=True)
            product = weight @ weight
            product.sum().backward()
            assert product.dtype == torch.float32
            assert weight.grad is not None
            assert not weight.is_inference()
        inside = inference(lambda: torch.ones(2, 2) @ torch.ones(2, 2))()
        assert (inside.dtype, inside.device.type, inside.is_inference()) == (torch.float32, "cpu", False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_not_blocked_by_a_thread_of_its_parent() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with isolated():
            entered.set()
            leave.wait(SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            # Ends the process if it is blocked.
            signal.alarm(SECONDS)
            process_state._turns.take(process_state.Lease())
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        leave.set()
        thread.join()


def test_what_dgl_samples_depends_neither_on_the_thread_nor_on_their_number() -> None:
    graph = dgl.graph((torch.arange(400) % 40, torch.arange(400) // 10))

    def sample() -> list[int]:
        sampling_thread.seed(3)
        edges: list[int] = (
            sampling_thread.run(dgl.sampling.sample_neighbors, graph, torch.arange(40), 3).edges()[0].tolist()
        )
        return edges

    alone = sample()
    assert in_thread(sample) == alone
    assert in_thread(sample) == alone
    with isolated(threads=2):
        assert sample() == alone


def test_errors_of_the_sampling_thread_arrive() -> None:
    with pytest.raises(ZeroDivisionError):
        sampling_thread.run(lambda: 1 // 0)
    values = sampling_thread.iterate(iter([1, 2]))
    assert list(values) == [1, 2]
