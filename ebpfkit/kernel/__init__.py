"""The running kernel, one thin typed call at a time: bpf(2), netlink, ioctl, sockopt, mmap.

No policy here: what a failure means and what to do about it is said by `host` and `loader`. Errors of the kernel are
`KernelError` with the errno; nothing is retried but what the kernel asks to be retried.
"""
