"""An ordinary kernel that ends with the process that started it: ``python -m ldlab.batch.cold -f FILE``."""

import os
import sys

from ldlab.batch.process import die_first_for_memory, die_with


def main() -> None:
    """Become a kernel."""
    die_with(os.getppid())
    die_first_for_memory()
    if sys.path[0] == "":
        del sys.path[0]  # as ipykernel_launcher does: the notebook's folder must not shadow libraries
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
