"""A kernel whose shell has the name that libraries know Colab by."""

from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell


class Shell(ZMQInteractiveShell):
    """What `get_ipython()` gives: huggingface_hub, for one, looks for `google.colab` in its name."""


class Kernel(IPythonKernel):
    """IPython's kernel with that shell."""

    def _shell_class_default(self):
        return Shell
