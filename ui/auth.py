"""Who may come in: names and passwords, as HTTP Basic authentication; the passwords are kept as scrypt's hashes alone.

    python -m ui.auth NAME >> passwords        # asks for the password, prints a line of the file for --auth

A password is never an argument, which every user of the machine could see. Browsers ask for it and then send it by
themselves; `gradio_client` and clients of MCP send it as a header (docs/operating.md). Who listens on the way can read
it, so that it is worth something behind TLS alone.
"""

import argparse
import base64
import binascii
import getpass
import hashlib
import hmac
import re
import secrets
import stat
import sys
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path

from shortcut_gen.errors import SettingsError
from ui.bodies import RefusalError

COST = {"n": 2**14, "r": 8, "p": 1}
"""Of scrypt (RFC 7914): 16 MiB and some 50 ms a try."""
FILE_BYTES = 1024**2
PASSWORD_LENGTH = 1024
LEAST_LENGTH = 8
FAILURES = 10
"""Wrong passwords from one address within a minute; more are not looked at."""
KNOWN = 1000
"""Right ones that are remembered, by a hash with a key of this process, so that not each request pays for scrypt."""
NAME = re.compile(r"[0-9A-Za-z._@-]{1,64}")
_LINE = re.compile(r"(?P<name>[^:]+):scrypt\$(?P<salt>[0-9a-f]{32})\$(?P<hash>[0-9a-f]{64})")
CHALLENGE = {"WWW-Authenticate": 'Basic realm="shortcut-gen", charset="UTF-8"'}


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **COST)


def line_for(name: str, password: str) -> str:
    """A line of the file. Raises SettingsError."""
    if not NAME.fullmatch(name):
        raise SettingsError(f"the name is {name[:80]!r}; 1 to 64 letters, digits and . _ @ - are needed")
    if not LEAST_LENGTH <= len(password) <= PASSWORD_LENGTH:
        raise SettingsError(
            f"the password has {len(password):,} characters; {LEAST_LENGTH} to {PASSWORD_LENGTH:,} are needed"
        )
    salt = secrets.token_bytes(16)
    return f"{name}:scrypt${salt.hex()}${_hash(password, salt).hex()}"


class Accounts:
    """Names and hashes of passwords."""

    def __init__(self, hashes: dict[str, tuple[bytes, bytes]]) -> None:
        """hashes: salt and hash by name."""
        self._hashes = hashes
        self._nobody = (secrets.token_bytes(16), secrets.token_bytes(32))
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(2)  # 16 MiB and a core each

    @classmethod
    def read(cls, path: Path) -> "Accounts":
        """The file that `--auth` names. Raises SettingsError, with no line of it in the message."""
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode) or about.st_size > FILE_BYTES:
                raise SettingsError(f"{path} is no file of passwords; one of at most 1 MiB is needed")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is not UTF-8"
            raise SettingsError(f"{path} cannot be read ({said}); a file made by python -m ui.auth is needed") from None
        hashes = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None or not NAME.fullmatch(found["name"]) or found["name"] in hashes:
                raise SettingsError(
                    f"line {number} of {path} is no name and hash of its own; lines made by python -m ui.auth are "
                    "needed, never a password itself"
                )
            hashes[found["name"]] = bytes.fromhex(found["salt"]), bytes.fromhex(found["hash"])
        if not hashes:
            raise SettingsError(f"{path} holds no name; python -m ui.auth NAME makes a line of it")
        return cls(hashes)

    def known(self, header: str | None) -> str | None:
        """The name in an Authorization header that was found right before; quick."""
        if not header:
            return None
        with self._lock:
            mark = self._mark(header)
            name = self._known.get(mark)
            if name is not None:
                self._known.move_to_end(mark)
            return name

    def check(self, header: str | None, client: str) -> str:
        """The name in an Authorization header. Takes a while; call it in a thread. Raises RefusalError."""
        if header is None:
            raise RefusalError(401, "a name and a password are needed", headers=CHALLENGE)
        with self._lock:
            now, failed = time.monotonic(), self._failed.get(client, deque())
            if len(failed) == FAILURES and now - failed[0] < 60:
                line = "too many wrong passwords from your address; try again in a minute"
                raise RefusalError(429, line, headers={"Retry-After": "60"})
        name, password = _given(header)
        salt, wanted = self._hashes.get(name, self._nobody)
        with self._turns:
            right = hmac.compare_digest(_hash(password, salt), wanted) and name in self._hashes
        with self._lock:
            if right:
                self._known[self._mark(header)] = name
                while len(self._known) > KNOWN:
                    self._known.popitem(last=False)
                return name
            self._failed.setdefault(client, deque(maxlen=FAILURES)).append(time.monotonic())
            self._failed.move_to_end(client)
            while len(self._failed) > KNOWN:
                self._failed.popitem(last=False)
        raise RefusalError(401, "the name or the password is wrong", headers=CHALLENGE)

    def _mark(self, header: str) -> bytes:
        return hmac.new(self._key, header.encode(), "sha256").digest()


def _given(header: str) -> tuple[str, str]:
    """Name and password of a header; two empty ones where it holds none, which are as wrong as any."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic" or len(value) > 4 * PASSWORD_LENGTH:
        return "", ""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return name, password[:PASSWORD_LENGTH]


def main() -> int:
    """Print a line of the file. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ui.auth", description="Print a line for the file of --auth; asks for the password."
    )
    parser.add_argument("name", metavar="NAME", help="who may come in by it")
    name = parser.parse_args().name
    try:
        if sys.stdin.isatty():
            password = getpass.getpass()
            if password != getpass.getpass("Once more: "):
                raise SettingsError("the two passwords differ; the same one twice is needed")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        print(line_for(name, password))
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
