"""DCMTK's storescu as the sender: a process per association, files given by directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from load import Target
from peers import NO_DELAY
from phantoms import JPEG_BASELINE, Image, UidSource, write_files
from processes import PeerError, program

ASSOCIATIONS = (1, 4, 8)
# Files for one association, by kind and number of associations: a second or two of sending.
_N_FILES: Mapping[str, Mapping[int, int]] = {
    "CT": {1: 400, 4: 130, 8: 65},
    "DX": {1: 18, 4: 8, 8: 4},
    "small": {1: 300, 4: 120, 8: 60},
}


class FileSets:
    """Files on disk, for each number of associations a folder of its own per association.

    Parameters
    ----------
    folder : Path
        Takes the files.
    share : float
        How many of the usual number of files to send.
    """

    def __init__(self, folder: Path, uids: UidSource, share: float) -> None:
        self._folder = folder
        self._uids = uids
        self._share = share

    def send(self, image: Image, target: Target, n_associations: int) -> tuple[int, float]:
        """Send the files for so many associations; return how many, and in how many seconds.

        Raises
        ------
        PeerError
            If storescu says that a file was not stored.
        """
        folders = self._folders(image, n_associations)
        command = [program("storescu"), "--required", "--scan-directories"]
        if image.transfer_syntax == JPEG_BASELINE:
            command.append("--propose-jpeg8")
        command += ["--call", target.called_ae, target.host, str(target.port)]
        began = time.perf_counter()
        running = [
            subprocess.Popen(
                [*command, str(folder)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **NO_DELAY},
                text=True,
            )
            for folder in folders
        ]
        said = [process.communicate()[0] for process in running]
        seconds = time.perf_counter() - began
        for process, text in zip(running, said, strict=True):
            if process.returncode != 0:
                why = f"storescu ended with {process.returncode}: {text.strip()[-300:]}"
                raise PeerError(why)
        return len(folders) * self._n_files(image, n_associations), seconds

    def _n_files(self, image: Image, n_associations: int) -> int:
        return max(2, round(_N_FILES[image.kind][n_associations] * self._share))

    def _folders(self, image: Image, n_associations: int) -> list[Path]:
        """Return the folders, made at the first call: storages are fresh in each round."""
        above = self._folder / f"{image.kind}-{n_associations}"
        folders = [above / str(number) for number in range(n_associations)]
        if not above.exists():
            for folder in folders:
                write_files(image, folder, self._n_files(image, n_associations), self._uids)
            os.sync()
        return folders
