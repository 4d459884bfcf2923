"""``python -m smnas_optuna.stopwatch serve``: the server's command line."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from smnas_optuna.errors import DeviceError
from smnas_optuna.paths import at_home
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.real_files import read_text
from smnas_optuna.stopwatch.arguments import Parser
from smnas_optuna.stopwatch.server import StopwatchServer
from smnas_optuna.stopwatch.store import MAX_BYTES, Store

PORT = 8765
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 256
_LOCAL = ("127.0.0.1", "::1", "localhost")
_GIB = 2**30


def serve_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the arguments behind ``serve``."""
    made = Parser(
        prog=program,
        description="Time exported detectors for a search on another machine, one measurement at a time.",
    )
    made.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; only this machine reaches 127.0.0.1, the default"
    )
    made.add_argument("--port", type=_port, default=PORT, help=f"{PORT} by default; 0 is any free one")
    made.add_argument(
        "--token-file", metavar="F", type=Path, help="file with the token; without one, a new token is printed"
    )
    made.add_argument(
        "--max-gib",
        metavar="N",
        type=_gib,
        default=MAX_BYTES / _GIB,
        help=f"most GiB of the files that are kept, in the temporary folder; {MAX_BYTES / _GIB:g} by default",
    )
    return made


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal or connection is closed) ends it.

    Raises:
        DeviceError: If the token or the address cannot be used.
    """
    token = secrets.token_urlsafe(24) if options.token_file is None else read_token(at_home(options.token_file))
    _unwind_at_signals()
    with Store(max_bytes=int(options.max_gib * _GIB)) as store, _listening(options, token, store) as server:
        port = server.server_address[1]
        name = f"[{options.host}]" if ":" in options.host else options.host
        _say(f"listening on http://{name}:{port}")
        _say(f"token: {token}" if options.token_file is None else f"token: that in {quote_path(options.token_file)}")
        if options.host not in _LOCAL:
            _say("note: the token crosses the network unencrypted; a tunnel, such as `ssh -L`, is safer")
        server.serve_forever()


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        DeviceError: If it cannot be read, or holds no token.
    """
    fix = 'write one: python -c "import secrets; print(secrets.token_urlsafe())" > FILE'
    try:
        token = read_text(path).strip()
    except OSError as error:
        raise DeviceError(f"{quote_path(path)}: the token cannot be read: {quote_error(error)}", fix=fix) from error
    if not (SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN and token.isascii() and token.isprintable()) or " " in token:
        raise DeviceError(
            f"{quote_path(path)}: a token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits and signs",
            fix=fix,
        )
    return token


def _listening(options: argparse.Namespace, token: str, store: Store) -> StopwatchServer:
    try:
        return StopwatchServer((options.host, options.port), token=token, store=store, note=_say)
    except (OSError, UnicodeError) as error:
        raise DeviceError(
            f"it cannot listen on {options.host}, port {options.port}: {quote_error(error)}",
            fix="give an address of this machine with --host, and a port that is free with --port",
        ) from error


def _unwind_at_signals() -> None:
    """Let a signal to end be handled as Ctrl-C is: the files of the store are removed."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` lets it go on without its terminal
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGHUP):  # the end of a session sends both, and one is enough
        signal.signal(number, lambda *_: None)  # SIG_IGN would complain of a signal that has arrived already
    raise KeyboardInterrupt


def _say(line: str) -> None:
    with suppress(OSError):  # nobody reads it
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"it must be a whole number in 0..65535, but is {text[:40]!r}")
    return int(text)


def _gib(text: str) -> float:
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0.001 <= gib <= 1e6:
        raise argparse.ArgumentTypeError(f"it must be in 0.001..1e6, but is {text[:40]!r}")
    return gib
