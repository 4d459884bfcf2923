"""A search in Python, seen trial by trial: it runs in a thread of its own while its results are looked at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from smnas_optuna.api.events import Callback, CallbackListener
from smnas_optuna.errors import SmnasError, StudyError
from smnas_optuna.search.request import Request
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.supervisor import supervising

if TYPE_CHECKING:
    from smnas_optuna.session.listener import Listener


def ended_trials(request: Request, callbacks: Sequence[Callback] = ()) -> Iterator[TrialRecord]:
    """Yield each trial of a search when it ends, as soon as it ends; see :func:`smnas_optuna.search.stages.run_search`.

    The search is one worker; where the request names a cluster, its nodes train. It stops at its next step when the
    iterator is closed, or the main thread gets a signal that raises, and resumes when the same request comes again.
    Notes for people go to the logger ``smnas_optuna``.

    Args:
        request: The search.
        callbacks: Receive its events.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used, or another process searches the
            folder.
    """
    from smnas_optuna.search.retime import retime_fronts  # these load torch, which takes seconds
    from smnas_optuna.search.stages import run_search

    ended, failed, stop = SimpleQueue[TrialRecord | None](), list[BaseException](), StopRequest()

    shared = list(callbacks)

    def listener(_: int) -> Listener:
        return _Ended(ended, request.study_dir, shared)

    def run() -> None:
        try:
            with supervising(request.study_dir), ExitStack() as stack:
                workforce = None
                if request.ray is not None:
                    from smnas_optuna.cluster.workforce import crowd

                    asks = crowd(request.ray, request.stage, request.in_flight, listener)
                    workforce = stack.enter_context(asks)
                outcome = run_search(request, listener=listener(1), stop=stop, workforce=workforce)
                if outcome.failed:
                    raise StudyError(outcome.reason, fix="look into the logs in runs/, and search again")
                if request.stage == "modular":  # as the command does
                    retime_fronts(request, listener=listener(1), stop=stop)
        except Interrupted:
            pass
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread that asked for the search
            failed.append(error)
        finally:
            ended.put(None)

    thread = threading.Thread(target=run, name="smnas search")
    thread.start()
    try:
        while (record := ended.get()) is not None:
            yield record
    finally:
        stop.ask(signal.SIGINT)
        thread.join()
    if failed:
        raise failed[0] if isinstance(failed[0], SmnasError) else RuntimeError("the search failed") from failed[0]


class _Ended(CallbackListener):
    """Puts the trials that end into a queue."""

    def __init__(self, ended: SimpleQueue[TrialRecord | None], folder: Path, callbacks: list[Callback]) -> None:
        super().__init__(folder, callbacks)
        self._ended = ended

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """Put ``record`` into the queue, once the callbacks have it."""
        super().trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)
        self._ended.put(record)
