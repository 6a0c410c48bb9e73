"""Run an exported network. Free of torch: this is what serves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tailwise.errors import ArtifactError


def open_session(onnx: bytes, what: str, takes: Collection[str] = ()) -> Any:
    """
    An onnxruntime session on one thread, without an arena: a request is too small to share out.

    Args:
        onnx: The network.
        what: Its name in the error, as ``the sequence network``.
        takes: Names of what it is given; none: whatever it takes.

    Raises:
        ArtifactError: It is no network that onnxruntime can run, or takes something else, as one of before may.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public class
        raise ArtifactError(f"{what} cannot be run ({error}); fit the model again") from error
    found = [own.name for own in session.get_inputs()]
    if takes and {*takes} != {*found}:
        told, wanted = ", ".join(found), ", ".join(takes)
        raise ArtifactError(f"{what} takes {told}, not {wanted}: it is of another version; fit the model again")
    return session
