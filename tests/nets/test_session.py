import pytest
from onnx import TensorProto, helper

from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session


def test_what_is_no_network_is_told_by_name() -> None:
    with pytest.raises(ArtifactError, match=r"^the odd network cannot be run \(.*\); fit the model again$"):
        open_session(b"no network", "the odd network")


def test_a_network_of_another_version_is_told_by_what_it_takes() -> None:
    pytest.importorskip("onnxruntime")
    names = ["ids", "mask"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["t"]) for name in names]
    out = helper.make_tensor_value_info("sum", TensorProto.INT64, ["t"])
    graph = helper.make_graph([helper.make_node("Add", names, ["sum"])], "adds", inputs, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network: bytes = model.SerializeToString()

    assert open_session(network, "it", ("mask", "ids")) is not None
    assert open_session(network, "it") is not None
    with pytest.raises(
        ArtifactError, match=r"^it takes ids, mask, not ids, part: it is of another version; fit the model again$"
    ):
        open_session(network, "it", ("ids", "part"))
