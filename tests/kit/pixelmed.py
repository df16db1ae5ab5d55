"""PixelMed's validator of structured reports, kept running: its start takes longest."""

from __future__ import annotations

import atexit
import subprocess
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

JAVA = Path("/usr/share/java")  # of Debian
JARS = tuple(
    JAVA / name for name in ("pixelmed.jar", "commons-codec.jar", "slf4j-api.jar", "slf4j-nop.jar")
)
_SERVER = Path(__file__).with_name("PixelmedServer.java")
# Java 17 bounds XPath expressions; the validator's are longer.
_LIMITS = tuple(f"-Djdk.xml.xpath{what}Limit=0" for what in ("TotalOp", "ExprOp", "ExprGrp"))
_OPTIONS = (*_LIMITS, "-Xss64m", "-XX:+UseSerialGC", "-cp", ":".join(map(str, JARS)))


def verdict(java: str, path: Path, seconds: float = 240.0) -> list[str]:
    """Return what the validator says of a file.

    Parameters
    ----------
    java : str
        The program. With a compiler in it one process is asked for all files; a bare runtime
        starts one for each.
    """
    if _has_compiler(java):
        return list(_server(java).ask(path, seconds))
    done = subprocess.run(
        [java, *_OPTIONS, "com.pixelmed.validate.DicomSRValidator", str(path)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
    )
    return (done.stdout + done.stderr).splitlines()


class _Server:
    def __init__(self, java: str) -> None:
        self._process = subprocess.Popen(
            [java, *_OPTIONS, str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
        )

    def ask(self, path: Path, seconds: float) -> Iterator[str]:
        """Yield the lines of a verdict; a server that takes too long is ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(seconds, self.stop)
        late.start()
        try:
            print(path, file=self._process.stdin, flush=True)
            for line in self._process.stdout:
                if line.rstrip("\n") == "end":
                    return
                yield line.rstrip("\n")
        finally:
            late.cancel()
        _server.cache_clear()
        raise AssertionError(f"PixelMed ended at {path.name}")

    def stop(self) -> None:
        """End it."""
        self._process.kill()


@cache
def _server(java: str) -> _Server:
    server = _Server(java)
    atexit.register(server.stop)
    return server


@cache
def _has_compiler(java: str) -> bool:
    listed = subprocess.run([java, "--list-modules"], capture_output=True, text=True).stdout
    return "jdk.compiler" in listed
