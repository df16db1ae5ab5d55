"""Who this node is: version, and a serial number that it keeps."""

from __future__ import annotations

import os
import secrets
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inference.objects import DeviceIdentity

from .errors import NodeError

MANUFACTURER = "Preread"
MODEL_NAME = "Preread"


def software_version() -> str:
    """Return the version that is installed."""
    try:
        return version("preread")
    except PackageNotFoundError:
        return "0+source"


def serial_number(data_dir: Path) -> str:
    """Return the serial number of the node, made at its first start.

    It is part of the Device UID of every result, by which the node later knows its own objects.
    """
    path = data_dir / "serial-number"
    try:
        if not path.exists():
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = path.with_name(f".serial-number-{os.getpid()}-{secrets.token_hex(4)}")
            made.write_text(secrets.token_hex(6).upper() + "\n", encoding="ascii")
            try:
                os.link(made, path)  # the first of several processes wins
            except FileExistsError:
                pass
            finally:
                made.unlink()
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise NodeError(f"data_dir {data_dir} cannot be used: {error.strerror}") from None


def device_identity(ae_title: str, data_dir: Path) -> DeviceIdentity:
    """Return the node as it is written into result objects."""
    return DeviceIdentity(
        name=ae_title,
        manufacturer=MANUFACTURER,
        model_name=MODEL_NAME,
        software_version=software_version(),
        serial_number=serial_number(data_dir),
    )
