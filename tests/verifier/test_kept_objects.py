"""Objects of the program's own that are put into a map before they are tested: the kernel stumbles, and so do we."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cases import kernel_program
from judged import assert_agrees
from typed_maps import MAPS, NODE, TYPES, function_infos

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

LOOKUP = (
    "*(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map[kept] ll; call 1; if r0 == 0 goto out; r6 = r0;"
    "r1 = {node}; r2 = 0; kcall bpf_obj_new_impl; {test}; r1 = r6; r2 = r0; call 194; if r0 == 0 goto out;"
    "r1 = r0; r2 = 0; kcall bpf_obj_drop_impl; out:; r0 = 0; exit"
)


@pytest.mark.kernel
@pytest.mark.parametrize("tested", [True, False])
def test_an_object_that_may_be_missing(tested: bool, oracle: KernelOracle) -> None:
    text = LOOKUP.format(node=NODE, test="if r0 == 0 goto out" if tested else "r9 = 0")
    spec = kernel_program(text)
    spec = spec.replace(maps={"kept": MAPS["kept"]}, btf=TYPES, func_infos=function_infos(spec.instructions))
    assert_agrees(spec, "accept" if tested else "reject", oracle, oracle.types)
