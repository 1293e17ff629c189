"""What users write checks: the snippets of the language reference and the example programs, by `mypy --strict`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.compiler.reference import ROOT, snippets
from tests.compiler.support import indent

ALL = snippets()
PRELUDE = next(s.text for s in ALL if s.kind == "prelude")


def test_the_snippets_and_the_programs_have_types_that_fit(tmp_path: Path) -> None:
    files = [str(path) for path in sorted((ROOT / "programs").glob("*.py"))]
    for snippet in ALL:
        text = snippet.text
        if snippet.kind == "":
            end = "" if text.rstrip().splitlines()[-1].startswith("return") else "return bpf.XDP_PASS\n"
            body = indent(f"d = pkt.read(Numbers)\n{text}{end}")
            text = f"{PRELUDE}\n\n@bpf.xdp(short=bpf.XDP_DROP)\ndef prog(pkt: Packet) -> XdpAction:\n{body}"
        elif snippet.kind != "module":
            continue
        path = tmp_path / f"snippet_in_line_{snippet.line}.py"
        path.write_text(text)
        files.append(str(path))
    assert len(files) > 30
    plain = tmp_path / "mypy.ini"
    plain.write_text("[mypy]\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        str(plain),
        "--cache-dir",
        str(tmp_path),
        *files,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
