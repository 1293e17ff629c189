"""The process that may die: reads a JSON request from standard input, writes the object to standard output.

Run as `python -m ebpfkit.llvm.child` by `fence.emit_in_child` only.
"""

from __future__ import annotations

import json
import sys

from ebpfkit.llvm.emit import emit_optimised


def main() -> None:
    request = json.load(sys.stdin)
    sys.stdout.buffer.write(
        emit_optimised(
            request["ir"], cpu=request["cpu"], features=request["features"], assembly=bool(request["assembly"])
        )
    )


if __name__ == "__main__":
    main()
