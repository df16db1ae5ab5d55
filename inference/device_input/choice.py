"""Whether an input is made on the device; light: no torch."""

from __future__ import annotations

from ..input_spec import InputSpec


def is_made_on(device: object, spec: InputSpec) -> bool:
    """Tell whether inputs of a specification are made on a device.

    Parameters
    ----------
    device : torch.device or str
        A CPU has the host's path.
    spec : InputSpec
        Inputs by MONAI's steps (`plane`), and volumes, have the host's path everywhere.
    """
    flat = spec.kind in ("ct_slices", "radiograph") and spec.plane is None
    return flat and str(device).startswith("cuda")
