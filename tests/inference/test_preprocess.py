import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.input_spec import InputSpec
from inference.tensors import prepare_ct, prepare_radiograph
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

CPU = torch.device("cpu")
CT = InputSpec("ct_slices", 64, (BRAIN, SUBDURAL, SOFT))
FILM = InputSpec("radiograph", 64)


def film(rows: int = 150, columns: int = 100, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 4096, (rows // 10, columns // 10))
    return np.kron(values, np.ones((10, 10))).astype(np.float32)


def test_each_window_is_a_channel_and_is_applied_before_resizing() -> None:
    hu = np.full((2, 128, 128), 40.0, dtype=np.float32)
    hu[:, :, 64:] = 1000.0
    tensor = prepare_ct(hu, CT, CPU)
    assert tensor.shape == (2, 3, 64, 64)
    assert tensor.dtype is torch.float32
    assert tensor[0, :, 32, 10].tolist() == pytest.approx([0.5, 0.3, 0.5])
    # At the edge of the bone the picture is between 0.5 and white, not whiter than white.
    assert float(tensor[0, 0, 32, 31]) < 0.7


def test_the_resize_kernel_is_a_triangle_over_the_output_pixel() -> None:
    """Hand-worked: halving with antialiased bilinear weighs 1, 3, 3, 1 eighths."""
    hu = np.full((1, 128, 128), 0.0, dtype=np.float32)
    hu[0, :, 64] = 80.0
    row = prepare_ct(hu, CT, CPU)[0, 0, 30]
    assert row[31:34].tolist() == pytest.approx([1 / 8, 3 / 8, 0], abs=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(150, 100), (100, 150), (64, 64), (33, 200)])
def test_a_picture_keeps_its_aspect_ratio_and_is_centred_on_black(rows: int, columns: int) -> None:
    values = np.linspace(1, 2, rows * columns, dtype=np.float32).reshape(rows, columns)
    tensor = prepare_radiograph(values, FILM, CPU)
    assert tensor.shape == (1, 1, 64, 64)
    used = (tensor[0, 0] > 0).nonzero()
    height, width = (used.max(0).values - used.min(0).values + 1).tolist()
    scale = 64 / max(rows, columns)
    assert height == pytest.approx(rows * scale, abs=2)
    assert width == pytest.approx(columns * scale, abs=2)


@given(offset=st.integers(-2000, 2000), gain=st.sampled_from([1, 2, 16]))
@settings(max_examples=25, deadline=None)
def test_offset_and_bit_depth_of_a_film_do_not_matter(offset: int, gain: int) -> None:
    expected = prepare_radiograph(film(), FILM, CPU)
    torch.testing.assert_close(
        prepare_radiograph(film() * gain + offset, FILM, CPU), expected, rtol=0, atol=1e-5
    )
    if gain == 1:
        assert torch.equal(prepare_radiograph(film() + offset, FILM, CPU), expected)


def test_a_few_burned_in_letters_do_not_change_the_contrast() -> None:
    plain, lettered = film(), film()
    lettered[:5, :5] = 60_000
    expected = prepare_radiograph(plain, FILM, CPU)[0, 0, 10:, 30:]
    shown = prepare_radiograph(lettered, FILM, CPU)[0, 0, 10:, 30:]
    torch.testing.assert_close(shown, expected, rtol=0, atol=0.02)


def test_a_picture_without_contrast_is_black() -> None:
    assert float(prepare_radiograph(np.full((50, 50), 7.0), FILM, CPU).abs().max()) == 0.0


def test_slices_are_prepared_alike_alone_and_together() -> None:
    hu = np.random.default_rng(1).normal(30, 60, (5, 100, 90)).astype(np.float32)
    together = prepare_ct(hu, CT, CPU)
    alone = torch.cat([prepare_ct(one[None], CT, CPU) for one in hu])
    assert torch.equal(together, alone)


def test_an_input_survives_its_json_form() -> None:
    assert InputSpec.from_dict(CT.to_dict()) == CT
    assert CT.to_dict()["resize"] == "torch-bilinear-antialias"
    with pytest.raises(ValueError, match="unknown resize kernel"):
        InputSpec.from_dict({**CT.to_dict(), "resize": "cv2-area"})
    with pytest.raises(ValueError, match="needs at least one window"):
        InputSpec("ct_slices", 64)


@pytest.mark.parametrize(
    ("center", "width"), [(40.0, 80.0), (600.0, 2800.0), (-600.0, 1500.0), (2000.0, 2.0)]
)
@pytest.mark.parametrize("function", [VoiLutFunction.LINEAR, VoiLutFunction.LINEAR_EXACT])
def test_a_window_is_torch_s_to_rounding_however_it_is_applied(
    center: float, width: float, function: VoiLutFunction
) -> None:
    window = Window(center, width, "", function)
    hu = np.random.default_rng(3).uniform(-1024, 3071, (1, 96, 96)).astype(np.float32)
    greys = window.apply(torch.from_numpy(hu))[:, None]
    wanted = F.interpolate(greys, (40, 40), mode="bilinear", antialias=True)
    made = torch.as_tensor(prepare_ct(hu, InputSpec("ct_slices", 40, (window,)), CPU))
    torch.testing.assert_close(made, wanted, rtol=0, atol=3e-6)
