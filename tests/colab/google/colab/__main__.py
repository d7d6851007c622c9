"""`python -m google.colab -f CONNECTION_FILE` starts the kernel."""

from google.colab.kernel import Kernel
from ipykernel.kernelapp import IPKernelApp

IPKernelApp.launch_instance(kernel_class=Kernel)
