"""Small graphs in eight bits, beside the same arithmetic written out in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tailwise.nets.quantise import LEAST_TABLE, quantise_onnx, quantised_columns
from tailwise.types import Floats

RNG = np.random.default_rng(7)
LEFT, RIGHT = (RNG.normal(size=(16, 6)).astype(np.float32) for _ in range(2))
TABLE = RNG.normal(size=(LEAST_TABLE // 16 + 1, 16)).astype(np.float32)


def write(path: Path, *, opset: int = 17, table: Floats = TABLE) -> Path:
    """Rows of a table, times two matrices, added up; and a product of two inputs, which must stay as it is."""
    nodes = [
        helper.make_node("Gather", ["table", "places"], ["x"]),
        helper.make_node("MatMul", ["x", "left"], ["a"]),
        helper.make_node("MatMul", ["x", "right"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["out"]),
    ]
    constants = {"table": table, "left": LEFT, "right": RIGHT}
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("places", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


def run(path: Path, places: list[int]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    out: Floats = session.run(["out"], {"places": np.array(places, np.int64)})[0]
    return out


def by_hand(rows: Floats, matrix: Floats) -> Floats:
    """The product by integers: seven bits of weight a column, eight of activation a row."""
    codes, scales = quantised_columns(matrix)
    row_scales = np.abs(rows).max(axis=1, keepdims=True) / 127
    row_codes = np.rint(rows / row_scales).astype(np.int64)
    return np.asarray((row_codes @ codes.astype(np.int64)) * row_scales * scales, np.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    source = write(folder / "float.onnx")
    assert quantise_onnx(source, folder / "int8.onnx") == 3
    return source, folder / "int8.onnx"


def test_a_quantised_graph_does_the_arithmetic_written_out(small: tuple[Path, Path]) -> None:
    places = [3, 9, 4000]
    scales = np.abs(TABLE[places]).max(axis=1, keepdims=True) / 127
    rows = (np.rint(TABLE[places] / scales) * scales).astype(np.float32)

    out = run(small[1], places)

    np.testing.assert_allclose(out, by_hand(rows, LEFT) + by_hand(rows, RIGHT), rtol=1e-4, atol=1e-4)


def test_it_is_near_the_graph_in_float_and_a_quarter_of_its_size(small: tuple[Path, Path]) -> None:
    source, target = small
    places = list(range(0, 4000, 41))

    expected, found = run(source, places), run(target, places)

    cosine = (expected * found).sum(1) / (np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1))
    assert 0.999 < cosine.mean() < 1.0  # 1 would say that nothing was quantised
    assert target.stat().st_size < 0.4 * source.stat().st_size


@settings(max_examples=20, deadline=None)
@given(places=st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=12))
def test_a_row_is_what_it_would_be_alone_to_the_last_bit(small: tuple[Path, Path], places: list[int]) -> None:
    together = run(small[1], places)

    np.testing.assert_array_equal(together, np.concatenate([run(small[1], [place]) for place in places]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9), size=st.floats(1e-6, 1e6))
def test_no_weight_moves_by_more_than_half_a_step(seed: int, size: float) -> None:
    weights = (np.random.default_rng(seed).normal(size=(9, 4)) * size).astype(np.float32)

    codes, scales = quantised_columns(weights)

    assert np.abs(codes).max() == 63
    assert (np.abs(codes * scales - weights) <= scales * 0.501).all()


def test_a_row_and_a_column_of_zeros_stay_zero(tmp_path: Path) -> None:
    table = TABLE.copy()
    table[5] = 0
    quantise_onnx(write(tmp_path / "float.onnx", table=table), tmp_path / "int8.onnx")

    out = run(tmp_path / "int8.onnx", [5])

    np.testing.assert_array_equal(out, np.zeros((1, 6), np.float32))
    assert quantised_columns(np.zeros((3, 2), np.float32))[1].tolist() == [0, 0]


def test_newer_graphs_whose_reductions_take_their_axes_as_inputs_run_too(tmp_path: Path) -> None:
    source = write(tmp_path / "float.onnx", opset=18)

    quantise_onnx(source, tmp_path / "int8.onnx")

    np.testing.assert_allclose(run(tmp_path / "int8.onnx", [1, 2]), run(source, [1, 2]), atol=0.15)


def test_a_graph_that_is_int8_already_is_left_as_it_is(small: tuple[Path, Path], tmp_path: Path) -> None:
    assert quantise_onnx(small[1], tmp_path / "again.onnx") == 0

    np.testing.assert_array_equal(run(tmp_path / "again.onnx", [1, 2]), run(small[1], [1, 2]))


def test_small_tables_and_matrices_that_are_used_twice_stay_float(tmp_path: Path) -> None:
    source = write(tmp_path / "float.onnx", table=TABLE[:50])
    model = onnx.load(str(source))
    model.graph.node[2].input[1] = "left"
    onnx.save(model, str(source))

    assert quantise_onnx(source, tmp_path / "same.onnx") == 0
