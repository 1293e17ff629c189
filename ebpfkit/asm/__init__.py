"""Instructions: the opcode table, the codec, text in both directions, a builder, the control-flow graph.

What a program may do is `verifier/`'s, running it is `vm/`'s, names of helpers are rows of `abi/`.
"""
