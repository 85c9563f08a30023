"""Who does the tasks of a sweep: this process, or several. The results are the same."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from seepage.audit.workers import one_thread, watch_parent
from seepage.core.errors import SeepageError
from seepage.core.progress import Progress
from seepage.sweep.tasks import Task, perform

Began = Callable[[Task], None]
Moved = Callable[[Task, float], None]
Ended = Callable[[Task, dict[str, Any]], None]
# tasks, and what to call as they begin, move on and end.
Executor = Callable[[Sequence[Task], Began, Moved, Ended], None]


def serial(tasks: Sequence[Task], began: Began, moved: Moved, ended: Ended) -> None:
    """One after another, in this process."""
    for task in tasks:
        began(task)

        def listen(step: Progress, task: Task = task) -> None:
            moved(task, step.total)

        ended(task, perform(task, listen))


@contextmanager
def executor(processes: int) -> Generator[Executor]:
    """The executor for so many processes; leaving it by an exception ends its workers at once."""
    if processes <= 1:
        import torch

        threads = torch.get_num_threads()
        try:
            yield serial
        finally:
            torch.set_num_threads(threads)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
    )
    try:
        yield lambda tasks, began, moved, ended: _shared_out(pool, processes, tasks, began, ended)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True)


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    one_thread()


def _shared_out(pool: ProcessPoolExecutor, processes: int, tasks: Sequence[Task], began: Began, ended: Ended) -> None:
    """As many at a time as there are workers, so that a task is told to have begun when it has.

    Raises:
        SeepageError: what a task raised, or that a worker died.
    """
    left, under_way = list(reversed(tasks)), dict[Future[dict[str, Any]], Task]()
    while left or under_way:
        while left and len(under_way) < processes:
            task = left.pop()
            under_way[pool.submit(perform, task)] = task
            began(task)
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            task = under_way.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool as error:
                raise SeepageError(
                    f"a worker process died during '{task.title}' (out of memory, perhaps): run the same command again "
                    "to go on, with --processes 1 if it happens again"
                ) from error
            ended(task, result)
