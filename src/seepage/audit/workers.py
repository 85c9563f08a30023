"""Tasks of a run in other processes.

Every worker builds its own world from the configuration: nothing live crosses a process border, so
one process and two give the same record. A worker computes on one thread, for the same reason.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from seepage.audit.plan import Plan
from seepage.audit.play import Played, Stage
from seepage.audit.priors import PRIOR, train_prior
from seepage.audit.references import TASK as REFERENCES
from seepage.audit.references import TRAINING, portions
from seepage.audit.setting import Setting
from seepage.core.errors import SeepageError
from seepage.store.files import RunFolder

TELL_EVERY = 0.2


def one_thread() -> None:
    """Compute on one thread in this process: sums then have one order, whatever the machine's load."""
    import torch

    torch.set_num_threads(1)
    threadpool_limits(1)


@dataclass
class Desk:
    """What a process needs to do tasks: the world, the plan, the folder to write to."""

    setting: Setting
    plan: Plan
    folder: RunFolder
    stage: Stage

    @classmethod
    def open(cls, setting: Setting, plan: Plan, folder: RunFolder) -> "Desk":
        return cls(setting, plan, folder, Stage(setting.scene, setting.seed, setting.most_seen))

    def do(self, task: str, moved: Callable[[int], None] | None = None) -> str:
        """Do one task, and give its state for the log.

        Tasks are "victim", "twin", "prior KIND", "references KEY FIRST", "checks", "facts", "preflight" and the ids of
        cells.
        """
        scene = self.setting.scene
        if task == "victim":
            _ = scene.victim
        elif task == "twin":
            self.setting.train_twin()
        elif task.startswith(PRIOR):
            train_prior(scene, task.removeprefix(PRIOR), moved)
        elif task.startswith(REFERENCES):
            shelf, part = portions(self.plan.cells, scene)[task]
            shelf.train(part, None if moved is None else lambda done: moved(done * TRAINING))
        elif task == "checks":
            self.setting.write_checks(self.folder)
        elif task == "facts":
            self.setting.write_facts(self.folder)
        elif task == "preflight":
            self.setting.write_preflight(self.folder, self.plan, self.stage)
        else:
            cell = next(cell for cell in self.plan.cells if cell.id == task)
            played: Played = self.stage.play(cell, moved)
            self.folder.write_finding(played.finding, played.arrays)
            if played.traceback is not None:
                self.folder.log("failed", cell=task, traceback=played.traceback)
            return played.finding.status
        return "done"


_desk: Desk | None = None
_queue: Any = None


def watch_parent(parent: int) -> None:
    """End this process once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    # The parent was killed: whoever takes the run up again must not meet this process.
    os._exit(1)


def _begin(respawn: Mapping[str, Any], folder: str, queue: Any, parent: int) -> None:
    global _desk, _queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    one_thread()
    setting = Setting.again(respawn)
    _desk = Desk.open(setting, setting.plan(), RunFolder(Path(folder)))
    _queue = queue


def _do(task: str) -> str:
    desk, queue = _desk, _queue
    if desk is None:
        raise RuntimeError("the worker was not set up")
    queue.put((task, None))
    last = 0.0

    def moved(queries: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > TELL_EVERY:
            last = now
            queue.put((task, queries))

    return desk.do(task, moved)


class Pool:
    """Worker processes that do tasks of one run.

    Use as a context manager; leaving it by an exception ends the workers at once.
    """

    def __init__(self, setting: Setting, folder: RunFolder, processes: int):
        if setting.respawn is None:
            raise ValueError("this setting holds live objects: it cannot be rebuilt in another process")
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        self._queue: Any = context.Queue()
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=context,
            initializer=_begin,
            initargs=(setting.respawn, str(folder.path), self._queue, os.getpid()),
        )

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=True)
        self._queue.close()
        self._queue.join_thread()

    def do(
        self,
        tasks: Sequence[str],
        began: Callable[[str], None],
        moved: Callable[[str, int], None],
        ended: Callable[[str, str], None],
    ) -> None:
        """Do all tasks, as many at a time as there are workers, calling back as they go.

        Raises:
            SeepageError: what a task raised, or that a worker died.
        """
        waiting: dict[Future[str], str] = {self._pool.submit(_do, task): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, timeout=TELL_EVERY, return_when=FIRST_COMPLETED)
            while not self._queue.empty():
                task, queries = self._queue.get()
                began(task) if queries is None else moved(task, queries)
            for future in done:
                task = waiting.pop(future)
                try:
                    state = future.result()
                except BrokenProcessPool as error:
                    raise SeepageError(
                        f"a worker process died during '{task}' (out of memory, perhaps, or it could not start): run "
                        "the same command again to go on, with --processes 1 if it happens again"
                    ) from error
                ended(task, state)
