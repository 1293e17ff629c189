"""The process that may die: reads a JSON request from standard input, writes the answer to standard output.

Run as `python -m ebpfkit.llvm.child` by `fence` only.
"""

from __future__ import annotations

import json
import sys

from ebpfkit.llvm.emit import emit_optimised, optimise_without_closed_forms


def main() -> None:
    request = json.load(sys.stdin)
    cpu, features = request["cpu"], request["features"]
    if "optimise" in request:
        text = optimise_without_closed_forms(request["optimise"], cpu=cpu, features=features, speed=request["speed"])
        answer = text.encode()
    else:
        answer = emit_optimised(request["ir"], cpu=cpu, features=features, assembly=bool(request["assembly"]))
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main()
